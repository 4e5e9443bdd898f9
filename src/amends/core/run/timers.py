"""What follows when time has come: the deadline, answers that never came, sleeps that are over."""

from amends.core.run import events as e
from amends.core.run.answers import Cause, Unknown
from amends.core.run.decision import Draft, give_up_action
from amends.core.run.record import ItemRecord, StepState
from amends.core.run.replies import attempt_failed, reject, undo_failed
from amends.core.words.keys import Phase
from amends.core.words.reasons import StuckReason


def on_due(draft: Draft) -> None:
    """Everything that was due by now. Time alone never sends anything: what is to be sent is owed by the record."""
    if draft.record.ended is not None:
        return
    _deadline(draft)
    for item in list(draft.record.items()):
        tries = item.action
        if item.state is StepState.ACTING and tries is not None and tries.pending and _is_over(tries.answer_due, draft):
            _overdue(draft, draft.again(item))
    for item in list(draft.record.items()):
        tries = item.undo
        if (
            item.state is StepState.COMPENSATING
            and tries is not None
            and tries.pending
            and _is_over(tries.answer_due, draft)
        ):
            undo_failed(draft, draft.again(item), Unknown(Cause.NO_ANSWER, "no answer came in time"))


def _is_over(moment: int | None, draft: Draft) -> bool:
    return moment is not None and moment <= draft.at


def _deadline(draft: Draft) -> None:
    record = draft.record
    if not _is_over(record.deadline, draft) or record.deadline_passed or record.backward:
        return
    draft.emit(e.DeadlinePassed(draft.at, draft.epoch))
    if draft.past_pivot:
        return
    turn_or_ask(draft, "deadline passed")


def turn_or_ask(draft: Draft, reason: str) -> None:
    """Turn back where that is the run's to decide; while the pivot is open it is the pivot's."""
    if draft.pivot_open:
        if draft.record.abort_requested is None:
            draft.emit(e.AbortRequested(draft.at, draft.epoch, reason))
    else:
        draft.turn_back(None, None, reason)


def _overdue(draft: Draft, item: ItemRecord) -> None:
    if item.state is not StepState.ACTING or item.request is None:
        return
    step = draft.step(item.step)
    match item.request.participant:
        case "sleep":
            draft.emit(e.ActionSucceeded(draft.at, draft.epoch, item.step, item.item, b"null"))
        case "ask":
            if step.forward_only:
                draft.mark(item.step, item.item, Phase.ACTION, StuckReason.NO_ANSWER, "nobody answered in time")
            else:
                reject(draft, item, "no-answer", "nobody answered in time", "no-answer")
        case _ if step.forward_only:
            attempt_failed(draft, item, Unknown(Cause.NO_ANSWER, "no answer came in time"))
        case _:
            give_up_action(draft, item, Unknown(Cause.NO_ANSWER, "no answer came in time"))
