"""`amends explore`: what holds, what breaks and how, and what was typed wrong."""

import json
from pathlib import Path

import pytest

from amends.cli.main import run
from tests.fast.cli.commands import amends, amends_process, python

SAGAS = """
from dataclasses import dataclass
from amends import Call, Participant, Policy, Retry, Saga, operation

@dataclass(frozen=True)
class Book:
    city: str

class Rooms(Participant):
    book = operation(Book, str, compensation="cancel")

class Seats(Participant):
    book = operation(Book, str)

trip = Saga("trip", Book)

@trip.compensable()
def hotel(order: Book) -> Call[str]:
    return Rooms.book(order.city)

@trip.pivot(after=[hotel])
def flight(order: Book) -> Call[str]:
    if order.city == "Nowhere":
        raise ValueError("there is no such place")
    return Seats.book(order.city)
"""
ONE_FAULT = ("--faults", "1", "--crashes", "0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trips.py").write_text(SAGAS)
    return tmp_path


def test_what_holds_is_counted(folder: Path) -> None:
    told = amends(folder, "explore", "trips:trip", *ONE_FAULT)
    assert told.code == 0
    assert told.out.startswith("trip v1: ")
    assert "every promise holds" in told.out
    assert "completed" in told.out
    assert told.err == "", "progress is for terminals"


def test_json_says_the_same(folder: Path) -> None:
    told = amends(folder, "explore", "trips", *ONE_FAULT, "--json")
    (trip,) = json.loads(told.out)["sagas"]
    assert told.code == 0
    assert trip["broken"] is None
    assert trip["worlds"] > 50
    assert set(trip["ends"]) == {"completed", "compensated", "stuck"}
    assert trip["faults"]["lost"] > 0


def test_more_faults_are_more_worlds(folder: Path) -> None:
    worlds = [
        json.loads(amends(folder, "explore", "trips", "--faults", n, "--crashes", "0", "--json").out)["sagas"][0][
            "worlds"
        ]
        for n in ("0", "1", "2")
    ]
    assert worlds == sorted(worlds)
    assert worlds[0] < worlds[1] < worlds[2]


def test_people_who_give_up_are_among_them_only_when_asked_for(folder: Path) -> None:
    told = amends(folder, "explore", "trips", "--faults", "2", "--crashes", "0", "--give-up", "--json")
    (trip,) = json.loads(told.out)["sagas"]
    assert trip["ends"]["abandoned"] > 0
    assert trip["faults"]["give-up"] > 0


def test_what_breaks_is_told_as_its_smallest_story(folder: Path) -> None:
    told = amends(folder, "explore", "trips:trip", "--services", "once", "--mermaid", "story.mmd")
    assert told.code == 1
    assert told.out.startswith("BrokenPromise: P2 completed means done once (trip v1, 1 fault, world ")
    assert "effect: hotel" in told.out
    assert "  again: Scenario(trip).story(" in told.out
    assert (folder / "story.mmd").read_text().startswith("sequenceDiagram\n")


def test_what_breaks_is_told_again_by_its_path(folder: Path) -> None:
    broken = json.loads(amends(folder, "explore", "trips", "--services", "once", "--json").out)["sagas"][0]["broken"]
    told = amends(folder, "explore", "trips", "--services", "once", "--story", broken["path"])
    assert told.code == 1
    assert told.out.splitlines()[1:] == broken["story"].splitlines()[1:]
    mended = amends(folder, "explore", "trips", "--story", "h>.h<")
    assert mended.code == 0
    assert "in the end: completed" in mended.out


def test_an_input_is_read_from_a_file(folder: Path) -> None:
    (folder / "nowhere.json").write_text('{"city": "Nowhere"}')
    told = amends(folder, "explore", "trips:trip", *ONE_FAULT, "--input", "nowhere.json")
    assert told.code == 0
    assert "flight, action: author-error" in told.out


def test_a_run_from_elsewhere_is_explored_with_its_input(folder: Path) -> None:
    """Started where nobody answers, taken out of its log, and walked through every fault."""
    (folder / "begin.py").write_text(BEGIN)
    begun = python(folder, "begin.py")
    assert begun.code == 0, begun.err
    exported = amends_process(folder, "export", "t-1", "--log", "sqlite:///runs.db", "--out", "run.json")
    assert exported.code == 0, exported.err
    told = amends(folder, "explore", "trips:trip", *ONE_FAULT, "--input", "run.json")
    assert told.code == 0
    assert "flight, action: author-error" in told.out  # as with that input by itself


BEGIN = """
import asyncio
from amends import Orchestrator
from trips import Book, Rooms, Seats, trip

async def main():
    routes = [each.at("http://127.0.0.1:9") for each in (Rooms, Seats)]
    async with Orchestrator([trip], log="sqlite:///runs.db", routes=routes) as runs:
        await runs.start(trip, Book("Nowhere"), id="t-1")

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("trips:trip", "--input", "missing.json"), "--input missing.json: No such file or directory."),
        (("trips:trip", "--input", "wrong.json"), "--input wrong.json is no input of trip: "),
        (("trips:none",), "trips has no saga none. Its sagas: trip."),
        (("trips:trip", "--mermaid", "no/such/folder", "--story", "h>"), "--mermaid no/such/folder: No such file"),
    ],
)
def test_what_was_typed_wrong_is_said(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    (folder / "wrong.json").write_text('{"town": 3}')
    told = amends(folder, "explore", *arguments)
    assert told.code == 2
    assert says in told.err


def test_a_path_that_cannot_happen_is_the_answer_no(folder: Path) -> None:
    told = amends(folder, "explore", "trips:trip", "--story", "h<")
    assert told.code == 1
    assert "move 1, h<, can't happen there. What can: " in told.err


def test_too_many_worlds_are_not_passed_off_as_all(folder: Path) -> None:
    told = amends(folder, "explore", "trips:trip", "--worlds", "100")
    assert told.code == 1
    assert "there is still more to go through with 2 faults and 1 crash." in told.err


def test_progress_is_shown_on_a_terminal(folder: Path) -> None:
    before = "import sys; sys.stderr.isatty = lambda: True\n"
    before += "import amends.testing.explore.search as s; s.PROGRESS_EVERY = 100"
    told = amends_process(folder, "explore", "trips:trip", "--faults", "1", "--crashes", "1", before=before)
    assert told.code == 0
    assert "trip: 100 worlds, " in told.err
    assert " gone wrong, " in told.err


def test_it_is_among_the_commands() -> None:
    assert run(["explore", "--help"]) == 0
