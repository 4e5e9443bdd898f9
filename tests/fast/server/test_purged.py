"""A run whose history was purged is a known thing: how it ended is still told, and its id stays taken."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from amends import (
    Abandoned,
    AsyncClient,
    Compensated,
    Completed,
    NoSuchReply,
    Orchestrator,
    Outcome,
    PastPivot,
    Refused,
    RunExists,
)
from amends.core.run.answers import CallResponse
from amends.core.run.callback import Heard
from amends.core.run.summary import PURGED
from amends.core.words.keys import parse_key
from amends.server.app import application
from amends.server.context import Context
from tests.fast.cli.commands import amends
from tests.fast.cli.place_order import served
from tests.fast.server.asgi import Caller
from tests.fast.server.opened import api, problem
from tests.fast.server.stages import STAGES, Told, bring, pay, staged

STREAM = {"accept": "text/event-stream"}
ENDS = ("completed", "compensated", "abandoned")
WHY = {"reason": "it was asked"}
LATE = 1 << 62


@asynccontextmanager
async def purged(log: str = "memory:") -> AsyncGenerator[tuple[Caller, Context, dict[str, Any]]]:
    """A run of every end, purged; and how each was shown before."""
    async with api(staged, log=log) as (caller, context):
        before: dict[str, Any] = {}
        for stage in ENDS:
            await bring(caller, stage, stage)
            before[stage] = (await caller.get(f"/v1/runs/{stage}")).json()
        assert await context.engine.log.purge(LATE, 10) == len(ENDS)
        yield caller, context, before


async def test_how_it_ended_is_shown_and_that_its_history_was_purged() -> None:
    async with purged() as (caller, _, before):
        for end, was in before.items():
            for query in ("", "?wait=5"):
                answer = await caller.get(f"/v1/runs/{end}{query}")
                assert answer.status == 200
                view = answer.json()
                assert (view["history"], view["ended_at"]) == ("purged", was["ended_at"])
                assert view["ended_at"] is not None
                told = {name: view["outcome"][name] for name in ("state", "by_hand")}
                assert told == {name: was["outcome"][name] for name in told}
                assert (view["state"], view["by_hand"], view["steps"], view["input"]) == (end, was["by_hand"], [], None)


async def test_its_events_are_none_and_a_stream_says_why_and_ends() -> None:
    async with purged() as (caller, _, _before):
        for end in ENDS:
            view = (await caller.get(f"/v1/runs/{end}/events")).json()
            assert (view["events"], view["next"], view["history"]) == ([], None, "purged")
            stream = await caller.get(f"/v1/runs/{end}/events", STREAM)
            lines = dict(line.split(": ", 1) for line in stream.body.decode().splitlines() if line and line[0] != ":")
            assert lines["event"] == "HistoryPurged"
            assert json.loads(lines["data"])["data"]["state"] == end
            again = await caller.get(f"/v1/runs/{end}/events", {**STREAM, "last-event-id": lines["id"]})
            assert again.status == 204


async def test_the_same_start_again_is_the_same_run_and_another_input_is_refused() -> None:
    async with purged() as (caller, _, _before):
        for end in ENDS:
            asked = {"saga": "staged", "input": STAGES[end][0], "id": end}
            for query in ("", "?wait=5"):
                answer = await caller.start(asked, query)
                assert (answer.status, answer.json()["history"]) == (200, "purged")
                problem(await caller.start({**asked, "input": {"hold": ["x"]}}, query), 409, "run-exists")


RUN_VERBS = {
    "cancel": {"completed": "past-pivot", "abandoned": "ended"},
    "compensate": {"completed": "past-pivot", "abandoned": "ended"},
    "retry": dict.fromkeys(ENDS, "ended"),
    "abandon": {"completed": "ended", "compensated": "ended"},
}


@pytest.mark.parametrize("query", ["", "?dry_run=true"])
async def test_a_verb_is_answered_as_for_any_run_that_ended_so(query: str) -> None:
    async with purged() as (caller, _, _before):
        for end in ENDS:
            for verb, refusals in RUN_VERBS.items():
                answer = await caller.ask(f"/v1/runs/{end}/{verb}{query}", WHY)
                if end in refusals:
                    assert PURGED in problem(answer, 409, refusals[end])["detail"]
                else:
                    assert answer.status == 200, answer
                    view = answer.json()
                    assert (view["after"] if query else view)["history"] == "purged"
            for verb, body in (
                ("retry", WHY),
                ("skip", WHY),
                ("resolve", {**WHY, "outcome": "undone"}),
                ("answer", {"reply": "yes"}),
            ):
                problem(await caller.ask(f"/v1/runs/{end}/steps/reserve/{verb}{query}", body), 409, "ended")


async def test_nothing_is_probed_and_an_answer_comes_too_late() -> None:
    async with purged() as (caller, context, _before):
        with pytest.raises(Refused, match=PURGED):
            await context.engine.visits.probe("completed", "reserve", None)
        came = CallResponse(200, {"saga-outcome": "succeeded"}, b"1")
        assert await context.engine.visits.hear(parse_key("completed:reserve:action"), came) is Heard.OVER
        problem(await caller.ask("/v1/runs/nobody/retry", WHY), 404, "no-such-run")


def check_outcomes(outcomes: dict[str, Outcome]) -> None:
    done, undone, left = (outcomes[end] for end in ENDS)
    assert done == Completed("completed", by_hand=False, steps=())
    assert undone == Compensated("compensated", False, None, None, PURGED)
    assert left == Abandoned("abandoned", "", PURGED)
    assert isinstance(done, Completed)
    with pytest.raises(NoSuchReply, match="purged"):
        done.reply(pay)


async def test_its_outcome_is_known_to_the_process_and_to_a_client(tmp_path: Path) -> None:
    async with Orchestrator([staged], log=f"sqlite:///{tmp_path}/log.db") as runs:
        caller = Caller(application(Context(runs.engine)))
        assert isinstance(await (await runs.start(staged, Told(), id="completed")).outcome(), Completed)
        for end in ENDS[1:]:
            await bring(caller, end, end)
        assert await runs.engine.log.purge(LATE, 10) == len(ENDS)
        check_outcomes({end: await runs.get(end).outcome() for end in ENDS})
        async with served(runs) as url, AsyncClient(url) as client:
            check_outcomes({end: await client.outcome(end, wait=timedelta(seconds=5)) for end in ENDS})
            for start in (runs.start, client.start):
                again = await start(staged, Told(), id="completed")
                assert not again.is_new
                assert isinstance(await again.outcome(), Completed)
                with pytest.raises(RunExists):
                    await start(staged, Told(hold=["x"]), id="completed")
            for cancel in (runs.cancel, client.cancel):
                with pytest.raises(PastPivot):
                    await cancel("completed", reason="too late")
            events = [each async for each in client.events("compensated")]
            assert [each["kind"] for each in events] == ["HistoryPurged"]


async def test_the_command_line_says_that_it_was_purged(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    async with purged(url) as (_, _, before):
        pass
    for end in ENDS:
        for form in ([], ["--events"], ["--bodies"], ["--curl"], ["--json"]):
            told = await asyncio.to_thread(amends, tmp_path, "show", end, *form, "--log", url)
            assert (told.code, told.err) == (0, "")
            if not form:
                assert end in told.out
                assert "purged: only how and when the run ended is kept" in told.out
            if form == ["--json"]:
                assert json.loads(told.out)["ended_at"] == before[end]["ended_at"]
