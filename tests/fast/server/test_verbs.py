"""Verbs over HTTP: each at every stage, previews that change nothing, and who asked in the log."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from amends import Call, Saga, ask
from amends.inboxes.memory import MemoryInbox
from amends.participant.service import Service
from tests.fast.server.asgi import Answer, Caller
from tests.fast.server.opened import api, problem
from tests.fast.server.sagas import Inventory, Line, Reservation, orders
from tests.fast.server.stages import GATES, STAGES, bring, let_go, staged

WHY = {"reason": "seen to by hand"}

asks = Saga("asks", str)


@asks.neutral()
def approve(question: str) -> Call[int]:
    return ask(int, question, within=timedelta(days=2))


@asks.compensable(after=[approve])
async def book(question: str) -> str:
    return question


@book.compensation
async def unbook(question: str, made: str | None) -> None:
    return None


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    GATES.clear()
    async with api(staged, asks) as (caller, _):
        yield caller
        for gate in GATES.values():
            gate.set()


async def history(caller: Caller, run: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = (await caller.get(f"/v1/runs/{run}/events?limit=1000")).json()["events"]
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [each["kind"] for each in events]


def said(answer: Answer) -> str:
    """The status, and of a refusal its name."""
    kind = answer.json().get("type", "").removeprefix("urn:amends:")
    return f"{answer.status} {kind}".strip()


# -- every verb at every stage

ON_RUNS = {
    "running": {"cancel": "200", "compensate": "200", "retry": "409 not-stuck", "abandon": "409 not-stuck"},
    "pivot open": {"cancel": "202", "compensate": "202", "retry": "409 not-stuck", "abandon": "409 not-stuck"},
    "past the pivot": {
        "cancel": "409 past-pivot",
        "compensate": "409 past-pivot",
        "retry": "409 not-stuck",
        "abandon": "409 not-stuck",
    },
    "compensating": {"cancel": "200", "compensate": "200", "retry": "409 not-stuck", "abandon": "409 not-stuck"},
    "stuck undoing": {"cancel": "200", "compensate": "200", "retry": "200", "abandon": "200"},
    "compensated": {"cancel": "200", "compensate": "200", "retry": "409 ended", "abandon": "409 ended"},
    "completed": {
        "cancel": "409 past-pivot",
        "compensate": "409 past-pivot",
        "retry": "409 ended",
        "abandon": "409 ended",
    },
    "abandoned": {"cancel": "409 ended", "compensate": "409 ended", "retry": "409 ended", "abandon": "200"},
}

ON_STEPS = {
    ("running", "reserve"): "409 in-flight",
    ("running", "pay"): "409 nothing-to-do",
    ("pivot open", "reserve"): "409 nothing-to-do",
    ("pivot open", "pay"): "409 in-flight",
    ("past the pivot", "ship"): "409 in-flight",
    ("compensating", "reserve"): "409 in-flight",
    ("compensating", "pay"): "409 nothing-to-do",
    ("stuck undoing", "reserve"): "200",
    ("completed", "ship"): "409 ended",
    ("compensated", "reserve"): "409 ended",
    ("abandoned", "reserve"): "409 ended",
    ("stuck undoing", "nosuch"): "404 no-such-step",
}
STEP_VERBS = {"retry": WHY, "resolve": {**WHY, "outcome": "undone"}, "skip": WHY}


def test_the_table_has_every_stage() -> None:
    assert set(ON_RUNS) == set(STAGES)


@pytest.mark.parametrize("stage", ON_RUNS)
async def test_each_verb_on_a_run_is_done_or_refused_as_its_stage_says(caller: Caller, stage: str) -> None:
    for verb, expected in ON_RUNS[stage].items():
        run = f"{stage.replace(' ', '-')}-{verb}"
        await bring(caller, stage, run)
        before = await history(caller, run)
        dry = await caller.ask(f"/v1/runs/{run}/{verb}?dry_run=true", WHY)
        assert said(dry) == expected.replace("202", "200"), f"preview of {verb}"
        assert await history(caller, run) == before, "a preview wrote something"
        answer = await caller.ask(f"/v1/runs/{run}/{verb}", WHY)
        assert said(answer) == expected, verb
        if answer.status >= 400:
            assert await history(caller, run) == before, "what was refused wrote something"
        let_go(run)


@pytest.mark.parametrize(("stage", "step"), ON_STEPS)
async def test_each_verb_on_a_step_is_done_or_refused_as_its_state_says(caller: Caller, stage: str, step: str) -> None:
    for verb, body in STEP_VERBS.items():
        run = f"{stage.replace(' ', '-')}-{verb}"
        await bring(caller, stage, run)
        dry = await caller.ask(f"/v1/runs/{run}/steps/{step}/{verb}?dry_run=true", body)
        answer = await caller.ask(f"/v1/runs/{run}/steps/{step}/{verb}", body)
        assert said(dry) == said(answer) == ON_STEPS[stage, step], verb
        let_go(run)


# -- what a verb leaves behind


async def test_who_asked_and_why_stands_in_the_log(caller: Caller) -> None:
    await bring(caller, "stuck undoing", "r-1")
    body = {"reason": "put back by hand, INC-2231", "by": "ann", "outcome": "undone"}
    answer = await caller.ask("/v1/runs/r-1/steps/reserve/resolve", body)
    assert answer.status == 200
    shown = answer.json()
    assert (shown["state"], shown["by_hand"]) == ("compensated", True)
    (resolved,) = [each for each in await history(caller, "r-1") if each["kind"] == "Resolved"]
    assert resolved["data"]["who"] == {"by": "http", "claimed_by": "ann", "reason": "put back by hand, INC-2231"}


async def test_a_preview_says_what_the_verb_then_does(caller: Caller) -> None:
    await bring(caller, "stuck undoing", "r-1")
    path = "/v1/runs/r-1/steps/reserve/retry"
    preview = (await caller.ask(f"{path}?dry_run=true", WHY)).json()
    assert kinds(preview["events"]) == ["RetryAsked"]
    (send,) = preview["sends"]
    assert (send["key"], send["phase"], send["participant"]) == ("r-1:reserve:compensation", "compensation", "local")
    assert preview["state"] == "stuck"
    assert preview["after"]["state"] == "compensating"
    before = await history(caller, "r-1")
    assert preview["version"] == len(before)
    answer = await caller.ask(path, WHY, {"if-match": f'"{preview["version"]}"'})
    assert answer.status == 200
    after = await history(caller, "r-1")
    assert kinds(after[len(before) :])[:1] == ["RetryAsked"]


@pytest.mark.parametrize("stage", ["stuck undoing", "past the pivot"])
async def test_a_verb_for_another_version_is_refused_and_changes_nothing(caller: Caller, stage: str) -> None:
    """Also where this process has the run in memory."""
    await bring(caller, stage, "r-1")
    before = await history(caller, "r-1")
    for query in ("", "?dry_run=true"):
        answer = await caller.ask(f"/v1/runs/r-1/retry{query}", WHY, {"if-match": f'"{len(before) - 1}"'})
        told = problem(answer, 412, "changed")
        assert f"version {len(before)}" in told["detail"]
    assert await history(caller, "r-1") == before


async def test_a_verb_meant_for_a_version_reaches_a_run_that_is_driven_here(caller: Caller) -> None:
    await bring(caller, "running", "r-1")
    version = len(await history(caller, "r-1"))
    answer = await caller.ask("/v1/runs/r-1/cancel", WHY, {"if-match": f'"{version}"'})
    assert answer.status == 200
    let_go("r-1")
    body = (await caller.get("/v1/runs/r-1?wait=20")).json()
    assert body["state"] == "compensated"
    assert body["outcome"]["reason"] == f"cancelled: {WHY['reason']}"


async def test_a_pivot_that_was_waited_for_decides(caller: Caller) -> None:
    await bring(caller, "pivot open", "r-1")
    answer = await caller.ask("/v1/runs/r-1/cancel", WHY)
    assert answer.status == 202
    assert answer.json()["abort_requested"] == f"cancelled: {WHY['reason']}"
    let_go("r-1")
    body = (await caller.get("/v1/runs/r-1?wait=20")).json()
    assert body["state"] == "completed"
    assert "abort_requested" not in body


async def test_a_skipped_undo_ends_abandoned_and_says_what_remains(caller: Caller) -> None:
    await bring(caller, "stuck undoing", "r-1")
    body = (await caller.ask("/v1/runs/r-1/steps/reserve/skip", WHY)).json()
    assert (body["state"], body["by_hand"]) == ("abandoned", True)
    assert body["effects"] == ["reserve"]


# -- what isn't a verb


@pytest.mark.parametrize(
    ("body", "status", "name", "where"),
    [
        ({}, 400, "bad-request", "$"),
        ({"reason": ""}, 422, "input-invalid", "reason"),
        ({"reason": "x" * 1_001}, 422, "input-invalid", "reason"),
        ({"reason": "x", "by": ""}, 422, "input-invalid", "by"),
        ({"reason": "x", "by": "y" * 201}, 422, "input-invalid", "by"),
        ({"reason": 1}, 400, "bad-request", "$.reason"),
        ({"reason": "x", "resaon": "y"}, 400, "bad-request", "$"),
    ],
)
async def test_a_verb_says_why_and_nothing_else(
    caller: Caller, body: dict[str, Any], status: int, name: str, where: str
) -> None:
    await bring(caller, "stuck undoing", "r-1")
    before = await history(caller, "r-1")
    for path in ("retry", "cancel?dry_run=1", "steps/reserve/skip"):
        assert problem(await caller.ask(f"/v1/runs/r-1/{path}", body), status, name)["where"] == where
    assert await history(caller, "r-1") == before


@pytest.mark.parametrize(
    ("more", "status", "name"),
    [
        ({}, 400, "bad-request"),
        ({"outcome": "yes"}, 400, "bad-request"),
        ({"outcome": "undone", "reply": {}}, 422, "compensating"),
        ({"outcome": "succeeded"}, 422, "compensating"),
        ({"outcome": "rejected", "reply": 1}, 422, "input-invalid"),
        ({"outcome": "undone", "item": "a"}, 404, "no-such-item"),
    ],
)
async def test_resolve_says_what_became_of_it(caller: Caller, more: dict[str, Any], status: int, name: str) -> None:
    await bring(caller, "stuck undoing", "r-1")
    problem(await caller.ask("/v1/runs/r-1/steps/reserve/resolve", {**WHY, **more}), status, name)


@pytest.mark.parametrize("given", ["7", '"x"', 'W/"7"', '"7", "8"', '"-1"'])
async def test_an_if_match_is_one_version(caller: Caller, given: str) -> None:
    await bring(caller, "stuck undoing", "r-1")
    told = problem(await caller.ask("/v1/runs/r-1/retry", WHY, {"if-match": given}), 400, "bad-request")
    assert told["where"] == "If-Match"


@pytest.mark.parametrize("path", ["retry", "abandon", "steps/reserve/skip", "steps/reserve/probe", "events", ""])
async def test_a_run_that_is_not_there_is_told(caller: Caller, path: str) -> None:
    for run in ("nope", "a%00b", "a:b", "x" * 200):
        where = f"/v1/runs/{run}/{path}".rstrip("/")
        answer = await (caller.get(where) if path in {"", "events"} else caller.ask(where, WHY))
        problem(answer, 404, "no-such-run")


# -- answers


async def test_a_question_is_answered_once_and_the_same_answer_again_is_fine(caller: Caller) -> None:
    assert (await caller.start({"saga": "asks", "input": "may I?", "id": "a-1"})).status == 201
    path = "/v1/runs/a-1/steps/approve/answer"
    problem(await caller.ask(path, {"reply": "no number"}), 422, "reply-invalid")
    assert (await caller.ask(path, {"reply": 7, "by": "bo"})).status == 200
    body = (await caller.get("/v1/runs/a-1?wait=20")).json()
    assert (body["state"], body["by_hand"]) == ("completed", False)
    assert body["outcome"]["replies"]["approve"] == 7
    problem(await caller.ask(path, {"reply": 8}), 409, "ended")


async def test_a_question_is_declined_with_a_reason(caller: Caller) -> None:
    assert (await caller.start({"saga": "asks", "input": "may I?", "id": "a-1"})).status == 201
    path = "/v1/runs/a-1/steps/approve/answer"
    assert problem(await caller.ask(path, {"outcome": "rejected"}), 422, "input-invalid")["where"] == "reason"
    assert problem(await caller.ask(path, {}), 422, "input-invalid")["where"] == "reply"
    both = {"outcome": "rejected", "reason": "too much", "reply": 1}
    assert problem(await caller.ask(path, both), 422, "input-invalid")["where"] == "reply"
    answer = await caller.ask(path, {"outcome": "rejected", "reason": "too much"})
    assert answer.json()["state"] == "compensated"
    assert "too much" in answer.json()["outcome"]["reason"]


async def test_what_was_never_asked_cannot_be_answered(caller: Caller) -> None:
    assert (await caller.start({"saga": "asks", "input": "may I?", "id": "a-1"})).status == 201
    problem(await caller.ask("/v1/runs/a-1/steps/book/answer", {"reply": 1}), 409, "not-asked")


# -- probes


async def test_a_probe_shows_what_the_participant_knows_and_writes_nothing() -> None:
    service: Service[Any] = Service(Inventory, MemoryInbox())

    @service.action(Inventory.reserve)
    async def reserve(request: Line, transaction: object) -> Reservation:
        return Reservation(f"r-{request.sku}")

    @service.compensation(Inventory.reserve)
    async def release(undo: object, transaction: object) -> None:
        return None

    del reserve, release  # the service has them
    async with api(orders, staged, service=service) as (caller, _):
        value = {"lines": [{"sku": "a", "quantity": 1}, {"sku": "b", "quantity": 1}]}
        await caller.start({"saga": "orders", "input": value, "id": "o-1"}, "?wait=20")
        before = await history(caller, "o-1")
        path = "/v1/runs/o-1/steps/reserve/probe"
        problem(await caller.ask(path, {}), 422, "item-needed")
        body = (await caller.ask(path, {"item": "a"})).json()
        assert (body["answer"], body["status"], body["key"]) == ("succeeded", 200, "o-1:reserve/a:probe")
        assert body["reply"] == {"id": "r-a", "pin": "***"}
        assert await history(caller, "o-1") == before
        await bring(caller, "running", "s-1")
        problem(await caller.ask("/v1/runs/s-1/steps/reserve/probe", {}), 409, "no-probe")
        problem(await caller.ask("/v1/runs/s-1/steps/pay/probe", {}), 409, "never-attempted")
        let_go("s-1")
