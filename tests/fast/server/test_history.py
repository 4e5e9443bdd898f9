"""A run's history over HTTP: whole, in parts, live; resumed without a gap or a repeat, and without what is hidden."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from amends.core.run.commands import Cancel
from amends.core.run.events import Who
from amends.server.access import Access, Role, Token, new_token
from amends.server.context import SHARE, Context, ServerLimits
from tests.fast.server.asgi import Caller, Stream
from tests.fast.server.opened import api, problem
from tests.fast.server.sagas import orders, quick
from tests.fast.server.stages import GATES, STAGES, bring, let_go, staged

LIVE = {"accept": "text/event-stream"}


@pytest.fixture
async def opened() -> AsyncIterator[tuple[Caller, Context]]:
    GATES.clear()
    async with api(staged, quick, orders) as opened:
        yield opened
        for gate in GATES.values():
            gate.set()


@pytest.fixture
def caller(opened: tuple[Caller, Context]) -> Caller:
    return opened[0]


def events_in(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream, with their ids checked against what they say."""
    found: list[dict[str, Any]] = []
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if lines:
            event = msgspec.json.decode(lines["data"], type=dict[str, Any])
            assert (lines["id"], lines["event"]) == (str(event["version"]), event["kind"])
            found.append(event)
    return found


async def test_a_history_is_given_whole_and_in_parts(caller: Caller) -> None:
    await caller.start({"saga": "quick", "input": "no", "id": "q-1"}, "?wait=20")
    whole = await caller.get("/v1/runs/q-1/events?limit=1000")
    events = whole.json()["events"]
    assert [each["version"] for each in events] == list(range(1, len(events) + 1))
    assert (events[0]["kind"], events[-1]["kind"]) == ("RunStarted", "RunEnded")
    assert whole.headers["etag"] == f'"{len(events)}"'
    parts: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        body = (await caller.get(f"/v1/runs/q-1/events?after={after}&limit=4")).json()
        parts += body["events"]
        after = body["next"]
    assert parts == events


async def test_what_is_hidden_is_in_no_event(caller: Caller) -> None:
    value = {"lines": [{"sku": "a", "quantity": 1}], "card": "4000-0000"}
    await caller.start({"saga": "orders", "input": value, "id": "o-1"}, "?wait=20")
    answer = await caller.get("/v1/runs/o-1/events?limit=1000")
    assert b"4000-0000" not in answer.body
    assert b"1234" not in answer.body
    events = {each["kind"]: each["data"] for each in answer.json()["events"]}
    assert events["RunStarted"]["input"]["card"] == "***"
    assert events["ActionSucceeded"]["reply"] == {"id": "r-a", "pin": "***"}
    assert events["ActionRequested"]["requests"][0]["body"] == {"sku": "a", "quantity": 1}


async def test_a_stream_gives_what_was_and_then_what_comes_until_the_end(caller: Caller) -> None:
    await bring(caller, "past the pivot", "r-1")
    stream = Stream(caller, "/v1/runs/r-1/events", LIVE)
    async with stream:
        await stream.until(b"ActionSucceeded")
        assert b"RunEnded" not in stream.body
        let_go("r-1")
        await stream.end()
    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    events = events_in(stream.body)
    assert events == (await caller.get("/v1/runs/r-1/events?limit=1000")).json()["events"]
    assert events[-1]["kind"] == "RunEnded"


async def test_a_stream_is_resumed_where_it_broke_off(caller: Caller) -> None:
    await caller.start({"saga": "quick", "input": "no", "id": "q-1"}, "?wait=20")
    all_of_it = (await caller.get("/v1/runs/q-1/events?limit=1000")).json()["events"]
    for seen in (0, 3, len(all_of_it) - 1):
        answer = await caller.get("/v1/runs/q-1/events", {**LIVE, "last-event-id": str(seen)})
        assert events_in(answer.body) == all_of_it[seen:]
    over = await caller.get("/v1/runs/q-1/events", {**LIVE, "last-event-id": str(len(all_of_it))})
    assert (over.status, over.body) == (204, b"")


async def test_a_stream_ends_when_the_server_stops(opened: tuple[Caller, Context]) -> None:
    caller, context = opened
    await bring(caller, "running", "r-1")
    stream = Stream(caller, "/v1/runs/r-1/events", LIVE)
    async with stream:
        await stream.until(b"ActionRequested")
        assert context.streams == 1
        context.stopping.set()
        await stream.end()
    assert context.streams == 0
    let_go("r-1")


async def test_a_reader_that_is_gone_is_not_streamed_to(opened: tuple[Caller, Context]) -> None:
    caller, context = opened
    await bring(caller, "running", "r-1")
    stream = Stream(caller, "/v1/runs/r-1/events", LIVE)
    async with stream:
        await stream.until(b"ActionRequested")
        caller.hang_up.set()
        await stream.end()
    assert context.streams == 0
    let_go("r-1")


async def test_so_many_streams_and_no_more() -> None:
    async with api(staged, limits=ServerLimits(streams=1)) as (caller, context):
        await bring(caller, "running", "r-1")
        stream = Stream(caller, "/v1/runs/r-1/events", LIVE)
        async with stream:
            await stream.until(b"ActionRequested")
            answer = await caller.get("/v1/runs/r-1/events", LIVE)
            problem(answer, 503, "overloaded")
            assert answer.headers["retry-after"] == "1"
            context.stopping.set()
            await stream.end()
        let_go("r-1")


async def test_one_token_leaves_streams_for_the_others() -> None:
    tokens = [Token(name, Role.VIEWER, f"sha256:{sha256(name.encode()).hexdigest()}") for name in ("one", "two")]
    access = Access([*tokens, Token("op", Role.OPERATOR, f"sha256:{sha256(b'op').hexdigest()}")])
    async with api(staged, access=access, limits=ServerLimits(streams=SHARE)) as (caller, context):
        asked = {"saga": "staged", "input": STAGES["running"][0], "id": "r-1"}
        assert (await caller.ask("/v1/runs", asked, {"authorization": "Bearer op"})).status == 201
        one, two = ({**LIVE, "authorization": f"Bearer {name}"} for name in ("one", "two"))
        first = Stream(caller, "/v1/runs/r-1/events", one)
        second = Stream(caller, "/v1/runs/r-1/events", two)
        async with first:
            await first.until(b"ActionRequested")
            problem(await caller.get("/v1/runs/r-1/events", one), 503, "overloaded")
            assert (await caller.get("/v1/runs/r-1", one)).status == 200
            async with second:
                await second.until(b"ActionRequested")
                context.stopping.set()
                await second.end()
            await first.end()
        assert not context.streams_of.full("token one"), "it is given back"
        let_go("r-1")


@pytest.mark.parametrize("given", ["x", "-1", "1" * 13, "²"])
async def test_the_last_event_is_a_version(caller: Caller, given: str) -> None:
    await caller.start({"saga": "quick", "input": "yes", "id": "q-1"}, "?wait=20")
    answer = await caller.get("/v1/runs/q-1/events", {**LIVE, "last-event-id": given})
    assert problem(answer, 400, "bad-request")["where"] == "Last-Event-ID"


async def test_many_readers_see_the_same(caller: Caller) -> None:
    await bring(caller, "past the pivot", "r-1")
    streams = [Stream(caller, "/v1/runs/r-1/events", LIVE) for _ in range(8)]
    for each in streams:
        await each.__aenter__()
    for each in streams:
        await each.until(b"ActionSucceeded")
    let_go("r-1")
    await asyncio.gather(*(each.end() for each in streams))
    for each in streams:
        await each.__aexit__(None, None, None)
    assert len({each.body for each in streams}) == 1


@pytest.mark.parametrize("change", ["revoked", "another role", "other sagas", "certificates"])
async def test_an_open_stream_ends_with_the_right_it_was_opened_with(change: str) -> None:
    token, hashed = new_token()
    viewer = Token("eyes", Role.VIEWER, hashed)
    headers = {**LIVE, "authorization": f"Bearer {token}"}
    async with api(staged) as (caller, context):
        await bring(caller, "running", "r-1")
        context.access = Access([viewer])
        stream = Stream(caller, "/v1/runs/r-1/events", headers)
        async with stream:
            await stream.until(b"ActionRequested")
            match change:
                case "revoked":
                    context.access = Access([replace(viewer, hash=new_token()[1])])
                case "another role":
                    context.access = Access([replace(viewer, role=Role.CLIENT)])
                case "other sagas":
                    context.access = Access([replace(viewer, sagas=["another"])])
                case _:
                    context.certificates += 1
            await context.engine.steer("r-1", lambda at, epoch: Cancel(at, epoch, Who("me", reason="a secret")))
            await stream.end()
            assert b"a secret" not in stream.body
        assert context.streams == 0
        let_go("r-1")


async def test_an_open_stream_stays_while_its_token_does() -> None:
    token, hashed = new_token()
    viewer, second = Token("eyes", Role.VIEWER, hashed), Token("more", Role.VIEWER, new_token()[1])
    headers = {**LIVE, "authorization": f"Bearer {token}"}
    async with api(staged) as (caller, context):
        await bring(caller, "running", "r-1")
        context.access = Access([viewer, second])
        stream = Stream(caller, "/v1/runs/r-1/events", headers)
        async with stream:
            await stream.until(b"ActionRequested")
            context.access = Access([viewer])
            await context.engine.steer("r-1", lambda at, epoch: Cancel(at, epoch, Who("me", reason="was told")))
            await stream.until(b"was told")
            context.stopping.set()
            await stream.end()
        let_go("r-1")


async def test_a_request_that_waits_is_answered_to_a_token_that_still_holds() -> None:
    token, hashed = new_token()
    async with api(staged) as (caller, context):
        await bring(caller, "running", "r-1")
        context.access = Access([Token("eyes", Role.VIEWER, hashed)])
        headers = {"authorization": f"Bearer {token}"}
        waiting = asyncio.create_task(caller.get("/v1/runs/r-1?wait=30", headers))
        while context.requests == 0:  # noqa: ASYNC110 - until it waits
            await asyncio.sleep(0)
        context.access = Access([Token("eyes", Role.VIEWER, new_token()[1])])
        context.stopping.set()  # answers every request that waits
        assert (await waiting).status == 401
        let_go("r-1")
