"""The small strokes of folding: items, their keys' lives, marks.

Each hands out or puts back copies that belong to the caller, so a record handed out earlier stays what it was.
"""

from typing import assert_never

from amends.core.run import events as e
from amends.core.run.answers import Cause
from amends.core.run.record import (
    TURNS,
    Feature,
    ItemRecord,
    RunRecord,
    Shape,
    StepState,
    Tries,
    alone,
    clone,
    summed_up,
)
from amends.core.words.keys import Phase
from amends.core.words.retry import Guard, Kind

NEVER_LEFT = frozenset({Cause.NOT_SENT, Cause.WITHDRAWN})
"""Ends of an attempt in which provably no byte of the request left."""


def find_item(record: RunRecord, step: str, item: str) -> ItemRecord:
    """A copy of one item; the history is broken if it speaks of one that was never requested."""
    found = record.item(step, item)
    if found is None:
        msg = f"{record.run}: the history speaks of {step!r}/{item!r}, which was never requested"
        raise TypeError(msg)
    return clone(found)


def find_tries(record: RunRecord, step: str, item: str, phase: Phase) -> tuple[ItemRecord, Tries]:
    """A copy of one item with a copy of the life of one of its keys."""
    owner = find_item(record, step, item)
    tries = owner.tries(phase)
    if tries is None:
        msg = f"{record.run}: the history speaks of a {phase} of {owner.name} that was never requested"
        raise TypeError(msg)
    tries = clone(tries)
    match phase:
        case Phase.ACTION:
            owner.action = tries
        case Phase.COMPENSATION:
            owner.undo = tries
        case Phase.PROBE | Phase.SEAL:
            owner.settle = tries
        case _ as never:
            assert_never(never)
    return owner, tries


def keep(record: RunRecord, item: ItemRecord) -> None:
    """Put an item back, in a copy of its step."""
    old = record.steps[item.step]
    if len(old.items) == 1:
        record.steps[item.step] = alone(old.name, old.kind, old.shape, item)
        return
    before, after = old.items[item.item].features, item.features
    counts = dict(old.counts)
    for feature in before:
        if counts[feature] == 1:
            del counts[feature]
        else:
            counts[feature] -= 1
    for feature in after:
        counts[feature] = counts.get(feature, 0) + 1
    turning = old.turning
    if TURNS.isdisjoint(after):
        if item.item in turning:
            turning -= {item.item}
    elif item.item not in turning:
        turning |= {item.item}
    items = dict(old.items)
    items[item.item] = item
    record.steps[item.step] = summed_up(old.name, old.kind, old.shape, items, counts, turning=turning)


def put_all(record: RunRecord, step: str, kind: Kind, shape: Shape, items: dict[str, ItemRecord]) -> None:
    """Put in a step that was just requested, with its items."""
    if len(items) == 1:
        (item,) = items.values()
        record.steps[step] = alone(step, kind, shape, item)
        return
    counts: dict[Feature, int] = {}
    turning: set[str] = set()
    for name, item in items.items():
        features = item.features
        for feature in features:
            counts[feature] = counts.get(feature, 0) + 1
        if not TURNS.isdisjoint(features):
            turning.add(name)
    record.steps[step] = summed_up(step, kind, shape, items, counts, turning=frozenset(turning))


def put_single(record: RunRecord, step: str, state: StepState) -> ItemRecord:
    """A step that makes no call has one item all the same."""
    item = ItemRecord(step=step, item="", state=state, request=None)
    record.steps[step] = alone(step, None, "one", item)
    lift(record, step, "")
    return item


def new_tries(event: e.Event, call: e.Request | e.CompensationRequested | e.NoticeRequested | Tries) -> Tries:
    """The life of a key begins."""
    at, epoch = event.at, event.epoch
    return Tries(
        call.participant,
        call.operation,
        call.guard,
        call.body,
        at,
        at,
        epoch,
        epoch,
        at,
    )


def attempt_ended(tries: Tries, event: e.AttemptFailed | e.ActionUnknown | e.NoticeFailed, *, counted: bool) -> None:
    """A send has ended without a settled answer."""
    cause, epoch = event.cause, event.epoch
    if cause not in NEVER_LEFT:
        tries.tainted = True
    elif tries.guard is Guard.BARRIER:
        tries.tainted = tries.tainted or epoch != tries.first_epoch
    elif tries.open_epoch is not None:
        tries.tainted = tries.tainted or epoch != tries.open_epoch
    tries.sends += not tries.pending  # work that was taken on: its send ended then
    tries.open_epoch = None
    tries.pending = False
    tries.attempts += counted
    tries.misrouted += cause is Cause.MISROUTED
    tries.last_end = event.at
    tries.cause = cause
    tries.detail = event.detail


def took_on(tries: Tries, at: int, answer_due: int) -> None:
    """The participant took the work on and answers later."""
    if tries.is_open:
        tries.sends += 1
    tries.open_epoch = None
    tries.due = None
    tries.tainted = True
    tries.pending = True
    tries.last_end = at
    tries.answer_due = answer_due if tries.answer_due is None else tries.answer_due


def silence(tries: Tries) -> None:
    """Nothing of this key goes out any more."""
    tries.open_epoch = None
    tries.due = None
    tries.pending = False


def no_settling(item: ItemRecord) -> None:
    """The action's outcome is not asked for any more."""
    if item.settle is not None:
        item.asked = item.settle.sends + 1  # one may be under way
    item.settle = None
    item.settling = None
    item.seal = ""


def settle(record: RunRecord, item: ItemRecord, state: StepState, at: int) -> None:
    """What became of the action is known for good."""
    assert item.action is not None, "what is known of an action is known of one that was requested"
    tries = item.action = clone(item.action)
    if tries.open_epoch is not None or tries.due is not None:
        tries.sends += 1
    tries.last_end = at
    silence(tries)
    no_settling(item)
    item.state = state
    if record.marks:
        lift(record, item.step, item.item, Phase.ACTION, Phase.PROBE, Phase.SEAL)


def lift(record: RunRecord, step: str, item: str, *phases: Phase) -> None:
    """A person is no longer needed for these phases of an item; for any, if none is named."""
    if not record.marks:
        return
    for phase in phases or Phase:
        record.marks.pop((step, item, phase), None)
