"""Runs over HTTP: the words of `Orchestrator`, its values, its errors; for code that awaits and code that blocks."""

# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from amends import (
    Abandoned,
    AmendsError,
    AsyncClient,
    Client,
    Compensated,
    Completed,
    InputInvalid,
    LogUnavailable,
    NoSuchReply,
    NoSuchRun,
    NoSuchSaga,
    NotAllowed,
    Overloaded,
    PastPivot,
    Refused,
    RunExists,
    Runs,
    ServerUnavailable,
    Stuck,
    TooLarge,
    Unfinished,
)
from amends.core.saga.operation import Call
from amends.core.saga.saga import Saga
from amends.server.listen import listen_on, url_of
from tests.fast.cli.place_order import (
    CANNOT,
    DECLINED,
    LOST,
    Approval,
    Inventory,
    Receipt,
    Reservation,
    Says,
    Stage,
    approve,
    basket,
    capture,
    cooling_off,
    hold,
    order,
    place_order,
    reserve,
    ship,
    stage,
)
from tests.fast.server.processes import until

many = Saga("many", list[str])


@many.compensable()
def each(skus: list[str]) -> dict[str, Call[Reservation]]:
    return {sku: Inventory.reserve(sku=sku, quantity=1) for sku in skus}


@many.neutral(after=[each])
async def count(skus: list[str]) -> int:
    return len(skus)


@dataclass(frozen=True)
class Asked:
    name: str


@dataclass(frozen=True)
class AskedLater(Asked):
    """As clients have it that are deployed before their server."""

    more: int


@asynccontextmanager
async def client_of(on: Stage) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(on.url) as client:
        yield client


async def test_a_run_is_started_once_and_its_outcome_waited_for(tmp_path: Path) -> None:
    async with stage(tmp_path) as on, client_of(on) as runs:
        run = await runs.start(place_order, order("order-1"), id="order-1", tags={"customer": "ann"})
        assert (run.id, run.version, run.is_new) == ("order-1", 1, True)
        again = await runs.start(place_order, order("order-1"), id="order-1")
        assert not again.is_new
        done = await run.outcome()
        assert isinstance(done, Completed)
        assert done == await on.runs.get("order-1").outcome()
        assert str(done) == "completed    reserve, hold, capture, ship"
        assert done.reply(capture) == Receipt("n-1")
        with pytest.raises(NoSuchReply, match="no step approve"):
            done.reply(approve)
        named = await runs.start(place_order, order("x"))
        assert named.id != run.id
        assert await runs.get(named.id).outcome() == await on.runs.get(named.id).outcome()


async def test_a_field_that_the_servers_input_lacks_is_ignored_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, client = Saga("lenient", Asked), Saga("lenient", AskedLater)

    @server.neutral()
    async def look(asked: Asked) -> str:
        return asked.name

    async with stage(tmp_path, [server]) as on, client_of(on) as runs:
        outcome = await (await runs.start(client, AskedLater("x", 2), id="l-1")).outcome()
    assert isinstance(outcome, Completed)
    assert outcome.steps == (look.name,)
    assert "l-1: input, at $.more: There is no field more here. It is ignored." in caplog.text


async def test_every_shape_of_reply_is_read_as_its_type(tmp_path: Path) -> None:
    async with stage(tmp_path, [many, basket]) as on, client_of(on) as runs:
        done = await (await runs.start(many, ["a", "b c"])).outcome()
        assert isinstance(done, Completed)
        replies = done.reply(each)
        assert replies == {"a": Reservation("r-8812"), "b c": Reservation("r-8812")}
        assert done.reply(count) == 2
        skipping = await runs.start(basket, 10, id="basket-1")
        await on.runs.retry("basket-1", step=cooling_off, reason="now")
        ended = await skipping.outcome()
        assert isinstance(ended, Completed)
        assert ended.reply(approve) is None
        assert ended.reply(cooling_off) is None


async def test_every_outcome_is_that_of_the_orchestrator(tmp_path: Path) -> None:
    async with stage(tmp_path) as on, client_of(on) as runs:
        waiting = await runs.start(basket, 1_000, id="basket-1")
        assert await waiting.outcome(wait=timedelta(0)) == Unfinished("basket-1", "running", ("approve",))
        on.participants.tell("hold", DECLINED)
        turned = await (await runs.start(place_order, order("order-1"), id="order-1")).outcome()
        assert turned == Compensated(
            "order-1", False, "hold", "card-declined", "hold said no: card-declined", ("reserve",)
        )
        on.participants.tell("release", CANNOT)
        stuck = await (await runs.start(place_order, order("order-2"), id="order-2")).outcome()
        assert isinstance(stuck, Stuck)
        assert (stuck.step, stuck.phase) == ("reserve", "compensation")
        assert stuck.reason.startswith("cannot-compensate: ")
        await runs.abandon("order-2", reason="enough")
        left = await runs.get("order-2").outcome()
        assert isinstance(left, Abandoned)
        assert left.reason == "enough"


async def test_verbs_do_what_they_do_in_the_process(tmp_path: Path) -> None:
    async with stage(tmp_path) as on, client_of(on) as runs:
        on.participants.tell("schedule", LOST)
        run = await runs.start(place_order, order("order-1"), id="order-1")
        assert isinstance(await run.outcome(), Stuck)
        with pytest.raises(PastPivot):
            await runs.cancel("order-1", reason="changed my mind")
        on.participants.tell("schedule", Says())
        await runs.retry("order-1", step=ship, reason="the route is right now")
        assert isinstance(await run.outcome(), Completed)

        on.participants.tell("hold", DECLINED)
        on.participants.tell("release", CANNOT)
        on.participants.tell("reserve:seal", Says(200, "noop"))
        for id in ("order-2", "order-3"):
            assert isinstance(await (await runs.start(place_order, order(id), id=id)).outcome(), Stuck)
        await runs.resolve("order-2", reserve, "undone", reason="put back by hand")
        await until(lambda: "order-2" not in on.runs.engine.worker.runs)
        ended = await runs.get("order-2").outcome()
        assert isinstance(ended, Compensated)
        assert ended.by_hand
        await runs.skip("order-3", reserve, reason="leave it")
        assert isinstance(await runs.get("order-3").outcome(), Abandoned)

        await runs.start(basket, 1_000, id="basket-1")
        await runs.answer("basket-1", approve, Approval("bo"))
        await runs.start(basket, 1_000, id="basket-2")
        await runs.decline("basket-2", approve, "too much")
        assert isinstance(await runs.get("basket-2").outcome(), Compensated)
        await runs.compensate("basket-1", reason="enough")
        assert isinstance(await runs.get("basket-1").outcome(), Compensated)


async def test_errors_are_those_of_the_orchestrator(tmp_path: Path) -> None:
    unknown = Saga("unknown", str)

    @unknown.neutral()
    async def nothing(_: str) -> None:
        return None

    untyped: Saga[Any] = basket
    async with stage(tmp_path, [basket]) as on, client_of(on) as runs:
        assert nothing.name == "nothing"
        await runs.start(basket, 10, id="basket-1")
        asked: list[tuple[Callable[[], Awaitable[Any]], type[AmendsError], str]] = [
            (lambda: runs.start(basket, 11, id="basket-1"), RunExists, r"differs at \$: 10, 11"),
            (lambda: runs.start(untyped, "ten", id="b"), InputInvalid, "Expected `int`"),
            (lambda: runs.start(basket, 10, id="a b"), InputInvalid, "no run id"),
            (lambda: runs.start(unknown, "x"), NoSuchSaga, "unknown"),
            (lambda: runs.get("nobody").outcome(), NoSuchRun, "nobody"),
            (lambda: runs.get("a b/../c").outcome(), NoSuchRun, "no run"),
            (lambda: runs.answer("basket-1", approve, Approval("x")), Refused, "."),
            (lambda: runs.cancel("basket-1", reason=""), InputInvalid, "reason"),
        ]
        for ask, kind, said in asked:
            with pytest.raises(kind, match=said):
                await ask()
        with pytest.raises(ValueError, match="time zone"):
            await runs.start(basket, 1, deadline=datetime(2030, 1, 1))  # noqa: DTZ001 - wrong on purpose
        await runs.start(basket, 1, deadline=datetime(2100, 1, 1, tzinfo=UTC))
    with pytest.raises(ServerUnavailable, match="can't be reached"):
        async with AsyncClient(on.url) as gone:
            await gone.cancel("basket-1", reason="x")
    with pytest.raises(AmendsError, match="async with"):
        await AsyncClient(on.url).cancel("x", reason="x")
    with pytest.raises(AmendsError, match="no address of a server"):
        AsyncClient("localhost:8700")


async def test_events_are_followed_to_the_end(tmp_path: Path) -> None:
    async with stage(tmp_path) as on, client_of(on) as runs:
        on.participants.hold("capture")
        await runs.start(place_order, order("order-1"), id="order-1")
        kinds: list[str] = []

        async def follow() -> None:
            async for event in runs.events("order-1"):
                kinds.append(event["kind"])  # noqa: PERF401 - looked at while it grows

        following = asyncio.create_task(follow())
        await until(lambda: kinds.count("ActionRequested") == 3)
        on.participants.held["capture"].set()
        await asyncio.wait_for(following, 30)
        assert (kinds[0], kinds[-1]) == ("RunStarted", "RunEnded")
        assert len(kinds) == len([event async for event in runs.events("order-1")])
        with pytest.raises(NoSuchRun):
            async for _ in runs.events("nobody"):
                pass


# -- servers that aren't well


@asynccontextmanager
async def answering(*answers: web.Response) -> AsyncGenerator[tuple[str, list[str]]]:
    """A server that gives these answers, one after the other, then hangs up."""
    left, asked = list(answers), list[str]()

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.append(f"{request.method} {request.path_qs} {request.headers.get('authorization', '')}".rstrip())
        if left:
            return left.pop(0)
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    listening = listen_on("127.0.0.1", 0)
    await web.SockSite(runner, listening).start()
    try:
        yield url_of(listening), asked
    finally:
        await runner.cleanup()


def problem(status: int, name: str, **headers: str) -> web.Response:
    body = f'{{"type":"urn:amends:{name}","detail":"the reason","remedy":"what to do"}}'
    return web.Response(status=status, text=body, headers=headers, content_type="application/problem+json")


NOT_AMENDS = "this isn't an answer of an amends server"


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (problem(503, "overloaded", **{"Retry-After": "7"}), Overloaded, "the reason"),
        (problem(429, "too-many", **{"Retry-After": "7"}), Overloaded, "the reason"),
        (problem(503, "log-unavailable"), LogUnavailable, "the reason what to do"),
        (problem(413, "too-large"), TooLarge, "the reason"),
        (problem(401, "unauthorized"), NotAllowed, "what to do"),
        (problem(403, "forbidden"), NotAllowed, "what to do"),
        (problem(409, "in-flight"), Refused, "the reason"),
        (problem(500, "internal"), ServerUnavailable, "the reason"),
        (web.Response(status=200, text="<html>welcome"), ServerUnavailable, NOT_AMENDS),
        (web.json_response({"hello": "world"}), ServerUnavailable, NOT_AMENDS),
        (web.Response(status=502, text="<html>bad\n gateway"), ServerUnavailable, f"{NOT_AMENDS}.*'<html>bad gateway'"),
        (web.Response(status=404, text="nothing here"), Refused, f"{NOT_AMENDS}: status 404, text/plain: 'nothing"),
        (web.json_response({"detail": "Not Found"}, status=404), Refused, f"{NOT_AMENDS}.*Check the address"),
        (web.json_response({"type": "about:blank"}, status=400), Refused, NOT_AMENDS),
    ],
)
async def test_a_refusal_is_an_exception_of_its_own(answer: web.Response, kind: type[AmendsError], said: str) -> None:
    async with answering(answer) as (url, asked), AsyncClient(url, token="secret") as runs:
        with pytest.raises(kind, match=said) as caught:
            await runs.get("r-1").outcome()
        if isinstance(caught.value, Overloaded):
            assert caught.value.retry_after == timedelta(seconds=7)
        assert asked == ["GET /v1/runs/r-1?wait=30 Bearer secret"]


async def test_a_start_that_may_have_arrived_is_sent_again_a_verb_is_not() -> None:
    async with answering() as (url, asked), AsyncClient(url) as runs:
        with pytest.raises(ServerUnavailable, match="no answer from"):
            await runs.start(basket, 1)
        assert asked == ["POST /v1/runs", "POST /v1/runs"]
        asked.clear()
        with pytest.raises(ServerUnavailable, match="no answer from"):
            await runs.retry("r-1", reason="x")
        assert asked == ["POST /v1/runs/r-1/retry"]


async def test_a_server_without_tls_is_told_from_none_at_all() -> None:
    async with answering() as (url, _):
        with pytest.raises(ServerUnavailable, match=r"Is it http://, without TLS\?"):
            async with AsyncClient(url.replace("http://", "https://")) as secret:
                await secret.get("x").outcome()


async def test_a_stream_is_taken_up_where_it_broke() -> None:
    def sse(text: str) -> web.Response:
        return web.Response(text=text, content_type="text/event-stream")

    first = sse('id: 1\ndata: {"kind":"RunStarted"}\n\n: still there\n\nid: 2\ndata: {"kind":\ndata: "Marked"}\n\n')
    second = sse('id: 3\r\ndata: {"kind":"RunEnded"}\r\n\r\n')
    async with answering(first, second) as (url, asked), AsyncClient(url) as runs:
        assert [event["kind"] async for event in runs.events("r-1")] == ["RunStarted", "Marked", "RunEnded"]
    assert len(asked) == 2


async def test_a_stream_with_nothing_in_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amends.client.events.PAUSE_SECONDS", 0.0)
    empty = [web.Response(text="", content_type="text/event-stream") for _ in range(9)]
    async with answering(*empty) as (url, asked), AsyncClient(url) as runs:
        with pytest.raises(ServerUnavailable, match="nothing new in it"):
            async for _ in runs.events("r-1"):
                pass
    assert len(asked) == 5


# -- code that can't await


async def test_a_blocking_client_does_the_same(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        with Client(on.url) as client:

            def work() -> None:
                id = client.start(place_order, order("order-1"), id="order-1")
                assert client.start(place_order, order("order-1"), id="order-1") == id
                done = client.outcome(id)
                assert isinstance(done, Completed)
                assert done.reply(capture) == Receipt("n-1")
                with pytest.raises(PastPivot):
                    client.cancel(id, reason="x")
                client.start(basket, 1_000, id="basket-1")
                assert client.outcome("basket-1", wait=timedelta(0)) == Unfinished("basket-1", "running", ("approve",))
                client.answer("basket-1", approve, Approval("bo"))
                client.retry("basket-1", step=cooling_off, reason="now")
                assert isinstance(client.outcome("basket-1"), Completed)
                with pytest.raises(NoSuchRun):
                    client.outcome("nobody")
                client.close()
                assert isinstance(client.outcome(id), Completed)

            await asyncio.to_thread(work)
            await asyncio.gather(*(asyncio.to_thread(client.outcome, "order-1") for _ in range(4)))

    def gone() -> None:
        with pytest.raises(ServerUnavailable, match="can't be reached"):
            Client(on.url).cancel("x", reason="x")

    await asyncio.to_thread(gone)


async def test_a_blocking_client_survives_a_fork(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        client = Client(on.url)
        await asyncio.to_thread(client.start, basket, 10, id="basket-1")
        (before,) = client._idle
        client._process = -1  # as a process finds it that was forked
        outcome = await asyncio.to_thread(client.outcome, "basket-1", wait=timedelta(0))
        assert isinstance(outcome, Unfinished)
        (after,) = client._idle
        assert after is not before
        assert before.sock is None, "the parent's connection is let go of, not written into"
        client.close()


def test_both_are_what_code_that_takes_runs_expects() -> None:
    runs: Runs = AsyncClient("http://localhost:8700")
    assert runs.get("x").id == "x"
    assert hold.name == "hold"
