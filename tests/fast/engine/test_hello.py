"""The first ten minutes: scripts of one file, as a reader would type them, in a process of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TRIP = """
from amends import Rejected, Saga, run

trip = Saga("trip", str)


@trip.compensable()
async def hotel(city: str) -> str:
    return f"room in {city}"


@hotel.compensation
async def cancel_hotel(city: str, room: str | None) -> None:
    print("cancelled:", room or f"whatever was booked in {city}")


@trip.pivot(hotel)
async def flight(city: str, room: str) -> str:
    if city == "Atlantis":
        raise Rejected("no flights there")
    return f"seat to {city}"


if __name__ == "__main__":
    print(run(trip, "Lisbon"))
    print(run(trip, "Atlantis"))
"""

BLOCKING = """
import sqlite3
import sys

from amends import Rejected, Saga, blocking, run, this_call

trip = Saga("trip", str)


@trip.compensable()
@blocking
def hotel(city: str) -> str:
    with sqlite3.connect("rooms.db") as db:
        key = this_call().key
        db.execute("insert or ignore into room (key, city) values (?, ?)", (key, city))
        if db.execute("select count(*) from room where city = ?", (city,)).fetchone()[0] > 1:
            raise Rejected("fully booked", code="full")
    return key


@hotel.compensation
@blocking
def cancel_hotel(city: str, room: str | None) -> None:
    with sqlite3.connect("rooms.db") as db:
        db.execute("delete from room where key = ?", (this_call().action_key,))


@trip.pivot(hotel)
async def flight(city: str, room: str) -> str:
    if city == "Atlantis":
        raise Rejected("no flights there")
    return f"seat to {city} with {room}"


if __name__ == "__main__":
    with sqlite3.connect("rooms.db") as db:
        db.execute("create table if not exists room (key text primary key, city text)")
    for at, city in enumerate(sys.argv[1:]):
        print(run(trip, city, log="sqlite:///trips.db", id=f"trip-{at}"))
    print(sqlite3.connect("rooms.db").execute("select key from room order by key").fetchall())
"""

KILLED = """
import os
import signal
import sqlite3
import sys

from amends import Saga, run, this_call

trip = Saga("trip", str)
db = sqlite3.connect("effects.db", isolation_level=None)
db.execute("create table if not exists effect (key text primary key)")
db.execute("create table if not exists attempt (key text)")


def effect(die: str) -> None:
    key = this_call().key
    first = db.execute("select 1 from attempt where key = ?", (key,)).fetchone() is None
    db.execute("insert into attempt values (?)", (key,))
    if die == "before" and first:
        os.kill(os.getpid(), signal.SIGKILL)
    db.execute("insert or ignore into effect values (?)", (key,))
    if die == "after" and first:
        os.kill(os.getpid(), signal.SIGKILL)


@trip.compensable()
async def hotel(city: str) -> str:
    effect(sys.argv[1] if sys.argv[2] == "hotel" else "never")
    return "room"


@hotel.compensation
async def cancel_hotel(city: str, room: str | None) -> None:
    effect("never")


@trip.pivot(hotel)
async def flight(city: str, room: str) -> str:
    effect(sys.argv[1] if sys.argv[2] == "flight" else "never")
    return f"seat and {room}"


if __name__ == "__main__":
    print(run(trip, "Lisbon", log="sqlite:///trips.db", id="trip-1"))
    for table in ("effect", "attempt"):
        print(table, *(key for (key,) in db.execute(f"select key from {table} order by key")))
"""


def python(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(script, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "script.py", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_smallest_saga_prints_what_its_page_says(tmp_path: Path) -> None:
    done = python(tmp_path, TRIP)
    assert done.stdout.splitlines() == [
        "completed    hotel, flight",
        "cancelled: room in Atlantis",
        "compensated  flight said no: no flights there; undone: hotel",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_code_that_blocks(tmp_path: Path) -> None:
    done = python(tmp_path, BLOCKING, "Lisbon", "Atlantis", "Lisbon")
    assert done.stdout.splitlines() == [
        "completed    hotel, flight",
        "compensated  flight said no: no flights there; undone: hotel",
        "compensated  hotel said no: full",
        "[('trip-0:hotel:action',)]",
    ]
    assert (done.returncode, done.stderr) == (0, "")
    assert python(tmp_path, BLOCKING, "Lisbon", "Atlantis", "Lisbon").stdout == done.stdout, "all of it is over"


@pytest.mark.parametrize("step", ["hotel", "flight"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_same_line_run_again_after_a_kill_goes_on_where_it_stopped(tmp_path: Path, step: str, when: str) -> None:
    killed = python(tmp_path, KILLED, when, step)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "")
    done = python(tmp_path, KILLED, when, step)
    assert done.stderr == ""
    attempts = ["trip-1:flight:action", "trip-1:hotel:action", f"trip-1:{step}:action"]
    assert done.stdout.splitlines() == [
        "completed    hotel, flight",
        "effect trip-1:flight:action trip-1:hotel:action",
        f"attempt {' '.join(sorted(attempts))}",
    ]
