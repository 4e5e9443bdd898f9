"""Folding facts into a record. Total: every event of `amends.core.events` has its one effect here, and none is refused.

`apply` changes the record it is given, but only in its own copies of items and tries, so that a record handed out earlier stays
what it was. `evolve` is the pure form. No builder is called, no definition is needed: history stands by itself.
"""

from collections.abc import Iterable
from typing import Literal, assert_never, cast

from amends.core import events as e
from amends.core.answers import Cause
from amends.core.keys import Phase
from amends.core.retry import Guard, Kind
from amends.core.state import (
    BUILT_IN,
    ItemRecord,
    Mark,
    RunRecord,
    RunState,
    StepRecord,
    StepState,
    Tries,
    TurnedBack,
    clone,
)

NEVER_LEFT = frozenset({Cause.NOT_SENT, Cause.WITHDRAWN})
"""Ends of an attempt in which provably no byte of the request left."""


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
        length=1,
    )


def apply(record: RunRecord, event: e.Event) -> None:  # noqa: C901, PLR0912, PLR0915 - one case per event, nothing nested
    """Fold one fact into a record that belongs to the caller."""
    record.length += 1
    record.at = event.at
    match event:
        case e.RunStarted():
            msg = f"{record.run}: a second RunStarted in one history"
            raise TypeError(msg)
        case e.ActionRequested():
            _requested(record, event)
        case e.AttemptStarted():
            item, tries = _tries(record, event.step, event.item, event.phase)
            tries.tainted = tries.tainted or tries.is_open
            tries.open_epoch = event.epoch
            tries.due = event.at
            tries.pending = False
            _keep(record, item)
        case e.AttemptFailed():
            item, tries = _tries(record, event.step, event.item, event.phase)
            _attempt_ended(tries, event.at, event.epoch, event.cause, event.detail, counted=event.counted)
            tries.due = event.next_due
            if event.phase is Phase.SEAL and event.cause is Cause.PENDING and item.action is not None:
                item.action = clone(item.action)
                item.action.tainted = True
            _keep(record, item)
        case e.ActionSucceeded():
            item = _item(record, event.step, event.item)
            _settled(record, item, StepState.DONE, event.at)
            item.reply = event.reply
            _keep(record, item)
        case e.ActionRejected():
            item = _item(record, event.step, event.item)
            _settled(record, item, StepState.REJECTED, event.at)
            item.code, item.detail = event.code, event.detail
            _keep(record, item)
        case e.ActionPending():
            item, tries = _tries(record, event.step, event.item, Phase.ACTION)
            _took_on(tries, event.at, event.answer_due)
            _keep(record, item)
        case e.ActionUnknown():
            item, tries = _tries(record, event.step, event.item, Phase.ACTION)
            if tries.is_open or event.cause not in {Cause.TURNED_BACK, Cause.NO_ANSWER}:
                _attempt_ended(tries, event.at, event.epoch, event.cause, event.detail, counted=True)
            else:
                tries.cause, tries.detail = event.cause, event.detail
            tries.due = None
            tries.pending = False
            item.state = StepState.UNKNOWN
            item.detail = event.detail
            _keep(record, item)
        case e.SettleRequested():
            _settle_requested(record, event)
        case e.Sealed():
            item = _item(record, event.step, event.item)
            _no_settling(item)
            item.found = event.found
            if event.found == "succeeded":
                item.reply = event.reply if item.reply is None else item.reply
            else:
                item.state = StepState.COMPENSATED
                item.undo_word = event.found
                _lift(record, event.step, event.item)
            _keep(record, item)
        case e.StepSkipped():
            _put_single(record, event.step, StepState.SKIPPED)
        case e.StepDeclined():
            item = _put_single(record, event.step, StepState.REJECTED)
            item.code, item.detail = event.code, event.detail
        case e.BuildFailed():
            if event.phase is Phase.COMPENSATION:
                item = _item(record, event.step, event.item)
                item.state = StepState.COMPENSATING
                _keep(record, item)
        case e.CompensationRequested():
            item = _item(record, event.step, event.item)
            if item.action is not None:
                item.action = clone(item.action)
                _silence(item.action)
            _no_settling(item)
            item.state = StepState.COMPENSATING
            item.undo = _new_tries(event.participant, event.operation, event.guard, event.body, event.at, event.epoch)
            if event.guard is not Guard.BARRIER and event.epoch == 0:
                item.undo.open_epoch = None
            _keep(record, item)
        case e.CompensationSucceeded():
            item, tries = _tries(record, event.step, event.item, Phase.COMPENSATION)
            tries.sends += 1
            tries.last_end = event.at
            _silence(tries)
            item.state = StepState.COMPENSATED
            item.undo_word = event.word
            _lift(record, event.step, event.item, Phase.COMPENSATION)
            _keep(record, item)
        case e.CompensationPending():
            item, tries = _tries(record, event.step, event.item, Phase.COMPENSATION)
            _took_on(tries, event.at, event.answer_due)
            _keep(record, item)
        case e.Marked():
            _marked(record, event)
        case e.Unmarked():
            _lift(record, event.step, event.item)
        case e.Aborted():
            _turned_back(record, event)
        case e.AbortRequested():
            record.abort_requested = event.reason
        case e.AbortVoid():
            record.abort_void = True
        case e.DeadlinePassed():
            record.deadline_passed = True
        case e.CancelAsked():
            pass
        case e.RetryAsked():
            _retry_asked(record, event)
        case e.Resolved():
            _resolved(record, event)
        case e.Skipped():
            _skipped(record, event)
        case e.Answered():
            item = _item(record, event.step, event.item)
            _settled(record, item, StepState.REJECTED if event.declined else StepState.DONE, event.at)
            if event.declined:
                item.code, item.detail = "declined", event.who.reason
            else:
                item.reply = event.reply
            _keep(record, item)
        case e.Abandoned():
            record.ended = RunState.ABANDONED
            record.ended_at = event.at
            record.ended_by = event.who
            record.effects = event.effects
            record.by_hand = True
        case e.LateReply():
            item = record.item(event.step, event.item)
            if item is not None and item.action is not None and event.phase is Phase.ACTION:
                item = clone(item)
                item.action = clone(cast("Tries", item.action))
                item.action.tainted = True
                _keep(record, item)
        case e.RunEnded():
            record.ended = RunState(event.state)
            record.ended_at = event.at
            record.effects = event.effects
        case e.NoticeRequested():
            record.notice = _new_tries(
                event.participant, event.operation, event.guard, event.body, event.at, event.epoch
            )
        case e.NoticeDelivered():
            record.notice = clone(cast("Tries", record.notice))
            _silence(record.notice)
            record.notice_delivered = True
        case e.NoticeFailed():
            if record.notice is not None:
                record.notice = clone(record.notice)
                _attempt_ended(
                    record.notice, event.at, event.epoch, event.cause, event.detail, counted=event.counted
                )
                record.notice.due = event.next_due
        case e.Quarantined():
            record.quarantined = event.reason
        case _:
            assert_never(event)


# -- items and tries: always the caller's own copy, put back with _keep


def _item(record: RunRecord, step: str, item: str) -> ItemRecord:
    found = record.item(step, item)
    if found is None:
        msg = f"{record.run}: the history speaks of {step!r}/{item!r}, which was never requested"
        raise TypeError(msg)
    return clone(found)


def _tries(record: RunRecord, step: str, item: str, phase: Phase) -> tuple[ItemRecord, Tries]:
    owner = _item(record, step, item)
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
    return owner, tries


def _keep(record: RunRecord, item: ItemRecord) -> None:
    """Put an item back, in a copy of its step."""
    old = record.steps[item.step]
    before = old.items.get(item.item)
    counts = dict(old.counts)
    if before is not None:
        counts[before.state] -= 1
    counts[item.state] = counts.get(item.state, 0) + 1
    items = dict(old.items)
    items[item.item] = item
    record.steps[item.step] = StepRecord(old.name, old.kind, old.shape, items, counts)


def _put_single(record: RunRecord, step: str, state: StepState) -> ItemRecord:
    item = ItemRecord(step=step, item="", state=state, request=None)
    record.steps[step] = StepRecord(step, None, "one", {"": item}, {state: 1})
    _lift(record, step, "")
    return item


def _new_tries(participant: str, operation: str, guard: Guard, body: bytes, at: int, epoch: int) -> Tries:
    return Tries(
        participant=participant,
        operation=operation,
        guard=guard,
        body=body,
        since=at,
        budget_from=at,
        first_epoch=epoch,
        open_epoch=epoch,
        due=at,
    )


def _requested(record: RunRecord, event: e.ActionRequested) -> None:
    items: dict[str, ItemRecord] = {}
    alone = len(event.requests) == 1
    for request in event.requests:
        tries = _new_tries(
            request.participant, request.operation, request.guard, request.body, event.at, event.epoch
        )
        if request.participant in BUILT_IN:
            tries.open_epoch = tries.due = None
            tries.pending = True
            tries.answer_due = request.due_at
        elif request.guard is not Guard.BARRIER and (event.epoch == 0 or not alone):
            tries.open_epoch = None
        items[request.item] = ItemRecord(event.step, request.item, StepState.ACTING, request, action=tries)
    shape = cast("Literal['one', 'dict', 'list']", event.shape)
    record.steps[event.step] = StepRecord(event.step, event.kind, shape, items, {StepState.ACTING: len(items)})
    _lift(record, event.step, "")


def _attempt_ended(tries: Tries, at: int, epoch: int, cause: Cause, detail: str, *, counted: bool) -> None:  # noqa: PLR0913 - the facts of one end
    if cause not in NEVER_LEFT:
        tries.tainted = True
    elif tries.guard is Guard.BARRIER:
        tries.tainted = tries.tainted or epoch != tries.first_epoch
    elif tries.open_epoch is not None:
        tries.tainted = tries.tainted or epoch != tries.open_epoch
    tries.open_epoch = None
    tries.pending = False
    tries.sends += 1
    tries.attempts += counted
    tries.misrouted += cause is Cause.MISROUTED
    tries.last_end = at
    tries.cause = cause
    tries.detail = detail


def _took_on(tries: Tries, at: int, answer_due: int) -> None:
    if tries.is_open:
        tries.sends += 1
    tries.open_epoch = None
    tries.due = None
    tries.tainted = True
    tries.pending = True
    tries.last_end = at
    tries.answer_due = answer_due if tries.answer_due is None else tries.answer_due


def _silence(tries: Tries) -> None:
    """Nothing of this key goes out any more."""
    tries.open_epoch = None
    tries.due = None
    tries.pending = False


def _no_settling(item: ItemRecord) -> None:
    item.settle = None
    item.settling = None
    item.seal = ""


def _settled(record: RunRecord, item: ItemRecord, state: StepState, at: int) -> None:
    if item.action is not None:
        item.action = clone(item.action)
        if item.action.is_open or item.action.due is not None:
            item.action.sends += 1
        item.action.last_end = at
        _silence(item.action)
    _no_settling(item)
    item.state = state
    for phase in (Phase.ACTION, Phase.PROBE, Phase.SEAL):
        _lift(record, item.step, item.item, phase)


def _lift(record: RunRecord, step: str, item: str, *phases: Phase) -> None:
    for phase in phases or Phase:
        record.marks.pop((step, item, phase), None)


def _settle_requested(record: RunRecord, event: e.SettleRequested) -> None:
    item = _item(record, event.step, event.item)
    asked = cast("Tries", item.action)
    item.settle = _new_tries(asked.participant, asked.operation, asked.guard, asked.body, event.at, event.epoch)
    item.settling = event.phase
    item.seal = event.seal
    if event.seal == "undone" and item.undo is not None:
        item.undo = clone(item.undo)
        _silence(item.undo)
    elif item.state is StepState.ACTING:
        item.action = clone(asked)
        _silence(item.action)
        item.state = StepState.UNKNOWN
    _keep(record, item)


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
            _silence(tries)
            attempts = tries.sends
            match event.phase:
                case Phase.ACTION:
                    item.action = tries
                case Phase.COMPENSATION:
                    item.undo = tries
                case Phase.PROBE | Phase.SEAL:
                    item.settle = tries
        if item.state is StepState.ACTING:
            item.state = StepState.UNKNOWN
        item.detail = event.detail
        _keep(record, item)
    record.marks[event.step, event.item, event.phase] = Mark(
        event.step, event.item, event.phase, event.reason, event.detail, attempts, event.at
    )


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
            if item.action is not None:
                item.action = clone(item.action)
                _silence(item.action)
            _no_settling(item)
            item.state = StepState.COMPENSATED
            _lift(record, item.step, item.item)
            _keep(record, item)


def _retry_asked(record: RunRecord, event: e.RetryAsked) -> None:
    record.by_hand = record.by_hand or event.fact
    _lift(record, event.step, event.item, event.phase)
    found = record.item(event.step, event.item)
    if found is None or found.tries(event.phase) is None:
        return
    item, tries = _tries(record, event.step, event.item, event.phase)
    tries.due = event.at
    if event.renewed:
        tries.attempts = 0
        tries.misrouted = 0
        tries.budget_from = event.at
        tries.answer_due = None
    if event.phase is Phase.ACTION and item.state is StepState.UNKNOWN:
        if (record.backward and item.behind_barrier) or (record.abort_requested is not None and item.can_settle):
            tries.due = None  # it is compensated, or settled, and not sent again
        else:
            item.state = StepState.ACTING
    _keep(record, item)


def _resolved(record: RunRecord, event: e.Resolved) -> None:
    record.by_hand = True
    item = _item(record, event.step, event.item)
    match event.outcome:
        case "succeeded":
            _settled(record, item, StepState.DONE, event.at)
            item.reply = event.reply
        case "rejected":
            _settled(record, item, StepState.REJECTED, event.at)
            item.detail = event.who.reason
        case "undone":
            if item.undo is not None:
                item.undo = clone(item.undo)
                _silence(item.undo)
            _no_settling(item)
            item.state = StepState.COMPENSATED
            item.undo_word = "by-hand"
            _lift(record, event.step, event.item)
        case _:  # a seal is owed first, or a mark is acknowledged
            _lift(record, event.step, event.item)
    _keep(record, item)


def _skipped(record: RunRecord, event: e.Skipped) -> None:
    record.by_hand = True
    record.ended_by = event.who
    if event.step not in record.steps:
        _put_single(record, event.step, StepState.SKIPPED)
        return
    item = _item(record, event.step, event.item)
    for tries_of in ("action", "undo"):
        tries = cast("Tries | None", getattr(item, tries_of))
        if tries is not None:
            tries = clone(tries)
            _silence(tries)
            setattr(item, tries_of, tries)
    _no_settling(item)
    item.state = StepState.SKIPPED
    item.left = event.phase
    _lift(record, event.step, event.item)
    _keep(record, item)
