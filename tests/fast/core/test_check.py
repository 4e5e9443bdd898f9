"""Every mistake in a definition is named with where it is and what to do, all at once, before anything runs."""

from datetime import timedelta
from typing import Any, cast

import pytest

from amends.core.run.definition import define
from amends.core.saga.check import check_saga, check_sagas
from amends.core.saga.operation import Call, Participant, Rest, blocking, operation
from amends.core.saga.saga import Saga
from amends.core.words.errors import DefinitionInvalid
from amends.core.words.retry import Policy, Retry
from tests.support.stories import CODEC, Ask, Asked, Barrier, Plain, Spec, c, gives, n, p, r, saga_of


def mistakes(*specs: Spec, **more: Any) -> list[str]:  # noqa: ANN401 - as saga_of
    return saga_of(specs, **more).check()


class Payments(Participant):
    hold = operation(Ask, str)


async def works(_input: str) -> str:
    return "done"


async def undoes(_input: str, _reply: str | None) -> None: ...


def test_a_clean_saga_has_no_mistakes() -> None:
    assert mistakes(c("a"), n("n"), p("p", reads="a"), r("r", reads="p"), c("local", works, undo=undoes)) == []


# -- its shape: told alone, since nothing else can be looked at


@pytest.mark.parametrize("name", ["", "1s", "s s", "ü", "s" * 65])
def test_the_name_of_a_saga(name: str) -> None:
    assert any("is no name for a saga" in each for each in mistakes(c("a"), name=name))


@pytest.mark.parametrize("version", [0, -1, "2", None, 2**31])
def test_the_version_of_a_saga(version: Any) -> None:  # noqa: ANN401 - what untyped code passes
    saga = saga_of([c("a")])
    saga.version = version
    assert saga.check() == [f"s: version {version!r} is no version: expected a whole number from 1 to 2147483647."]


def test_the_names_of_steps() -> None:
    found = mistakes(c("notice"), c("größe"), c("x" * 65))
    assert found[0].startswith("s v1: a step can't be called notice: that name is taken. Rename ")
    assert found[1].startswith("s v1: 'größe' is no name for a step: expected an ASCII identifier")
    assert len(found) == 3


def test_the_same_step_twice() -> None:
    found = mistakes(c("reserve"), c("reserve"))
    assert len(found) == 1
    assert found[0].startswith("s v1: two steps are called reserve (")
    assert found[0].endswith(". A step's name is its function's name; it is stored in every run.")


def test_no_steps_and_too_many() -> None:
    assert mistakes() == ["s v1 has no steps. Add one: @s.compensable() above a function."]
    assert mistakes(*(c(f"s{number}") for number in range(101))) == ["s v1 has 101 steps; the limit is 100."]


def test_steps_of_another_saga() -> None:
    other = saga_of([c("a")])
    saga = Saga("t", str)
    saga.pivot(after=other.steps)(lambda _input: Barrier.bare("p"))
    saga.steps[0].name = "p"
    assert saga.check() == ["t v1, step p: a is a step of another saga. Steps can only name steps of their own saga."]


def test_a_decorator_without_parentheses_is_told_at_once() -> None:
    saga = Saga("s", str)
    untyped: Any = saga
    with pytest.raises(TypeError, match=r"Write @pivot\(\) with parentheses above the function"):
        untyped.pivot(gives(None))


# -- its graph


def test_two_pivots() -> None:
    assert mistakes(p("capture"), p("notify", after="capture")) == [
        "s v1: capture and notify are both pivots. After the first nothing may say no: make notify retriable."
    ]


def test_a_compensable_after_the_pivot() -> None:
    assert mistakes(p("capture"), c("ship", after="capture")) == [
        (
            "s v1: ship is compensable but comes after the pivot capture, when nothing is undone any more. Make it "
            "retriable, "
            "or move it before capture."
        )
    ]


def test_a_compensable_or_the_pivot_after_a_retriable_also_through_others() -> None:
    found = mistakes(r("mail"), n("look", after="mail"), c("ship", after="look"))
    assert found == [
        (
            "s v1: ship is compensable but comes after the retriable mail, when nothing is undone any more. Make it "
            "retriable, "
            "or move it before mail."
        )
    ]
    assert mistakes(r("mail"), p("pay", after="mail")) == [
        (
            "s v1: pay is the pivot but comes after the retriable mail, which is only done once there is no way back. "
            "Take the "
            "edge from mail to pay away."
        )
    ]


def test_retriables_need_no_edge_to_the_pivot() -> None:
    assert mistakes(p(), r()) == []
    assert mistakes(c("a"), r()) == []


def test_two_notices() -> None:
    saga = saga_of([c("a")], notice=gives(None))
    saga.notices.append(gives(None))
    assert len(saga.check()) == 1
    assert "2 notices" in saga.check()[0]


# -- its steps


def test_parameters_and_edges_that_differ() -> None:
    def capture(_order: str, _held: str, _reservation: str) -> Call[str]:
        return Barrier.bare("x")

    assert mistakes(c("hold"), p("capture", capture, reads="hold")) == [
        (
            "s v1, step capture: reads hold, but has 3 parameters (_order, _held, _reservation). Expected (input, "
            "hold's "
            "reply). "
            "Name the steps it reads in @s.pivot(...), or drop the parameter."
        )
    ]
    assert "reads no step, and has 0 parameters ()" in mistakes(p("p", lambda: Barrier.bare("x")))[0]


def test_more_replies_than_can_be_read() -> None:
    names = [f"s{number}" for number in range(7)]
    found = mistakes(*(c(name) for name in names), p("p", reads=" ".join(names)))
    assert found == ["s v1, step p: reads 7 steps; the limit is 6."]


def test_a_reply_that_may_be_missing() -> None:
    def perhaps(_input: str) -> Call[str] | None:
        return None

    def needs(_input: str, reply: str) -> Call[str]:
        return Barrier.bare(reply)

    def takes(_input: str, reply: str | None) -> Call[str]:
        return Barrier.bare(str(reply))

    found = mistakes(c("gift", perhaps), p("p", needs, reads="gift"))
    assert any(
        "step p: gift may be skipped, so its reply may be None, which str doesn't allow. Make the parameter str | None."
        in each
        for each in found
    )
    assert mistakes(c("a"), n("gift", perhaps), p("p", takes, reads="gift")) == []


def test_no_compensation() -> None:
    assert mistakes(c("hold", Payments.hold)) == [
        (
            "s v1, step hold: compensable, but Payments.hold has no compensation. Name one: operation(..., "
            'compensation="unhold"), or write @hold.compensation; if it changes nothing, make the step neutral.'
        )
    ]
    assert mistakes(c("work", works)) == [
        (
            "s v1, step work: compensable, but nothing undoes it. Write @work.compensation; if it changes nothing, "
            "make "
            "the step "
            "neutral."
        )
    ]
    assert mistakes(n("look", works), p("pay", works)) == []


def test_a_compensation_elsewhere_than_the_action() -> None:
    def calls_back(_input: str, _reply: str | None) -> Call[None]:
        return Barrier.undo("x")

    async def here(_input: str, _reply: str | None) -> None: ...

    def elsewhere(_input: str, _reply: str | None) -> Call[str]:
        return Payments.hold("x")

    assert "the work is done in this process, so its compensation is too" in mistakes(c("a", works, undo=calls_back))[0]
    assert "another service acts, so it must undo" in mistakes(c("a", undo=here))[0]
    assert "its compensation calls Payments.hold, but barrier acts" in mistakes(c("a", undo=elsewhere))[0]
    assert mistakes(c("a", undo=calls_back)) == []


def test_a_compensations_parameters() -> None:
    def one(_input: str) -> Call[None]:
        return Barrier.undo("x")

    assert mistakes(c("a", undo=one)) == [
        "s v1, step a: its compensation has 1 parameters; expected (input, reply or None)."
    ]


def test_an_async_builder() -> None:
    async def builds(_input: str) -> Call[str]:
        return Barrier.bare("x")

    found = mistakes(p("p", builds))
    assert found == [
        "s v1, step p: async def does the work here, but it says that it returns a Call. Make it a plain def."
    ]


def test_a_blocking_function_does_the_work() -> None:
    def pay(_input: str) -> str:
        return "paid"

    assert mistakes(p("pay", blocking(pay))) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Policy(timeout=timedelta(0)), "timeout=0:00:00 is no time-out"),
        (Policy(retry=Retry(attempts_max=0)), "retry: attempts_max=0: expected at least 1"),
        (Policy(retry=Retry(first=timedelta(0))), "retry: first=0:00:00"),
        (Policy(compensation_retry=Retry(first=timedelta(9), cap=timedelta(1))), "compensation_retry: first=9 days"),
        (Policy(retry=Retry(give_up_after=timedelta(0))), "retry: give_up_after=0:00:00"),
        (Policy(on_unknown=cast("Any", "probe")), "on_unknown='probe': expected"),
    ],
)
def test_numbers_of_a_policy(given: Policy, told: str) -> None:
    found = mistakes(c("a", policy=given))
    assert len(found) == 1
    assert told in found[0]


def test_what_follows_an_unknown_outcome_must_be_possible() -> None:
    local = mistakes(c("a", works, undo=undoes, policy=Policy(on_unknown="compensate")))
    assert local == [
        (
            's v1, step a: on_unknown="compensate" needs a barrier, and work done in this process has none: a late '
            "action "
            "would "
            'stay. Use "settle" or "stuck".'
        )
    ]
    assert "has no probe to settle by" in mistakes(p("p", works, policy=Policy(on_unknown="settle")))[0]
    assert mistakes(c("a", policy=Policy(on_unknown="settle"))) == []


def test_apis_described_by_rest_are_refused_for_now() -> None:
    found = mistakes(c("a", Asked.act))
    assert len(found) == 1
    assert "Asked.act is described by Rest, which this version can't send yet" in found[0]
    assert Rest("PUT /x").guard.value == "idempotent"


def test_an_api_described_by_rest_is_refused_wherever_a_saga_names_it() -> None:
    def undo_plain(_input: str, _reply: str | None) -> Call[None]:
        return Plain.undo("x")

    def tell(_input: str, _end: object) -> Call[None]:
        return Plain.undo("x")

    class Half(Participant):
        act = operation(Ask, str, compensation="undo")
        undo = operation(Ask, rest=Rest("PUT /undo"))

    plain = "Plain.undo is described by Rest, which this version can't send yet"
    assert any(f"step a: its compensation: {plain}" in each for each in mistakes(c("a", Barrier.act, undo=undo_plain)))
    assert mistakes(c("a"), notice=tell)[0].startswith(f"s v1: its notice: {plain}")
    assert mistakes(c("a", Half.act))[0].startswith("s v1, step a: Half.act is described by Rest"), (
        "it is undone by one"
    )


def test_an_operation_of_no_participant_is_refused() -> None:
    alone = operation(Ask, str)

    def call(_input: str) -> Call[str]:
        return alone("x")

    assert "belongs to no participant" in mistakes(n("a", call))[0]


# -- all at once


def test_every_mistake_is_told_at_once() -> None:
    saga = saga_of([c("hold", Payments.hold), p("p"), p("q"), c("late", after="p")])
    with pytest.raises(DefinitionInvalid) as raised:
        define(saga, CODEC)
    assert len(raised.value.mistakes) == 3
    assert raised.value.mistakes == tuple(check_saga(saga))
    assert all(each in str(raised.value) for each in raised.value.mistakes)


def test_two_definitions_of_one_version() -> None:
    assert check_sagas([saga_of([c("a")]), saga_of([c("b")])]) == [
        "s v1 is defined twice. Give one of them another name or version."
    ]
    twice = saga_of([c("a")])
    assert check_sagas([twice, twice]) == []


def test_a_participant_whose_name_is_none() -> None:
    with pytest.raises(DefinitionInvalid, match="is no name for one"):

        class Odd(Participant, name="no name"):  # pyright: ignore[reportUnusedClass]
            pass

    with pytest.raises(TypeError, match="never instantiated"):
        Payments()
