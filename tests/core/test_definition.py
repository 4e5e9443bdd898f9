"""A saga, loaded: what its digest covers, what builders may give, and what is told where they don't."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from amends.core import events as e
from amends.core.decider import BuilderFailed
from amends.core.definition import Definition
from amends.core.errors import Rejected
from amends.core.limits import REQUEST_BYTES_MAX
from amends.core.operation import (
    CALLS_BUILT,
    Call,
    CircuitLimits,
    Operation,
    Participant,
    ask,
    blocking,
    name_of,
    operation,
    operations_of,
    sleep_until,
)
from amends.core.retry import Policy
from amends.core.saga import Saga
from tests.support.stories import (
    CODEC,
    Ask,
    Barrier,
    Plain,
    Spec,
    Story,
    c,
    definition_of,
    gives,
    many,
    n,
    p,
    r,
)


def digest(*specs: Spec) -> str:
    return definition_of(*specs).digest


BASE = (c("a"), p("p", reads="a"), r("r"))


def test_the_digest_of_a_definition_is_the_same_in_every_process() -> None:
    # Written down: runs in a log are matched by it for as long as they live.
    assert digest(*BASE) == "7070d0582d6dd87c9ee2f296016b7ade3cf14a0a7e3a7314d5190290c5016d8b"


def test_policies_and_code_are_no_part_of_the_digest() -> None:
    assert digest(*BASE) == digest(c("a", policy=Policy(on_unknown="stuck")), *BASE[1:])

    def longer(_input: str) -> object:
        assert _input
        return Barrier.act("something else")

    assert digest(*BASE) == digest(c("a", longer), *BASE[1:])


@pytest.mark.parametrize(
    "changed",
    [
        (c("b"), p("p", reads="b"), r("r")),
        (c("a"), p("p", after="a"), r("r")),
        (c("a"), p("p", reads="a"), n("r")),
        (c("a"), p("p", reads="a"), r("r", after="p")),
        (c("a", Plain.act), p("p", reads="a"), r("r")),
        (c("a"), p("p", reads="a"), r("r", Barrier.act)),
        (c("a"), p("p", reads="a")),
        (c("a", undo=gives(Barrier.bare("x"))), p("p", reads="a"), r("r")),
    ],
)
def test_whatever_a_run_depends_on_is_part_of_the_digest(changed: tuple[Spec, ...]) -> None:
    assert digest(*changed) != digest(*BASE)


def test_the_graph_in_the_log_tells_kinds_edges_and_schemas() -> None:
    graph = definition_of(*BASE).graph()
    assert b'"name":"a"' in graph
    assert b'"barrier.act":{"reply":{' in graph
    assert b"/tests/" not in graph  # a file's name, not its place on somebody's machine


def test_participants_are_known_before_anything_runs() -> None:
    assert definition_of(c("a"), p("p", Plain.act)).participants == ("barrier", "plain")


# -- what a builder may not give


def error_of(build: Callable[..., Any], kind: str = "compensable") -> str:
    make = {"compensable": c, "pivot": p}[kind]
    error: str = Story(c("z"), make("hotel", build, after="z")).yes("z").last_of(e.BuildFailed).error
    return error


def test_work_in_a_plain_def() -> None:
    assert error_of(gives("room 7")) == (
        "returned a str, expected a Call. A plain def only builds the request. To do the work here write async def, "
        "or put "
        "@blocking under the decorator."
    )
    assert error_of(gives(4)).startswith("returned an int, expected a Call.")
    with pytest.raises(BuilderFailed, match=r"s v1, step hotel returned a str, expected a Call\."):
        Story(c("hotel", gives("room 7")))


def test_an_async_client_call_in_a_builder() -> None:
    async def client() -> str:
        return "sent"

    def builds(_input: str) -> object:
        return client()

    assert error_of(builds) == "the builder is an async client call. Builders must not wait."


def test_a_name_twice_in_a_step_of_many() -> None:
    def lines(_input: str) -> object:
        return {sku: Barrier.act(f"{sku}, line {number}") for number, sku in enumerate(["sku-1", "sku-2", "sku-1"])}

    told = error_of(lines)
    assert told.startswith("built 3 calls for 2 names, so a call got lost: Ask(what='sku-1, line 0')")
    assert told.endswith("Merge them, or give each a name of its own.")


def test_names_and_values_of_a_step_of_many() -> None:
    assert "'' is no name" in error_of(gives({"": None}))
    assert "1 is no name" in error_of(gives({1: None}))
    assert error_of(gives({"x": "room"})) == "gave str for 'x', expected a Call."
    assert error_of(many(*(str(each) for each in range(1_001)))) == "built 1001 calls; a step makes 1000 at the most."
    assert "a pivot decides once" in error_of(many("x"), "pivot")


def test_a_bug_is_told_with_its_place() -> None:
    told = error_of(gives(KeyError("zip")))
    assert told.startswith("the builder raised KeyError: 'zip' (")
    assert told.endswith(")")


def test_a_request_larger_than_may_be_stored() -> None:
    assert error_of(gives(Barrier.act("x" * REQUEST_BYTES_MAX))).endswith(f"; the limit is {REQUEST_BYTES_MAX}.")


def test_a_call_that_nothing_undoes_is_found_when_it_is_built() -> None:
    table = {"x": Barrier.bare}  # no look at the code can tell what is taken from a table

    def picks(_input: str) -> object:
        return table["x"]("x")

    assert error_of(picks) == "is compensable, but Barrier.bare has no compensation. Nothing was sent."


@pytest.mark.parametrize(
    ("undo", "told"),
    [
        (gives("undone"), "its compensation returned str, expected a Call of barrier."),
        (
            gives(Plain.undo("x")),
            "its compensation calls plain, but barrier acted: elsewhere there is nothing to undo.",
        ),
        (gives(KeyError("room")), "the compensation raised KeyError: 'room' ("),
    ],
)
def test_a_compensation_that_cant_be_sent_stops_for_a_person(undo: Callable[..., object], told: str) -> None:
    story = Story(c("a", undo=undo), p()).yes("a").no("p").then(marks="a:compensation:author-error")
    assert story.last_of(e.BuildFailed).error.startswith(told)


def test_an_override_replaces_path_and_request_and_nothing_else() -> None:
    def undo(order: str, reply: str | None) -> Call[str]:
        return Barrier.bare(f"{order} {reply}")

    story = Story(c("a", undo=undo), p()).yes("a").no("p")
    requested = story.last_of(e.CompensationRequested)
    assert (requested.participant, requested.operation) == ("barrier", "bare")
    assert requested.body == (
        b'{"request":{"what":"x ok"},"reply":"ok","reply_known":true,"reason":"p said no: no-stock"}'
    )


def test_a_local_step_is_a_call_of_its_arguments() -> None:
    async def pay(_input: str, _first: str, _many: dict[str, str]) -> str:
        raise Rejected("not run by the core")

    story = Story(c("a"), c("m", many("x", "y")), p("pay", pay, reads="a m"))
    story.yes("a").yes("m", item="x", reply=b'"1"').yes("m", item="y", reply=b'"2"')
    request = story.last_of(e.ActionRequested).requests[0]
    assert (request.participant, request.operation, request.guard.value) == ("local", "pay", "idempotent")
    assert request.body == b'["x","ok",{"x":"1","y":"2"}]'


# -- participants


def test_a_participants_name_is_its_classes_in_kebab_case() -> None:
    class OldHTTPHotel(Participant):
        book = operation(Ask, str, name="bookRoom")
        cancel = operation(Ask)

    class Other(Participant, name="h"):
        pass

    assert name_of(OldHTTPHotel) == "old-http-hotel"
    assert list(operations_of(OldHTTPHotel)) == ["bookRoom", "cancel"]
    assert (name_of(Other), operations_of(Other)) == ("h", {})
    call = OldHTTPHotel.book("x")
    assert (call.operation, repr(call)) == ("old-http-hotel.bookRoom", "<Call old-http-hotel.bookRoom>")
    assert repr(OldHTTPHotel.book) == "<operation old-http-hotel.bookRoom>"
    assert isinstance(OldHTTPHotel.book, Operation)
    route = OldHTTPHotel.at("http://h", at_once=3)
    assert (route.participant, route.at_once) == ("old-http-hotel", 3)


# -- as large as it may be, and not one more


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


# -- work in this process, and what is kept of a graph


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
    assert re.fullmatch(r"test_definition\.py:\d+", steps["q"]["where"])


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

    assert "so a call got lost: Asked(reply_type=<class 'str'>, question='first?'" in error_of(builds)


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
