"""Folding facts into a record. Total: every event of `amends.core.run.events` has one effect here; none is refused.

`apply` changes the record it is given, but only in its own copies of items and tries, so that a record handed out
earlier stays what it was. `evolve` is the pure form. No builder is called, no definition is needed: history stands by
itself.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, assert_never, cast

from amends.core.run import events as e
from amends.core.run.answers import Cause
from amends.core.run.evolve_items import (
    attempt_ended,
    find_item,
    find_tries,
    keep,
    lift,
    new_tries,
    no_settling,
    put_all,
    put_single,
    settle,
    silence,
    took_on,
)
from amends.core.run.record import (
    ACTING,
    BUILT_IN,
    DONE,
    ItemRecord,
    Mark,
    RunRecord,
    RunState,
    Shape,
    StepState,
    Tries,
    TurnedBack,
    clone,
)
from amends.core.words.keys import Phase
from amends.core.words.retry import BARRIER, Guard, Kind


def evolve(record: RunRecord | None, event: e.Event) -> RunRecord:
    """The record after one more fact; the one given stays as it was."""
    if record is None:
        return begin(event)
    new = record.copy()
    apply(new, event)
    return new


def fold(events: Iterable[e.Event]) -> RunRecord:
    """The record of a whole history."""
    rest = iter(events)
    record = begin(next(rest))
    for event in rest:
        apply(record, event)
    return record


def begin(event: e.Event) -> RunRecord:
    """The record of a history's first fact."""
    if not isinstance(event, e.RunStarted):
        msg = f"a history begins with RunStarted, not {type(event).__name__}"
        raise TypeError(msg)
    return RunRecord(
        run=event.run,
        saga=event.saga,
        version=event.version,
        digest=event.digest,
        input=event.input,
        deadline=event.deadline,
        by=event.by,
        created_at=event.at,
        at=event.at,
        steps={},
        marks={},
        length=1,
    )


def apply(record: RunRecord, event: e.Event) -> None:
    """Fold one fact into a record that belongs to the caller."""
    record.length += 1
    record.at = event.at
    _EFFECTS[type(event)](record, event)


# -- the run


def _started_twice(record: RunRecord, _event: e.RunStarted) -> None:
    msg = f"{record.run}: a second RunStarted in one history"
    raise TypeError(msg)


def _turned_back(record: RunRecord, event: e.Aborted) -> None:
    record.turned = TurnedBack(event.step, event.code, event.reason, event.at)
    for key in [key for key in record.marks if key[0] not in record.steps]:
        del record.marks[key]
    for step in [step.name for step in record.steps.values() if step.kind is Kind.NEUTRAL]:
        _neutral_undone(record, step)


def _neutral_undone(record: RunRecord, step: str) -> None:
    """A neutral step changed nothing: when the run turns back there is nothing to undo, whatever became of it."""
    for found in list(record.steps[step].items.values()):
        if found.state in {StepState.ACTING, StepState.DONE, StepState.UNKNOWN}:
            item = clone(found)
            assert item.action is not None, "what acts, or did, was requested"
            item.action = clone(item.action)
            silence(item.action)
            no_settling(item)
            item.state = StepState.COMPENSATED
            lift(record, item.step, item.item)
            keep(record, item)


def _abort_requested(record: RunRecord, event: e.AbortRequested) -> None:
    record.abort_requested = event.reason


def _abort_void(record: RunRecord, _event: e.AbortVoid) -> None:
    record.abort_void = True


def _deadline_passed(record: RunRecord, _event: e.DeadlinePassed) -> None:
    record.deadline_passed = True


def _nothing(_record: RunRecord, _event: e.CancelAsked) -> None:
    """What was asked is a fact of its own; what follows from it are others."""


def _abandoned(record: RunRecord, event: e.Abandoned) -> None:
    record.ended = RunState.ABANDONED
    record.ended_at = event.at
    record.ended_by = event.who
    record.effects = event.effects
    record.by_hand = True


def _run_ended(record: RunRecord, event: e.RunEnded) -> None:
    record.ended = RunState(event.state)
    record.ended_at = event.at
    record.effects = event.effects


def _quarantined(record: RunRecord, event: e.Quarantined) -> None:
    record.quarantined = event.reason


def _notice_requested(record: RunRecord, event: e.NoticeRequested) -> None:
    record.notice = new_tries(event, event)


def _notice_delivered(record: RunRecord, _event: e.NoticeDelivered) -> None:
    assert record.notice is not None, "what is delivered was requested"
    record.notice = clone(record.notice)
    silence(record.notice)
    record.notice_delivered = True
    record.notice_failed = False


def _notice_failed(record: RunRecord, event: e.NoticeFailed) -> None:
    record.notice_failed = event.next_due is None
    if record.notice is not None:  # `None`: its builder raised
        record.notice = clone(record.notice)
        attempt_ended(record.notice, event, counted=event.counted)
        record.notice.due = event.next_due


# -- an action


def _requested(record: RunRecord, event: e.ActionRequested) -> None:
    single = len(event.requests) == 1
    items: dict[str, ItemRecord] = {}
    for request in event.requests:
        tries = new_tries(event, request)
        if request.participant in BUILT_IN:
            tries.open_epoch = tries.due = None
            tries.pending = True
            tries.answer_due = request.due_at
        elif request.guard is not BARRIER and (event.epoch == 0 or not single):
            tries.open_epoch = None
        items[request.item] = ItemRecord(event.step, request.item, ACTING, request, tries)
    put_all(record, event.step, event.kind, cast("Shape", event.shape), items)
    if record.marks:
        lift(record, event.step, "")


def _attempt_started(record: RunRecord, event: e.AttemptStarted) -> None:
    item, tries = find_tries(record, event.step, event.item, event.phase)
    tries.tainted = tries.tainted or tries.is_open
    tries.open_epoch = event.epoch
    tries.due = event.at
    tries.pending = False
    keep(record, item)


def _attempt_failed(record: RunRecord, event: e.AttemptFailed) -> None:
    item, tries = find_tries(record, event.step, event.item, event.phase)
    attempt_ended(tries, event, counted=event.counted)
    tries.due = event.next_due
    tries.retry_after = event.retry_after
    if event.phase is Phase.SEAL and event.cause is Cause.PENDING and item.action is not None:
        item.action = clone(item.action)
        item.action.tainted = True
    keep(record, item)


def _succeeded(record: RunRecord, event: e.ActionSucceeded) -> None:
    item = find_item(record, event.step, event.item)
    settle(record, item, DONE, event.at)
    item.reply = event.reply
    keep(record, item)


def _rejected(record: RunRecord, event: e.ActionRejected) -> None:
    item = find_item(record, event.step, event.item)
    settle(record, item, StepState.REJECTED, event.at)
    item.code, item.detail = event.code, event.detail
    keep(record, item)


def _pending(record: RunRecord, event: e.ActionPending) -> None:
    item, tries = find_tries(record, event.step, event.item, Phase.ACTION)
    took_on(tries, event.at, event.answer_due)
    keep(record, item)


def _unknown(record: RunRecord, event: e.ActionUnknown) -> None:
    item, tries = find_tries(record, event.step, event.item, Phase.ACTION)
    if tries.is_open or event.cause not in {Cause.TURNED_BACK, Cause.NO_ANSWER}:
        attempt_ended(tries, event, counted=True)
    else:
        tries.cause, tries.detail = event.cause, event.detail
    silence(tries)
    item.state = StepState.UNKNOWN
    item.detail = event.detail
    keep(record, item)


def _answered(record: RunRecord, event: e.Answered) -> None:
    item = find_item(record, event.step, event.item)
    settle(record, item, StepState.REJECTED if event.declined else StepState.DONE, event.at)
    if event.declined:
        item.code, item.detail = "declined", event.who.reason
    else:
        item.reply = event.reply
    keep(record, item)


def _late(record: RunRecord, event: e.LateReply) -> None:
    found = record.item(event.step, event.item)
    if found is not None and found.action is not None and event.phase is Phase.ACTION:
        item = clone(found)
        item.action = clone(found.action)
        item.action.tainted = True
        keep(record, item)


def _step_skipped(record: RunRecord, event: e.StepSkipped) -> None:
    put_single(record, event.step, StepState.SKIPPED)


def _step_declined(record: RunRecord, event: e.StepDeclined) -> None:
    item = put_single(record, event.step, StepState.REJECTED)
    item.code, item.detail = event.code, event.detail


def _build_failed(record: RunRecord, event: e.BuildFailed) -> None:
    if event.phase is Phase.COMPENSATION:
        item = find_item(record, event.step, event.item)
        item.state = StepState.COMPENSATING
        keep(record, item)


# -- settling an action


def _settle_requested(record: RunRecord, event: e.SettleRequested) -> None:
    item = find_item(record, event.step, event.item)
    asked = cast("Tries", item.action)
    no_settling(item)
    item.settle = new_tries(event, asked)
    item.settle.sends = item.asked
    if asked.guard is Guard.ONCE:
        item.settle.guard = Guard.IDEMPOTENT  # to ask twice does no harm, whatever to act twice would do
    item.settling = event.phase
    item.seal = event.seal
    if event.seal == "undone" and item.undo is not None:
        item.undo = clone(item.undo)
        silence(item.undo)
    elif item.state is StepState.ACTING:
        item.action = clone(asked)
        silence(item.action)
        item.state = StepState.UNKNOWN
    keep(record, item)


def _sealed(record: RunRecord, event: e.Sealed) -> None:
    item = find_item(record, event.step, event.item)
    no_settling(item)
    item.found = event.found
    if event.found == "succeeded":
        item.reply = event.reply if item.reply is None else item.reply
    else:
        item.state = StepState.COMPENSATED
        item.undo_word = event.found
        lift(record, event.step, event.item)
    keep(record, item)


# -- a compensation


def _undo_requested(record: RunRecord, event: e.CompensationRequested) -> None:
    item = find_item(record, event.step, event.item)
    assert item.action is not None, "only what was requested is undone"
    item.action = clone(item.action)
    silence(item.action)
    no_settling(item)
    item.state = StepState.COMPENSATING
    item.undo = new_tries(event, event)
    if event.guard is not Guard.BARRIER and event.epoch == 0:
        item.undo.open_epoch = None
    keep(record, item)


def _undone(record: RunRecord, event: e.CompensationSucceeded) -> None:
    item, tries = find_tries(record, event.step, event.item, Phase.COMPENSATION)
    tries.sends += 1
    tries.last_end = event.at
    silence(tries)
    item.state = StepState.COMPENSATED
    item.undo_word = event.word
    lift(record, event.step, event.item, Phase.COMPENSATION)
    keep(record, item)


def _undo_pending(record: RunRecord, event: e.CompensationPending) -> None:
    item, tries = find_tries(record, event.step, event.item, Phase.COMPENSATION)
    took_on(tries, event.at, event.answer_due)
    keep(record, item)


# -- what only a person can move, and what persons did


def _marked(record: RunRecord, event: e.Marked) -> None:
    found = record.item(event.step, event.item)
    attempts = 0
    if found is not None:
        item = clone(found)
        tries = item.tries(event.phase)
        if tries is not None:
            tries = clone(tries)
            if tries.is_open or (tries.due is not None and tries.due <= event.at):
                tries.sends += 1
                tries.attempts += 1
                tries.last_end = event.at
                tries.tainted = True
            silence(tries)
            attempts = tries.sends
            match event.phase:
                case Phase.ACTION:
                    item.action = tries
                case Phase.COMPENSATION:
                    item.undo = tries
                case Phase.PROBE | Phase.SEAL:
                    item.settle = tries
                case _ as never:
                    assert_never(never)
        if item.state is StepState.ACTING:
            item.state = StepState.UNKNOWN
        item.detail = event.detail
        keep(record, item)
    record.marks[event.step, event.item, event.phase] = Mark(
        event.step, event.item, event.phase, event.reason, event.detail, attempts, event.at, event.code
    )


def _unmarked(record: RunRecord, event: e.Unmarked) -> None:
    lift(record, event.step, event.item)
    found = record.item(event.step, event.item)
    if found is not None and found.settle is not None and found.settle.due is None:
        item = clone(found)  # the mark had ended the asking: what comes now begins anew
        no_settling(item)
        keep(record, item)


def _retry_asked(record: RunRecord, event: e.RetryAsked) -> None:
    record.by_hand = record.by_hand or event.fact
    if not event.step:
        record.quarantined = None
        return
    lift(record, event.step, event.item, event.phase)
    found = record.item(event.step, event.item)
    if found is None or found.tries(event.phase) is None:
        return
    item, tries = find_tries(record, event.step, event.item, event.phase)
    tries.due = event.at
    if event.renewed:
        tries.attempts = 0
        tries.misrouted = 0
        tries.budget_from = event.at
        tries.answer_due = None
    if tries.participant in BUILT_IN:  # nothing is sent: the question is put again for as long as at first
        tries.due = None
        tries.pending = True
        asked = item.request
        tries.answer_due = None if asked is None or asked.due_at is None else event.at + asked.due_at - tries.since
    if event.phase is Phase.ACTION and item.state is StepState.UNKNOWN:
        hurried = record.hurries_pivot and record.steps[item.step].kind is Kind.PIVOT
        if (record.backward and item.behind_barrier) or (hurried and item.can_settle):
            tries.due = None  # it is compensated, or settled, and not sent again
        else:
            item.state = StepState.ACTING
    keep(record, item)


def _resolved(record: RunRecord, event: e.Resolved) -> None:
    record.by_hand = True
    item = find_item(record, event.step, event.item)
    match event.outcome:
        case "succeeded":
            settle(record, item, StepState.DONE, event.at)
            item.reply = event.reply
        case "rejected":
            settle(record, item, StepState.REJECTED, event.at)
            item.detail = event.who.reason
        case "undone":
            if item.undo is not None:
                item.undo = clone(item.undo)
                silence(item.undo)
            no_settling(item)
            item.state = StepState.COMPENSATED
            item.undo_word = "by-hand"
            lift(record, event.step, event.item)
        case "acknowledged":
            lift(record, event.step, event.item, event.phase)
        case _:  # a seal is owed first
            lift(record, event.step, event.item)
    keep(record, item)


def _skipped(record: RunRecord, event: e.Skipped) -> None:
    record.by_hand = True
    record.ended_by = event.who
    if event.step not in record.steps:
        put_single(record, event.step, StepState.SKIPPED)
        return
    item = find_item(record, event.step, event.item)
    for tries_of in ("action", "undo"):
        tries = cast("Tries | None", getattr(item, tries_of))
        if tries is not None:
            tries = clone(tries)
            silence(tries)
            setattr(item, tries_of, tries)
    no_settling(item)
    item.state = StepState.SKIPPED
    item.left = event.phase
    lift(record, event.step, event.item)
    keep(record, item)


_EFFECTS: Final[dict[type[e.Event], Callable[[RunRecord, Any], None]]] = {
    e.RunStarted: _started_twice,
    e.ActionRequested: _requested,
    e.AttemptStarted: _attempt_started,
    e.AttemptFailed: _attempt_failed,
    e.ActionSucceeded: _succeeded,
    e.ActionRejected: _rejected,
    e.ActionPending: _pending,
    e.ActionUnknown: _unknown,
    e.SettleRequested: _settle_requested,
    e.Sealed: _sealed,
    e.StepSkipped: _step_skipped,
    e.StepDeclined: _step_declined,
    e.BuildFailed: _build_failed,
    e.CompensationRequested: _undo_requested,
    e.CompensationSucceeded: _undone,
    e.CompensationPending: _undo_pending,
    e.Marked: _marked,
    e.Unmarked: _unmarked,
    e.Aborted: _turned_back,
    e.AbortRequested: _abort_requested,
    e.AbortVoid: _abort_void,
    e.DeadlinePassed: _deadline_passed,
    e.CancelAsked: _nothing,
    e.RetryAsked: _retry_asked,
    e.Resolved: _resolved,
    e.Skipped: _skipped,
    e.Answered: _answered,
    e.Abandoned: _abandoned,
    e.LateReply: _late,
    e.RunEnded: _run_ended,
    e.NoticeRequested: _notice_requested,
    e.NoticeDelivered: _notice_delivered,
    e.NoticeFailed: _notice_failed,
    e.Quarantined: _quarantined,
}
"""By the class of the event. `Any`: each function takes the events of its own row."""
