"""A saga, loaded: what its digest covers, what builders may give, and what is told where they don't."""

from collections.abc import Callable
from typing import Any

import pytest

from amends.core import events as e
from amends.core.decider import BuilderFailed
from amends.core.errors import Rejected
from amends.core.limits import REQUEST_BYTES_MAX
from amends.core.operation import Call, Operation, Participant, name_of, operation, operations_of
from amends.core.retry import Policy
from tests.support.stories import Ask, Barrier, Plain, Spec, Story, c, definition_of, gives, many, n, p, r


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
