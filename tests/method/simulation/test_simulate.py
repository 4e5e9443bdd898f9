"""The promises hold on bad days; a seed is a world, bit for bit; a failure says how to see it again."""

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from amends.core.run.definition import Definition
from amends.core.run.record import RunRecord, RunState
from amends.core.saga.operation import Call, Participant, operation
from amends.core.saga.saga import Saga
from amends.core.words.errors import AmendsError, DefinitionInvalid
from amends.engine.projection import Projector
from amends.ports.log import RunRow
from amends.testing.simulation.simulate import Simulation, SimulationFailed, simulate
from amends.testing.simulation.weather import WeatherFault
from tests.method.exploration.sagas import ALL, definition_of

SCHEDULES = {"memory": 250, "sqlite": 40}
WORLDS_MAX = 1_500


def simulation(log: str = "memory", names: tuple[str, ...] = tuple(ALL)) -> Simulation:
    return Simulation([definition_of(name) for name in names], log)


@pytest.mark.parametrize("log", SCHEDULES)
def test_every_promise_holds_on_bad_days_and_every_fault_has_fired(log: str) -> None:
    with simulation(log) as played:
        report = played.play(0, SCHEDULES[log])
    assert report.ends.total() == 4 * SCHEDULES[log]
    assert report.ends.keys() <= {"completed", "compensated", "abandoned"}
    assert report.ends["completed"] > report.ends["compensated"] > 0
    assert report.helped
    fired: set[str] = {kind for kind, count in report.fired.items() if count}
    if log == "memory":
        with simulation(log) as played:
            for seed in range(SCHEDULES[log], WORLDS_MAX):
                if fired == set(WeatherFault):
                    return
                fired |= played.play(seed, 1).fired.keys()
        assert fired == set(WeatherFault), "not every fault has fired"
    assert {
        WeatherFault.IO_ERROR,
        WeatherFault.FULL_DISK,
        WeatherFault.SLOW_DISK,
        WeatherFault.CRASH_AFTER_WRITE,
    } <= fired
    assert not fired & {WeatherFault.PAUSE_PAST_LEASE, WeatherFault.COMMIT_UNKNOWN}, (
        "there is one process, and it knows its commits"
    )


@pytest.mark.campaign
@pytest.mark.parametrize("log", SCHEDULES)
def test_every_promise_holds_on_many_more_bad_days(log: str) -> None:
    with simulation(log) as played:
        report = played.play(100_000, 100 * SCHEDULES[log])
    assert report.ends.total() == 400 * SCHEDULES[log]


PRINT = """
from tests.method.exploration.sagas import ALL, definition_of
from amends.testing.simulation.simulate import Simulation
with Simulation([definition_of(name) for name in ALL], {log!r}) as played:
    print(*[played.print(seed) for seed in {seeds!r}])
"""


@pytest.mark.parametrize("log", SCHEDULES)
def test_a_seed_is_the_same_world_bit_for_bit_in_every_process_and_whatever_came_before(log: str) -> None:
    seeds = [7, 3, 11]
    with simulation(log) as played:
        played.play(100, 3)
        here = [played.print(seed) for seed in seeds]
        assert [played.print(seed) for seed in seeds] == here
    assert len(set(here)) == len(seeds)
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PRINT.format(log=log, seeds=seeds)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(["src", "."])},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.split() == here


def test_once_the_sky_is_clear_every_participant_can_be_reached_again() -> None:
    before = 0
    with simulation(names=("chain", "old-pivot-post")) as played:
        for seed in range(150):
            words = [str(each[1]) for each in played.trace(seed)]
            clear = words.index("clear")
            before += words[:clear].count("partition")
            assert "partition" not in words[clear:], f"seed {seed}"
    assert before, "nobody was cut off before"


# -- a world that goes wrong


def test_a_failure_names_its_seed_commit_and_command_and_happens_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Projector.row

    def wrong(projector: Projector, definition: Definition, record: RunRecord, due_at: int | None) -> RunRow:
        row = real(projector, definition, record, due_at)
        return replace(row, by_hand=True) if record.ended is RunState.COMPENSATED else row

    monkeypatch.setattr(Projector, "row", wrong)
    with pytest.raises(SimulationFailed) as first:
        simulate([ORDERS], seed=40, schedules=50)
    told = str(first.value)
    assert told.startswith("the row is the history's: ")
    assert re.search(r"\n  at: amends \S+", told)
    seed = first.value.seed
    assert f"\n  seed: {seed}\n" in told
    assert f"again: simulate([orders], ..., seed={seed}, schedules=1, log='memory')" in told
    with pytest.raises(SimulationFailed) as second:
        simulate([ORDERS], seed=seed, schedules=1)
    assert str(second.value) == told


def test_what_an_engine_only_logs_is_a_failure_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("amends.engine.worker.owed", failing)
    with pytest.raises(SimulationFailed, match=r"the engine complains: .*deciding failed"):
        simulate([ORDERS], schedules=20)


# -- as a user calls it


@dataclass(frozen=True)
class Order:
    sku: str
    quantity: int


@dataclass(frozen=True)
class Held:
    id: str


class Stock(Participant):
    hold = operation(Order, Held, compensation="release")
    take = operation(Held)


ORDERS = Saga("orders", Order)


@ORDERS.compensable()
def hold(order: Order) -> Call[Held]:
    return Stock.hold(sku=order.sku, quantity=order.quantity)


@ORDERS.pivot(hold)
def take(order: Order, held: Held) -> Call[None]:
    return Stock.take(id=held.id)


def test_what_runs_are_started_with_and_what_steps_give_can_be_said() -> None:
    played = Simulation([definition_of("chain")], runs=1)
    played.takes("chain", b'{"name":"mine"}')
    played.gives("a", b'{"id":"given"}')
    bodies = Counter(each[6] for seed in range(5) for each in played.trace(seed) if each[1] == "send")
    assert bodies[b'{"name":"mine"}']
    assert bodies[b'{"name":"given"}']
    report = simulate(
        [ORDERS], inputs={ORDERS: Order("sku-1", 2)}, replies={hold: Held("h-1")}, schedules=30, log="sqlite"
    )
    assert report.schedules == 30
    assert "30 schedules" in str(report)
    assert "completed" in str(report)


def test_it_is_for_plain_functions() -> None:
    async def test() -> None:
        simulate([ORDERS], schedules=1)

    with pytest.raises(AmendsError, match="plain def"):
        asyncio.run(test())


def test_what_cant_be_simulated_is_said() -> None:
    with pytest.raises(AmendsError, match="known are memory, sqlite"):
        simulate([ORDERS], log="paper")
    with pytest.raises(ValueError, match="expected at least 1"):
        simulate([ORDERS], runs=0)
    nothing = Saga("nothing", str)
    with pytest.raises(DefinitionInvalid):
        simulate([nothing])
