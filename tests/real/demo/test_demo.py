"""The demo as somebody runs it: real processes, real faults, a real kill; and what it says is what the files say."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from amends.core.run import events as e
from amends.core.run.answers import Cause
from amends.core.words.keys import Phase
from amends.core.words.retry import Guard, Kind
from amends.demo.customers import saga_of
from amends.demo.result import Kills, examine
from amends.demo.settings import SERVICES, Impossible, usable_folder, usable_ports
from amends.demo.story import LEFT, StoryMoment, tell
from amends.demo.times import RunTime, Spread, WorkTime, critical_path, times_of
from amends.shop.faults import PROFILES, Plan
from amends.shop.saga import place_held_order, place_order

ORDERS = 30
SEED = 11
PATIENCE_SECONDS = 100
COMMAND = (sys.executable, "-m", "amends.cli.main", "demo")

Json: TypeAlias = Any
"""What the demo printed."""


def demo(*options: str, folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
    where = [] if folder is None else ["--dir", str(folder)]
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        [*COMMAND, *where, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        env=environment,
    )


def children_in(folder: Path) -> list[int]:
    """Processes whose command line names the folder."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in command:
                found.append(int(entry.name))
    return found


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, f"not within {PATIENCE_SECONDS} s: {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, subprocess.CompletedProcess[str]]":
    """One demo for all tests that only look at what it left behind."""
    folder = tmp_path_factory.mktemp("demo")
    said = demo(f"--orders={ORDERS}", "--faults=many", f"--seed={SEED}", "--concurrency=8", "--json", folder=folder)
    return folder, said


@pytest.fixture
def left(given: "tuple[Path, subprocess.CompletedProcess[str]]", tmp_path: Path) -> Path:
    """A copy of what it left behind, to be damaged."""
    folder = tmp_path / "copy"
    shutil.copytree(given[0], folder)
    return folder


def result_of(said: "subprocess.CompletedProcess[str]") -> Json:
    return json.loads(said.stdout.splitlines()[-1])


# -- a whole demo


def test_every_order_ends_and_the_audit_holds_under_many_faults_and_a_kill(
    given: "tuple[Path, subprocess.CompletedProcess[str]]",
) -> None:
    folder, said = given
    assert said.returncode == 0, said.stderr
    result = result_of(said)
    assert result["audit_ok"] is True
    assert result["violations"] == []
    assert result["orders"] == result["completed"] + result["compensated"] == ORDERS
    assert result["completed"] > 0
    assert result["compensated"] > 0
    assert result["stuck"] == 0
    assert result["hold_orders"] == ORDERS // 5
    assert result["kills"] == 1
    assert result["unfinished_at_kill"] > 0
    assert result["acknowledged_at_kill"] >= ORDERS // 2
    assert result["asked_again"] > 0
    assert result["faults_fired"] > 0
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    assert result["critical_path_ms"]["p50"] <= result["service_sum_ms"]["p50"]
    for name in (*SERVICES, "log"):
        assert (folder / f"{name}.db").is_file()
    assert children_in(folder) == []


def test_only_the_json_is_on_standard_output_and_nothing_is_coloured(
    given: "tuple[Path, subprocess.CompletedProcess[str]]",
) -> None:
    _, said = given
    assert len(said.stdout.splitlines()) == 1
    next_step = f"amends ls --log sqlite:///{given[0] / 'log.db'}"
    for line in (next_step, "starting three services", "SIGKILL", "started again", "auditing", "audit         holds"):
        assert line in said.stderr
    assert "\x1b" not in said.stderr


def test_runs_taken_over_after_the_kill_have_a_higher_epoch(
    given: "tuple[Path, subprocess.CompletedProcess[str]]",
) -> None:
    folder, said = given
    with closing(sqlite3.connect(folder / "log.db")) as log:
        (taken_over,) = log.execute("select count(distinct run) from events where epoch > 1").fetchone()
    assert taken_over == result_of(said)["unfinished_at_kill"]


def test_the_story_is_that_of_an_order_that_was_turned_back(
    given: "tuple[Path, subprocess.CompletedProcess[str]]",
) -> None:
    folder, said = given
    story = result_of(said)["story"]
    with closing(sqlite3.connect(folder / "log.db")) as log:
        (state,) = log.execute("select state from runs where id = ?", (story["run"],)).fetchone()
    assert state == "compensated"
    lines = [line["what"] for line in story["lines"]]
    assert lines[0].startswith("written to the log")
    assert any(line.startswith("turns back") for line in lines)
    assert lines[-1].startswith("compensated")
    assert all(line in said.stderr for line in lines)


def test_faults_are_a_function_of_the_seed(given: "tuple[Path, subprocess.CompletedProcess[str]]") -> None:
    """What was fired is what the seed plans for these calls, and nothing that was planned and reached was left out."""
    folder, said = given
    plan = Plan(seed=SEED, rate=PROFILES["many"])
    fired = {(key, attempt): kind for key, attempt, kind in rows(folder, "select key, attempt, kind from faults")}
    assert fired
    for (key, attempt), kind in fired.items():
        assert plan.draw(key, attempt) == kind
    for key, attempt in rows(folder, "select distinct key, attempt from calls"):
        drawn = plan.draw(key, attempt)
        assert drawn is None or fired[key, attempt] == drawn
    assert result_of(said)["faults_fired"] == len(rows(folder, "select id from faults"))


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for service in SERVICES:
        with closing(sqlite3.connect(folder / f"{service}.db")) as database:
            found += database.execute(query).fetchall()
    return found


# -- the audit of what it left


async def test_a_damaged_database_is_a_violation(left: Path) -> None:
    assert (await examine(left)).violations == ()
    with closing(sqlite3.connect(left / "payment.db")) as payment, payment:
        payment.execute("update accounts set balance = balance + 1 where customer = 'ann'")
    violations = (await examine(left)).violations
    assert len(violations) == 2
    assert all("ann" in each for each in violations)


async def test_an_order_that_is_in_one_service_only_is_a_violation(left: Path) -> None:
    with closing(sqlite3.connect(left / "log.db")) as log:
        (run,) = log.execute("select id from runs where state = 'completed' limit 1").fetchone()
    with closing(sqlite3.connect(left / "shipping.db")) as shipping, shipping:
        shipping.execute("delete from shipments where run = ?", (run,))
    violations = (await examine(left)).violations
    assert any(each.startswith(f"{run} is completed, but") for each in violations)


async def test_an_order_that_was_acknowledged_and_is_gone_is_a_violation(left: Path) -> None:
    known = ["order-0001"]
    assert (await examine(left, known, acknowledged=known)).violations == ()
    found = await examine(left, ["order-0001", "order-9999"], acknowledged=["order-9999"])
    assert found.violations == ("order-9999 was acknowledged, but the log doesn't know it.",)


async def test_an_order_that_has_not_ended_is_a_violation(left: Path) -> None:
    with closing(sqlite3.connect(left / "log.db")) as log, log:
        log.execute("update runs set state = 'stuck', ended_at = null where id = 'order-0001'")
    found = await examine(left, ["order-0001"])
    assert found.stuck == 1
    assert "order-0001 hasn't ended: it is stuck." in found.violations


async def test_a_kill_that_hit_nothing_proves_nothing(left: Path) -> None:
    found = await examine(left, kills=Kills(count=1, unfinished=0, acknowledged=()))
    assert found.violations == ("The kill found no order in progress, so it proved nothing.",)


# -- what can't be done


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.db").touch()
    said = demo(folder=tmp_path)
    assert said.returncode == 2
    assert f"{tmp_path} is not empty (it holds log.db)" in said.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "log.db"]


@pytest.mark.parametrize("option", ["--port", "--shipping-port"])
def test_a_port_in_use_is_refused(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = demo(f"{option}={port}", folder=tmp_path / "new")
    assert said.returncode == 2
    assert f"port {port} for the {'orchestrator' if option == '--port' else 'shipping'} can't be had" in said.stderr
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Impossible, match="can't be used: File exists"):
        usable_folder(tmp_path / "file")


def test_a_port_cannot_be_used_twice() -> None:
    (port,) = {usable_ports({})["orchestrator"]}
    with pytest.raises(Impossible, match=f"port {port}"):
        usable_ports({"payment": port, "shipping": port})


# -- nothing is left behind


@pytest.fixture
def running(tmp_path: Path) -> "Generator[subprocess.Popen[str]]":
    """A demo in the middle of its work."""
    folder = tmp_path / "interrupted"
    options = [f"--dir={folder}", "--orders=2000", "--faults=some", "--seed=1"]
    with subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: started(folder), "orders are placed")
            assert len(children_in(folder)) == 5
            yield process
        finally:
            process.kill()


def started(folder: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{folder / 'log.db'}?mode=ro", uri=True)) as log:
            (count,) = log.execute("select count(*) from runs").fetchone()
            return bool(count)
    except sqlite3.OperationalError:
        return False


@pytest.mark.parametrize("by", [pytest.param(signal.SIGINT, marks=pytest.mark.campaign), signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_processes(
    running: "subprocess.Popen[str]", tmp_path: Path, by: signal.Signals
) -> None:
    running.send_signal(by)
    _, errors = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 128 + by
    assert f"stopped by {by.name}" in errors
    assert "Traceback" not in errors
    assert children_in(tmp_path / "interrupted") == []


def test_even_a_killed_demo_leaves_no_processes(running: "subprocess.Popen[str]", tmp_path: Path) -> None:
    running.kill()
    running.communicate(timeout=PATIENCE_SECONDS)
    until(lambda: children_in(tmp_path / "interrupted") == [], "the children notice")


# -- the parts


def test_one_order_in_five_has_a_point_of_no_return() -> None:
    names = [saga_of(number) for number in range(10)]
    assert names.count("hold-order") == 2
    assert names.count("place-order") == 8


def test_the_critical_path_is_the_longest_way_through_the_graph() -> None:
    assert critical_path(place_order, {"reserve": 10, "charge": 30, "schedule": 5}) == 35
    worked = {"find_route": 1, "set_aside": 7, "hold": 20, "capture": 3, "ship": 4}
    assert critical_path(place_held_order, worked) == 27


def test_times_are_those_of_the_slowest_item_of_a_step() -> None:
    runs = [RunTime("a", "place-order", "completed", 50.0), RunTime("b", "place-order", "compensated", 90.0)]
    calls = [
        WorkTime("a", "reserve", 4),
        WorkTime("a", "reserve", 10),
        WorkTime("a", "charge", 6),
        WorkTime("b", "charge", 99),
    ]
    times = times_of(runs, calls)
    assert times.ended == Spread(50.0, 90.0)
    assert times.completed == Spread(50.0, 50.0)
    assert times.service_sum == Spread(20.0, 20.0)
    assert times.critical_path == Spread(10.0, 10.0)


def test_spreads_are_times_that_were_seen() -> None:
    assert Spread.of(range(1, 101)) == Spread(50, 99)
    assert Spread.of([]) == Spread(0, 0)


def test_a_story_says_what_each_event_means_and_when_the_orchestrator_died() -> None:
    request = e.Request("", "payment", "charge", Guard.BARRIER, b"{}", undo="refund")
    history: list[e.Event] = [
        e.RunStarted(0, 1, "order-1", "place-order", 1, "digest", b"{}", None, "ann"),
        e.ActionRequested(0, 1, "charge", Kind.COMPENSABLE, "one", (request,)),
        e.AttemptFailed(2_000_000, 1, "charge", "", Phase.ACTION, Cause.TIMED_OUT, "", 2_200_000, counted=True),
        e.ActionSucceeded(2_300_000, 2, "charge", "", b"{}"),
        e.Aborted(2_400_000, 2, "schedule", "no-capacity", "schedule said no: no-capacity"),
        e.CompensationSucceeded(2_500_000, 2, "charge", "", "succeeded"),
        e.RunEnded(2_500_000, 2, "compensated"),
    ]
    assert list(tell(history)) == [
        StoryMoment(0.0, "order", "written to the log, and only then acknowledged"),
        StoryMoment(0.0, "charge", "asks payment to charge"),
        StoryMoment(2000.0, "charge", "try 1: no answer in time; it may have happened; the same call again in 200 ms"),
        StoryMoment(
            2300.0,
            "",
            "meanwhile the orchestrator was killed; a new one read the log, found this order in it, and goes on",
        ),
        StoryMoment(2300.0, "charge", "done, at try 2"),
        StoryMoment(2400.0, "order", "turns back, because schedule said no: no-capacity"),
        StoryMoment(2500.0, "charge", "undone"),
        StoryMoment(2500.0, "order", "compensated: it is in no service any more"),
    ]
    assert list(tell(history, LEFT))[3] == StoryMoment(2300.0, "", LEFT)
