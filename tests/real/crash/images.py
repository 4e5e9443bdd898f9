"""What may be on the disk after the power was lost: of everything that wasn't synced, any part.

A disk promises two things: what was written to a file before a sync of it that returned is there, and which files there
are once their directory was synced. Everything later may be there, or not, in any order, and a write may be there in
part: some of its sectors. The shared-memory file beside a write-ahead log is never there: it isn't on the disk.
"""

import random
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tests.real.crash.recording import Act, Cut, DirectorySynced, Made, Removed, Synced, Wrote

SECTOR: Final = 512

Files: TypeAlias = Mapping[str, bytes]
"""The content of a directory."""


@dataclass(frozen=True, slots=True)
class Image:
    """A directory after the power was lost when `at` things had been asked of the disk; `how` says what survived."""

    at: int
    how: str
    files: Files

    def __str__(self) -> str:
        return f"power lost after {self.at} acts, survived: {self.how}"


@dataclass
class _File:
    content: bytearray = field(default_factory=bytearray)

    def write(self, offset: int, data: bytes) -> None:
        if len(self.content) < offset:
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset : offset + len(data)] = data

    def cut(self, size: int) -> None:
        del self.content[size:]


class Story:
    """The acts of a trace: which of them are safe at a moment, and what the disk is like with some of the rest."""

    def __init__(self, acts: Sequence[Act], before: Files | None = None) -> None:
        """`before`: what is on the disk when the story begins."""
        self._acts = acts
        self._before = before or {}
        self._files: list[int] = []
        """For each act the file it is about, as the number of the act that made it: a name may be used again."""
        made = {name: -number for number, name in enumerate(self._before, 1)}
        for index, act in enumerate(acts):
            if isinstance(act, Made):
                made[act.name] = index
            self._files.append(0 if isinstance(act, DirectorySynced) else made[act.name])

    def pending(self, at: int) -> list[int]:
        """What isn't safe when `at` acts are done."""
        synced: set[int] = set()
        names_are_safe = False
        found: list[int] = []
        for index in range(at - 1, -1, -1):
            act = self._acts[index]
            match act:
                case Synced():
                    synced.add(self._files[index])
                case DirectorySynced():
                    names_are_safe = True
                case Made() | Removed():
                    if not names_are_safe:
                        found.append(index)
                case Wrote() | Cut():
                    if self._files[index] not in synced:
                        found.append(index)
        return found[::-1]

    def files(self, at: int, lost: Iterable[int] = (), torn: Mapping[int, Sequence[int]] | None = None) -> Files:
        """The directory with all acts but the lost ones; of torn writes only these sectors are there."""
        gone, parts = set(lost), torn or {}
        names = {name: -number for number, name in enumerate(self._before, 1)}
        files = {names[name]: _File(bytearray(content)) for name, content in self._before.items()}
        for index in range(at):
            act, number = self._acts[index], self._files[index]
            if isinstance(act, Made):
                files[number] = _File()
            if index in gone:
                continue
            match act:
                case Made(name):
                    names[name] = number
                case Removed(name):
                    names.pop(name, None)
                case Wrote(_, offset, data):
                    for start, piece in sectors(data, offset, parts.get(index)):
                        files[number].write(start, piece)
                case Cut(_, size):
                    files[number].cut(size)
                case Synced() | DirectorySynced():
                    pass
        return {name: bytes(files[number].content) for name, number in names.items()}

    def is_before_a_sync(self, at: int) -> bool:
        """The moment at which the most is at stake: just before a sync, or at the end."""
        return at == len(self._acts) or isinstance(self._acts[at], Synced | DirectorySynced)

    # -- images

    def images(self, at: int, *, subsets: int, chance: random.Random) -> Generator[Image]:
        """What may be there if the power is lost now: the systematic ones, and this many `subsets` drawn by chance."""
        pending = self.pending(at)
        yield Image(at, "everything", self.files(at))
        if not pending:
            return
        yield Image(at, "only what was synced", self.files(at, pending))
        for index in pending:
            others = [each for each in pending if each != index]
            yield Image(at, f"all but act {index}", self.files(at, [index]))
            yield Image(at, f"what was synced and act {index}", self.files(at, others))
            act = self._acts[index]
            if isinstance(act, Wrote) and len(act.data) > SECTOR:
                later = [each for each in pending if each > index]
                for how, kept in torn(len(sectors(act.data, act.offset, None))):
                    yield Image(at, f"act {index} torn, {how}", self.files(at, (), {index: kept}))
                    yield Image(
                        at, f"nothing after act {index}, which is torn, {how}", self.files(at, later, {index: kept})
                    )
        for number in range(subsets if len(pending) > 2 else 0):
            lost = [index for index in pending if chance.random() < 0.5]
            yield Image(at, f"subset {number} without {lost}", self.files(at, lost))

    def prefix(self, at: int) -> Image:
        """Everything in order, up to some moment."""
        return Image(at, "everything", self.files(at))


def sectors(data: bytes, offset: int, kept: Sequence[int] | None) -> list[tuple[int, bytes]]:
    """A write in pieces of at most a sector, none across a sector's border; `kept`: only these."""
    pieces: list[tuple[int, bytes]] = []
    start = 0
    while start < len(data):
        end = min(len(data), start + SECTOR - (offset + start) % SECTOR)
        pieces.append((offset + start, data[start:end]))
        start = end
    return pieces if kept is None else [pieces[index] for index in kept]


def torn(count: int) -> list[tuple[str, Sequence[int]]]:
    """Ways in which a write of so many sectors is there in part."""
    half = count // 2
    return [
        ("its beginning", range(half)),
        ("its end", range(half, count)),
        ("every other sector", range(0, count, 2)),
    ]
