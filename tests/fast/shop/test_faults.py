"""Each fault is what it says, for the caller and in the books, and the same seed breaks the same calls."""

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from starlette.types import Message, Receive, Scope, Send

from amends.shop.contract import Inventory
from amends.shop.faults import FAULTY_ATTEMPTS, PROFILES, CallFault, FaultMiddleware, Fired, Plan
from tests.fast.shop.services import Opened, serving

RESERVE = Inventory.reserve(sku="sku-1", quantity=3)
KEY = "run-1:reserve/sku-1"
HANG_SECONDS = 0.6
CALLER_WAITS = 0.2


def only(kind: CallFault) -> Plan:
    return Plan(seed=7, rate=1.0, hang_seconds=HANG_SECONDS, kinds=(kind,))


async def fired(service: Opened) -> dict[str, int]:
    said: dict[str, int] = (await service.rows("faults"))["by_kind"]
    return said


async def made_and_free(service: Opened) -> tuple[int, int]:
    """Reservations made, and units left."""
    return len(await service.rows("reservations")), (await service.rows("stock", sku="sku-1"))[0]["free"]


NOTHING, ONCE = (0, 10), (1, 7)


@pytest.mark.parametrize(("kind", "left"), [(CallFault.ERROR_BEFORE, NOTHING), (CallFault.ERROR_AFTER, ONCE)])
async def test_an_error_says_nothing_of_whether_the_work_was_done(
    kind: CallFault, left: object, tmp_path: Path
) -> None:
    async with serving("inventory", tmp_path, plan=only(kind)) as inventory:
        said = await inventory.act(RESERVE, KEY)
        assert (said.status, said.outcome) == (500, None)
        assert await made_and_free(inventory) == left
        assert await fired(inventory) == {kind.value: 1}


@pytest.mark.parametrize(("kind", "left"), [(CallFault.DROP_BEFORE, NOTHING), (CallFault.DROP_AFTER, ONCE)])
async def test_a_broken_connection_gives_no_answer_at_all(kind: CallFault, left: object, tmp_path: Path) -> None:
    async with serving("inventory", tmp_path, plan=only(kind)) as inventory:
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await inventory.act(RESERVE, KEY)
        assert await made_and_free(inventory) == left
        assert await fired(inventory) == {kind.value: 1}


async def test_a_cut_answer_has_a_head_and_half_a_body(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path, plan=only(CallFault.CUT_ANSWER)) as inventory:
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await inventory.act(RESERVE, KEY)
        assert await made_and_free(inventory) == ONCE
        assert await fired(inventory) == {"cut-answer": 1}


async def test_a_hang_after_the_work_looks_like_one_before_it(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path, plan=only(CallFault.HANG_AFTER)) as inventory:
        with pytest.raises(TimeoutError):
            await inventory.act(RESERVE, KEY, within=CALLER_WAITS)
        assert await made_and_free(inventory) == ONCE
        assert await fired(inventory) == {"hang-after": 1}


async def test_work_after_a_hang_does_nothing_where_the_undo_came_first(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path, plan=only(CallFault.HANG_BEFORE)) as inventory:
        with pytest.raises(TimeoutError):
            await inventory.act(RESERVE, KEY, within=CALLER_WAITS)
        assert await fired(inventory) == {"hang-before": 1}
        undone = await inventory.undo(RESERVE, KEY, attempt=FAULTY_ATTEMPTS + 1)
        assert undone.outcome == "noop"
    async with serving("inventory", tmp_path) as inventory:  # leaving waited for the late work
        assert await made_and_free(inventory) == NOTHING


async def test_work_after_a_hang_is_done_all_the_same(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path, plan=only(CallFault.HANG_BEFORE)) as inventory:
        with pytest.raises(TimeoutError):
            await inventory.act(RESERVE, KEY, within=CALLER_WAITS)
    async with serving("inventory", tmp_path) as inventory:
        assert await made_and_free(inventory) == ONCE


@pytest.mark.parametrize("kind", [CallFault.TWICE_AT_ONCE, CallFault.TWICE_IN_TURN, CallFault.LATE_COPY])
async def test_a_request_that_arrives_twice_acts_once(kind: CallFault, tmp_path: Path) -> None:
    async with serving("inventory", tmp_path, plan=only(kind)) as inventory:
        said = await inventory.act(RESERVE, KEY)
        assert (said.status, said.outcome) == (200, "succeeded")
        assert await fired(inventory) == {kind.value: 1}
        again = await inventory.act(RESERVE, KEY, attempt=FAULTY_ATTEMPTS + 1)
        assert again.body == said.body
    async with serving("inventory", tmp_path) as inventory:
        assert await made_and_free(inventory) == ONCE


async def test_a_copy_that_arrives_after_the_undo_does_nothing(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path, plan=only(CallFault.LATE_COPY)) as inventory:
        said = await inventory.act(RESERVE, KEY)
        assert (await inventory.undo(RESERVE, KEY, said.json, attempt=FAULTY_ATTEMPTS + 1)).outcome == "succeeded"
        assert await fired(inventory) == {"late-copy": 1}
    async with serving("inventory", tmp_path) as inventory:
        assert await made_and_free(inventory) == (1, 10)


async def test_undos_are_hit_like_actions(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path, plan=only(CallFault.ERROR_AFTER)) as inventory:
        made = await inventory.act(RESERVE, KEY, attempt=FAULTY_ATTEMPTS + 1)
        lost = await inventory.undo(RESERVE, KEY, made.json)
        again = await inventory.undo(RESERVE, KEY, made.json, attempt=FAULTY_ATTEMPTS + 1)
        assert (lost.status, again.outcome) == (500, "succeeded")
        assert await fired(inventory) == {"error-after": 1}
        assert [row["undone"] for row in await inventory.rows("reservations")] == [1]


async def test_many_copies_at_once_act_once_and_agree(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path) as inventory:
        said = await asyncio.gather(*(inventory.act(RESERVE, KEY) for _ in range(20)))
        yes = [each for each in said if each.outcome == "succeeded"]
        assert yes
        assert len({each.body for each in yes}) == 1
        assert {each.status for each in said} <= {200, 409}
        assert await made_and_free(inventory) == ONCE


async def test_many_undos_at_once_undo_once(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path) as inventory:
        made = (await inventory.act(RESERVE, KEY)).json
        said = await asyncio.gather(*(inventory.undo(RESERVE, KEY, made) for _ in range(20)))
        assert any(each.outcome == "succeeded" for each in said)
        assert await made_and_free(inventory) == (1, 10)
        assert [row["undone"] for row in await inventory.rows("reservations")] == [1]


async def test_an_action_and_its_undo_at_once_leave_nothing(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path) as inventory:
        for n in range(10):
            key = f"run-{n}:reserve/sku-1"
            _, undone = await asyncio.gather(inventory.act(RESERVE, key), inventory.undo(RESERVE, key))
            if undone.outcome is None:  # it met the action at work; sent again it finds it done
                undone = await inventory.undo(RESERVE, key, attempt=2)
            assert undone.outcome in {"succeeded", "noop"}
        assert (await made_and_free(inventory))[1] == 10


def test_the_same_seed_breaks_the_same_calls() -> None:
    calls = [(f"run-{n}:charge:action", attempt) for n in range(200) for attempt in (1, 2)]
    one = [Plan(seed=1, rate=0.3).draw(*call) for call in calls]
    assert one == [Plan(seed=1, rate=0.3).draw(*call) for call in calls]
    assert one != [Plan(seed=2, rate=0.3).draw(*call) for call in calls]


def test_every_kind_of_fault_comes_up_about_as_often_as_its_profile_says() -> None:
    calls = [f"run-{n}:charge:action" for n in range(4_000)]
    drawn = Counter(Plan(seed=3, rate=PROFILES["many"]).draw(key, 1) for key in calls)
    assert set(drawn) == {None, *CallFault}
    assert 0.62 < drawn[None] / len(calls) < 0.68
    assert all(Plan(seed=3, rate=PROFILES["none"]).draw(key, 1) is None for key in calls)


def test_after_some_attempts_a_call_is_left_in_peace() -> None:
    plan = Plan(rate=1.0)
    assert [plan.draw("run-1:charge:action", attempt) is None for attempt in range(1, 8)] == [False] * 4 + [True] * 3


async def test_reads_by_people_are_never_hit(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path, plan=only(CallFault.ERROR_BEFORE)) as inventory:
        assert len(await inventory.rows("stock")) == 3
        assert await fired(inventory) == {}


async def test_the_time_a_call_took_is_in_the_books(tmp_path: Path) -> None:
    async with serving("inventory", tmp_path, work_ms=20) as inventory:
        await inventory.act(RESERVE, KEY)
    async with serving("inventory", tmp_path) as inventory:
        (row,) = await inventory.rows("calls")
        assert (row["key"], row["attempt"]) == (f"{KEY}:action", 1)
        assert row["milliseconds"] >= 10


async def test_a_request_whose_sender_is_gone_before_it_was_read_is_not_carried_out() -> None:
    """Carried out with what had come of its body, it would leave a row that refuses the whole request."""
    done: list[str] = []

    async def note(_: Fired) -> None:
        done.append("fault")

    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        done.append("work")

    arriving: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return arriving.pop(0)

    async def send(message: Message) -> None:
        done.append("answer")

    scope = {"type": "http", "path": "/reserve", "headers": [(b"idempotency-key", f'"{KEY}:action"'.encode())]}
    await FaultMiddleware(work, only(CallFault.TWICE_IN_TURN), note)(scope, receive, send)
    assert arriving == []
    assert done == []
