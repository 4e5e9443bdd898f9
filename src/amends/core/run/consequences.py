"""What follows by itself from where a run stands, run to a fixed point after every command.

Forward: whatever is free to start is requested. Backward: what was, or may have been, done is undone as soon as
nothing that depends on it remains. At the end: the run is over, and its notice is owed. A pass that decides nothing
ends the loop, so the order of the rules in it doesn't matter for what is true in the end, only for how it reads.
"""

from typing import assert_never

from amends.core.run import events as e
from amends.core.run.answers import Cause, Unknown
from amends.core.run.decision import Draft, give_up_action
from amends.core.run.definition import Built, Declined, StepDefinition
from amends.core.run.record import (
    CLEAR,
    COMPLETED,
    ItemRecord,
    RunState,
    StepRecord,
    StepState,
    Trait,
    Tries,
)
from amends.core.run.replies import undo_failed
from amends.core.run.summary import ended_outcome
from amends.core.saga.mistakes import BuildError
from amends.core.words.keys import Phase
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import Guard, Kind

_GONE = "the process that may have sent it is gone"


def follow(draft: Draft) -> None:
    """Decide until nothing more follows."""
    record = draft.record
    while record.ended is None and record.quarantined is None:
        decided = len(draft.events)
        goes_on = record.turned is None and record.abort_requested is None
        if draft.epoch and (draft.adopting or not goes_on):  # else what a former owner left open was looked at before
            _take_over(draft)
        if record.turned is None:
            if record.abort_requested is not None:
                _settle_wish_to_turn_back(draft)
            if _advance(draft) and goes_on and not draft.adopting:
                return  # only calls were requested: until one is answered nothing more follows
        if record.turned is not None:
            _retreat(draft)
        _end(draft)
        if len(draft.events) == decided:
            return


# -- attempts that a former owner left open


def _take_over(draft: Draft) -> None:
    for step in list(draft.record.steps.values()):
        if not _may_be_left_open(draft, draft.record.steps[step.name]):
            continue
        for found in list(step.items.values()):
            _take_over_item(draft, draft.again(found))  # what is decided of one may have changed another


def _may_be_left_open(draft: Draft, step: StepRecord) -> bool:
    epochs = (each for each in step.features if isinstance(each, int))
    return any(each != draft.epoch and (each or draft.adopting) for each in epochs)


def _take_over_item(draft: Draft, item: ItemRecord) -> None:
    if item.action is not None and _left_open(draft, item.action) and item.state is StepState.ACTING:
        _take_over_action(draft, item, item.action)
    elif item.undo is not None and _left_open(draft, item.undo) and item.state is StepState.COMPENSATING:
        _take_over_undo(draft, item, item.undo)


def _left_open(draft: Draft, tries: Tries) -> bool:
    """Under an earlier epoch. What a visitor requested, under none, is the present owner's to send and to await."""
    if not tries.open_epoch:
        return tries.is_open and draft.adopting
    return tries.open_epoch != draft.epoch


def _take_over_action(draft: Draft, item: ItemRecord, tries: Tries) -> None:
    record = draft.record
    lost = Unknown(Cause.OWNER_LOST, _GONE)
    match tries.guard:
        case Guard.BARRIER:
            wish = record.abort_requested is not None and draft.is_current_pivot(item)
            if record.backward or wish:
                give_up_action(draft, item, lost)
        case Guard.IDEMPOTENT:
            draft.emit(e.AttemptStarted(draft.at, draft.epoch, item.step, item.item, Phase.ACTION))
        case Guard.ONCE:
            give_up_action(draft, item, lost)
        case _ as never:
            assert_never(never)


def _take_over_undo(draft: Draft, item: ItemRecord, tries: Tries) -> None:
    match tries.guard:
        case Guard.BARRIER:
            pass  # it is sent again as it is: the barrier makes that harmless
        case Guard.IDEMPOTENT:
            draft.emit(e.AttemptStarted(draft.at, draft.epoch, item.step, item.item, Phase.COMPENSATION))
        case Guard.ONCE:
            undo_failed(draft, item, Unknown(Cause.OWNER_LOST, _GONE))
        case _ as never:
            assert_never(never)


# -- forward


def _settle_wish_to_turn_back(draft: Draft) -> None:
    """Compensation was asked for while the pivot's outcome is open: the pivot decides, and is hurried along.

    One that is unknown by now is being asked about, or waits for a person.
    """
    record, pivot = draft.record, draft.pivot
    if pivot is None or record.abort_void:
        return
    if pivot.state is StepState.DONE:
        draft.emit(e.AbortVoid(draft.at, draft.epoch))
        return
    if not pivot.behind_barrier or record.item_has_mark(pivot):
        return
    if pivot.state is StepState.ACTING and pivot.action is not None and not pivot.action.is_open:
        give_up_action(draft, pivot, Unknown(Cause.TURNED_BACK, "not sent again: the run is to turn back"))


def _advance(draft: Draft) -> bool:
    """Request every step that is free to start. All builders run before any of their results counts.

    True: calls were requested, at least one for each of these steps, and nothing else was decided.
    """
    record, definition = draft.record, draft.definition
    if len(record.steps) == len(definition.steps):
        return False
    ready = _free_steps(draft)
    if not ready:
        return False
    results = [(step, step.build(definition, record)) for step in ready]
    declined = [(step, no) for step, no in results if type(no) is Declined and not step.forward_only]
    if declined:
        for step, no in declined:
            draft.emit(e.StepDeclined(draft.at, draft.epoch, step.name, no.code, no.detail))
        first, no = declined[0]
        draft.turn_back(first.name, no.code, f"{first.name} said no: {no.code or no.detail}")
        return False
    only_calls = True
    for step, result in results:
        match result:
            case Built(shape=shape, requests=requests):
                draft.emit(e.ActionRequested(draft.at, draft.epoch, step.name, step.kind, shape, requests))
                only_calls = only_calls and bool(requests)
            case None:
                draft.emit(e.StepSkipped(draft.at, draft.epoch, step.name))
                only_calls = False
            case Declined(code=code, detail=detail):
                only_calls = False
                told = f"{code}: {detail}" if code else detail
                draft.mark(step.name, "", Phase.ACTION, StuckReason.REJECTED_AFTER_PIVOT, told)
            case BuildError(error=error):
                only_calls = False
                draft.bug = draft.bug or (result, step.name)
                draft.emit(e.BuildFailed(draft.at, draft.epoch, step.name, "", Phase.ACTION, error))
                draft.mark(step.name, "", Phase.ACTION, StuckReason.AUTHOR_ERROR, error)
            case _ as never:
                assert_never(never)
    return only_calls


def _free_steps(draft: Draft) -> list[StepDefinition]:
    """Those whose requirements are done or skipped, and that no mark holds up."""
    record = draft.record
    known = record.steps
    free: list[StepDefinition] = []
    for name, step in draft.definition.steps.items():
        if name in known:
            continue
        for required in step.vertex.requires:
            found = known.get(required)
            if found is None or not found.settled:
                break
        else:
            if not record.marks or _may_start_beside_marks(draft, step):
                free.append(step)
    return free


def _may_start_beside_marks(draft: Draft, step: StepDefinition) -> bool:
    if not draft.past_pivot:
        return False
    marks = draft.record.marks.values()
    return not any(mark.step == step.name or mark.step in step.vertex.ancestors for mark in marks)


# -- backward


def _retreat(draft: Draft) -> None:
    record = draft.record
    for name in list(record.steps):
        step = record.steps[name]
        features = step.features
        undoes = Trait.UNDOES in features and draft.step(name).kind is Kind.COMPENSABLE and _is_eligible(draft, name)
        if not undoes and Trait.STOPS not in features:
            continue
        for item in step.to_turn():
            if item.state is StepState.ACTING:
                _stop_acting(draft, item)
            elif undoes and not record.item_has_mark(item):
                _request_undo(draft, item)


def _stop_acting(draft: Draft, item: ItemRecord) -> None:
    """Nothing new is sent; what is in flight is awaited; what isn't is settled, or undone unseen behind a barrier."""
    tries = item.action
    if tries is None or tries.is_open:
        return
    why = Unknown(Cause.TURNED_BACK, "not sent again: the run turned back")
    if item.behind_barrier:
        draft.emit(e.ActionUnknown(draft.at, draft.epoch, item.step, item.item, why.cause, why.detail))
    elif tries.pending or (tries.guard is Guard.ONCE and tries.tainted and not _was_asked_for(draft, tries)):
        give_up_action(draft, item, why)
    elif not tries.tainted:
        never = "it was never sent"
        draft.emit(e.ActionRejected(draft.at, draft.epoch, item.step, item.item, "unreachable", never, "withdrawn"))


def _was_asked_for(draft: Draft, tries: Tries) -> bool:
    """A person wants this very send, and has wanted it since the run turned back: before that it was a new action."""
    turned = draft.record.turned
    return turned is not None and tries.due == tries.budget_from >= turned.at


def _is_eligible(draft: Draft, step: str) -> bool:
    """Nothing that depends on this step remains, item by item."""
    record = draft.record
    for name in draft.step(step).vertex.descendants:
        dependent = record.steps.get(name)
        if dependent is None:
            continue
        if record.marks and record.step_has_mark(name):
            return False
        if not _is_clear(draft, dependent):
            return False
    return True


def _is_clear(draft: Draft, step: StepRecord) -> bool:
    """Nothing of any of its items remains, nor is a compensation owed for one that was skipped."""
    if len(step.items) == 1:
        clear = all(each.state in CLEAR for each in step.items.values())
    else:
        clear = sum(step.counts.get(each, 0) for each in CLEAR) == len(step.items)
    return clear and (Trait.EFFECT not in step.features or draft.step(step.name).kind is not Kind.COMPENSABLE)


def _request_undo(draft: Draft, item: ItemRecord) -> None:
    turned = draft.record.turned
    reason = turned.reason if turned is not None else ""
    undoing = draft.step(item.step).build_undo(draft.definition, draft.record, item, reason)
    if isinstance(undoing, BuildError):
        draft.emit(e.BuildFailed(draft.at, draft.epoch, item.step, item.item, Phase.COMPENSATION, undoing.error))
        draft.mark(item.step, item.item, Phase.COMPENSATION, StuckReason.AUTHOR_ERROR, undoing.error)
        return
    draft.emit(
        e.CompensationRequested(
            draft.at,
            draft.epoch,
            item.step,
            item.item,
            undoing.participant,
            undoing.operation,
            undoing.guard,
            undoing.body,
        )
    )


# -- the end


def _end(draft: Draft) -> None:
    record = draft.record
    if record.ended is not None or record.marks:
        return
    if record.turned is None:
        steps = draft.definition.steps
        if len(record.steps) == len(steps) and all(step.settled for step in record.steps.values()):
            _ended(draft, COMPLETED, ())
        return
    if not all(_is_clear(draft, step) for step in record.steps.values()):
        return
    effects = tuple(item.name for item in record.items() if _was_left(draft, item))
    _ended(draft, RunState.ABANDONED if effects else RunState.COMPENSATED, effects)


def _was_left(draft: Draft, item: ItemRecord) -> bool:
    """An operator decided that an effect, or a possible one, stays."""
    if item.state is not StepState.SKIPPED or item.left is None:
        return False
    if item.left is not Phase.ACTION:
        return True
    unguarded = item.request is not None and not item.behind_barrier and draft.step(item.step).kind is not Kind.NEUTRAL
    return unguarded and item.action is not None and item.action.tainted


def _ended(draft: Draft, state: RunState, effects: tuple[str, ...]) -> None:
    draft.emit(e.RunEnded(draft.at, draft.epoch, state.value, effects))
    tell_end(draft)


def tell_end(draft: Draft) -> None:
    """Owe the notice, where the saga has one; a notice that can't be built leaves the end as it is."""
    definition = draft.definition
    if not definition.has_notice:
        return
    notice = definition.build_notice(draft.record, ended_outcome(definition, draft.record))
    match notice:
        case None:
            return
        case BuildError(error=error):
            draft.emit(e.NoticeFailed(draft.at, draft.epoch, Cause.RAISED, error, None, counted=True))
        case e.Request(participant=participant, operation=operation, guard=guard, body=body):
            draft.emit(e.NoticeRequested(draft.at, draft.epoch, participant, operation, guard, body))
        case _ as never:
            assert_never(never)
