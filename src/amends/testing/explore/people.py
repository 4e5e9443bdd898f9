"""People on paper: what a person could sensibly ask of a run as it stands, and what they would do to get it going.

They are honest: a person that vouches that a call took effect has looked, and one that says that something is undone
has undone it. They may be wrong where the participant's barrier finds out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from amends.core.run import events as e
from amends.core.run.commands import Abandon, AnswerQuestion, Cancel, Resolve, RetryStep, Skip, Verb
from amends.core.run.definition import Definition
from amends.core.run.events import Who
from amends.core.run.record import ASK, ItemRecord, Mark, RunRecord, StepState
from amends.core.words.keys import Phase, unit_name
from amends.core.words.reasons import ACKNOWLEDGED, StuckReason
from amends.core.words.retry import Guard, Kind
from amends.testing.explore.given import Given

SOMEBODY: Final = Who(by="ann", reason="it was looked into")

Word = Literal["cancel", "compensate", "retry", "resolve", "skip", "abandon", "answer", "decline"]


@dataclass(frozen=True, slots=True)
class Does:
    """One thing a person does. `undoes`: the item whose effect they first undo with their own hands."""

    word: Word
    step: str = ""
    item: str = ""
    outcome: Literal["succeeded", "rejected", "undone"] = "succeeded"
    reply: bytes | None = None
    undoes: tuple[str, str] | None = None

    def __str__(self) -> str:
        unit = f" {unit_name(self.step, self.item)}" if self.step else ""
        outcome = f" {self.outcome}" if self.word == "resolve" else ""
        return f"{self.word}{unit}{outcome}{' (by hand)' if self.undoes else ''}"

    @property
    def signed_by(self) -> type[e.Event]:
        """The fact that must be in the log when it changed anything."""
        return _SIGNED_BY[self.word]

    def command(self, at: int) -> Verb:
        """The command."""
        item = self.item or None
        match self.word:
            case "cancel" | "compensate":
                return Cancel(at, 0, SOMEBODY, self.word)
            case "retry":
                return RetryStep(at, 0, SOMEBODY, self.step, item)
            case "resolve":
                return Resolve(at, 0, SOMEBODY, self.step, self.outcome, self.reply, item)
            case "skip":
                return Skip(at, 0, SOMEBODY, self.step, item)
            case "abandon":
                return Abandon(at, 0, SOMEBODY)
            case "answer":
                return AnswerQuestion(at, 0, SOMEBODY, self.step, self.reply, item)
            case "decline":
                return AnswerQuestion(at, 0, SOMEBODY, self.step, None, item)


CANCEL: Final = Does("cancel")

_SIGNED_BY: Final[Mapping[Word, type[e.Event]]] = {
    "cancel": e.CancelAsked,
    "compensate": e.CancelAsked,
    "retry": e.RetryAsked,
    "resolve": e.Resolved,
    "skip": e.Skipped,
    "abandon": e.Abandoned,
    "answer": e.Answered,
    "decline": e.Answered,
}


@dataclass(frozen=True, slots=True)
class Sight:
    """A run as a person sees it with a look into everything.

    `net`: how often each item acted and wasn't undone. `copies`: items that an unguarded call is under way for, so that
    what becomes of them isn't known yet.
    """

    definition: Definition
    record: RunRecord
    net: Mapping[tuple[str, str], int]
    copies: frozenset[tuple[str, str]]
    given: Given

    def left(self, item: ItemRecord) -> int:
        """How often it acted and wasn't undone."""
        return self.net.get((item.step, item.item), 0)

    def is_under_way(self, item: ItemRecord) -> bool:
        """Whether an unguarded call of it may still arrive."""
        return (item.step, item.item) in self.copies


def deeds(sight: Sight) -> Iterator[Does]:
    """What a person could ask for now."""
    record = sight.record
    if record.ended is not None:
        return
    if record.turned is None and record.abort_requested is None:
        yield CANCEL
    if record.marks:
        yield Does("compensate")
        yield Does("abandon")
    for mark in record.marks.values():
        if mark.step not in record.steps:
            yield Does("retry", mark.step)
            yield Does("skip", mark.step)
    for item in record.items():
        if item.request is not None:
            yield from _about(sight, item)


def _about(sight: Sight, item: ItemRecord) -> Iterator[Does]:
    step, name = item.step, item.item
    left = sight.left(item)
    if item.state is StepState.ACTING and item.request is not None and item.request.participant == ASK:
        yield Does("answer", step, name, reply=sight.given.reply(sight.record, item))
        yield Does("decline", step, name)
    open_ = {StepState.ACTING, StepState.UNKNOWN, StepState.COMPENSATING}
    if item.state not in open_ and not sight.record.item_has_mark(item):
        return
    if _may_repeat(item, left, under_way=sight.is_under_way(item)):
        yield Does("retry", step, name)
    yield Does("skip", step, name)
    neutral = sight.definition.steps[step].kind is Kind.NEUTRAL
    if item.state in {StepState.ACTING, StepState.UNKNOWN}:
        if left > 0 or neutral:
            yield Does("resolve", step, name, "succeeded", reply=sight.given.by_hand(sight.record, item))
        if item.behind_barrier or (left == 0 and not sight.is_under_way(item)):
            yield Does("resolve", step, name, "rejected")
    elif item.state is StepState.COMPENSATING:
        if not sight.is_under_way(item):
            yield from _undone(item, left)
    else:
        yield Does("resolve", step, name, "succeeded")


def _may_repeat(item: ItemRecord, left: int, *, under_way: bool) -> bool:
    """A person that has a call repeated that nothing makes safe to repeat has looked, and found that it did nothing."""
    if item.guard is not Guard.ONCE or item.settling is not None:
        return True
    return not under_way and (left == 0 if item.state is not StepState.COMPENSATING else left > 0)


def _undone(item: ItemRecord, left: int) -> Iterator[Does]:
    step, name = item.step, item.item
    by_hand = (step, name) if left > 0 else None
    if not item.behind_barrier or (item.found == "succeeded" and item.settling is None):
        yield Does("resolve", step, name, "undone", undoes=by_hand)
    else:
        yield Does("resolve", step, name, "undone")


def remedies(sight: Sight) -> Iterator[Does]:
    """What a sensible person tries, in order, about the oldest reason why a run is stuck."""
    record = sight.record
    mark = min(record.marks.values(), key=_age, default=None)
    if mark is None or record.ended is not None:
        return
    step, name = mark.step, mark.item
    item = record.item(step, name)
    if mark.reason in ACKNOWLEDGED:
        yield Does("resolve", step, name, "succeeded")
    elif mark.reason == StuckReason.CONFIRM_UNDONE and item is not None:
        yield from _undone(item, sight.left(item))
    elif mark.reason == StuckReason.BLOCKED:
        yield Does("skip", step, name)
    elif mark.reason == StuckReason.AUTHOR_ERROR:
        yield from (Does("skip", step, name), Does("compensate"), Does("abandon"))  # no code gets better by a retry
    elif item is not None:
        yield from _moves_on(sight, item, mark)
    else:
        yield from (Does("retry", step, name), Does("skip", step, name))


def _moves_on(sight: Sight, item: ItemRecord, mark: Mark) -> Iterator[Does]:
    step, name, left = item.step, item.item, sight.left(item)
    if not _may_repeat(item, left, under_way=sight.is_under_way(item)):
        if item.state is StepState.COMPENSATING:
            yield from _undone(item, left)
        elif left:
            yield Does("resolve", step, name, "succeeded", reply=sight.given.by_hand(sight.record, item))
        return
    if item.guard is Guard.ONCE and not item.can_settle and mark.phase is Phase.ACTION:
        yield Does("resolve", step, name, "rejected")
    yield Does("retry", step, name)
    yield Does("answer", step, name, reply=sight.given.reply(sight.record, item))
    yield Does("skip", step, name)


def _age(mark: Mark) -> tuple[int, str, str]:
    return mark.since, mark.step, mark.item
