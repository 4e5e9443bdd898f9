"""The power is lost at any moment: what the SQLite log acknowledged is there, and nothing is there in part.

The log writes a story while every act it asks of the disk is noted. From these acts come images: directories as a disk
may leave them that keeps what was synced, and of the rest any part. Each is opened by the log as it is.
"""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from amends.core.words.errors import LogDamaged
from amends.logs.sqlite import opening
from amends.logs.sqlite.log import SqliteLog
from tests.real.crash.images import Image, Story
from tests.real.crash.ledger import Ledger, Lost, Torn, appends, hold_to_it, tell
from tests.real.crash.recording import Act, Cut, Made, Removed, Synced, Trace, Wrote, recorded

DATABASE: Final = "log.db"
WAL: Final = "log.db-wal"

CHECKPOINT_PAGES: Final = 24
WAL_BYTES_KEPT: Final = 16 * 4_120

EACH_TIME: Final = 4
"""Images drawn before each sync, beside "everything" and "only what was synced"; the campaign opens all of them."""

PARTS: Final = 16
"""Tests that the campaign's images are shared out to."""


# -- a story, and what the disk was asked for


@dataclass
class Night:
    """The power will be lost some time; until then this is what was asked of the disk and what was acknowledged."""

    acts: Sequence[Act]
    ledger: Ledger


def watched(instead: Mapping[str, str] | None = None) -> AbstractContextManager[Trace]:
    return recorded(instead or {}, checkpoint_pages=CHECKPOINT_PAGES, wal_bytes_kept=WAL_BYTES_KEPT)


def night(folder: Path, instead: Mapping[str, str] | None = None) -> Night:
    """The whole story, with a log that closes and opens again on the way. `instead`: statements to be replaced."""
    story = appends()
    ledger = Ledger(story.graphs)
    with watched(instead) as trace:
        asyncio.run(tell(folder / DATABASE, story, trace, ledger))
    return Night(trace.acts, ledger)


# -- images, and what the log says to them


def drawn(acts: Sequence[Act], seed: int, before: Mapping[str, bytes] | None = None) -> Generator[Image]:
    """Some at every moment at which the most is at stake, and one at some moments between."""
    story, chance = Story(acts, before), random.Random(seed)
    for at in range(len(acts) + 1):
        if story.is_before_a_sync(at):
            images = list(story.images(at, subsets=2, chance=chance))
            yield from images[:2]
            yield from chance.sample(images[2:], min(len(images[2:]), EACH_TIME))
        elif at % 4 == 0:
            yield Image(at, "everything", story.files(at))


def every(acts: Sequence[Act], part: int) -> Generator[Image]:
    """All kinds at every moment, this part of the moments."""
    story, chance = Story(acts), random.Random(part)
    for at in range(part, len(acts) + 1, PARTS):
        yield from story.images(at, subsets=20 if story.is_before_a_sync(at) else 2, chance=chance)


@dataclass
class Found:
    """What became of the images: how many there were, how far the runs had come, which promise broke how often."""

    images: int = 0
    ends: set[tuple[int, ...]] = field(default_factory=set[tuple[int, ...]])
    broken: Counter[type[AssertionError]] = field(default_factory=Counter[type[AssertionError]])
    first: str = ""


def opened_each(ledger: Ledger, images: Iterable[Image], folder: Path, at: int | None = None) -> Found:
    """Open each image that wasn't there yet. `at`: what was acknowledged by then, if not by the image's moment."""
    found = Found()
    seen: set[bytes] = set()

    async def open_all() -> None:
        for image in images:
            moment = image.at if at is None else at
            print_ = digest(image.files, moment)
            if print_ in seen:
                continue
            seen.add(print_)
            found.images += 1
            lay(image.files, folder)
            try:
                found.ends.add(await hold_to_it(folder / DATABASE, ledger, moment))
            except (Lost, Torn) as error:
                found.broken[type(error)] += 1
                found.first = found.first or f"{image}: {error}"

    asyncio.run(open_all())
    return found


def digest(files: Mapping[str, bytes], at: int) -> bytes:
    made = hashlib.sha256(b"%d" % at)
    for name, content in sorted(files.items()):
        made.update(b"%s %d " % (name.encode(), len(content)))
        made.update(content)
    return made.digest()


def lay(files: Mapping[str, bytes], folder: Path) -> None:
    """The directory, with nothing else in it."""
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


# -- tests


def test_whatever_the_disk_kept_the_log_has_what_it_acknowledged(folders: Callable[[], Path]) -> None:
    told = night(folders())
    seen = Counter((type(act), getattr(act, "name", "")) for act in told.acts)
    assert seen[Synced, WAL] >= 30, "a sync per commit"
    assert seen[Wrote, WAL] >= 200
    assert seen[Made, WAL] == seen[Removed, WAL] == 2, "it was closed and opened again"
    assert seen[Wrote, DATABASE] >= 50, "pages went from the write-ahead log to the file"
    assert seen[Cut, WAL], "and the write-ahead log was used again"

    found = opened_each(told.ledger, drawn(told.acts, seed=1), folders())
    assert not found.broken, found.first
    assert found.images >= 250, "the images differ"
    assert len(found.ends) >= 10, "and so does what is found in them"
    assert tuple(told[-1].version for told in told.ledger.runs.values()) in found.ends


@pytest.mark.parametrize(
    ("setting", "breaks"), [("NORMAL", {Lost}), ("OFF", {Lost, Torn})], ids=["synced too late", "never synced"]
)
def test_a_log_that_syncs_less_is_found_out(folders: Callable[[], Path], setting: str, breaks: set[type]) -> None:
    told = night(folders(), {"PRAGMA synchronous = FULL": f"PRAGMA synchronous = {setting}"})
    found = opened_each(told.ledger, by_chance(told.acts, moments=60), folders())
    assert breaks <= set(found.broken), found.broken
    assert found.ends, "which isn't so of every image"


def by_chance(acts: Sequence[Act], moments: int) -> Generator[Image]:
    """At moments that have nothing to do with syncs: all, only what was synced, and most of it."""
    story, chance = Story(acts), random.Random(6)
    for at in range(len(acts), 0, -max(1, len(acts) // moments)):
        pending = story.pending(at)
        yield Image(at, "everything", story.files(at))
        yield Image(at, "only what was synced", story.files(at, pending))
        yield Image(at, "most", story.files(at, [index for index in pending if chance.random() < 0.1]))


def test_the_power_may_be_lost_again_while_the_log_is_opened(folders: Callable[[], Path]) -> None:
    told = night(folders())
    images = [image for image in drawn(told.acts, seed=3) if len(image.files) > 1]
    again = 0
    for image in random.Random(4).sample(images, 3):
        folder = folders()
        lay(image.files, folder)
        with watched() as trace:
            asyncio.run(hold_to_it(folder / DATABASE, told.ledger, image.at))
        found = opened_each(told.ledger, drawn(trace.acts, seed=5, before=image.files), folders(), image.at)
        assert not found.broken, f"{image}; then: {found.first}"
        again += found.images
    assert again >= 40


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(PARTS))
def test_every_image_of_every_moment(folders: Callable[[], Path], part: int) -> None:
    told = night(folders())
    found = opened_each(told.ledger, every(told.acts, part), folders())
    assert not found.broken, found.first
    assert found.images >= 500


def test_power_lost_while_a_new_file_got_its_first_page_is_no_damage(folders: Callable[[], Path]) -> None:
    """What was begun is taken back with the help of the journal, though the page itself is no database yet."""
    told = night(folders())
    at = next(at for at, act in enumerate(told.acts) if isinstance(act, Synced) and act.name == DATABASE)
    images = [image for image in Story(told.acts).images(at, subsets=0, chance=random.Random()) if "torn" in image.how]
    assert all(f"{DATABASE}-journal" in image.files for image in images)
    assert {image.files[DATABASE][:16] for image in images} > {b"\0" * 16}, "a header that says nothing is among them"
    found = opened_each(told.ledger, images, folders())
    assert found.images >= 3
    assert not found.broken, found.first
    assert found.ends == {(0,) * len(told.ledger.runs)}


def test_a_file_of_something_else_is_refused_whatever_lies_beside_it(folders: Callable[[], Path]) -> None:
    """A journal that isn't SQLite's, or isn't of a file that was being made, is nobody's business here."""
    others = {"notes": b"what I have to buy\n" * 100, "notes-journal": b"and what I bought\n" * 100}
    folder = folders()
    lay(others, folder)
    with pytest.raises(LogDamaged, match="isn't an SQLite database"):
        opening.check(folder / "notes")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == others


SETTINGS: Final = ("journal_mode", "synchronous", "wal_autocheckpoint", "journal_size_limit", "page_size")


def test_the_log_that_is_watched_is_set_as_the_log_is(folders: Callable[[], Path]) -> None:
    async def settings(path: Path) -> dict[str, object]:
        log = SqliteLog(path)
        await log.open()
        found = await log.write(
            lambda writer: {name: writer.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in SETTINGS}
        )
        await log.close()
        return found

    unchanged = recorded({}, checkpoint_pages=opening.CHECKPOINT_PAGES, wal_bytes_kept=opening.WAL_BYTES_KEPT)
    as_it_is = asyncio.run(settings(folders() / DATABASE))
    with unchanged as trace:
        as_it_is_watched = asyncio.run(settings(folders() / DATABASE))
    assert trace.acts
    assert as_it_is == as_it_is_watched
    assert (as_it_is["journal_mode"], as_it_is["synchronous"]) == ("wal", 2)
