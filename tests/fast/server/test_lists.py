"""Lists, causes and bulk verbs: each run on one page, each cause once, and nothing moved that nobody counted."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest

from amends.core.run.record import RunRecord
from amends.core.words.errors import LogTooSlow
from amends.engine.quarantine import CLAIMS_MAX
from amends.engine.visits import Ask
from amends.logs.memory import MemoryLog
from amends.server import stuck
from amends.views import run_filter as where
from tests.fast.server.asgi import Answer, Caller
from tests.fast.server.opened import api, problem
from tests.fast.server.sagas import quick, versioned, waits
from tests.fast.server.stages import GATES, bring, let_go, staged

WHY = {"reason": "the route is fixed"}


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    GATES.clear()
    async with api(staged, quick, waits, versioned(1), versioned(2)) as (caller, _):
        yield caller
        for gate in GATES.values():
            gate.set()


async def ids(caller: Caller, query: str) -> list[str]:
    answer = await caller.get(f"/v1/runs?{query}")
    assert answer.status == 200, answer
    return [each["id"] for each in answer.json()["runs"]]


async def test_every_run_is_on_one_page_newest_first(caller: Caller) -> None:
    for number in range(7):
        await caller.start({"saga": "quick", "input": "yes", "id": f"q-{number}"}, "?wait=20")
    seen: list[str] = []
    query, pages = "limit=3", 0
    while True:
        body = (await caller.get(f"/v1/runs?{query}")).json()
        seen += [each["id"] for each in body["runs"]]
        pages += 1
        if body["next"] is None:
            break
        query = f"limit=3&cursor={body['next']}"
    assert seen == [f"q-{number}" for number in reversed(range(7))]
    assert pages == 3


async def test_a_full_last_page_says_that_nothing_follows(caller: Caller) -> None:
    for number in range(2):
        await caller.start({"saga": "quick", "input": "yes", "id": f"q-{number}"}, "?wait=20")
    assert (await caller.get("/v1/runs?limit=2")).json()["next"] is None


async def test_runs_are_found_by_what_is_asked(caller: Caller) -> None:
    tags = {"customer": "ann", "note": "a=b c"}
    await caller.start({"saga": "quick", "input": "no", "id": "no", "tags": tags}, "?wait=20")
    await caller.start({"saga": "quick", "input": "keep", "id": "keep"}, "?wait=20")
    await caller.start({"saga": "waits", "input": 1, "id": "waits", "tags": {"customer": "bo"}})
    await caller.start({"saga": "versioned", "input": "a", "id": "v1", "version": 1})
    assert await ids(caller, "state=stuck") == ["keep"]
    assert await ids(caller, "state=stuck&state=compensated") == ["keep", "no"]
    assert await ids(caller, "saga=waits") == ["waits"]
    assert await ids(caller, "version=2") == []
    assert await ids(caller, "saga=versioned&version=1") == ["v1"]
    assert await ids(caller, "tag=customer=ann") == ["no"]
    assert await ids(caller, "tag=customer=ann&tag=note=a%3Db%20c") == ["no"]
    assert await ids(caller, "step=first") == ["keep"]
    assert await ids(caller, "step=cooling_off&state=running") == ["waits"]
    assert await ids(caller, "where=saga=quick%20reason=cannot-compensate") == ["keep"]
    assert await ids(caller, "where=phase=action") == []
    assert await ids(caller, "where=tag.customer=bo&state=running") == ["waits"]


async def test_a_row_says_what_a_list_needs(caller: Caller) -> None:
    await bring(caller, "past the pivot", "a")
    await bring(caller, "stuck undoing", "b")
    stuck, forward = (await caller.get("/v1/runs")).json()["runs"]
    assert (forward["past_pivot"], stuck["past_pivot"]) == (True, False)
    assert forward["current"] == ["ship"]
    assert forward["owner"]["epoch"] == 1
    (mark,) = stuck["stuck"]
    assert (mark["step"], mark["reason"], mark["code"]) == ("reserve", "cannot-compensate", "gone")
    let_go("a")


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("state=stuk", "state"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=²", "limit"),
        ("version=-1", "version"),
        ("tag=customer", "tag"),
        ("tag=a=1&tag=a=2", "tag"),
        ("cursor=nonsense", "cursor"),
        ("cursor=é", "cursor"),
        ("saga=a&saga=b", "saga"),
        ("where=nope=1", "where"),
        ("where=saga", "where"),
        ("where=saga=a%20saga=b", "where"),
        ("where=%22open", "where"),
        ("where=state=stuk", "where"),
        ("where=version=x", "where"),
        ("sgaa=a", "sgaa"),
    ],
)
async def test_a_filter_that_means_nothing_is_named(caller: Caller, query: str, where: str) -> None:
    assert problem(await caller.get(f"/v1/runs?{query}"), 400, "bad-request")["where"] == where


FULL = [f"name-{number}=value" for number in range(16)]
LONG = "x" * 128


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ("&".join(f"tag={each}" for each in [*FULL, "one=more"]), "tag"),
        ("&".join(f"tag={each}" for each in FULL) + "&where=tag.one=more", "tag"),
        ("where=" + "%20".join(f"tag.{each}" for each in [*FULL, "one=more"]), "where"),
        (f"tag=a={LONG}x", "tag"),
        (f"tag={LONG}x=a", "tag"),
        (f"where=tag.a={LONG}x", "where"),
        ("where=" + "%20" * 8_193, "where"),
        (f"where=saga={'x' * 8_188}", "where"),
        (f"saga={'x' * 1_001}", "saga"),
        (f"step={'x' * 1_001}", "step"),
        ("&".join(["tag=a=b"] * 65), "tag"),
    ],
    ids=range(11),
)
async def test_a_filter_that_holds_too_much_is_refused_before_anything_is_looked_for(
    caller: Caller, query: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(MemoryLog, "find", find)
    for path in ("/v1/runs", "/v1/stuck"):
        assert problem(await caller.get(f"{path}?{query}"), 422, "input-invalid")["where"] == at
    if query.startswith("where="):
        text = unquote(query.removeprefix("where="))
        answer = await caller.ask("/v1/runs:retry", {"where": text, "reason": "x", "dry_run": True})
        assert problem(answer, 422, "input-invalid")["where"] == "where"


async def test_a_filter_may_name_every_tag_that_a_run_may_have(caller: Caller) -> None:
    tags = {f"{number:02}{LONG[2:]}": LONG for number in range(16)}
    await caller.start({"saga": "quick", "input": "yes", "id": "full", "tags": tags}, "?wait=20")
    assert await ids(caller, "&".join(f"tag={name}={value}" for name, value in tags.items())) == ["full"]
    assert await ids(caller, "where=" + "%20".join(f"tag.{name}={value}" for name, value in tags.items())) == ["full"]
    every = "&".join(f"state={each}" for each in ("running", "stuck", "completed") * 5)
    assert await ids(caller, every) == ["full"]


async def test_a_list_that_takes_too_long_says_so_and_what_to_do(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the log gave it up, or so many pages held nothing that was meant."""
    for number in range(3):
        await caller.start({"saga": "quick", "input": "keep", "id": f"q-{number}"}, "?wait=20")
    monkeypatch.setattr(where, "PAGE", 1)
    monkeypatch.setattr(where, "WALK_SECONDS", -1.0)
    asked = {"where": "reason=spent", "reason": "x", "dry_run": True}

    async def answers() -> list[Answer]:
        gets = [await caller.get(f"{path}?where=reason=spent") for path in ("/v1/runs", "/v1/stuck")]
        return [*gets, await caller.ask("/v1/runs:retry", asked)]

    for walk in (True, False):
        if not walk:

            async def find(*_: object) -> None:
                raise LogTooSlow("a list was given up after 5 s.")

            monkeypatch.setattr(MemoryLog, "find", find)
        for answer in await answers():
            assert "given up" in problem(answer, 503, "too-slow")["detail"]
            assert "a saga, a state or a tag" in answer.json()["remedy"]
            assert answer.headers["retry-after"] == "5"
    assert (await caller.get("/v1/runs/q-1")).status == 200
    assert b"amends_log_up 1.0" in (await caller.get("/metrics")).body


# -- by cause


async def test_what_is_stuck_is_told_by_cause(caller: Caller) -> None:
    for number in range(3):
        await caller.start({"saga": "quick", "input": "keep", "id": f"q-{number}"}, "?wait=20")
    await bring(caller, "stuck undoing", "s-1")
    body = (await caller.get("/v1/stuck")).json()
    assert body["runs"] == 4
    first, second = body["causes"]
    assert (first["saga"], first["step"], first["phase"], first["reason"]) == (
        "quick",
        "first",
        "compensation",
        "cannot-compensate",
    )
    assert (first["count"], first["first"], first["code"], first["detail"]) == (3, "q-0", "gone", "it left the shelf")
    assert (second["saga"], second["count"], second["first"]) == ("staged", 1, "s-1")
    only = (await caller.get("/v1/stuck?saga=staged")).json()
    assert [each["saga"] for each in only["causes"]] == ["staged"]
    assert (await caller.get("/v1/stuck?where=phase=action")).json() == {"runs": 0, "causes": []}


async def test_runs_whose_cause_found_no_place_are_counted_and_can_be_asked_for(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stuck, "CAUSES_MAX", 1)
    await bring(caller, "stuck undoing", "s-1")
    for number in range(2):
        await caller.start({"saga": "quick", "input": "keep", "id": f"q-{number}"}, "?wait=20")
    body = (await caller.get("/v1/stuck")).json()
    (cause,) = body["causes"]
    others = {"quick": ("staged", 1), "staged": ("quick", 2)}[cause["saga"]]
    assert (body["runs"], body["unlisted"]) == (3, others[1])
    narrower = (await caller.get(f"/v1/stuck?saga={others[0]}")).json()
    assert [each["count"] for each in narrower["causes"]] == [others[1]]
    assert "unlisted" not in narrower


# -- many at once


async def stuck_runs(caller: Caller, count: int) -> None:
    for number in range(count):
        await bring(caller, "stuck undoing", f"s-{number}")


async def test_many_runs_are_counted_then_moved(caller: Caller) -> None:
    await stuck_runs(caller, 3)
    where = {"where": "saga=staged step=reserve phase=compensation", **WHY}
    dry = (await caller.ask("/v1/runs:retry", {**where, "dry_run": True})).json()
    assert (dry["matched"], dry["asked"], dry["past_pivot"], dry["dry_run"]) == (3, 0, 0, True)
    assert sorted(dry["runs"]) == ["s-0", "s-1", "s-2"]
    events = (await caller.get("/v1/runs/s-0/events?limit=1000")).json()["events"]
    assert "RetryAsked" not in [each["kind"] for each in events], "a dry run wrote something"
    done = (await caller.ask("/v1/runs:retry", {**where, "by": "ann", "expected": 3})).json()
    assert (done["matched"], done["asked"], done["refused"]) == (3, 3, 0)
    for number in range(3):
        events = (await caller.get(f"/v1/runs/s-{number}/events?limit=1000")).json()["events"]
        (asked,) = [each for each in events if each["kind"] == "RetryAsked"]
        assert asked["data"]["who"] == {"by": "http", "claimed_by": "ann", "reason": WHY["reason"]}


async def test_another_count_than_expected_moves_nothing(caller: Caller) -> None:
    await stuck_runs(caller, 2)
    where = {"where": "saga=staged", **WHY}
    told = problem(await caller.ask("/v1/runs:retry", {**where, "expected": 1}), 409, "count-changed")
    assert told["detail"].startswith("2 runs are meant, 1 were expected.")
    assert problem(await caller.ask("/v1/runs:retry", where), 400, "bad-request")["where"] == "expected"
    assert (await caller.get("/v1/stuck")).json()["runs"] == 2


async def test_a_run_that_is_refused_holds_up_no_other(caller: Caller) -> None:
    await bring(caller, "past the pivot", "forward")
    await bring(caller, "running", "early")
    body = {"where": "saga=staged state=running", **WHY}
    dry = (await caller.ask("/v1/runs:cancel", {**body, "dry_run": True})).json()
    assert (dry["matched"], dry["past_pivot"]) == (2, 1)
    done = (await caller.ask("/v1/runs:cancel", {**body, "expected": 2})).json()
    assert (done["asked"], done["refused"], done["problems"]) == (2, 1, {"past-pivot": 1})
    assert [(each["run"], each["problem"]) for each in done["refusals"]] == [("forward", "past-pivot")]
    let_go("early")
    assert (await caller.get("/v1/runs/early?wait=20")).json()["state"] == "compensated"
    let_go("forward")


async def test_a_run_that_meets_a_bug_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    GATES.clear()
    async with api(staged) as (caller, context):
        await stuck_runs(caller, 3)
        steer = context.engine.steer

        async def failing(run: str, verb: Ask, *, expected: int | None = None) -> RunRecord:
            if run == "s-1":
                raise ZeroDivisionError
            return await steer(run, verb, expected=expected)

        monkeypatch.setattr(context.engine, "steer", failing)
        done = (await caller.ask("/v1/runs:retry", {"where": "saga=staged", **WHY, "expected": 3})).json()
        assert (done["asked"], done["refused"], done["problems"]) == (3, 1, {"internal": 1})
        for run, asked in (("s-0", 1), ("s-1", 0), ("s-2", 1)):
            events = (await caller.get(f"/v1/runs/{run}/events?limit=1000")).json()["events"]
            assert [each["kind"] for each in events].count("RetryAsked") == asked


async def test_runs_that_were_set_aside_are_found_and_retried_together() -> None:
    """As a whole, since they were not set aside for a step; by their reason, or by the phase that all of them have."""
    log = MemoryLog()
    async with api(waits, log=log) as (caller, _):
        for run in ("a-1", "a-2"):
            await caller.start({"saga": "waits", "input": 1, "id": run})
    for kept in log.store.runs.values():
        kept.row = replace(kept.row, owner="one that is gone", claims=CLAIMS_MAX - 1, due_at=0)
    async with api(waits, log=MemoryLog(log.store)) as (caller, _):
        for run in ("a-1", "a-2"):
            assert (await caller.get(f"/v1/runs/{run}?wait=20")).json()["state"] == "stuck"
        (cause,) = (await caller.get("/v1/stuck?where=phase=run")).json()["causes"]
        assert (cause["step"], cause["phase"], cause["reason"], cause["count"]) == ("", "run", "crash-loop", 2)
        numbers = (await caller.get("/metrics")).body.decode()
        assert 'phase="run",reason="crash-loop",saga="waits",step=""} 2.0' in numbers
        for where in ("phase=run", "reason=crash-loop", "saga=waits"):
            dry = (await caller.ask("/v1/runs:retry", {"where": where, **WHY, "dry_run": True})).json()
            assert dry["matched"] == 2
        done = (await caller.ask("/v1/runs:retry", {"where": "reason=crash-loop", **WHY, "expected": 2})).json()
        assert (done["asked"], done["refused"]) == (2, 0)
        for run in ("a-1", "a-2"):
            assert (await caller.get(f"/v1/runs/{run}")).json()["state"] == "running"
        assert (await caller.get("/v1/stuck")).json() == {"runs": 0, "causes": []}


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"where": "", **WHY, "dry_run": True}, 400, "where"),
        ({"where": "  ", **WHY, "dry_run": True}, 400, "where"),
        ({"where": "step=reserve/a", **WHY, "dry_run": True}, 400, "where"),
        ({"where": "nope=1", **WHY, "dry_run": True}, 400, "where"),
        ({"where": "saga=staged", "reason": "", "dry_run": True}, 422, "reason"),
        ({"where": "saga=staged", "dry_run": True}, 400, "$"),
        ({"where": "saga=staged", **WHY, "expected": "3"}, 400, "$.expected"),
    ],
)
async def test_many_at_once_must_be_named(caller: Caller, body: dict[str, Any], status: int, where: str) -> None:
    for verb in ("retry", "cancel", "compensate"):
        answer = await caller.ask(f"/v1/runs:{verb}", body)
        assert (answer.status, answer.json()["where"]) == (status, where)
