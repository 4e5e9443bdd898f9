"""A saga, loaded: what its digest covers, what builders may give, and what is told where they don't."""

# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from amends.core.run import events as e
from amends.core.run.decide import BuilderFailed
from amends.core.run.definition import Built, define
from amends.core.saga.functions import hints
from amends.core.saga.operation import (
    Call,
    CircuitLimits,
    Operation,
    Participant,
    Rest,
    Undo,
    ask,
    blocking,
    name_of,
    operation,
    operations_of,
    sleep,
    sleep_until,
)
from amends.core.saga.saga import Saga
from amends.core.words.errors import DefinitionInvalid, NoSuchReply, Rejected
from amends.core.words.limits import REQUEST_BYTES_MAX
from amends.core.words.retry import Policy
from tests.support.stories import (
    CODEC,
    Ask,
    Barrier,
    Plain,
    Spec,
    Story,
    c,
    definition_of,
    error_of,
    gives,
    many,
    n,
    p,
    r,
    saga_of,
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


# -- what a definition tells of itself


def test_the_graph_is_made_once_and_has_the_types_of_work_done_here_and_of_questions() -> None:
    async def works(_order: str, _a: int) -> int:
        return 1

    def asks(_order: str) -> object:
        return ask(str, "may we?", within=timedelta(hours=1))

    definition = definition_of(c("a", works), n("q", asks), n("quiet", lambda _input: sleep(timedelta(1)), after="q"))
    graph = definition.graph()
    assert graph is definition.graph()
    steps = {step["name"]: step["schemas"] for step in json.loads(graph)["steps"]}
    assert steps["a"]["local"]["reply"] == {"type": "integer"}
    assert steps["q"]["ask"]["request"] == {"type": "string"}
    assert definition.steps["a"].argument_types == (str,)
    assert definition.steps["a"].undo_input_type is str


def test_an_undo_done_here_takes_the_runs_input_in_its_own_type() -> None:
    async def undoes(_order: int, _reply: str | None) -> None:
        return

    assert definition_of(c("a", undo=undoes)).steps["a"].undo_input_type is int


def test_a_participants_class_is_known_by_its_name() -> None:
    definition = definition_of(c("a"))
    assert definition.owner_of("barrier") == "Barrier"
    assert definition.owner_of("nobody") == "nobody"


def test_replies_are_read_by_what_the_step_declares() -> None:
    story = Story(c("a"), n("s", lambda _input: sleep(timedelta(1)), after="a"), c("later", after="s"))
    story.yes("a")
    definition = story.definition
    assert definition.reply_decoder("sleep", "sleep", "s") is None
    assert definition.reply_value(story.record, "a") == "ok"
    assert definition.reply_value(story.record, "later") is None
    with pytest.raises(NoSuchReply, match="run-1 is s v1, which has no step nowhere"):
        definition.reply_value(story.record, "nowhere")
    unknown = definition.reply_decoder("gone", "act", "nowhere")
    assert unknown is not None
    assert unknown(b"[1]") == [1]


def test_work_done_here_reads_what_was_skipped_and_what_made_many_calls() -> None:
    async def works(_order: str, _skipped: object, _list: object, _dict: object) -> None:
        return

    story = Story(
        c("none", gives(None)),
        c("list", gives([Barrier.act("x"), Barrier.act("y")])),
        c("dict", many("x", "é")),
        c("w", works, reads="none list dict"),
    )
    story.yes("list", item="0", reply=b'"0"').yes("list", item="1", reply=b'"1"')
    story.yes("dict", item="x", reply=b"1").yes("dict", item="%C3%A9", reply=b"2")
    item = story.record.item("w", "")
    assert item is not None
    assert item.request is not None
    assert json.loads(item.request.body) == ["x", None, ["0", "1"], {"x": 1, "é": 2}]


def test_work_done_here_of_a_step_that_was_left_out_reads_nothing() -> None:
    async def works(_order: str, _left_out: object) -> None:
        return

    story = Story(c("a", policy=Policy(on_unknown="stuck")), c("w", works, reads="a")).spends("a")
    assert story.definition.steps["w"].optional_reads == set()
    story.record.steps.pop("a")
    built = story.definition.steps["w"].build(story.definition, story.record)
    assert isinstance(built, Built)
    assert json.loads(built.requests[0].body) == ["x", None]


def test_a_mistake_in_a_saga_is_told_before_it_is_loaded() -> None:
    saga = saga_of([c("a")])
    assert define(saga, CODEC).saga == "s"
    assert repr(saga) == "<saga s v1>"
    step = saga.steps[0]
    assert repr(step) == "<compensable step a>"
    assert "tests/support/stories.py:" in step.where
    with pytest.raises(TypeError, match=r"a is a step; its reply is read by .* outcome.reply\(a\)"):
        step._reply()

    @saga.notice
    def tell(_input: str, _ended: object) -> Call[None] | None:
        return None

    assert saga.notices == [tell]
    with pytest.raises(DefinitionInvalid):
        define(saga_of([p("a"), p("b")]), CODEC)


def test_an_undo_is_written_beside_its_step() -> None:
    saga = Saga("s", str)

    @saga.compensable()
    def a(_input: str) -> Call[str]:
        return Barrier.act("x")

    @a.compensation
    def undo_a(_input: str, _reply: str | None) -> Call[None]:
        return Barrier.undo("x")

    assert a.undo is undo_a


def test_an_annotation_that_can_not_be_resolved_says_nothing() -> None:
    def builds(_input: "NoSuchName") -> object:  # type: ignore[name-defined] # noqa: F821 - on purpose
        return Barrier.act("x")

    assert definition_of(c("a", builds)).steps["a"].optional_reads == set()
    assert hints(builds) == {}


# -- operations


def test_a_call_says_what_it_calls_and_has_no_reply() -> None:
    waits = sleep_until(datetime(2030, 1, 1, tzinfo=UTC))
    question = ask(str, "may we?", within=timedelta(hours=1))
    assert [repr(each) for each in (Barrier.act("x"), question, waits)] == [
        "<Call barrier.act>",
        "<Call ask>",
        "<Call sleep>",
    ]
    with pytest.raises(TypeError, match="a call is a request; it has no reply"):
        waits._reply()
    with pytest.raises(ValueError, match="needs a moment with a time zone"):
        sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001 - the mistake


def test_the_reply_that_an_undo_needs_is_there_or_missed_by_name() -> None:
    assert Undo("x", "made", reply_known=True, reason="").made == "made"
    lost: Undo[str, str] = Undo("x", None, reply_known=False, reason="")
    with pytest.raises(LookupError, match="the reply of the action is not known"):
        assert lost.made


@pytest.mark.parametrize(
    ("rest", "guard"),
    [
        (Rest("POST /a"), "once"),
        (Rest("PATCH /a"), "once"),
        (Rest("put /a"), "idempotent"),
        (Rest("DELETE /a"), "idempotent"),
        (Rest("POST /a", key_header="key"), "idempotent"),
        (Rest("POST /a", resend="always"), "idempotent"),
        (Rest("PUT /a", resend="never"), "once"),
    ],
)
def test_what_may_be_assumed_of_repeats_follows_from_the_request(rest: Rest, guard: str) -> None:
    assert rest.guard == guard


@pytest.mark.parametrize(
    "wrong", [{"failures": 0}, {"within": timedelta()}, {"probe_every": timedelta()}, {"within": timedelta(-1)}]
)
def test_limits_of_a_circuit_that_can_not_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected at least one failure, and times above zero"):
        CircuitLimits(**wrong)
    assert CircuitLimits(failures=1).failures == 1


async def test_blocking_work_can_be_called_like_any_other() -> None:
    @blocking
    def works(left: int, *, right: int) -> int:
        return left + right

    assert await works(1, right=2) == 3
