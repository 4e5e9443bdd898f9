"""`amends check --against`: what live runs in a log need, before a deploy leaves them to nobody."""

import asyncio
import runpy
from datetime import timedelta
from pathlib import Path

import pytest

from amends import Orchestrator, Saga
from tests.fast.cli.commands import amends

REPLY = """\
from dataclasses import dataclass
from datetime import timedelta

from amends import Call, Saga, ask


@dataclass
class Made:
    {field}


{name} = Saga("{name}", str)


@{name}.neutral()
async def look(_: str) -> Made:
    return Made(7)


@{name}.neutral(look)
def go(_: str, made: Made) -> Call[str]:
    return ask(str, "go?", within=timedelta(days=1))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a log that has a live run of `trip`, whose reply is kept."""
    (tmp_path / "trip.py").write_text(REPLY.format(name="trip", field="n: int"))
    trip: Saga[str] = runpy.run_path(str(tmp_path / "trip.py"))["trip"]

    async def start() -> None:
        async with Orchestrator([trip], log=f"sqlite:///{tmp_path}/log.db") as runs:
            run = await runs.start(trip, "x", id="t")
            while "go" not in str(await run.outcome(wait=timedelta(milliseconds=5))):
                pass

    asyncio.run(start())
    return tmp_path


def test_types_that_live_runs_cannot_be_read_with_need_a_new_version(folder: Path) -> None:
    against = ("--against", "sqlite:///log.db")
    assert amends(folder, "check", "trip", *against).code == 0
    for field, told, code in (
        ("n: int\n    colour: str = 'red'", "", 0),
        ("m: int", "+ m: runs can't read it", 1),
        ("m: int = 1", "- n: earlier code can't read it without the field", 1),
        ("n: str", "~ n has another type: runs can't read it", 1),
    ):
        (folder / "trip.py").write_text(REPLY.format(name="trip", field=field))
        said = amends(folder, "check", "trip", *against)
        assert said.code == code, said
        assert told in said.out
        assert code == 0 or "Set version=2" in said.out


def test_live_runs_of_a_saga_that_is_not_there_any_more_are_an_error_unless_they_may_stand_still(folder: Path) -> None:
    (folder / "tour.py").write_text(REPLY.format(name="tour", field="n: int"))
    said = amends(folder, "check", "tour", "--against", "sqlite:///log.db")
    assert said.code == 1
    assert "error  1 live run needs trip v1, a saga that isn't in tour" in said.out
    assert amends(folder, "check", "tour", "--against", "sqlite:///log.db", "--leave", "trip").code == 0
    said = amends(folder, "check", "tour", "--against", "sqlite:///log.db", "--json")
    assert said.code == 1
    assert '"not_given":[{"saga":"trip"' in said.out


def test_serve_says_what_nobody_would_drive_and_does_not_start(folder: Path) -> None:
    (folder / "tour.py").write_text(REPLY.format(name="tour", field="n: int"))
    said = amends(folder, "serve", "tour", "--log", "sqlite:///log.db", "--listen", "127.0.0.1:0")
    assert said.code == 1
    assert "trip v1 isn't loaded, and 1 live run needs it." in said.err
    assert "amends serve --leave trip" in said.err
