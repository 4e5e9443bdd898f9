"""What builders may give and what is made of it: the cases that seldom come up."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from amends.core.run import events as e
from amends.core.run.definition import Definition
from amends.core.saga.operation import (
    CALLS_BUILT,
    Call,
    CircuitLimits,
    Participant,
    ask,
    blocking,
    name_of,
    sleep_until,
)
from amends.core.saga.saga import Saga
from amends.core.words.limits import REQUEST_BYTES_MAX
from amends.core.words.retry import Policy
from tests.support.stories import (
    CODEC,
    Barrier,
    Plain,
    Story,
    c,
    definition_of,
    error_of,
    gives,
    many,
    n,
    p,
)


def test_a_request_and_a_step_of_many_may_be_as_large_as_their_limits() -> None:
    body = len(b'{"what":""}')
    Story(c("a", gives(Barrier.act("x" * (REQUEST_BYTES_MAX - body)))))
    assert len(Story(c("m", many(*(str(each) for each in range(1_000))))).record.steps["m"].items) == 1_000


def test_an_answer_that_only_looks_like_a_waiting_one_is_no_call() -> None:
    class Lease:
        def close(self) -> None:
            raise AssertionError("what isn't waited for isn't closed")

    assert error_of(gives(Lease())).startswith("returned a Lease, expected a Call.")


def test_calls_built_outside_a_builder_are_nobodys() -> None:
    def builds(_input: str) -> object:
        return {"x": Barrier.act("x")}

    before = CALLS_BUILT.get()
    Story(c("m", builds))
    assert CALLS_BUILT.get() is before
    assert error_of(gives(iter("x"))).startswith("returned a str_")


async def _works(_input: str, _known: int, _more: list[str]) -> int:
    raise NotImplementedError


async def _unworks(_input: str, _reply: int | None) -> None: ...


def _untyped(_input: str, _known: str) -> str:
    raise NotImplementedError


_untyped.__annotations__.clear()


def _looks(_input: str) -> Call[int]:
    return ask(int, "how many?", within=timedelta(hours=1))


def test_types_of_the_arguments_of_local_work() -> None:
    known = definition_of(c("n1"), c("n2"), p("w", _works, reads="n1 n2", undo=_unworks))
    step = known.steps["w"]
    assert step.argument_types == (str, int, list[str])
    assert step.undo_input_type is str
    plain = definition_of(c("n1"), p("w", blocking(_untyped), reads="n1")).steps["w"]
    assert plain.argument_types == (str, Any)
    assert plain.undo_input_type is str

    async def narrow(_input: int, _reply: str | None) -> None: ...

    assert definition_of(c("w", _works, undo=narrow)).steps["w"].undo_input_type is int


def test_what_a_graph_in_the_log_says_of_types() -> None:
    known = definition_of(n("q", _looks), n("m", after="q"), p("w", _works, reads="q", undo=_unworks), c("u", _works))
    graph = json.loads(known.graph())
    assert set(graph) == {"saga", "version", "steps", "input"}
    assert graph["input"] == {"type": "string"}
    steps = {each["name"]: each for each in graph["steps"]}
    assert set(steps["q"]) == {
        *("name", "kind", "reads", "after", "guard", "operations", "compensations", "where", "schemas")
    }
    assert steps["q"]["schemas"] == {"ask": {"request": {"type": "string"}, "reply": {"type": "integer"}}}
    assert steps["w"]["schemas"]["local"]["reply"] == {"type": "integer"}
    assert steps["w"]["schemas"]["local"]["request"]["prefixItems"] == [{"type": "string"}, {"type": "integer"}]
    assert set(steps["m"]["schemas"]["barrier.bare"]) == {"request", "reply"}
    assert [steps[name]["compensations"] for name in ("w", "u")] == [["local"], []]
    assert re.fullmatch(r"test_building\.py:\d+", steps["q"]["where"])


def test_the_class_that_declares_a_participant() -> None:
    known = definition_of(c("a"), p("p", Plain.act))
    assert (known.owner_of("barrier"), known.owner_of("plain"), known.owner_of("other")) == (
        "Barrier",
        "Plain",
        "other",
    )
    assert known.operation("plain", "act") is Plain.act
    assert known.operation("plain", "other") is None


def test_a_decoder_is_made_once_per_operation_and_once_per_question() -> None:
    def also(_input: str) -> Call[str]:
        return ask(str, "who?", within=timedelta(hours=1))

    known = definition_of(n("q", _looks), n("w", also), c("a"), c("b"))
    assert known.reply_decoder("barrier", "act", "a") is known.reply_decoder("barrier", "act", "b")
    how_many, who = known.reply_decoder("ask", "ask", "q"), known.reply_decoder("ask", "ask", "w")
    assert how_many is not None
    assert who is not None
    assert (how_many(b"7"), who(b'"me"')) == (7, "me")


def test_replies_of_steps_of_every_shape_as_local_work_is_given_them() -> None:
    async def pay(_input: str, _one: str, _listed: list[str], _named: dict[str, str]) -> str:
        raise NotImplementedError

    def listed(_input: str) -> object:
        return [Barrier.act("0"), Barrier.act("1")]

    story = Story(c("gone", gives(None)), c("l", listed), c("m", many("x", "y")), p("pay", pay, reads="gone l m"))
    story.yes("l", item="0", reply=b'"0"').yes("l", item="1", reply=b'"1"')
    story.yes("m", item="x").yes("m", item="y")
    assert story.last_of(e.ActionRequested).requests[0].body == b'["x",null,["0","1"],{"x":"ok","y":"ok"}]'
    fresh = Story(c("a"), c("w", pay, reads="a"))
    assert fresh.definition.reply_value(fresh.record, "a") is None


def test_the_reply_of_what_a_person_skipped_is_none() -> None:
    async def pay(_input: str, _one: str | None, _named: dict[str, str]) -> str:
        raise NotImplementedError

    story = Story(c("a", policy=Policy(on_unknown="stuck")), c("m", many("x", "y")), p("pay", pay, reads="a m"))
    story.yes("m", item="x").yes("m", item="y").spends("a").skip("a")
    assert story.last_of(e.ActionRequested).requests[0].body == b'["x",null,{"x":"ok","y":"ok"}]'


def test_a_notice_may_call_what_no_builder_names() -> None:
    table = {"x": Plain.undo}

    def told(_input: str, _ended: object) -> object:
        return table["x"]("over")

    story = Story(c("a"), notice=told).yes("a")
    requested = story.last_of(e.NoticeRequested)
    assert (requested.participant, requested.operation) == ("plain", "undo")
    assert story.definition.operation("plain", "undo") is Plain.undo
    for wrong in (7, ask(str, "x", within=timedelta(1))):
        failed = Story(c("a"), notice=gives(wrong)).yes("a").last_of(e.NoticeFailed)
        assert failed.detail == f"the notice returned {type(wrong).__name__}, expected a Call or None"


def test_a_compensation_that_is_no_request_of_a_service() -> None:
    story = Story(c("a", undo=gives(ask(str, "x", within=timedelta(1)))), p()).yes("a").no("p")
    assert story.last_of(e.BuildFailed).error == "its compensation returned Call, expected a Call of barrier."


def test_a_question_in_a_step_that_changes_something() -> None:
    assert error_of(_looks) == "is compensable, but ask changes nothing. Make it a neutral step."

    def sleeps(_input: str) -> Call[None]:
        return sleep_until(datetime(2030, 1, 1, tzinfo=UTC))

    assert error_of(sleeps) == "is compensable, but sleep changes nothing. Make it a neutral step."
    request = Story(n("z", sleeps)).last_of(e.ActionRequested).requests[0]
    assert (request.due_at, request.body) == (1_893_456_000_000_000, b"null")
    with pytest.raises(ValueError, match="needs a moment with a time zone"):
        sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001 - that is the mistake


def test_a_reason_in_a_compensation_stands_as_it_was_written() -> None:
    story = Story(c("a"), p()).yes("a").no("p", code="für-später")
    assert "für-später".encode() in story.last_of(e.CompensationRequested).body


def test_a_call_is_named_apart_where_one_got_lost_among_many() -> None:
    def builds(_input: str) -> object:
        Barrier.act("first")
        Barrier.act("second")
        return {"x": Barrier.act("third")}

    assert error_of(builds).startswith("built 3 calls for 1 names, so a call got lost: Ask(what='first').")


def test_a_question_that_got_lost_is_told_as_it_was_asked() -> None:
    def builds(_input: str) -> object:
        ask(str, "first?", within=timedelta(hours=1))
        ask(str, "second?", within=timedelta(hours=1))
        return {"x": Barrier.act("third")}

    assert "so a call got lost: Question(reply_type=<class 'str'>, question='first?'" in error_of(builds)


@dataclass
class Parcel:
    größe: int  # noqa: PLC2401 - that such a name stays readable is what is tested


def test_names_in_a_graph_stand_as_they_were_written() -> None:
    saga = Saga("s", Parcel)
    saga.compensable()(gives(None))
    assert "größe".encode() in Definition(saga, CODEC).graph()


def test_where_a_participant_is_and_how_it_is_called() -> None:
    route = Plain.at("http://h", headers={"a": "b"})
    assert (route.participant, route.where, route.headers, route.at_once) == ("plain", "http://h", {"a": "b"}, 64)
    assert route.circuit == CircuitLimits()
    assert Plain.at("x", circuit=CircuitLimits(3)).circuit == CircuitLimits(3)


def test_a_blocking_function_is_what_it_was_but_awaited() -> None:
    def pay(order: str) -> str:
        """Pays."""
        return f"paid {order}"

    marked: Any = blocking(pay)
    assert marked.__doc__ == "Pays."
    assert marked.work is pay
    with pytest.raises(StopIteration) as done:
        marked("x").send(None)
    assert done.value.value == "paid x"


def test_a_participant_may_be_made_of_another() -> None:
    class Counted:
        made: ClassVar[list[str]] = []

        def __init_subclass__(cls) -> None:
            Counted.made.append(cls.__name__)

    class Odd(Participant, Counted):
        pass

    assert Counted.made == ["Odd"]
    assert name_of(Odd) == "odd"
