"""Answers that come later: taken in once, before the caller is told so, and only with the token of that very call."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from typing_extensions import override

from amends import Call, Later, Orchestrator, Participant, Rejected, Saga, operation, this_call
from amends.config.settings import ServerSettings, Settings
from amends.config.values import BadSetting, Secret
from amends.core.words.errors import LogUnavailable
from amends.inboxes.memory import MemoryInbox
from amends.logs.memory import MemoryLog
from amends.participant.service import Service
from amends.ports.log import Append, Start, Written
from amends.server.callback_tokens import CallbackSecrets, CallbackTokens, calling_back
from amends.server.context import Context
from amends.server.setup import callback_secrets_of
from tests.fast.server.asgi import Answer, Caller
from tests.fast.server.opened import PUBLIC_URL, api, problem
from tests.fast.server.processes import SECONDS, until

SUCCEEDED = {"saga-outcome": "succeeded"}
REJECTED = {"saga-outcome": "rejected"}
GATES: dict[str, asyncio.Event] = {}


@dataclass(frozen=True, slots=True)
class Parcel:
    address: str


@dataclass(frozen=True, slots=True)
class Label:
    tracking: str


class Carrier(Participant):
    book = operation(Parcel, Label, compensation="call-back")


parcel = Saga("parcel", str)


@parcel.compensable()
def book(address: str) -> Call[Label]:
    return Carrier.book(address)


@parcel.pivot(book)
async def hand_over(address: str, label: Label) -> str:
    if address == "wait":
        await GATES["hand over"].wait()
    if address == "nowhere":
        raise Rejected("nobody lives there")
    return label.tracking


@dataclass(slots=True)
class Carriers:
    """A carrier that answers later; `callbacks` by phase."""

    callbacks: dict[str, str] = field(default_factory=dict[str, str])

    def service(self) -> Service[Any]:
        service: Service[Any] = Service(Carrier, MemoryInbox())

        @service.action(Carrier.book)
        async def booked(request: Parcel, transaction: object) -> Label:
            self.callbacks[this_call().phase] = this_call().callback or ""
            raise Later

        @service.compensation(Carrier.book)
        async def called_back(undo: object, transaction: object) -> None:
            self.callbacks[this_call().phase] = this_call().callback or ""
            raise Later

        del booked, called_back  # the service has them
        return service


class Failing(MemoryLog):
    """Takes nothing more once it is told to."""

    fails = False
    failed = 0

    @override
    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        if self.fails:
            self.failed += 1
            raise LogUnavailable("no space left")
        return await super().append(batch)


@dataclass(slots=True)
class Opened:
    caller: Caller
    context: Context
    carrier: Carriers

    async def started(self, address: str = "1 Elm Street") -> str:
        """A run whose parcel is being booked; the path that its carrier was given."""
        await self.caller.start({"saga": "parcel", "input": address, "id": "p-1"})
        await self.pending("action")
        return self.path("action")

    async def pending(self, call: str) -> None:
        """Until the log knows that this call was taken on."""
        with self.context.engine.audience.following("p-1") as changed:
            async with asyncio.timeout(SECONDS):
                while True:
                    changed.clear()
                    step, _ = (await self.caller.get("/v1/runs/p-1")).json()["steps"]
                    if step.get(call, {}).get("pending"):
                        return
                    await changed.wait()

    async def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.caller.get("/v1/runs/p-1/events?limit=1000")).json()["events"]
        return found

    def path(self, phase: str) -> str:
        url = self.carrier.callbacks[phase]
        assert url.startswith(f"{PUBLIC_URL}/v1/callbacks/")
        return url.removeprefix(PUBLIC_URL)

    async def post(self, path: str, value: object, headers: dict[str, str]) -> Answer:
        return await self.caller.call("POST", path, [msgspec.json.encode(value)], headers)

    async def state(self) -> str:
        return str((await self.caller.get("/v1/runs/p-1?wait=20")).json()["state"])


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    carrier = Carriers()
    async with api(parcel, routes=[Carrier.at(carrier.service())]) as (caller, context):
        yield Opened(caller, context, carrier)


async def test_an_answer_settles_its_call_and_the_same_again_is_fine(opened: Opened) -> None:
    path = await opened.started()
    answer = await opened.post(path, {"tracking": "T-1"}, SUCCEEDED)
    assert (answer.status, answer.json()) == (
        200,
        {"run": "p-1", "step": "book", "phase": "action", "state": "recorded"},
    )
    assert await opened.state() == "completed"
    # The run has ended by now: whoever repeats the answer is told so, and stops.
    problem(await opened.post(path, {"tracking": "T-1"}, SUCCEEDED), 410, "over")


async def test_an_answer_is_in_the_log_before_it_is_acknowledged(opened: Opened) -> None:
    path = await opened.started()
    events = await opened.events()
    assert (await opened.post(path, {"tracking": "T-1"}, SUCCEEDED)).status == 200
    kinds = [each["kind"] for each in (await opened.events())[len(events) :]]
    assert "ActionSucceeded" in kinds


async def test_a_log_that_cannot_be_written_acknowledges_no_answer() -> None:
    carrier, log = Carriers(), Failing()
    async with api(parcel, log=log, routes=[Carrier.at(carrier.service())]) as (caller, context):
        opened = Opened(caller, context, carrier)
        path = await opened.started()
        log.fails = True
        posting = asyncio.create_task(opened.post(path, {"tracking": "T-1"}, SUCCEEDED))
        await until(lambda: log.failed > 0)
        assert not posting.done()
        log.fails = False
        async with asyncio.timeout(SECONDS):
            assert (await posting).status == 200
        assert await opened.state() == "completed"


async def test_a_repeat_before_the_end_is_recorded_and_another_answer_is_not(opened: Opened) -> None:
    gate = GATES["hand over"] = asyncio.Event()
    path = await opened.started("wait")
    assert (await opened.post(path, {"tracking": "T-1"}, SUCCEEDED)).status == 200
    version = len(await opened.events())
    assert (await opened.post(path, {"tracking": "T-1"}, SUCCEEDED)).status == 200
    problem(await opened.post(path, {"tracking": "T-2"}, SUCCEEDED), 409, "settled")
    problem(await opened.post(path, {"detail": "no"}, REJECTED), 409, "settled")
    assert [each for each in (await opened.events())[version:] if each["kind"] == "ActionSucceeded"] == []
    gate.set()
    assert await opened.state() == "completed"


async def test_a_no_that_comes_later_turns_the_run_back(opened: Opened) -> None:
    path = await opened.started()
    body = {"type": "urn:carrier:too-far", "code": "too-far", "detail": "we don't go there"}
    assert (await opened.post(path, body, REJECTED)).status == 200
    shown = (await opened.caller.get("/v1/runs/p-1?wait=20")).json()
    assert (shown["state"], shown["outcome"]["code"]) == ("compensated", "too-far")


async def test_an_undo_is_answered_later_too(opened: Opened) -> None:
    path = await opened.started("nowhere")
    await opened.post(path, {"tracking": "T-1"}, SUCCEEDED)
    await until(lambda: "compensation" in opened.carrier.callbacks)
    await opened.pending("undo")
    undo = opened.path("compensation")
    assert undo != path
    problem(await opened.post(undo, {}, REJECTED), 400, "bad-request")
    problem(await opened.post(path, {"tracking": "T-1"}, SUCCEEDED), 410, "over")
    assert (await opened.post(undo, {}, SUCCEEDED)).status == 200
    assert await opened.state() == "compensated"


async def test_an_undo_that_is_impossible_gets_stuck(opened: Opened) -> None:
    path = await opened.started("nowhere")
    await opened.post(path, {"tracking": "T-1"}, SUCCEEDED)
    await until(lambda: "compensation" in opened.carrier.callbacks)
    await opened.pending("undo")
    undo = opened.path("compensation")
    body = {"code": "left", "detail": "it is on the van"}
    assert (await opened.post(undo, body, {"saga-outcome": "cannot-compensate"})).status == 200
    shown = (await opened.caller.get("/v1/runs/p-1?wait=20")).json()
    (mark,) = shown["stuck"]
    assert (shown["state"], mark["reason"], mark["code"], mark["detail"]) == (
        "stuck",
        "cannot-compensate",
        "left",
        "it is on the van",
    )


async def test_an_answer_that_names_another_call_is_refused(opened: Opened) -> None:
    """The completion of an action, posted to the callback of its compensation, must not settle the compensation."""
    path = await opened.started("nowhere")
    await opened.post(path, {"tracking": "T-1"}, SUCCEEDED)
    await until(lambda: "compensation" in opened.carrier.callbacks)
    await opened.pending("undo")
    undo = opened.path("compensation")
    of_action = {**SUCCEEDED, "idempotency-key": '"p-1:book:action"'}
    version = len(await opened.events())
    problem(await opened.post(undo, {}, of_action), 409, "other-call")
    assert len(await opened.events()) == version
    of_undo = {**SUCCEEDED, "idempotency-key": '"p-1:book:compensation"'}
    assert (await opened.post(undo, {}, of_undo)).status == 200
    assert await opened.state() == "compensated"


@pytest.mark.parametrize("headers", [{}, {"saga-outcome": "pending"}, {"saga-outcome": "noop"}, {"saga-outcome": ""}])
async def test_an_answer_says_its_outcome(opened: Opened, headers: dict[str, str]) -> None:
    path = await opened.started()
    told = problem(await opened.post(path, {"tracking": "T-1"}, headers), 400, "bad-request")
    assert told["where"] == "Saga-Outcome"


async def test_a_reply_that_is_not_of_its_type_is_refused_and_may_be_sent_again(opened: Opened) -> None:
    path = await opened.started()
    version = len(await opened.events())
    problem(await opened.post(path, {"tracking": 1}, SUCCEEDED), 422, "reply-invalid")
    assert len(await opened.events()) == version
    assert (await opened.post(path, {"tracking": "T-1"}, SUCCEEDED)).status == 200


async def test_only_the_token_of_the_call_will_do(opened: Opened) -> None:
    path = await opened.started()
    token = path.rpartition("/")[2]
    key, _, mac = token.partition(".")
    others = CallbackTokens(b"another log's secret")
    forged = [
        key,
        f"{key}.",
        f".{mac}",
        f"{key}.{mac[:-1]}",
        f"{key}.{mac}=",
        f"{key}.{mac}.{mac}",
        f"{key[:-2]}AA.{mac}",
        f"{key}.{'A' * len(mac)}",
        others.token("p-1:book:action"),
        opened.context.callbacks.token("p-2:book:action"),
        opened.context.callbacks.token("p-1:hand_over:compensation"),
        opened.context.callbacks.token("p-1:book:seal"),
        opened.context.callbacks.token("no key at all"),
        "x" * 2_000,
        "%C3%A9.%C3%A9",
    ]
    for each in forged:
        answer = await opened.post(f"/v1/callbacks/{each}", {"tracking": "T-1"}, SUCCEEDED)
        assert answer.status in {400, 404}, each
        assert mac.encode() not in answer.body
    assert (await opened.post(path, {"tracking": "T-1"}, SUCCEEDED)).status == 200


def test_a_token_is_the_same_in_every_process_on_a_log() -> None:
    one, two = CallbackTokens(b"secret"), CallbackTokens(b"secret")
    token = one.token("p-1:book/sku%2D1:action")
    assert two.token("p-1:book:action") != token
    assert str(one.key(one.token("p-1:book:action"))) == "p-1:book:action"
    assert CallbackTokens(b"other").key(token) is None
    assert CallbackTokens().key(token) is None, "before the log was asked"


async def test_a_resumed_run_that_calls_at_once_is_given_its_callback() -> None:
    """The log's secret is asked for when the engine is open, and by then the first calls may be on their way."""
    log, carrier, tokens = MemoryLog(), Carriers(), CallbackTokens()
    routes = [Carrier.at(carrier.service())]
    around = calling_back(tokens, PUBLIC_URL)
    async with Orchestrator([parcel], log=log, routes=routes, around=around) as runs:
        await runs.start(parcel, "1 Elm Street", id="p-1")
        await until(lambda: any(lane.in_flight for lane in runs.lanes.values()))
        assert carrier.callbacks == {}, "it was sent without knowing what to say"
        await tokens.open(log)
        await until(lambda: "action" in carrier.callbacks)
        assert carrier.callbacks["action"].startswith(f"{PUBLIC_URL}/v1/callbacks/")


async def test_a_new_secret_makes_tokens_while_old_ones_are_accepted_until_taken_out(opened: Opened) -> None:
    """The rotation that the how-to describes: put a new secret in front, later take the old one out."""
    tokens = opened.context.callbacks
    told_before = await opened.started()
    of_log = CallbackTokens()
    await of_log.open(opened.context.engine.log)
    assert told_before.endswith(of_log.token("p-1:book:action"))

    tokens.renew(CallbackSecrets((b"new" * 16,)))
    assert tokens.token("p-1:book:action") == CallbackTokens(b"new" * 16).token("p-1:book:action")
    assert tokens.key(of_log.token("p-1:book:action")) is not None

    tokens.renew(CallbackSecrets((b"newest" * 8, b"new" * 16), of_log=False))
    assert (await opened.post(told_before, {"tracking": "T-2"}, SUCCEEDED)).status == 404
    between = CallbackTokens(b"new" * 16).token("p-1:book:action")
    assert (await opened.post(f"/v1/callbacks/{between}", {"tracking": "T-1"}, SUCCEEDED)).status == 200


async def test_a_log_whose_secret_is_not_accepted_holds_none() -> None:
    log = MemoryLog()
    await log.open()
    tokens = CallbackTokens()
    await tokens.open(log, CallbackSecrets((b"ours" * 8,), of_log=False))
    assert log.store.settings == {}
    token = tokens.token("p-1:book:action")
    with pytest.raises(ValueError, match="start it anew"):
        tokens.renew(CallbackSecrets())
    assert tokens.key(token) is not None, "a renewal that is refused changes nothing"


@pytest.mark.parametrize(
    ("secrets", "of_log", "error"),
    [
        ((), False, r"no server\.callback_secrets.*amends token callback"),
        (("short",), True, r"server\.callback_secrets\[0\] has 5 characters, expected 32 or more"),
        (("x" * 32, "${env:AMENDS_TEST_MISSING}"), True, r"server\.callback_secrets\[1\]: .*no such variable"),
    ],
)
def test_callback_secrets_that_cannot_be_used_are_named(secrets: Sequence[str], of_log: bool, error: str) -> None:
    server = ServerSettings(callback_secrets=tuple(map(Secret, secrets)), callback_secret_of_log=of_log)
    with pytest.raises(BadSetting, match=error) as raised:
        callback_secrets_of(Settings(server=server))
    assert "x" * 32 not in str(raised.value)
