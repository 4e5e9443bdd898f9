"""The power is lost at any moment: what the SQLite log acknowledged is there, and nothing is there in part.

The log writes a story while every act it asks of the disk is noted. From these acts come images: directories as a disk
may leave them that keeps what was synced, and of the rest any part. Each is opened by the log as it is.
"""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from amends.logs.sqlite.opening import connect, prepare
from tests.crash.images import Image, Story
from tests.crash.ledger import Ledger, Lost, Torn, appends, hold_to_it, tell
from tests.crash.recording import Cut, Made, Removed, Synced, Trace, recorded

DATABASE: Final = "log.db"
WAL: Final = "log.db-wal"
CHECKPOINT_PAGES: Final = 24
WAL_BYTES_KEPT: Final = 16 * 4_120


@dataclass
class Night:
    """A story that was told, with everything the disk was asked for."""

    trace: Trace
    ledger: Ledger


def told(folder: Path, instead: Mapping[str, str] | None = None) -> Night:
    story = appends()
    ledger = Ledger(story.graphs)
    with recorded(instead or {}, checkpoint_pages=CHECKPOINT_PAGES, wal_bytes_kept=WAL_BYTES_KEPT) as trace:
        asyncio.run(tell(folder / DATABASE, story, trace, ledger))
    return Night(trace, ledger)


@dataclass
class Found:
    """What became of the images: how many there were, and what the log came to say."""

    images: int = 0
    ends: set[tuple[int, ...]] = field(default_factory=set[tuple[int, ...]])
    broken: Counter[str] = field(default_factory=Counter[str])
    first: str = ""


def opened_each(night: Night, images: Iterable[Image], folders: Callable[[], Path], *, images_max: int | None = None) -> Found:
    """Open each image that wasn't there yet, at its moment."""
    found = Found()
    seen: set[bytes] = set()

    async def all_of_them() -> None:
        folder = folders()
        for image in images:
            if found.images == images_max:
                return
            digest = hashlib.sha256(str(image.at).encode())
            for name, content in sorted(image.files.items()):
                digest.update(b"%s %d " % (name.encode(), len(content)))
                digest.update(content)
            if digest.digest() in seen:
                continue
            seen.add(digest.digest())
            found.images += 1
            for path in folder.iterdir():
                path.unlink()
            for name, content in image.files.items():
                (folder / name).write_bytes(content)
            try:
                found.ends.add(await hold_to_it(folder / DATABASE, night.ledger, image.at))
            except (Lost, Torn) as error:
                found.broken[type(error).__name__] += 1
                found.first = found.first or f"{image}: {error}"

    asyncio.run(all_of_them())
    return found


def moments(story: Story, acts: int) -> Generator[int]:
    """When the most is at stake."""
    yield from (at for at in range(acts + 1) if story.is_before_a_sync(at))


def chosen(night: Night) -> Generator[Image]:
    """Every moment with everything there; before every sync one of each kind and a few more."""
    story, chance = Story(night.trace.acts), random.Random(1)
    for at in range(night.trace.length + 1):
        if not story.is_before_a_sync(at):
            yield story.prefix(at)
            continue
        images = list(story.images(at, subsets=2, chance=chance))
        yield from images[:2]
        yield from chance.sample(images[2:], min(len(images[2:]), EACH_TIME))


EACH_TIME: Final = 8


def all_of_them(night: Night) -> Generator[Image]:
    story, chance = Story(night.trace.acts), random.Random(2)
    for at in range(night.trace.length + 1):
        yield from story.images(at, subsets=20 if story.is_before_a_sync(at) else 2, chance=chance)


def test_whatever_the_disk_kept_the_log_has_what_it_acknowledged(
    nursery: Path, folders: Callable[[], Path]
) -> None:
    night = told(nursery)
    print(Counter((type(a).__name__, getattr(a,'name','')) for a in night.trace.acts))
    found = opened_each(night, chosen(night), folders)
    print(found.images, len(found.ends), found.broken, found.first)
    assert not found.broken, found.first
