"""Code of this process that doesn't fit a call, or that fails in odd ways: people hear of it at once, and why.

The same would happen at every attempt, so nothing is repeated, nothing is taken for an outage, and no run is turned
back over it. Once the code is mended, `retry` goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from typing import Any

import pytest

from amends.codecs.json import NESTING_MAX
from amends.core.saga.operation import Call, Participant, Route, Undo, ask, operation
from amends.core.saga.outcomes import Compensated, Completed, Outcome, Stuck
from amends.core.saga.saga import Saga
from amends.core.words.errors import Refused, Rejected
from amends.inboxes.memory import MemoryInbox
from amends.orchestrator import Orchestrator
from amends.participant.service import Service
from tests.fast.engine.support import Clock, virtually

SOON = timedelta(seconds=5)


class Mood:
    """Whether the types of this process read what was written before: a deploy may change that."""

    strict = False


WORK: list[str] = []
"""What was done."""


@dataclass(frozen=True)
class Room:
    number: int

    def __post_init__(self) -> None:
        if Mood.strict:
            raise ValueError("rooms have names now")


@pytest.fixture(autouse=True)
def lenient() -> None:
    Mood.strict = False
    WORK.clear()


def stuck_over(outcome: Outcome, step: str, phase: str = "action") -> str:
    """That the author's code is to blame, and its text."""
    assert isinstance(outcome, Stuck), outcome
    assert (outcome.step, outcome.phase) == (step, phase)
    reason, _, text = outcome.reason.partition(": ")
    assert reason == "author-error"
    return text


def opened(*sagas: Saga[Any], routes: Sequence[Route] = ()) -> Orchestrator:
    return Orchestrator(list(sagas), routes=routes, clock=Clock())


def question_of(saga: Saga[str]) -> Any:  # noqa: ANN401 - a step that asks, whatever it asks for
    return next(each for each in saga.steps if each.name == "go")


def local_saga() -> Saga[str]:
    saga = Saga("trip", str)

    @saga.compensable()
    async def book(_: str) -> Room:
        return Room(7)

    @book.compensation
    async def unbook(_: str, room: Room | None) -> None:
        assert room == Room(7)
        WORK.append("undone")

    @saga.neutral(after=[book])
    def go(_: str) -> Call[str]:
        return ask(str, "go?", within=timedelta(days=1))

    @saga.pivot(book, after=[go])
    async def fly(_: str, room: Room) -> int:
        WORK.append("flown")
        return room.number

    return saga


def test_a_reply_that_a_later_step_cannot_read_any_more_turns_nothing_back() -> None:
    saga = local_saga()

    async def test() -> None:
        async with opened(saga) as runs:
            run = await runs.start(saga, "yes", id="r")
            await run.outcome(wait=SOON)
            Mood.strict = True
            await runs.answer("r", question_of(saga), "yes")
            assert "rooms have names now" in stuck_over(await run.outcome(), "fly")
            assert not WORK
            Mood.strict = False
            await runs.retry("r", reason="deployed a fix")
            assert isinstance(await run.outcome(wait=SOON), Completed)
        assert len(WORK) == 1

    virtually(test)


def test_a_reply_that_the_undo_cannot_read_any_more_is_no_outage() -> None:
    saga = local_saga()

    async def test() -> None:
        async with opened(saga) as runs:
            run = await runs.start(saga, "no", id="r")
            await run.outcome(wait=SOON)
            Mood.strict = True
            await runs.cancel("r", reason="changed my mind")
            assert "rooms have names now" in stuck_over(await run.outcome(), "book", "compensation")
            assert not WORK
            Mood.strict = False
            await runs.retry("r", reason="deployed a fix")
            assert isinstance(await run.outcome(wait=SOON), Compensated)
        assert len(WORK) == 1

    virtually(test)


@dataclass(frozen=True)
class Bill:
    room: Room


class Hotel(Participant):
    book = operation(str, Room, compensation="unbook")
    pay = operation(Bill, str)


def hotel(kept: str = "") -> Service[Any]:
    service = Service(Hotel, MemoryInbox())

    @service.action(Hotel.book)
    async def book(how: str, _tx: object) -> Any:  # noqa: ANN401 - what isn't a Room is the mistake
        WORK.append("done")
        return kept or Room(7)

    @service.compensation(Hotel.book)
    async def unbook(_undo: Undo[str, Room], _tx: object) -> None:
        WORK.append("done")

    @service.action(Hotel.pay)
    async def pay(bill: Bill, _tx: object) -> str:
        return f"paid for {bill.room.number}"

    return service


def called_saga() -> Saga[str]:
    saga = Saga("stay", str)

    @saga.compensable()
    def book(how: str) -> Call[Room]:
        return Hotel.book(how)

    @saga.neutral(after=[book])
    def go(_: str) -> Call[str]:
        return ask(str, "go?", within=timedelta(days=1))

    @saga.pivot(book, after=[go])
    def pay(_: str, room: Room) -> Call[str]:
        return Hotel.pay(room=room)

    return saga


def test_a_builder_and_a_service_here_that_cannot_read_what_is_logged_are_author_errors() -> None:
    saga = called_saga()

    async def test() -> None:
        async with opened(saga, routes=[Hotel.at(hotel())]) as runs:
            run = await runs.start(saga, "yes", id="forward")
            back = await runs.start(saga, "yes", id="back")
            await run.outcome(wait=SOON)
            await back.outcome(wait=SOON)
            Mood.strict = True
            await runs.answer("forward", question_of(saga), "yes")
            text = stuck_over(await run.outcome(), "pay")
            assert text.startswith("the reply of book, as logged, can't be read: ")
            await runs.cancel("back", reason="changed my mind")
            stuck_over(await back.outcome(), "book", "compensation")
            assert len(WORK) == 2, "both booked, nothing undone, and nothing tried again"
            Mood.strict = False
            await runs.retry("forward", reason="deployed a fix")
            await runs.retry("back", reason="deployed a fix")
            assert isinstance(await run.outcome(wait=SOON), Completed)
            assert isinstance(await back.outcome(wait=SOON), Compensated)

    virtually(test)


def test_a_service_here_whose_reply_is_no_reply_is_an_author_error_and_not_tried_again() -> None:
    saga = called_saga()

    async def test() -> None:
        async with opened(saga, routes=[Hotel.at(hotel("no room"))]) as runs:
            run = await runs.start(saga, "yes", id="r")
            stuck_over(await run.outcome(), "book")
        assert len(WORK) == 1

    virtually(test)


def test_an_answer_that_cannot_be_read_is_refused_and_the_question_stays_open() -> None:
    saga = called_saga()

    async def test() -> None:
        async with opened(saga, routes=[Hotel.at(hotel())]) as runs:
            run = await runs.start(saga, "yes", id="r")
            await run.outcome(wait=SOON)
            with pytest.raises(Refused, match="no answer to go"):
                await runs.answer("r", question_of(saga), 7)
            await runs.answer("r", question_of(saga), "yes")
            assert isinstance(await run.outcome(wait=SOON), Completed)

    virtually(test)


@dataclass(frozen=True)
class Box:
    inner: "Box | None"


DEEPEST = reduce(lambda inner, _: Box(inner), range(NESTING_MAX - 1), Box(None))


class Echo(Participant):
    say = operation(Box, Box, compensation="unsay")


def test_the_deepest_input_goes_through_every_kind_of_step_forward_and_back() -> None:
    here, called = Saga("here", Box), Saga("called", Box)
    service = Service(Echo, MemoryInbox())
    undone: list[object] = []

    @service.action(Echo.say)
    async def say(what: Box, _tx: object) -> Box:
        return what

    @service.compensation(Echo.say)
    async def unsay(undo: Undo[Box, Box], _tx: object) -> None:
        undone.append(undo.request == undo.reply == DEEPEST)

    @here.compensable()
    async def give(what: Box) -> Box:
        return what

    @give.compensation
    async def take(what: Box, given: Box | None) -> None:
        undone.append(what == given == DEEPEST)

    @here.pivot(give)
    async def refuse(_what: Box, _given: Box) -> None:
        raise Rejected("no")

    @called.compensable()
    def speak(what: Box) -> Call[Box]:
        return Echo.say.of(what)

    @called.pivot(speak)
    async def listen(_what: Box, _given: Box) -> None:
        raise Rejected("no")

    async def test() -> None:
        async with opened(here, called, routes=[Echo.at(service)]) as runs:
            for saga in (here, called):
                outcome = await (await runs.start(saga, DEEPEST)).outcome()
                assert str(outcome).startswith("compensated"), outcome
        assert undone == [True, True]

    virtually(test)
