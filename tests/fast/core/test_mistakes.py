"""Whatever an author's code raises or says, it can be told, logged and read again."""

from enum import Enum
from typing import Any

import pytest

from amends.codecs.events import JsonEventCodec
from amends.core.run.decide import BuilderFailed
from amends.core.run.events import NoticeFailed
from amends.core.saga.operation import Participant, operation
from amends.core.words.error_texts import UNREADABLE, clean, no_of, text_of, told
from amends.core.words.errors import Rejected
from amends.core.words.limits import DETAIL_CHARACTERS_MAX
from tests.support.stories import Ask, Barrier, Plain, Story, c, gives, n, p


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Endless(Exception):
    def __str__(self) -> str:
        return str(self)


class Full(Enum):
    FULL = 1


class Bare(Rejected):
    def __init__(self) -> None:  # the base's isn't called, so there is neither code nor detail
        pass


class Hiding(Rejected):
    @property
    def code(self) -> str:
        raise KeyError("code")

    @code.setter
    def code(self, _: object) -> None:
        pass


ODD: list[BaseException] = [
    Unprintable(),
    Endless(),
    ValueError("\ud800 \x1b[2J \u202egnp"),
    ValueError("x" * 100_000),
    SystemExit(4),
    GeneratorExit(),
]


def logged(story: Story) -> str:
    """All its events, written and read again."""
    codec = JsonEventCodec()
    for event in story.events:
        kind, body = codec.encode(event)
        assert codec.decode(kind, body, event.at, event.epoch) == event
    return " ".join(mark.detail for mark in story.record.marks.values())


@pytest.mark.parametrize("raised", ODD, ids=lambda each: type(each).__name__)
def test_a_builder_may_raise_anything(raised: Any) -> None:  # noqa: ANN401 - `gives` takes exceptions and values
    story = Story(n("a"), c("b", gives(raised), after="a")).yes("a").then(marks="b:action:author-error")
    detail = logged(story)
    assert type(raised).__name__ in detail
    assert detail.isprintable()
    assert len(detail) <= DETAIL_CHARACTERS_MAX


@pytest.mark.parametrize("raised", ODD, ids=lambda each: type(each).__name__)
def test_an_undo_may_raise_anything(raised: Any) -> None:  # noqa: ANN401 - as above
    def undo(_input: str, _reply: object) -> object:
        raise raised

    story = Story(c("a", undo=undo), p()).yes("a").no("p").then(marks="a:compensation:author-error")
    assert type(raised).__name__ in logged(story)


@pytest.mark.parametrize(
    ("no", "code", "detail"),
    [
        (Rejected(Unprintable(), code=Unprintable()), UNREADABLE, UNREADABLE),  # type: ignore[arg-type] # untyped code
        (Rejected("\ud800full\x1b[2J", code="a\nb"), "a b", "full [2J"),
        (Rejected("x", code=Full.FULL), "Full.FULL", "x"),  # type: ignore[arg-type] # untyped code
        (Bare(), None, "Bare"),
        (Hiding("no"), None, "no"),
        (Rejected("no", code="c" * 1_000), "c" * 128, "no"),
    ],
    ids=["unprintable", "unencodable", "enum", "bare", "hiding", "long"],
)
def test_a_no_may_say_anything(no: Rejected, code: str | None, detail: str) -> None:
    assert no_of(no) == (code, detail)
    story = Story(n("a"), c("b", gives(no), after="a")).yes("a").then(run="compensated")
    logged(story)
    assert story.record.turned is not None
    assert story.record.turned.reason == f"b said no: {code or detail}"


def test_a_request_that_cannot_be_written_is_told_as_one() -> None:
    def builds(_input: str, *_: object) -> object:
        return Barrier.act({1: object()})  # type: ignore[arg-type] # the mistake

    story = Story(n("a"), c("b", builds, after="a")).yes("a").then(marks="b:action:author-error")
    assert logged(story).startswith("built a request that can't be written as JSON: ")


def test_a_key_press_is_not_the_authors() -> None:
    with pytest.raises(KeyboardInterrupt):
        Story(n("a"), c("b", gives(KeyboardInterrupt()), after="a")).yes("a")


def test_texts_of_exceptions() -> None:
    assert told(ValueError("bad date")) == "ValueError: bad date"
    assert told(ValueError()) == "ValueError"
    assert told(Unprintable()) == f"Unprintable: {UNREADABLE}"
    assert text_of(Endless()) == UNREADABLE
    assert clean("a" * DETAIL_CHARACTERS_MAX) == "a" * DETAIL_CHARACTERS_MAX
    assert clean("a" * (DETAIL_CHARACTERS_MAX + 1)).endswith("a\N{HORIZONTAL ELLIPSIS}")


class Foreign:
    """Nothing says how to read it from JSON."""


class Strange(Participant):
    act = operation(Ask, Foreign, compensation="undo")


HIDDEN: dict[str, Any] = {
    "plain": Plain.act,
    "undo": Plain.undo,
    "alone": operation(Ask, str),
    "strange": Strange.act,
}
"""Where no name in a builder's code leads to."""


@pytest.mark.parametrize("name", ["plain", "alone"])
def test_a_call_that_cannot_be_made_is_refused_when_it_is_built(name: str) -> None:
    def builds(_input: str, *_: object) -> object:
        return HIDDEN[name]("x")

    story = Story(n("a"), c("b", builds, after="a"), checked=True).yes("a").then(marks="b:action:author-error")
    assert logged(story).startswith("builds a call that can't be made: ")
    with pytest.raises(BuilderFailed, match="step b builds a call that can't be made"):
        Story(c("b", builds), checked=True)


def test_a_call_whose_reply_could_not_be_read_is_never_sent() -> None:
    def builds(_input: str, *_: object) -> object:
        return HIDDEN["strange"]("x")

    story = Story(n("a"), c("b", builds, after="a"), checked=True).yes("a").then(marks="b:action:author-error")
    assert logged(story).startswith("builds a call whose reply can't be read: ")
    story.retry("b").then("RetryAsked BuildFailed Marked", marks="b:action:author-error")


def test_an_undo_that_cannot_be_made_is_refused_when_it_is_built() -> None:
    def undo(_input: str, _reply: object) -> object:
        return HIDDEN["undo"]("x")

    story = Story(c("a", undo=undo), p(), checked=True).yes("a").no("p").then(marks="a:compensation:author-error")
    assert "Plain.undo is described by Rest" in logged(story)


def test_a_notice_that_cannot_be_made_is_never_sent_and_changes_no_end() -> None:
    def tell(_input: str, _end: object) -> object:
        return HIDDEN["plain"]("x")

    story = (
        Story(p("a"), notice=tell, checked=True).yes("a").then("ActionSucceeded RunEnded NoticeFailed", run="completed")
    )
    logged(story)
    (failed,) = (each for each in story.events if isinstance(each, NoticeFailed))
    assert "Plain.act is described by Rest" in failed.detail
    assert failed.next_due is None
