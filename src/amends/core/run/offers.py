"""The verbs that a stuck run accepts: each verb is tried on the record, and offered unless it is refused.

There is no second table of what is allowed: a verb is offered if `on_verb` takes it now, so an offer and `decide` can't
disagree. A verb that is accepted and changes nothing is not offered. No code of an author runs here.
"""

from collections.abc import Collection, Iterator
from typing import Final, Literal

from amends.core.run.commands import Abandon, AnswerQuestion, Cancel, Refusal, Resolve, RetryStep, Skip, Verb
from amends.core.run.decision import Draft
from amends.core.run.definition import Definition
from amends.core.run.events import Who
from amends.core.run.record import ItemRecord, Mark, RunRecord, RunState
from amends.core.run.verbs import cannot_probe, on_verb
from amends.core.words.keys import CallKey
from amends.core.words.values import value

OFFERED_MARKS_MAX: Final = 16
"""Marks whose verbs are worked out, oldest first. A step with more stuck items is moved by its name, or by a query."""

Outcome = Literal["succeeded", "rejected", "undone"]

_DRY: Final = Who("", "")
_OUTCOMES: Final[tuple[Outcome, ...]] = ("succeeded", "rejected", "undone")


@value
class Offer:
    """A verb that would be accepted. `step` is empty for a verb on the run as a whole.

    `outcome`: of `resolve` and `answer`, as they take it. `needs_reply`: it is accepted with a reply of the step's type
    only. `possible_from` (microseconds UTC): it is refused before then; `None`: it is accepted now.
    """

    verb: str
    step: str = ""
    item: str = ""
    outcome: str | None = None
    needs_reply: bool = False
    possible_from: int | None = None


def offers(
    definition: Definition, record: RunRecord, at: int, epoch: int, held: Collection[CallKey] = frozenset()
) -> tuple[Offer, ...]:
    """What a person can do about a stuck run, mark by mark and then for the run as a whole."""
    if record.state is not RunState.STUCK:
        return ()
    calls = frozenset(held)
    found: dict[Offer, None] = {}
    for mark in sorted(record.marks.values(), key=lambda each: each.since)[:OFFERED_MARKS_MAX]:
        item = record.item(mark.step, mark.item)
        if item is not None and cannot_probe(item) is None:
            found[Offer("probe", mark.step, mark.item)] = None
        for offer, verb in _about(mark, item, at, epoch):
            _try(found, Draft(definition, record.copy(), at, epoch), offer, verb, calls)
    for offer, verb in _about_run(at, epoch):
        _try(found, Draft(definition, record.copy(), at, epoch), offer, verb, calls)
    return tuple(found)


def _about(mark: Mark, item: ItemRecord | None, at: int, epoch: int) -> Iterator[tuple[Offer, Verb]]:
    step, name = mark.step, None if item is None or not item.item else item.item
    yield Offer("retry", step, mark.item), RetryStep(at, epoch, _DRY, step, name)
    for outcome in _OUTCOMES:
        yield Offer("resolve", step, mark.item, outcome), Resolve(at, epoch, _DRY, step, outcome, None, name)
    yield Offer("answer", step, mark.item, "succeeded"), AnswerQuestion(at, epoch, _DRY, step, b"null", name)
    yield Offer("answer", step, mark.item, "rejected"), AnswerQuestion(at, epoch, _DRY, step, None, name)
    yield Offer("skip", step, mark.item), Skip(at, epoch, _DRY, step, name)


def _about_run(at: int, epoch: int) -> Iterator[tuple[Offer, Verb]]:
    yield Offer("retry"), RetryStep(at, epoch, _DRY)
    yield Offer("cancel"), Cancel(at, epoch, _DRY, "cancel")
    yield Offer("compensate"), Cancel(at, epoch, _DRY, "compensate")
    yield Offer("abandon"), Abandon(at, epoch, _DRY)


def _try(found: dict[Offer, None], draft: Draft, offer: Offer, verb: Verb, held: frozenset[CallKey]) -> None:
    draft.held = held
    refusal = on_verb(draft, verb)
    if draft.events:
        found[offer] = None
    elif refusal is not None:
        later = _later(offer, refusal)
        if later is not None:
            found[later] = None


def _later(offer: Offer, refusal: Refusal) -> Offer | None:
    """A refusal that more is needed for: a reply, or time."""
    if refusal.problem == "reply-invalid":
        return Offer(offer.verb, offer.step, offer.item, offer.outcome, needs_reply=True)
    if refusal.possible_from is not None:
        return Offer(offer.verb, offer.step, offer.item, offer.outcome, possible_from=refusal.possible_from)
    return None
