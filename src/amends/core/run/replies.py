"""What an answer changes, by the phase of the key that it answers and the state its item is in."""

from typing import assert_never

from amends.core.run import events as e
from amends.core.run.answers import Cause, Halt, Pending, SaidNo, Succeeded, Unknown
from amends.core.run.commands import Reply
from amends.core.run.decision import Draft, failed, give_up_action
from amends.core.run.evolve_items import NEVER_LEFT
from amends.core.run.record import ItemRecord, StepState, Tries
from amends.core.words.contract import UNDONE_NOTHING
from amends.core.words.keys import ACTION, NOTICE, Phase
from amends.core.words.limits import DETAIL_CHARACTERS_MAX
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import MICROSECONDS, Guard, Kind, resolve

ANSWER_DUE_DEFAULT = 7 * 24 * 3_600 * MICROSECONDS
"""How long a pending answer is waited for."""

NOTICE_PATIENCE = resolve(None, Kind.RETRIABLE).action
"""A notice is tried like a step that must succeed in the end."""

_OPEN = frozenset({StepState.ACTING, StepState.UNKNOWN})


def on_reply(draft: Draft, reply: Reply) -> None:
    """Take an answer in. An answer without an open question changes nothing."""
    if reply.step == NOTICE:
        _notice(draft, reply)
        return
    item = draft.record.item(reply.step, reply.item)
    if item is None or item.request is None:
        return
    if reply.phase is ACTION:
        _action(draft, item, reply)
        return
    match reply.phase:
        case Phase.COMPENSATION:
            if item.state is StepState.COMPENSATING and draft.record.ended is None:
                _compensation(draft, item, reply)
        case Phase.PROBE | Phase.SEAL:
            if item.settling is reply.phase and draft.record.ended is None:
                _settle(draft, item, reply)
        case _ as never:
            assert_never(never)


# -- an action's answer


def _action(draft: Draft, item: ItemRecord, reply: Reply) -> None:
    if item.state not in _OPEN or draft.record.ended is not None:
        _late(draft, item, reply)
        return
    outcome = reply.outcome
    match outcome:
        case Succeeded(reply=body):
            draft.emit(e.ActionSucceeded(draft.at, draft.epoch, item.step, item.item, body))
        case SaidNo():
            _said_no(draft, item, reply, outcome)
        case Pending():
            if item.state is StepState.ACTING and _is_latest(item.action, reply):
                due = draft.at + ANSWER_DUE_DEFAULT
                draft.emit(e.ActionPending(draft.at, draft.epoch, item.step, item.item, due))
        case Unknown():
            if _is_latest(item.action, reply) and item.state is StepState.ACTING and draft.epoch:
                attempt_failed(draft, item, outcome)
        case Halt(reason=reason, detail=detail, code=code):
            if item.state is StepState.ACTING and draft.epoch:
                draft.mark(item.step, item.item, Phase.ACTION, reason, detail, code=code)
        case _ as never:
            assert_never(never)


def _is_latest(tries: Tries | None, reply: Reply) -> bool:
    return tries is not None and reply.attempt == tries.sends + 1 and not tries.pending


def _answers_now(draft: Draft, item: ItemRecord, reply: Reply) -> bool:
    """The owner's answer to the latest send, or the one that work taken on was waited for."""
    tries = item.action
    return tries is not None and (tries.pending or (draft.epoch != 0 and _is_latest(tries, reply)))


def _said_no(draft: Draft, item: ItemRecord, reply: Reply, no: SaidNo) -> None:
    step = draft.step(item.step)
    if step.forward_only:
        if item.state is not StepState.ACTING:
            return
        if no.word == "blocked":
            draft.mark(item.step, item.item, Phase.ACTION, StuckReason.BLOCKED, no.detail)
        elif _answers_now(draft, item, reply):
            told = f"{no.code}: {no.detail}" if no.code else no.detail
            attempt_failed(draft, item, Unknown(Cause.REJECTED, told[:DETAIL_CHARACTERS_MAX]))
        return
    if _is_definite(draft, item, reply) or step.kind is Kind.NEUTRAL:
        reject(draft, item, no.code, no.detail, no.word)
    elif item.state is StepState.ACTING and _answers_now(draft, item, reply):
        told = f"a no that may follow a yes whose answer was lost: {no.code or no.detail}"
        give_up_action(draft, item, Unknown(Cause.REJECTED, told))
    else:
        _note_late(draft, item, no, alert=False)


def _is_definite(draft: Draft, item: ItemRecord, reply: Reply) -> bool:
    """Behind a barrier every no is; elsewhere only the answer to the one and only send."""
    tries = item.action
    if item.behind_barrier or tries is None:
        return True
    return (
        not tries.tainted and draft.epoch != 0 and draft.epoch == tries.open_epoch and reply.attempt == tries.sends + 1
    )


def reject(draft: Draft, item: ItemRecord, code: str | None, detail: str, word: str) -> None:
    """A definite no: the action had no effect. Going forward it turns the run back."""
    draft.emit(e.ActionRejected(draft.at, draft.epoch, item.step, item.item, code, detail, word))
    draft.turned_by(item, code, f"{item.name} said no: {code or detail}")


def attempt_failed(draft: Draft, item: ItemRecord, unknown: Unknown) -> None:
    """An action's attempt ended with nothing known: again, or the end of trying."""
    tries = item.action
    assert tries is not None, "only what was requested can fail"
    if _exits_again(tries, unknown):
        draft.mark(item.step, item.item, Phase.ACTION, StuckReason.AUTHOR_ERROR, unknown.detail)
        return
    step, record = draft.step(item.step), draft.record
    stops = item.behind_barrier and (
        record.backward or (record.abort_requested is not None and draft.is_current_pivot(item))
    )
    never_left = unknown.cause in NEVER_LEFT and draft.never_left(tries)
    if never_left and (record.backward or unknown.cause is Cause.WITHDRAWN):
        give_up_action(draft, item, unknown)
        return
    due = None if stops else draft.next_due(tries, step.policy.action, draft.key(item, Phase.ACTION), unknown)
    if due is not None:
        draft.fail(item, Phase.ACTION, unknown, due)
    else:
        give_up_action(draft, item, unknown)


def _exits_again(tries: Tries, unknown: Unknown) -> bool:
    """Code of a step that asked for the end of the process twice in a row does so at each attempt. Where nothing
    contained it, it would be a crash loop.
    """
    return unknown.cause is Cause.EXITED and tries.cause is Cause.EXITED


# -- an action's answer that comes when its item has moved on


def _late(draft: Draft, item: ItemRecord, reply: Reply) -> None:
    outcome, ended = reply.outcome, draft.record.ended is not None
    kind = draft.step(item.step).kind
    match outcome:
        case Succeeded(reply=body):
            if item.state is StepState.DONE or _is_no_news(item):
                return
            if item.state is StepState.REJECTED and not ended and kind is Kind.COMPENSABLE:
                draft.emit(e.ActionSucceeded(draft.at, draft.epoch, item.step, item.item, body))
                return
            if kind is Kind.NEUTRAL:
                _note_late(draft, item, outcome, alert=False)
                return
            _note_late(draft, item, outcome, alert=_contradicts(item, ended=ended))
            if ended:
                return
            if item.state is StepState.REJECTED:
                _contradiction(draft, item, StuckReason.CONTRADICTION)
            elif item.state in {StepState.COMPENSATING, StepState.COMPENSATED} and not item.behind_barrier:
                _contradiction(draft, item, StuckReason.LATE_SUCCESS)
        case SaidNo():
            if item.state is not StepState.DONE or draft.step(item.step).forward_only or kind is Kind.NEUTRAL:
                if item.state is StepState.SKIPPED:
                    _note_late(draft, item, outcome, alert=ended)
                return
            _note_late(draft, item, outcome, alert=True)
            if not ended and (kind is Kind.PIVOT or not item.behind_barrier):
                _contradiction(draft, item, StuckReason.CONTRADICTION)
        case Pending() | Unknown() | Halt():
            return
        case _ as never:
            assert_never(never)


def _is_no_news(item: ItemRecord) -> bool:
    """Its yes was known before it was undone, behind a barrier: this is another copy of the same answer.

    Without a barrier it may be the answer to a late copy of the request, which acted again after the undo.
    """
    undone = item.behind_barrier and item.state in {StepState.COMPENSATING, StepState.COMPENSATED}
    return undone and item.reply is not None and item.undo_word not in UNDONE_NOTHING


def _contradicts(item: ItemRecord, *, ended: bool) -> bool:
    """Whether a late success is news that an operator must hear."""
    match item.state:
        case StepState.COMPENSATING:
            return not item.behind_barrier
        case StepState.COMPENSATED:
            return not item.behind_barrier or item.undo_word in UNDONE_NOTHING
        case StepState.SKIPPED:
            return ended
        case _:
            return True


def _contradiction(draft: Draft, item: ItemRecord, reason: StuckReason) -> None:
    if (item.step, item.item, Phase.ACTION) not in draft.record.marks:
        detail = f"an answer of {item.name} contradicts what is known of it ({item.state.value})"
        draft.mark(item.step, item.item, Phase.ACTION, reason, detail)


def _note_late(draft: Draft, item: ItemRecord, outcome: Succeeded | SaidNo, *, alert: bool) -> None:
    body = outcome.reply if isinstance(outcome, Succeeded) else b"null"
    draft.emit(e.LateReply(draft.at, draft.epoch, item.step, item.item, Phase.ACTION, outcome.word, body, alert))


# -- a compensation's answer


def _compensation(draft: Draft, item: ItemRecord, reply: Reply) -> None:
    tries = item.undo
    if tries is None or item.settling is not None or item.found == "succeeded":
        return  # sealed, so it didn't run and never will: its effect waits for a person
    match reply.outcome:
        case Succeeded(word=word):
            draft.emit(e.CompensationSucceeded(draft.at, draft.epoch, item.step, item.item, word))
        case Pending():
            if not tries.pending and not draft.record.item_has_mark_of(item, Phase.COMPENSATION):
                due = draft.at + ANSWER_DUE_DEFAULT
                draft.emit(e.CompensationPending(draft.at, draft.epoch, item.step, item.item, due))
        case Unknown() as unknown:
            if _is_latest(tries, reply) and draft.epoch and not draft.record.item_has_mark_of(item, Phase.COMPENSATION):
                undo_failed(draft, item, unknown)
        case SaidNo(code=code, detail=detail):
            _stuck_undoing(draft, item, StuckReason.COMPENSATION_REJECTED, detail, code)
        case Halt(reason=reason, detail=detail, code=code):
            _stuck_undoing(draft, item, reason, detail, code=code)
        case _ as never:
            assert_never(never)


def _stuck_undoing(draft: Draft, item: ItemRecord, reason: StuckReason, detail: str, code: str | None) -> None:
    if not draft.record.item_has_mark_of(item, Phase.COMPENSATION):
        draft.mark(item.step, item.item, Phase.COMPENSATION, reason, detail, code=code)


def undo_failed(draft: Draft, item: ItemRecord, unknown: Unknown) -> None:
    """A compensation's attempt ended with nothing known: again, capped; spent, a person is asked."""
    tries = item.undo
    assert tries is not None, "only an undo that was requested can fail"
    if _exits_again(tries, unknown):
        draft.mark(item.step, item.item, Phase.COMPENSATION, StuckReason.AUTHOR_ERROR, unknown.detail)
        return
    patience = draft.step(item.step).policy.compensation
    due = draft.next_due(tries, patience, draft.key(item, Phase.COMPENSATION), unknown)
    draft.fail(item, Phase.COMPENSATION, unknown, due)
    if due is None:
        reason = StuckReason.MISROUTED if unknown.cause is Cause.MISROUTED else StuckReason.SPENT
        draft.mark(item.step, item.item, Phase.COMPENSATION, reason, unknown.detail)


# -- the answer to a question about an action


def _settle(draft: Draft, item: ItemRecord, reply: Reply) -> None:
    tries, outcome = item.settle, reply.outcome
    if tries is None or reply.attempt <= item.asked:
        return  # no question is open, or it answers an earlier one
    if draft.record.item_has_mark_of(item, reply.phase) and not isinstance(outcome, Succeeded | SaidNo):
        return  # a person knows already that asking doesn't help
    if item.seal == "undone":
        _sealed(draft, item, reply)
        return
    match outcome:
        case Succeeded(reply=body):
            draft.emit(e.ActionSucceeded(draft.at, draft.epoch, item.step, item.item, body, settled=True))
        case SaidNo(code=code, detail=detail, word=word):
            _never_happened(draft, item, code, detail, word)
        case Pending():
            _settle_pending(draft, item, reply)
        case Unknown():
            _settle_unknown(draft, item, reply, outcome)
        case Halt(reason=reason, detail=detail, code=code):
            draft.mark(item.step, item.item, reply.phase, reason, detail, code=code)
        case _ as never:
            assert_never(never)


def _never_happened(draft: Draft, item: ItemRecord, code: str | None, detail: str, word: str) -> None:
    """Sealed: the action said no, or never came and never will."""
    if word == "rejected":
        reject(draft, item, code, detail, word)
        return
    tries = item.action
    cause, error = (tries.cause, tries.detail) if tries is not None else (None, "")
    draft.emit(e.ActionRejected(draft.at, draft.epoch, item.step, item.item, "no-answer", detail, word))
    draft.turned_by(item, "no-answer", failed(item.name, cause, error))


def _settle_pending(draft: Draft, item: ItemRecord, reply: Reply) -> None:
    """The work is still on at the participant: ask again, until the answer is overdue."""
    action, tries = item.action, item.settle
    if action is None or tries is None or not _is_latest(tries, reply) or not draft.epoch:
        return
    overdue = action.answer_due if action.answer_due is not None else tries.budget_from + ANSWER_DUE_DEFAULT
    unknown = Unknown(Cause.PENDING, "the participant is still working on it", counted=False)
    patience = draft.step(item.step).policy.compensation
    due = draft.next_due(tries, patience, draft.key(item, reply.phase), unknown)
    due = None if draft.at >= overdue else due
    draft.fail(item, reply.phase, unknown, due)
    if due is None:
        draft.mark(item.step, item.item, reply.phase, StuckReason.OUTCOME_UNKNOWN, unknown.detail)


def _settle_unknown(draft: Draft, item: ItemRecord, reply: Reply, unknown: Unknown) -> None:
    tries = item.settle
    if tries is None or not _is_latest(tries, reply) or not draft.epoch:
        return
    if reply.phase is Phase.PROBE and unknown.cause is Cause.ABSENT and _may_not_arrive_any_more(draft, item):
        _never_happened(draft, item, "no-answer", unknown.detail, "absent")
        return
    patience = draft.step(item.step).policy.compensation
    due = draft.next_due(tries, patience, draft.key(item, reply.phase), unknown)
    draft.fail(item, reply.phase, unknown, due)
    if due is None:
        sealing = item.seal == "undone"
        draft.mark(
            item.step,
            item.item,
            reply.phase,
            StuckReason.SEALING if sealing else StuckReason.OUTCOME_UNKNOWN,
            unknown.detail,
        )


def _may_not_arrive_any_more(draft: Draft, item: ItemRecord) -> bool:
    """Without a barrier "nothing there" means "never" only once nothing sent can still be on its way."""
    return draft.at >= may_arrive_until(draft, item)


def may_arrive_until(draft: Draft, item: ItemRecord) -> int:
    """Until when a copy of an unguarded action may still arrive (microseconds UTC)."""
    tries, request = item.action, item.request
    if tries is None or request is None or not tries.tainted:
        return 0
    operation = draft.definition.operation(request.participant, request.operation)
    late = 3_600 * MICROSECONDS if operation is None else int(operation.late_after.total_seconds() * MICROSECONDS)
    return (tries.last_end if tries.last_end is not None else tries.since) + late


def _sealed(draft: Draft, item: ItemRecord, reply: Reply) -> None:
    """A person says that it is undone, and the participant was told so: nothing of it can act any more."""
    match reply.outcome:
        case Succeeded(reply=body, word=word):
            found = "succeeded" if word == "succeeded" else word
            draft.emit(e.Sealed(draft.at, draft.epoch, item.step, item.item, found, body))
            if found == "succeeded":
                detail = "its effect was found in place and is now yours to undo by hand: confirm with resolve undone"
                draft.mark(item.step, item.item, Phase.COMPENSATION, StuckReason.CONFIRM_UNDONE, detail)
        case SaidNo(word=word):
            found = "noop" if word in {"noop", "rejected"} else "blocked"
            draft.emit(e.Sealed(draft.at, draft.epoch, item.step, item.item, found, b"null"))
        case Pending():
            waiting = Unknown(Cause.PENDING, "the participant is still working on it", counted=False)
            _settle_unknown(draft, item, reply, waiting)
        case Unknown() as unknown:
            _settle_unknown(draft, item, reply, unknown)
        case Halt(reason=_, detail=detail):
            draft.mark(item.step, item.item, Phase.SEAL, StuckReason.SEALING, detail)
        case _ as never:
            assert_never(never)


# -- the notice, after the end


def _notice(draft: Draft, reply: Reply) -> None:
    tries = draft.record.notice
    if tries is None or draft.record.notice_delivered:
        return
    match reply.outcome:
        case Succeeded() | Pending():
            draft.emit(e.NoticeDelivered(draft.at, draft.epoch))
        case SaidNo(code=code, detail=detail):
            told = f"{code}: {detail}" if code else detail
            _notice_failed(draft, tries, reply, Unknown(Cause.REJECTED, told))
        case Unknown() as unknown:
            _notice_failed(draft, tries, reply, unknown)
        case Halt(detail=detail):
            draft.emit(e.NoticeFailed(draft.at, draft.epoch, Cause.PROTOCOL, detail, None, counted=True))
        case _ as never:
            assert_never(never)


def _notice_failed(draft: Draft, tries: Tries, reply: Reply, unknown: Unknown) -> None:
    if not _is_latest(tries, reply):
        return
    due = None
    if tries.guard is not Guard.ONCE:
        due = draft.next_due(tries, NOTICE_PATIENCE, f"{draft.record.run}:{NOTICE}:action", unknown)
    draft.emit(e.NoticeFailed(draft.at, draft.epoch, unknown.cause, unknown.detail, due, unknown.counted))
