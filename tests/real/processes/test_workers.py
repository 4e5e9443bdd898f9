"""`amends serve --workers`: several processes behind one address, started again when they die, stopped together."""

import asyncio
import errno
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from amends.logs.postgres import connections
from amends.observers.deliveries import Deliveries
from amends.server import process, supervisor
from tests.fast.cli.commands import amends, amends_process
from tests.fast.server.processes import Serving
from tests.support.postgres import Sql

SAGA = """
import asyncio
from amends import Saga

trip = Saga("trip", str)

@trip.compensable()
async def hotel(city: str) -> str:
    await asyncio.sleep(0.3 if city == "far" else 0)
    return f"room in {city}"

@hotel.compensation
async def cancel(city: str, room: str | None) -> None:
    pass

@trip.pivot(hotel)
async def flight(city: str, room: str) -> str:
    return f"seat to {city}"
"""


@pytest_asyncio.fixture
async def serving(tmp_path: Path, log_url: str) -> AsyncIterator[Serving]:
    (tmp_path / "crowd.py").write_text(SAGA)
    options = ["--workers", "2", "--log", f"{log_url}?lease_seconds=2"]  # busy machines let one second pass
    async with Serving(tmp_path, ["crowd"], options) as serving:
        yield serving


async def workers(serving: Serving) -> list[dict[str, Any]]:
    async with serving.http.get(f"{serving.url}/v1/workers") as answer:
        found: list[dict[str, Any]] = msgspec.json.decode(await answer.read())["workers"]
        return found


async def live(serving: Serving, count: int, *, without: int = 0) -> list[int]:
    """The pids of the live workers, once there are so many, and this one isn't among them."""
    async with asyncio.timeout(60):
        while True:
            pids = [int(each["id"].partition("-")[0]) for each in await workers(serving) if each["state"] == "live"]
            if len(pids) == count and without not in pids:
                return pids
            await asyncio.sleep(0.05)


async def test_two_workers_serve_one_address_survive_a_kill_and_stop_together(serving: Serving, sql: Sql) -> None:
    first = await live(serving, 2)
    status, view = await serving.post("trip", "near", "t-1", wait=20)
    assert (status, view["state"]) == (201, "completed")
    for number in range(6):
        status, _ = await serving.post("trip", "far", f"far-{number}")
        assert status == 201
    os.kill(first[0], signal.SIGKILL)
    for number in range(6):
        async with serving.http.get(f"{serving.url}/v1/runs/far-{number}?wait=30") as answer:
            assert msgspec.json.decode(await answer.read())["state"] == "completed"
    second = await live(serving, 2, without=first[0])
    assert first[1] in second, "the other one went on, and the killed one was replaced"
    code, told = await serving.stop()
    assert code == 0, told
    assert f"worker {first[0]} was ended by SIGKILL: another is started" in told
    assert sql("SELECT state, count(*) FROM amends.workers GROUP BY state ORDER BY state").splitlines() == [
        "dead|1",
        "left|2",
    ]
    assert sql("SELECT count(*) FROM amends.runs WHERE owner IS NOT NULL") == "0"


def test_a_worker_that_takes_all_the_time_it_may_hands_over_before_it_is_killed() -> None:
    """Answers on their way, then webhooks, then calls in flight, then what they said, over a new connection."""
    webhooks = inspect.signature(Deliveries.close).parameters["grace_seconds"].default
    assert process.GRACE_SECONDS + webhooks + connections.CONNECT_SECONDS < supervisor.KILL_SECONDS


def test_a_machine_that_has_no_room_for_a_process_now_is_asked_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = supervisor.WorkerSlot([sys.executable, "-c", ""], (0, 1))

    def runs_at(now: float) -> bool:
        assert place.look(now) is None
        return place.process is not None

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "no room")

    with monkeypatch.context() as full:
        full.setattr(subprocess, "Popen", refuse)
        assert [runs_at(now) for now in (100.0, 100.1, 100.6)] == [False] * 3
    assert caplog.text.count("no worker process can be started now, it is tried again") == 2
    assert not runs_at(101.0), "the second pause is longer"
    assert runs_at(101.7)
    assert place.process is not None
    place.process.wait()


def test_several_workers_need_a_log_for_several(tmp_path: Path) -> None:
    (tmp_path / "crowd.py").write_text(SAGA)
    done = amends(tmp_path, "serve", "crowd", "--workers", "2", "--log", "sqlite:///x.db")
    assert done.code == 2
    assert "--workers 2: one process per log in a file or in memory" in done.err


def test_workers_that_all_fail_end_the_command_with_what_they_said(tmp_path: Path, no_log: str) -> None:
    (tmp_path / "crowd.py").write_text(SAGA)
    done = amends_process(tmp_path, "serve", "crowd", "--workers", "2", "--log", no_log, "--listen", "127.0.0.1:0")
    assert done.code == 1
    assert "there is no log in" in done.err
    assert "none of the 2 workers could begin" in done.err


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_the_barriers_tables_are_shown(dialect: str, tmp_path: Path) -> None:
    done = amends(tmp_path, "schema", "show", "--barrier", dialect)
    assert "CREATE TABLE amends_barrier" in done.out
