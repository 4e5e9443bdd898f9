"""Runs leave nothing for the garbage collector, which is why `amends serve` lets it look seldom."""

import asyncio
import gc
import subprocess
import sys
from collections import Counter
from typing import Any, cast

import pytest

from amends import Orchestrator, Rejected, Saga
from amends.server import process

trip = Saga("trip", str)


@trip.compensable()
async def flight(word: str) -> str:
    return word


@flight.compensation
async def undo_flight(_word: str, _reply: str | None) -> None:
    await asyncio.sleep(0)


@trip.compensable(flight)
async def hotel(word: str, _flight: str) -> str:
    await asyncio.sleep(0)
    if word == "no":
        raise Rejected("full")
    return word


@hotel.compensation
async def undo_hotel(_word: str, _reply: str | None) -> None:
    await asyncio.sleep(0)


async def test_runs_leave_nothing_that_only_the_collector_would_find() -> None:
    async with Orchestrator([trip], log="memory:") as runs:
        for word in ("yes", "no"):  # whatever is made once is made
            await (await runs.start(trip, word)).outcome()
        gc.collect()
        was_on = gc.isenabled()
        gc.disable()
        try:
            for _ in range(20):
                await (await runs.start(trip, "yes")).outcome()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = Counter(type(each).__module__ for each in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            if was_on:
                gc.enable()
    assert not [name for name in left if name.startswith("amends")], left


def test_a_process_that_is_ours_looks_seldom_and_not_at_what_is_loaded() -> None:
    told = (
        "import gc; from amends.server.garbage import YOUNG_MAX, collect_seldom; collect_seldom(); "
        "print(gc.isenabled(), gc.get_threshold()[0] == YOUNG_MAX, gc.get_freeze_count() > 1_000)"
    )
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "True", "True"]


class Reached(Exception):
    pass


def test_a_server_is_such_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached() -> None:
        raise Reached

    monkeypatch.setattr(process, "collect_seldom", reached)
    nothing = cast("Any", None)
    with pytest.raises(Reached):
        process.serve((), nothing, log=nothing, ready=nothing)
