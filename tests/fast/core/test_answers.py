"""The table of outcomes, row by row and phase by phase; and that no answer whatever is guessed to be a success."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amends.codecs.json import JsonCodec
from amends.core.run.answers import (
    CONTRACT,
    CallResponse,
    Came,
    Cause,
    CodeMismatch,
    Decoder,
    Halt,
    Lost,
    NotSent,
    Outcome,
    Pending,
    SaidNo,
    Succeeded,
    Unknown,
    read_answer,
)
from amends.core.words.keys import Phase
from amends.core.words.limits import DETAIL_CHARACTERS_MAX, REPLY_BYTES_MAX
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import MICROSECONDS

URL = "http://shipping:8003/schedule"


@dataclass
class Reply:
    id: str


DECODE = JsonCodec().decoder(Reply)
BODY = b'{"id":"r-1"}'
ACTION, COMPENSATION, PROBE, SEAL = Phase.ACTION, Phase.COMPENSATION, Phase.PROBE, Phase.SEAL


def read(
    came: Came,
    phase: Phase = ACTION,
    *,
    retriable: bool = False,
    decode: Decoder | None = DECODE,
    now: int = 0,
) -> Outcome:
    return read_answer(came, phase=phase, retriable=retriable, decode=decode, now=now)


def answer(
    status: int,
    word: str | None = None,
    body: bytes = b"",
    *,
    repeated: frozenset[str] = frozenset(),
    own: bool = False,
    **headers: str,
) -> CallResponse:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if word is not None:
        given["saga-outcome"] = word
    return CallResponse(status, given, body, URL, repeated, own)


def problem(name: str, **fields: object) -> bytes:
    return json.dumps({"type": name, **fields}).encode()


def short(outcome: Outcome) -> str:
    """An outcome as the table writes it."""
    match outcome:
        case Succeeded(word=word):
            return f"yes {word}"
        case SaidNo(word=word):
            return f"no {word}"
        case Pending():
            return "pending"
        case Unknown(cause=cause, counted=counted):
            return f"unknown {cause}" if counted else f"unknown {cause}, free"
        case Halt(reason=reason):
            return f"halt {reason}"


@dataclass(frozen=True)
class Case:
    row: str
    came: Came
    action: str
    compensation: str
    probe: str
    seal: str
    retriable: str = field(default="")

    def __str__(self) -> str:
        return self.row


def same(row: str, came: Came, outcome: str) -> Case:
    return Case(row, came, outcome, outcome, outcome, outcome, outcome)


TABLE = [
    same("1 not sent", NotSent("refused"), "unknown not-sent"),
    same("1 own code and the call don't fit", CodeMismatch("no such field"), "halt author-error"),
    same("own request", answer(400, None, problem("urn:amends:request-invalid"), own=True), "halt author-error"),
    same("own reply", answer(422, None, problem("urn:amends:reply-invalid"), own=True), "halt author-error"),
    Case(
        "own reply of another type",
        answer(200, "succeeded", b"7", own=True),
        "halt author-error",
        "yes succeeded",
        "halt author-error",
        "halt author-error",
    ),
    same("2 reset", Lost(Cause.LOST, "reset"), "unknown lost"),
    same("2 time-out", Lost(Cause.TIMED_OUT, "5 s"), "unknown timed-out"),
    same("2 status 99", answer(99, "succeeded", BODY), "unknown lost"),
    same("2 status 600", answer(600, "succeeded", BODY), "unknown lost"),
    same("3 only 103", answer(103), "unknown lost"),
    same("4 101", answer(101), "unknown misrouted"),
    same("4 199", answer(199, "succeeded"), "unknown misrouted"),
    same("4 302", answer(302, location="/login"), "unknown misrouted"),
    same("4 304 with a word", answer(304, "succeeded", BODY), "unknown misrouted"),
    same("5 500", answer(500), "unknown server-error"),
    same("5 503 with a word", answer(503, "succeeded", BODY), "unknown server-error"),
    same("5 500 with a problem", answer(500, None, problem("urn:amends:key-reused")), "unknown server-error"),
    same("6 in-progress", answer(409, None, problem("urn:amends:in-progress")), "unknown in-progress, free"),
    same(
        "6 by URL", answer(409, None, problem("https://x.example/problems/in-progress/")), "unknown in-progress, free"
    ),
    same("6 bare", answer(425, None, problem("in-progress")), "unknown in-progress, free"),
    same("7 key-reused", answer(422, None, problem("urn:amends:key-reused")), "halt key-reused"),
    same("8 barrier-expired", answer(409, None, problem("urn:amends:barrier-expired")), "halt barrier-expired"),
    same("9 stale-epoch", answer(412, None, problem("urn:amends:stale-epoch")), "halt stale-epoch"),
    same("9 stale-epoch, 409", answer(409, None, problem("stale-epoch")), "halt stale-epoch"),
    same("9 any 412", answer(412), "halt stale-epoch"),
    Case("10", answer(200, "succeeded", BODY), "yes succeeded", "yes succeeded", "yes succeeded", "yes succeeded"),
    Case("10, 201", answer(201, "succeeded", BODY), "yes succeeded", "yes succeeded", "yes succeeded", "yes succeeded"),
    Case(
        "10, rule B",
        answer(200, "succeeded", b'{"id":'),
        "unknown unreadable",
        "yes succeeded",
        "unknown unreadable",
        "unknown unreadable",
    ),
    Case("11", answer(409, "rejected"), "no rejected", "halt compensation-rejected", "no rejected", "no rejected"),
    Case("11, 200", answer(200, "rejected"), "no rejected", "halt compensation-rejected", "no rejected", "no rejected"),
    Case("11, 429", answer(429, "rejected"), "no rejected", "halt compensation-rejected", "no rejected", "no rejected"),
    same("12", answer(202, "pending"), "pending"),
    Case("13", answer(200, "noop"), "halt protocol", "yes noop", "unknown absent", "no noop"),
    Case("14", answer(410, "blocked"), "no blocked", "yes blocked", "no blocked", "no blocked", "halt blocked"),
    Case(
        "15",
        answer(409, "cannot-compensate"),
        "halt protocol",
        "halt cannot-compensate",
        "halt protocol",
        "halt protocol",
    ),
    same("16 another word", answer(200, "done", BODY), "unknown protocol"),
    same("16 empty", answer(200, "", BODY), "unknown protocol"),
    same("16 other case", answer(200, "Succeeded", BODY), "unknown protocol"),
    same("16 joined", answer(200, "succeeded, succeeded", BODY), "unknown protocol"),
    same("16 twice", answer(200, "succeeded", BODY, repeated=frozenset({"saga-outcome"})), "unknown protocol"),
    *(same(f"21 {code}", answer(code), "unknown busy") for code in (408, 425, 429)),
    *(
        same(f"bare {code}", answer(code, None, BODY), "unknown misrouted")
        for code in (200, 201, 202, 204, 206, 299, 400, 401, 402, 403, 404, 405, 407, 409, 410, 413, 415, 422, 451, 499)
    ),
    same("bare, another problem", answer(409, None, problem("urn:shop:out-of-stock")), "unknown misrouted"),
    same("bare, a reply of that type", answer(200, None, problem("in-progress")), "unknown misrouted"),
]


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_every_row_means_what_the_table_says_in_every_phase(case: Case) -> None:
    assert short(read(case.came, ACTION)) == case.action
    assert short(read(case.came, COMPENSATION)) == case.compensation
    assert short(read(case.came, PROBE)) == case.probe
    assert short(read(case.came, SEAL)) == case.seal
    assert short(read(case.came, ACTION, retriable=True)) == (case.retriable or case.action)


def test_every_row_of_the_table_is_met_by_a_case() -> None:
    from amends.core.run.answers import Seen  # noqa: PLC0415 - a part of the machinery, needed here only

    met: set[str] = set()
    for case in TABLE:
        if isinstance(case.came, CallResponse):
            seen = Seen(case.came, retriable=False, decode=None, now=0)
            met.add(next(row.name for row in CONTRACT if row.matches(seen)))
    assert met == {row.name for row in CONTRACT}


def test_a_reply_that_looks_like_a_problem_is_still_a_reply() -> None:
    body = problem("urn:amends:in-progress")
    decode = JsonCodec().decoder(dict[str, str])
    assert read(answer(200, "succeeded", body), decode=decode) == Succeeded(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "truncated"),
        (b"null", "object"),
        (b'{"id":1}', "`str`"),
        (b'{"id":1}', "$.id"),
        (b"[" * 100_000, "nested"),
        (b'{"id":"' + b"x" * REPLY_BYTES_MAX + b'"}', str(REPLY_BYTES_MAX)),
    ],
)
def test_a_reply_that_cannot_be_read_is_unknown_and_says_why(body: bytes, words: str) -> None:
    outcome = read(answer(200, "succeeded", body))
    assert isinstance(outcome, Unknown)
    assert outcome.cause is Cause.UNREADABLE
    assert words in outcome.detail
    assert f"200 from {URL}" in outcome.detail


@pytest.mark.parametrize("body", [b"", b"<html>", BODY, b"\xff"])
def test_an_operation_without_a_reply_never_looks_at_the_body(body: bytes) -> None:
    assert read(answer(200, "succeeded", body), decode=None) == Succeeded(b"null")


def test_a_reply_is_kept_as_it_will_be_read_back_from_a_log() -> None:
    assert read(answer(200, "succeeded", b"\r\n " + BODY + b"\n")) == Succeeded(BODY)


def test_a_seal_keeps_the_words_and_the_reply_it_found() -> None:
    assert read(answer(200, "succeeded", BODY), SEAL) == Succeeded(BODY)
    for status, word in ((200, "noop"), (410, "blocked")):
        outcome = read(answer(status, word), SEAL)
        assert isinstance(outcome, SaidNo)
        assert outcome.word == word


def test_a_probe_that_finds_nothing_settles_nothing() -> None:
    assert isinstance(read(answer(200, "noop"), PROBE), Unknown)


# -- texts


def test_a_wrong_address_reads_as_one() -> None:
    outcome = read(answer(404, None, b"<html>nothing here</html>"))
    assert outcome == Unknown(Cause.MISROUTED, f"404 from {URL}, without Saga-Outcome: not from the barrier")


def test_a_server_error_says_where_from_and_what_it_said() -> None:
    assert read(answer(503)) == Unknown(Cause.SERVER_ERROR, f"503 from {URL}")
    said = answer(500, None, problem("about:blank", title="Internal Server Error", detail="database is locked"))
    assert read(said) == Unknown(Cause.SERVER_ERROR, f"500 from {URL}: database is locked")


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        (problem("urn:amends:rejected", code="out-of-stock", detail="none left"), "out-of-stock", "none left"),
        (problem("urn:amends:rejected", detail="none left"), None, "none left"),
        (problem("https://shop/problems/out-of-stock", title="Out of stock"), "out-of-stock", "Out of stock"),
        (problem("about:blank", code=17), "17", f"409 from {URL}"),
        (b'{"code": true, "detail": ["x"]}', None, f"409 from {URL}"),
        (b'{"code": "a", "detail": "one\\ntwo\\u001b[2J \\ud800"}', "a", "one two [2J"),
        (b"{not json", None, f"409 from {URL}"),
        (b"\xff\xfe", None, f"409 from {URL}"),
        (b'{"a":' * 50_000, None, f"409 from {URL}"),
        (b'{"code": ' + b"9" * 5_000 + b"}", None, f"409 from {URL}"),
        (b"", None, f"409 from {URL}"),
    ],
)
def test_why_it_said_no_is_taken_leniently(body: bytes, code: str | None, detail: str) -> None:
    assert read(answer(409, "rejected", body)) == SaidNo(code, detail)


def test_plain_text_is_an_explanation_too() -> None:
    assert read(answer(409, "rejected", b"sold out\n", content_type="text/plain")) == SaidNo(None, "sold out")


def test_what_a_service_says_is_cut() -> None:
    outcome = read(answer(409, "rejected", problem("x:rejected", code="c" * 9_000, detail="d" * 9_000)))
    assert isinstance(outcome, SaidNo)
    assert len(outcome.detail) == DETAIL_CHARACTERS_MAX
    assert outcome.code is not None
    assert len(outcome.code) < 200


def test_a_compensation_that_cannot_be_done_names_the_code() -> None:
    body = problem("urn:amends:cannot-compensate", code="already-picked", detail="r-8812 left the shelf")
    outcome = read(answer(409, "cannot-compensate", body), COMPENSATION)
    assert outcome == Halt(StuckReason.CANNOT_COMPENSATE, "r-8812 left the shelf", "already-picked")


# -- Retry-After

HOUR = 3_600 * MICROSECONDS
DATE = "Mon, 02 Mar 2026 03:00:00 GMT"
NOW = 1_772_420_400 * MICROSECONDS  # the same moment


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7 * MICROSECONDS),
        ({"retry-after": " 7 "}, 7 * MICROSECONDS),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "7200"}, HOUR),
        ({"retry-after": "9" * 5_000}, HOUR),
        ({"retry-after": "-1"}, 0),
        ({"retry-after": "1.5"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "\N{ARABIC-INDIC DIGIT SEVEN}"}, 0),
        ({"retry-after": "Mon, 02 Mar 2026 03:00:30 GMT"}, 30 * MICROSECONDS),
        ({"retry-after": "Mon, 02 Mar 2026 03:00:30 GMT", "date": "Mon, 02 Mar 2026 03:00:20 GMT"}, 10 * MICROSECONDS),
        ({"retry-after": "Mon, 02 Mar 2026 03:00:30 GMT", "date": "nonsense"}, 30 * MICROSECONDS),
        ({"retry-after": "Monday, 02-Mar-26 03:00:30 GMT"}, 30 * MICROSECONDS),
        ({"retry-after": "Mon Mar  2 03:00:30 2026"}, 30 * MICROSECONDS),
        ({"retry-after": "Mon, 02 Mar 2026 02:00:00 GMT"}, 0),
        ({"retry-after": "Mon, 02 Mar 2027 02:00:00 GMT"}, HOUR),
        ({"retry-after": "Mon, 99 Mar 2027 02:00:00 GMT"}, 0),
    ],
)
def test_patience_is_asked_for_in_seconds_or_by_date(headers: Mapping[str, str], expected: int) -> None:
    for status in (503, 429):
        outcome = read(CallResponse(status, headers, b""), now=NOW)
        assert isinstance(outcome, Unknown)
        assert outcome.retry_after == expected


def test_in_progress_asks_for_patience_and_uses_up_nothing() -> None:
    outcome = read(answer(409, None, problem("urn:amends:in-progress", detail="a twin is at it"), retry_after="3"))
    assert outcome == Unknown(
        Cause.IN_PROGRESS, f"409 from {URL}: a twin is at it", retry_after=3 * MICROSECONDS, counted=False
    )


# -- anything at all

WORDS = st.sampled_from(["succeeded", "rejected", "pending", "noop", "blocked", "cannot-compensate", "", "x"])
NAMES = st.sampled_from(["saga-outcome", "retry-after", "date", "content-type"])
TEXTS = st.text(max_size=20) | st.sampled_from(["text/plain", DATE, "5"]) | WORDS
BODIES = (
    st.binary(max_size=30)
    | st.just(BODY)
    | st.dictionaries(
        st.sampled_from(["type", "code", "detail", "title"]),
        st.none() | st.integers() | TEXTS | st.sampled_from(["a:in-progress", "b/key-reused", "stale-epoch"]),
    ).map(lambda each: json.dumps(each).encode())
)
ANSWERS = st.builds(
    CallResponse,
    st.integers(-1, 700) | st.sampled_from([200, 202, 409, 410, 412, 503]),
    st.dictionaries(NAMES, TEXTS),
    BODIES,
    st.just("") | st.just(URL),
    st.frozensets(NAMES, max_size=1),
)


OTHERS = st.builds(NotSent, TEXTS) | st.builds(CodeMismatch, TEXTS) | st.builds(Lost, st.sampled_from(Cause), TEXTS)


@given(
    came=ANSWERS | OTHERS,
    phase=st.sampled_from(Phase),
    retriable=st.booleans(),
    decode=st.sampled_from([DECODE, None]),
    now=st.integers(0, 2**53),
)
def test_every_answer_has_an_outcome_and_success_only_by_the_header(
    came: Came, phase: Phase, retriable: bool, decode: Decoder | None, now: int
) -> None:
    outcome = read(came, phase, retriable=retriable, decode=decode, now=now)
    match outcome:
        case Succeeded(reply, word):
            assert isinstance(came, CallResponse)
            assert came.headers["saga-outcome"] == word
            assert "saga-outcome" not in came.repeated
            assert 200 <= came.status < 500
            assert word == "succeeded" or phase is COMPENSATION
            json.loads(reply)
        case SaidNo(word=word):
            assert isinstance(came, CallResponse)
            assert came.headers["saga-outcome"] == word
            assert phase is not COMPENSATION
        case Pending():
            assert isinstance(came, CallResponse)
            assert came.headers["saga-outcome"] == "pending"
        case Unknown(detail=detail, retry_after=patience):
            assert 0 <= patience <= HOUR
            assert detail.isprintable()
            assert len(detail) <= DETAIL_CHARACTERS_MAX
        case Halt(detail=detail):
            assert detail
            assert detail.isprintable()


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("decode", [DECODE, None])
@pytest.mark.parametrize("repeated", [frozenset[str](), frozenset({"saga-outcome"})])
def test_what_is_read_without_the_table_is_what_the_table_says(
    phase: Phase, decode: Decoder | None, repeated: frozenset[str]
) -> None:
    for status in (199, 200, 201, 204, 409, 503):
        for word in ("succeeded", "succeeded ", "Succeeded", "noop", None):
            for body in (BODY, b" " + BODY + b"\n", b"{}", b"", b"x", BODY + b" " * REPLY_BYTES_MAX):
                came = CallResponse(status, {} if word is None else {"saga-outcome": word}, body, URL, repeated)
                plain = read_answer(came, phase=phase, retriable=False, decode=decode, now=0)
                assert plain == read_answer(came, phase=phase, retriable=False, decode=decode, now=0, table=CONTRACT)
