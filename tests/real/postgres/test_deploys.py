"""Versions side by side: what live runs need is asked before a deploy, and a process that would leave them to nobody
doesn't start.
"""

import asyncio
import re
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from amends.cli.main import run as amends
from amends.cli.modules import find_sagas
from amends.core.saga.operation import Call
from amends.core.saga.outcomes import Completed
from amends.core.saga.saga import Saga
from amends.core.words.errors import DefinitionInvalid
from amends.engine.loaded_graphs import needed
from amends.logs.postgres.log import PostgresLog
from amends.orchestrator import Orchestrator, load_definitions
from amends.ports.log import RunRow, SagaKey
from amends.testing.contracts.log_entries import start, write
from amends.testing.postgres_server import ask
from tests.real.postgres.shop import QUICK, Bank, Shop, Stock, order
from tests.real.postgres.support import until
from tests.real.postgres.test_workers import SOON, fine

CONTRACT = """
from dataclasses import dataclass
from amends import Call, Participant, Saga, operation

@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    sku: str

@dataclass(frozen=True, slots=True)
class Reservation:
    id: str

@dataclass(frozen=True, slots=True)
class Score:
    points: int

@dataclass(frozen=True, slots=True)
class Shipment:
    tracking: str
    {carrier}

class Inventory(Participant):
    reserve = operation(Order, Reservation, compensation="release")

class Payments(Participant):
    hold = operation(Order, str, compensation="unhold")
    capture = operation(Order, str)
    score = operation(Order, Score)

class Shipping(Participant):
    schedule = operation(Order, Shipment)

place_order = Saga("place-order", Order, version={version})

@place_order.compensable()
def reserve(order: Order) -> Call[Reservation]:
    return Inventory.reserve(sku=order.sku)
{fraud}
@place_order.compensable({reads})
def hold(order: Order{argument}) -> Call[str]:
    return Payments.hold(sku=order.sku)

@place_order.pivot(hold, after=[reserve])
def capture(order: Order, held: str) -> Call[str]:
    return Payments.capture(sku=order.sku)

@place_order.retriable(reserve, after=[capture])
def ship(order: Order, reservation: Reservation) -> Call[Shipment]:
    return Shipping.schedule(sku=order.sku)
"""
FRAUD = """
@place_order.neutral()
def fraud(order: Order) -> Call[Score]:
    return Payments.score(sku=order.sku)
"""


def source(version: int, *, changed: bool) -> str:
    return CONTRACT.format(
        version=version,
        carrier='carrier: str = ""' if changed else "",
        fraud=FRAUD if changed else "",
        reads="fraud" if changed else "",
        argument=", fraud: Score" if changed else "",
    )


@pytest.fixture
def shop_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`<name>.old` is v1, `<name>.sagas` is v2 and `<name>.same` calls itself v1 and is another."""
    name = f"shop_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "old.py").write_text(source(1, changed=False))
    (folder / "sagas.py").write_text(source(2, changed=True))
    (folder / "same.py").write_text(source(1, changed=True))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return name


def with_live_runs(log_url: str, name: str) -> None:
    """Three live runs of v1, as they stand at three in the morning."""
    (saga,) = find_sagas([f"{name}.old"])
    (old,) = load_definitions([saga])
    key = SagaKey(old.saga, old.version, old.digest)
    now = time.time_ns() // 1_000
    hours, second = 3_600 * 1_000_000, 1_000_000
    stuck_since = now - 6 * hours - 100 * second
    error = "404 from http://shipping:8003/schedule, not from the barrier"
    stuck = RunRow(
        state="stuck",
        by_hand=False,
        due_at=None,
        current=b'["ship"]',
        steps=f'[{{"name":"ship","kind":"retriable","state":"unknown","attempts":8,"error":"{error}"}}]'.encode(),
        stuck=f'[{{"step":"ship","phase":"action","reason":"spent","attempts":8,"since":{stuck_since}}}]'.encode(),
        ended_at=None,
    )
    running = replace(stuck, state="running", steps=b"[]", stuck=b"[]")

    async def fill() -> None:
        log = PostgresLog(log_url)
        await log.open()
        await log.define(key, old.graph())
        await write(
            log,
            start("order-17", saga=key, at=stuck_since, shown=stuck, owned=False),
            start("order-40", saga=key, at=now - 2 * second, shown=running, owned=False),
            start("order-41", saga=key, at=now - second, shown=replace(running, state="compensating"), owned=False),
        )
        await log.close()

    asyncio.run(fill())


def test_a_check_against_the_log_says_what_changed_what_needs_it_and_what_to_choose_from(
    log_url: str, shop_modules: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_live_runs(log_url, shop_modules)
    assert amends(["check", f"{shop_modules}.sagas", "--against", log_url]) == 1
    said = capsys.readouterr().out.replace(shop_modules, "shop")
    said = re.sub(r"\d+ s$", "N s", said, flags=re.MULTILINE)
    expected = textwrap.dedent(
        """\
        place-order v2   5 steps, fine                                                 new, 0 runs
        place-order v1   not in shop.sagas                                             3 live runs need it

          changed from v1 to v2
            + step   fraud        neutral, before hold
            ~ edge   hold         now reads fraud
            ~ reply  Shipment     + carrier (default "")                               v1 runs can read it

          the 3 runs
            order-17   stuck          6 h     ship: 404 from http://shipping:8003/schedule, not from the barrier
            order-40   running        N s
            order-41   compensating   N s

          A process without v1 will not start while no other live worker has it. Choose:
            load both      amends serve shop.sagas shop.v1.sagas         then delete v1 when this list is empty
            wait           amends ls --saga place-order --version 1 --live --watch
            end them       amends compensate --where 'saga=place-order version=1' --dry-run
        """
    )
    # The module's real name is longer than `shop`, so what stands to the right of it stands elsewhere.
    assert [re.sub(" +", " ", line) for line in said.splitlines()] == [
        re.sub(" +", " ", line) for line in expected.splitlines()
    ]
    with_modules = ("not in shop", "amends serve")
    for line in expected.splitlines():
        assert line in said.splitlines() or any(each in line for each in with_modules), "to the letter"


def test_with_both_versions_there_is_nothing_to_choose(
    log_url: str, shop_modules: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_live_runs(log_url, shop_modules)
    assert amends(["check", f"{shop_modules}.sagas", f"{shop_modules}.old", "--against", log_url]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "place-order v2   5 steps, fine                                                 new, 0 runs",
        "place-order v1   4 steps, fine                                                 3 live runs",
    ]


def test_the_same_version_with_another_graph_is_told_with_what_changed(
    log_url: str, shop_modules: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_live_runs(log_url, shop_modules)
    assert amends(["check", f"{shop_modules}.same", "--against", log_url]) == 1
    said = capsys.readouterr().out
    refusal = textwrap.dedent(
        """\
        error   place-order v1 is not the place-order v1 that 3 live runs began with.
                  ~ edge   hold now reads fraud
                  + step   fraud
                Set version=2 on this one and keep the old file loaded, or take the change back.
        """
    )
    assert refusal in said


async def test_workers_that_a_deploy_replaces_do_not_make_its_check_fine(
    log_url: str, shop_modules: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (saga,) = find_sagas([f"{shop_modules}.old"])
    (old,) = load_definitions([saga])
    await asyncio.to_thread(with_live_runs, log_url, shop_modules)
    log = PostgresLog(log_url)
    await log.open()
    await log.announce([SagaKey(old.saga, old.version, old.digest)])
    assert await asyncio.to_thread(amends, ["check", f"{shop_modules}.sagas", "--against", log_url]) == 1
    await log.close()
    said = capsys.readouterr().out.splitlines()
    assert "  A live worker has v1 now. When the last one stops nobody drives these runs. Choose:" in said
    assert any(line.startswith("    load both      amends serve") for line in said)


def test_live_runs_of_a_saga_that_is_not_checked_and_that_nobody_has_are_an_error(
    log_url: str, shop_modules: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_live_runs(log_url, shop_modules)
    ask(log_url, "UPDATE amends.runs SET saga = 'pack' WHERE id = 'order-40'")
    other = f"{shop_modules}.other"
    (tmp_path / shop_modules / "other.py").write_text(source(1, changed=False).replace('"place-order"', '"refund"'))
    assert amends(["check", other, "--against", log_url]) == 1
    said = " ".join(capsys.readouterr().out.split())
    nobody = "no live worker of another deployment has it either. Load it too, or let these runs stand still: --leave"
    assert f"error 1 live run needs pack v1, a saga that isn't in {other}: {nobody} pack, here and for serve." in said
    assert f"error 2 live runs need place-order v1, a saga that isn't in {other}: {nobody} place-order, " in said
    assert amends(["check", other, "--against", log_url, "--leave", "pack", "--leave", "place-order"]) == 0
    capsys.readouterr()
    assert amends(["check", other, "--against", log_url, "--json"]) == 1
    assert '"not_given":[{"saga":"pack","version":1' in capsys.readouterr().out


async def test_a_process_that_would_leave_live_runs_to_nobody_does_not_start(log_url: str) -> None:
    shop = Shop()
    first, second = order_v(1), order_v(2)
    hold = shop.hold("o-1 reserve")
    async with Orchestrator([first], log=log_url, routes=shop.routes, around=shop.around) as runs:
        await runs.start(first, "o-1", id="o-1")
        await until(lambda: bool(shop.asked), "the call is on its way")
        async with Orchestrator([second], log=log_url, routes=shop.routes):
            pass  # while another live worker has v1 it may
        await runs.close(grace_seconds=0)
    with pytest.raises(
        DefinitionInvalid, match=r"order v1 isn't loaded, and 1 live run needs it\. A process without v1"
    ):
        async with Orchestrator([second], log=log_url, routes=shop.routes):
            pass
    hold.set()
    async with Orchestrator([second, first], log=log_url, routes=shop.routes) as runs:
        assert isinstance(await runs.get("o-1").outcome(wait=SOON), Completed)
    async with Orchestrator([second], log=log_url, routes=shop.routes):
        pass


async def test_two_processes_with_a_version_each_that_start_together_find_each_other(log_url: str) -> None:
    shop = Shop()
    sagas = [order_v(1), order_v(2)]
    held = [shop.hold("o-1 reserve"), shop.hold("o-2 reserve")]
    async with Orchestrator(sagas, log=log_url, routes=shop.routes, around=shop.around) as runs:
        for number, saga in enumerate(sagas, 1):
            await runs.start(saga, f"o-{number}", id=f"o-{number}")
        await until(lambda: len(shop.asked) == 2, "the calls are on their way")
        await runs.close(grace_seconds=0)
    for each in held:
        each.set()
    ones = [Orchestrator([saga], log=log_url, routes=shop.routes) for saga in sagas]
    await asyncio.gather(*(each.__aenter__() for each in ones))
    for number in (1, 2):
        assert isinstance(await ones[number - 1].get(f"o-{number}").outcome(wait=SOON), Completed)
    await asyncio.gather(*(each.close() for each in ones))
    assert shop.effects == fine("o-1") | fine("o-2") | {"o-2 look": 1}


def order_v(version: int) -> "Saga[str]":
    """The shop's order, or its next version, which asks the bank before it reserves."""
    if version == 1:
        return order
    saga = Saga("order", str, version=version)

    @saga.neutral(policy=QUICK)
    def look(run: str) -> "Call[str]":
        return Bank.pay(f"{run} look")

    @saga.compensable(after=[look], policy=QUICK)
    def reserve(run: str) -> "Call[str]":
        return Stock.take(f"{run} reserve")

    @saga.pivot(reserve, policy=QUICK)
    def pay(run: str, reserved: str) -> "Call[str]":
        return Bank.pay(f"{run} pay")

    @saga.retriable(after=[pay], policy=QUICK)
    def send(run: str) -> "Call[str]":
        return Stock.take(f"{run} send")

    return saga


async def test_a_rolling_deploy_and_back_under_load_strands_and_doubles_nothing(log_url: str) -> None:
    """Two workers, replaced one after the other, v1 to v1+v2 to v2 and back, while orders come in at all times."""
    shop = Shop()
    v1, v2 = order_v(1), order_v(2)
    steps = (([v1, v2], v2), ([v2], v2), ([v1, v2], v1), ([v1], v1))  # what is loaded, and what new orders begin with
    log = f"{log_url}?lease_seconds=600"  # nothing is found by waiting for a lease
    now: list[tuple[Orchestrator, Saga[str]]] = []
    placed: list[str] = []
    over = asyncio.Event()

    async def customers() -> None:
        while not over.is_set():
            run = f"o-{len(placed)}"
            runs, newest = now[len(placed) % len(now)]
            try:
                await runs.start(newest, run, id=run)
            except Exception:  # noqa: BLE001 - that worker is just leaving: the next one takes it
                await asyncio.sleep(0.001)
                continue
            placed.append(run)
            await asyncio.sleep(0.002)

    async def replaced(place: int, sagas: list[Saga[str]], newest: Saga[str]) -> None:
        coming = Orchestrator(sagas, log=log, routes=shop.routes)
        await coming.__aenter__()
        going, _ = now[place]
        now[place] = (coming, newest)
        await going.close()

    for _ in range(2):
        runs = Orchestrator([v1], log=log, routes=shop.routes)
        await runs.__aenter__()
        now.append((runs, v1))
    shopping = asyncio.create_task(customers())
    for sagas, newest in steps:
        if len(sagas) == 1:  # the list of what the other version still has to do is empty
            await until(partial(nothing_else, now[0][0], newest.version), "runs of the other version have ended")
        for place in range(2):
            await until(partial(has_placed, placed, len(placed) + 20), "orders come in")
            await replaced(place, sagas, newest)
    over.set()
    await shopping
    await until(partial(all_ended, now[0][0], len(placed)), "every order has ended")
    for runs, _ in now:
        await runs.close()
    effects = {what: count for what, count in shop.effects.items() if not what.endswith(" look")}
    expected: dict[str, int] = {}
    for run in placed:
        expected |= fine(run)
    assert effects == expected
    assert {what.rpartition(" ")[2] for what in shop.effects} == {"look", "reserve", "pay", "send"}, "both versions ran"


async def nothing_else(runs: Orchestrator, version: int) -> bool:
    return all(key.version == version for key in await needed(runs.engine.log))


async def all_ended(runs: Orchestrator, count: int) -> bool:
    return dict(await runs.engine.log.count()) == {"completed": count}


def has_placed(placed: list[str], count: int) -> bool:
    return len(placed) >= count
