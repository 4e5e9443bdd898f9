"""The last value that is allowed and the first that isn't; what errors and small values carry with them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, wraps
from types import ModuleType
from typing import Annotated, Any

import pytest

from amends.codecs.json import JsonCodec
from amends.core.run import answers
from amends.core.run.answers import (
    NULL,
    AnswerRule,
    CallResponse,
    Cause,
    Halt,
    Outcome,
    Pending,
    SaidNo,
    Succeeded,
    Unknown,
    read_answer,
    retry_after,
)
from amends.core.run.owed import deadline_of
from amends.core.run.record import TurnedBack, _copier  # pyright: ignore[reportPrivateUsage] - made once, at import
from amends.core.saga.check import check_sagas
from amends.core.saga.functions import hints, is_local, may_skip, return_type, typed_reply
from amends.core.saga.operation import Call, CircuitLimits, Operation, Participant, Rest, Undo, ask, operation, sleep
from amends.core.saga.saga import Saga
from amends.core.saga.signatures import operations_in
from amends.core.saga.steps import where_is
from amends.core.words.errors import (
    AmendsError,
    CannotCompensate,
    DefinitionInvalid,
    InputInvalid,
    Overloaded,
    PastPivot,
    Refused,
    Rejected,
)
from amends.core.words.keys import BadKey, Phase, encode_item, make_key, parse_key
from amends.core.words.limits import DETAIL_CHARACTERS_MAX, REPLY_BYTES_MAX
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import MICROSECONDS, Guard, Kind, Patience, Policy, Retry, delay
from amends.core.words.values import value
from tests.support import stories
from tests.support.stories import Ask, Asked, Barrier, Once, Plain, Story, c, gives, p, saga_of

# -- answers


def read(came: CallResponse, phase: Phase = Phase.ACTION, **more: Any) -> Outcome:  # noqa: ANN401 - as `read_answer`
    asked: dict[str, Any] = {"retriable": False, "decode": None, "now": 0, **more}
    return read_answer(came, phase=phase, **asked)


def answer(status: int, body: bytes = b"", **headers: str) -> CallResponse:
    return CallResponse(status, {name.replace("_", "-"): each for name, each in headers.items()}, body)


def test_a_table_of_an_apis_own_is_asked_also_where_the_answer_is_a_plain_yes() -> None:
    busy = (AnswerRule("rest", lambda _: True, answers.every(answers.again(Cause.BUSY))),)
    yes = answer(200, b"1", saga_outcome="succeeded")
    assert read(yes, decode=JsonCodec().decoder(int)) == Succeeded(b"1")
    assert isinstance(read(yes, decode=JsonCodec().decoder(int), table=busy), Unknown)


def test_a_reply_at_the_limit_is_whole_by_an_apis_own_table_too() -> None:
    table = (AnswerRule("rest", lambda _: True, answers.every(answers.succeeded)),)
    decode = JsonCodec().decoder(str)
    body = b'"' + b"x" * (REPLY_BYTES_MAX - 2) + b'"'
    assert read(answer(200, body), decode=decode, table=table) == Succeeded(body)
    assert isinstance(read(answer(200, body + b" "), decode=decode, table=table), Unknown)


def test_a_table_of_an_apis_own_is_made_of_the_same_verdicts() -> None:
    halts = (StuckReason.PROTOCOL, StuckReason.BLOCKED, StuckReason.SPENT, StuckReason.SEALING)
    table = (
        AnswerRule("gone", answers.status(404, 410), answers.every(answers.undone("noop"))),
        AnswerRule("known", answers.problem("no-stock"), answers.every(answers.said_no("rejected", "none left"))),
        AnswerRule("by word", answers.word("succeeded"), answers.every(answers.succeeded)),
        AnswerRule("mixed", answers.status(202), answers.phases(*map(answers.halt, halts, "acps"))),
        AnswerRule("rest", lambda _: True, answers.every(answers.again(Cause.BUSY, ", busy", counted=False))),
    )
    for phase, reason in zip(Phase, halts, strict=True):
        assert read(answer(410), phase, table=table) == Succeeded(NULL, "noop")
        assert read(answer(409, b'{"type":"urn:x:no-stock"}'), phase, table=table) == SaidNo("no-stock", "none left")
        assert read(answer(200, saga_outcome="succeeded"), phase, table=table) == Succeeded(NULL)
        assert read(answer(503), phase, table=table) == Unknown(Cause.BUSY, "503, busy", 0, counted=False)
        assert read(answer(202), phase, table=table) == Halt(reason, f"202: {phase.value[0]}")


def test_a_word_that_came_twice_is_no_word() -> None:
    twice = CallResponse(200, {"saga-outcome": "succeeded"}, b"", "", frozenset({"saga-outcome"}))
    assert read(twice) == Unknown(Cause.PROTOCOL, "200 with Saga-Outcome more than once")
    other = CallResponse(200, {"saga-outcome": "done"}, b"")
    assert read(other) == Unknown(Cause.PROTOCOL, "200 with Saga-Outcome 'done', no word of the contract")
    assert read(CallResponse(200, {"saga-outcome": "pending"}, b"")) == Pending()


@pytest.mark.parametrize("status", [400, 401])
def test_an_error_begins_at_400(status: int) -> None:
    said = read(answer(status, b'{"type":"key-reused","detail":"other bytes"}', saga_outcome="rejected"))
    assert said == Halt(StuckReason.KEY_REUSED, "other bytes", "key-reused")
    reply = read(answer(399, b'{"type":"key-reused"}', saga_outcome="rejected"))
    assert isinstance(reply, Unknown)


def test_a_reply_may_be_as_large_as_its_limit() -> None:
    decode = JsonCodec().decoder(str)
    largest = b'"' + b"x" * (REPLY_BYTES_MAX - 2) + b'"'
    assert read(answer(200, largest, saga_outcome="succeeded"), decode=decode) == Succeeded(largest)
    larger = read(answer(200, largest + b" ", saga_outcome="succeeded"), decode=decode)
    assert larger == Unknown(Cause.UNREADABLE, f"200: the reply can't be read: larger than {REPLY_BYTES_MAX} bytes")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "03599"}, 3_599),
        ({"retry-after": "000007"}, 3_600),  # as long as it is, it isn't read as a number
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 50),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT", "date": "Thu, 01 Jan 1970 00:00:57 GMT"}, 3),
    ],
)
def test_how_long_a_participant_asks_to_wait(headers: dict[str, str], seconds: int) -> None:
    assert retry_after(headers, 10 * MICROSECONDS) == seconds * MICROSECONDS


@pytest.mark.parametrize(
    ("type_", "code"),
    [
        ("urn:amends:no-stock", "no-stock"),
        ("https://x/no-stock/", "no-stock"),
        ("about:blank", None),
        ("x/sold~", "sold~"),
    ],
)
def test_a_problems_type_is_its_code_where_it_has_none(type_: str, code: str | None) -> None:
    body = f'{{"type":"{type_}"}}'.encode()
    assert read(answer(409, body, saga_outcome="rejected")) == SaidNo(code, "409")


def test_a_text_is_told_as_long_as_it_fits() -> None:
    def told(length: int) -> str:
        said = read(answer(409, f'{{"detail":"{"x" * length}"}}'.encode(), saga_outcome="rejected"))
        assert isinstance(said, SaidNo)
        return said.detail

    assert told(DETAIL_CHARACTERS_MAX) == "x" * DETAIL_CHARACTERS_MAX
    assert told(DETAIL_CHARACTERS_MAX + 1) == "x" * (DETAIL_CHARACTERS_MAX - 1) + "…"


# -- mistakes in definitions


def test_as_many_steps_and_as_many_reads_as_are_allowed() -> None:
    assert saga_of([c(f"s{number}") for number in range(100)]).check() == []
    names = [f"s{number}" for number in range(6)]
    assert saga_of([*(c(name) for name in names), p("p", reads=" ".join(names))]).check() == []


def test_mistakes_of_several_sagas_are_told_together() -> None:
    found = check_sagas([saga_of([], name="one"), saga_of([], name="two")])
    assert [each.partition(" ")[0] for each in found] == ["one", "two"]


def test_one_notice_is_none_too_many_and_of_two_the_places_are_told() -> None:
    saga = saga_of([c("a")], notice=gives(None))
    assert saga.check() == []
    saga.notices.append(gives(None))
    place = re.escape(where_is(saga.notices[0]))
    assert re.search(rf"\({place} and {place}\)", saga.check()[0])


SMALLEST = timedelta(microseconds=1)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(timeout=SMALLEST),
        Policy(retry=Retry(attempts_max=1)),
        Policy(retry=Retry(first=SMALLEST, cap=SMALLEST)),
        Policy(retry=Retry(give_up_after=SMALLEST)),
        Policy(on_unknown="compensate"),
        Policy(on_unknown="settle"),
        Policy(on_unknown="stuck"),
    ],
)
def test_the_smallest_numbers_that_a_policy_may_have(policy: Policy) -> None:
    assert saga_of([c("a", policy=policy)]).check() == []


@pytest.mark.parametrize(
    "policy",
    [
        Policy(timeout=-SMALLEST),
        Policy(retry=Retry(give_up_after=-SMALLEST)),
        Policy(retry=Retry(None, first=-SMALLEST)),
    ],
)
def test_a_policy_has_no_times_below_zero(policy: Policy) -> None:
    assert len(saga_of([c("a", policy=policy)]).check()) == 1


def test_a_guard_that_a_policy_needs_is_asked_of_every_operation() -> None:
    def either(which: str) -> object:
        return Barrier.act("x") if which else Once.act("x")

    found = saga_of([c("a", either, policy=Policy(on_unknown="settle"))]).check()
    assert any('on_unknown="settle", but Once.act has no probe to settle by' in each for each in found)

    def asked(which: str) -> object:
        return Barrier.act("x") if which else Asked.act("x")

    found = saga_of([c("a", asked, policy=Policy(on_unknown="settle"))]).check()
    assert not any("on_unknown" in each for each in found)

    def unguarded(which: str) -> object:
        return Asked.act("x") if which else Once.act("x")

    found = saga_of([c("a", unguarded, policy=Policy(on_unknown="compensate"))]).check()
    assert any("and Asked.act, Once.act has none" in each for each in found)


# -- what a definition is made of


def test_a_step_and_a_saga_say_what_they_are() -> None:
    saga = Saga("s", str, version=3)

    @saga.compensable()
    def a(_input: str) -> Call[str]:
        return Barrier.act("x")

    @a.compensation
    def undo_a(_input: str, _reply: str | None) -> Call[None]:
        return Barrier.undo("x")

    @saga.notice
    def told(_input: str, _ended: object) -> None:
        return None

    assert repr(saga) == "<saga s v3>"
    assert repr(a) == "<compensable step a>"
    assert a.undo is undo_a
    assert saga.notices == [told]
    assert callable(undo_a)
    assert re.fullmatch(r".*test_edges\.py:\d+", a.where)
    assert where_is(len) == "<built-in function len>"


def direct(_input: str) -> object:
    return Barrier.act("x")


def test_an_operation_is_found_behind_a_wrapper_and_in_a_modules_participants() -> None:
    def decorated(build: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(build)
        def wrapper(*args: object) -> object:
            return build(*args)

        return wrapper

    @decorated
    def build(_input: str) -> object:
        return Barrier.act("x")

    assert operations_in(build) == (Barrier.act,)
    assert operations_in(lru_cache(direct)) == (Barrier.act,)
    package = ModuleType("package")
    package.__dict__.update(inner=stories, act=Barrier.act, Shop=Plain)
    made: dict[str, Any] = {"package": package}
    exec("def build(): package.act('x'); package.Shop.undo('x'); package.inner.Once.act('y')", made)  # noqa: S102 - a fixed text
    # Whatever is named is taken, of whichever participant. Nobody writes a module in a module: it isn't looked into.
    assert set(operations_in(made["build"])) == {Barrier.act, Plain.act, Plain.undo}


class Works:
    async def __call__(self, _input: str) -> str:
        return "done"


def test_what_a_function_says_of_itself() -> None:
    def perhaps() -> Call[str] | None: ...
    def never() -> None: ...

    def either() -> Call[str] | int:
        return 1

    def plain() -> int:
        return 1

    def unknown() -> object: ...

    def noted() -> Annotated[str, "secret"]:
        return ""

    unknown.__annotations__["return"] = "Nowhere"
    assert [may_skip(each) for each in (perhaps, never, either, plain)] == [True, False, False, False]
    assert typed_reply(perhaps) is str
    assert typed_reply(plain) is Any
    assert hints(unknown) == {}
    assert return_type(unknown) is Any
    assert return_type(noted) == Annotated[str, "secret"]
    assert is_local(Works())
    assert not is_local(plain)


# -- errors


def test_what_errors_carry() -> None:
    for kind in (Rejected, CannotCompensate):
        said = kind("none left", code="no-stock")
        assert (str(said), said.detail, said.code) == ("none left", "none left", "no-stock")
        assert not isinstance(said, AmendsError)
    assert str(DefinitionInvalid(["one", "two"])) == "one\ntwo"
    wrong = InputInvalid("no number", path="$.size")
    assert (str(wrong), wrong.detail, wrong.path, InputInvalid("x").path) == ("no number", "no number", "$.size", "$")
    full = Overloaded("full", retry_after=timedelta(seconds=3))
    assert (str(full), full.retry_after) == ("full", timedelta(seconds=3))
    no = Refused("ended", "it is over", status=410)
    assert (str(no), no.problem, no.detail, no.status, Refused("a", "b").status) == (
        "it is over",
        "ended",
        "it is over",
        410,
        409,
    )
    past = PastPivot("only forward")
    assert (past.problem, past.detail, past.status) == ("past-pivot", "only forward", 409)


# -- keys, delays, values


def test_how_keys_are_written() -> None:
    assert make_key("run-1", "a", "", Phase.ACTION) == "run-1:a:action"
    assert make_key("run-1", "a", "sku%201", Phase.SEAL) == "run-1:a/sku%201:seal"
    assert encode_item("a~b") == "a~b"
    assert parse_key("r:a/x~y:probe").item == "x~y"
    with pytest.raises(BadKey, match="is no step"):
        parse_key("r:a/x%7Ey:probe")


@pytest.mark.parametrize(
    ("sends", "waited"), [(1, 791_633), (2, 1_805_765), (7, 34_015_539), (63, 35_813_232), (10_000, 39_971_466)]
)
def test_delays_are_the_same_for_ever(sends: int, waited: int) -> None:
    """A function of key and count: whoever adopts a run waits for the same moment."""
    patience = Patience(None, 0, MICROSECONDS, 60 * MICROSECONDS)
    assert delay(patience, "run-1:a:action", sends) == waited


def test_a_value_compares_and_hashes_by_its_fields_and_has_no_others() -> None:
    @value
    class Pair:
        left: int
        right: int = 0

    assert Pair(1) == Pair(1, 0)
    assert hash(Pair(1)) == hash(Pair(1, 0))
    assert len({Pair(1), Pair(1), Pair(2)}) == 2
    assert not hasattr(Pair(1), "__dict__")


# -- operations


@dataclass
class Room:
    number: int


class OldHotel(Participant):
    book = operation(Room, str, compensation="cancel")
    cancel = operation(Room, name="call-off")


class Grand(OldHotel, name="grand"):
    book = operation(Room, str)


def test_what_participants_and_operations_are_called() -> None:
    assert (Grand.book.participant, Grand.book.owner, Grand.book.label) == ("grand", "Grand", "Grand.book")
    assert Grand.book.name == "book"
    assert OldHotel.cancel.name == "call-off"
    assert repr(Grand.book) == "<operation grand.book>"
    call = Grand.book(number=7)
    assert (call.operation, repr(call)) == ("grand.book", "<Call grand.book>")
    assert ask(str, "who?", within=SMALLEST).operation == "ask"
    assert sleep(SMALLEST).operation == "sleep"


@pytest.mark.parametrize(
    ("rest", "guard"),
    [
        (Rest("GET /x"), Guard.IDEMPOTENT),
        (Rest("put /x"), Guard.IDEMPOTENT),
        (Rest("DELETE /x"), Guard.IDEMPOTENT),
        (Rest("POST /x"), Guard.ONCE),
        (Rest("PATCH /x"), Guard.ONCE),
        (Rest("POST /x", key_header="Key"), Guard.IDEMPOTENT),
        (Rest("POST /x", resend="always"), Guard.IDEMPOTENT),
        (Rest("POST /x", resend="with-key"), Guard.IDEMPOTENT),
        (Rest("PUT /x", resend="never"), Guard.ONCE),
        (Rest("PUT /x", key_header="Key", resend="never"), Guard.ONCE),
    ],
)
def test_what_may_be_assumed_of_repeats_of_a_request(rest: Rest, guard: Guard) -> None:
    assert rest.guard is guard
    made: Operation[..., Any, Any] = operation(Ask, str, rest=rest)
    assert made.guard is guard


def test_what_is_said_of_an_operation_stays_with_it() -> None:
    probe = Rest("GET /x")
    made: Operation[..., Any, Any] = operation(Ask, str, compensation="undo", probe=probe, late_after=SMALLEST)
    assert (made.compensation, made.probe, made.late_after, made.rest) == ("undo", probe, SMALLEST, None)

    class Inn(Participant):
        book = operation(Ask, str)

    assert (Inn.book.owner, Inn.book.label) == ("Inn", "Inn.book")


def test_what_a_compensation_is_told() -> None:
    lost: Undo[str, str] = Undo("x", None, reply_known=False, reason="r")
    assert Undo("x", "y", reply_known=True, reason="r").made == "y"
    with pytest.raises(LookupError, match="not known"):
        assert lost.made


@pytest.mark.parametrize(
    "limits", [{"failures": 0}, {"within": timedelta()}, {"probe_every": timedelta()}, {"within": -SMALLEST}]
)
def test_limits_that_are_none(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected at least one failure"):
        CircuitLimits(**limits)
    assert CircuitLimits(1, SMALLEST, SMALLEST).failures == 1


def test_a_kind_is_its_word() -> None:
    assert {Kind.PIVOT: 1}["pivot"] == 1  # type: ignore[index]


# -- records


def test_a_record_is_copied_field_by_field() -> None:
    turned = TurnedBack("a", None, "because", 7)
    copied = _copier(TurnedBack)(object.__new__(TurnedBackCopy), turned)
    assert (copied.step, copied.code, copied.reason, copied.at) == ("a", None, "because", 7)


class TurnedBackCopy:
    step: str
    code: str | None
    reason: str
    at: int


def test_a_deadline_is_told_as_a_moment() -> None:
    record = Story(c("a"), deadline=90).record
    assert deadline_of(record) == datetime.fromtimestamp(1_700_000_090, tz=UTC)
    assert deadline_of(Story(c("a")).record) is None
