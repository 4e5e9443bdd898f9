"""What a person asks of a run: each verb is one fact, signed, with everything that follows from it, or a refusal.

A verb never goes around the life cycle: it supplies what the machine couldn't know (`resolve`, `skip`, `answer`),
gives it more patience (`retry`), or asks it to turn (`cancel`, `compensate`). What was supplied as a fact makes the
run end `by_hand`.
"""

from collections.abc import Callable, Sequence
from typing import assert_never

from amends.core.run import events as e
from amends.core.run.commands import Abandon, AnswerQuestion, Cancel, Refusal, Resolve, RetryStep, Skip, Verb
from amends.core.run.consequences import tell_end
from amends.core.run.decision import Draft, settle_action
from amends.core.run.definition import Definition
from amends.core.run.record import ASK, BUILT_IN, LOCAL, SLEEP, ItemRecord, Mark, RunRecord, RunState, StepState, Tries
from amends.core.run.replies import may_arrive_until
from amends.core.run.timers import turn_or_ask
from amends.core.words.error_texts import moment_text
from amends.core.words.keys import Phase, encode_item
from amends.core.words.reasons import ACKNOWLEDGED, StuckReason
from amends.core.words.retry import Guard, Kind

ENDED = Refusal("ended", "the run has ended; an end is never rewritten")
IN_FLIGHT = Refusal(
    "in-flight", "a call of it is in flight, as far as is known here: wait for its answer or its time-out"
)
SET_ASIDE = Refusal(
    "in-flight", "a call of it was in flight when the run was set aside: retry the run as a whole first, or abandon it"
)
NOTHING_TO_DO = Refusal("nothing-to-do", "nothing of it waits for anybody")


def on_verb(draft: Draft, verb: Verb) -> Refusal | None:
    """Do what a person asks, or say why not."""
    match verb:
        case Cancel():
            return _cancel(draft, verb)
        case RetryStep(step=None):
            return _retry_all(draft, verb)
        case RetryStep():
            step = verb.step or ""
            return _on_item(draft, step, verb.item, lambda item: _retry(draft, step, item, verb.who), verb)
        case Resolve():
            return _on_item(draft, verb.step, verb.item, lambda item: _resolve(draft, item, verb), verb)
        case Skip():
            return _on_item(draft, verb.step, verb.item, lambda item: _skip(draft, verb.step, item, verb.who), verb)
        case AnswerQuestion():
            return _answer(draft, verb)
        case Abandon():
            return _abandon(draft, verb)
        case _:
            assert_never(verb)


# -- on a run


def _cancel(draft: Draft, verb: Cancel) -> Refusal | None:
    record = draft.record
    if record.ended is RunState.COMPENSATED:
        return None
    if record.ended is RunState.COMPLETED or (record.ended is None and draft.past_pivot):
        return Refusal("past-pivot", "the run is past its pivot: it can only go forward")
    if record.ended is not None:
        return ENDED
    gives_up_waiting = verb.verb == "compensate"
    if record.backward:
        lifted = [item for item in record.items() if gives_up_waiting and _waits_needlessly(draft, item)]
        if lifted:
            draft.emit(e.CancelAsked(draft.at, draft.epoch, verb.verb, verb.who))
        for item in lifted:
            draft.emit(e.Unmarked(draft.at, draft.epoch, item.step, item.item))
        return None
    pivot = draft.pivot
    if gives_up_waiting and pivot is not None and draft.pivot_open and record.item_has_mark(pivot):
        if not pivot.can_settle:
            return Refusal("pivot-unknown", "nobody knows whether the pivot took effect: resolve it first")
        draft.emit(e.CancelAsked(draft.at, draft.epoch, verb.verb, verb.who))
        draft.emit(e.Unmarked(draft.at, draft.epoch, pivot.step, pivot.item))
        turn_or_ask(draft, f"cancelled: {verb.who.reason}")
        settle_action(draft, draft.again(pivot))
        return None
    draft.emit(e.CancelAsked(draft.at, draft.epoch, verb.verb, verb.who))
    turn_or_ask(draft, f"cancelled: {verb.who.reason}")
    if gives_up_waiting:
        for item in list(record.items()):
            if _waits_needlessly(draft, item):
                draft.emit(e.Unmarked(draft.at, draft.epoch, item.step, item.item))
    return None


def _waits_needlessly(draft: Draft, item: ItemRecord) -> bool:
    """A person was asked about an unknown action that a barrier lets us undo without knowing."""
    return (
        item.state is StepState.UNKNOWN
        and item.behind_barrier
        and draft.step(item.step).kind is Kind.COMPENSABLE
        and draft.record.item_has_mark(item)
    )


def _retry_all(draft: Draft, verb: RetryStep) -> Refusal | None:
    record = draft.record
    if record.ended is not None:
        return ENDED
    if record.quarantined is not None:
        draft.emit(e.RetryAsked(draft.at, draft.epoch, "", "", Phase.ACTION, verb.who, renewed=True))
        return None
    if not record.marks:
        return Refusal("not-stuck", "nothing of the run is stuck; to have a step tried now that waits, name the step")
    return _first_if_all([_retry_mark(draft, mark, verb.who) for mark in list(record.marks.values())])


def _first_if_all(refusals: Sequence[Refusal | None]) -> Refusal | None:
    """Several things were asked at once: refused only if each of them is."""
    refused = [each for each in refusals if each is not None]
    return refused[0] if refused and len(refused) == len(refusals) else None


def _abandon(draft: Draft, verb: Abandon) -> Refusal | None:
    record = draft.record
    if record.ended is RunState.ABANDONED:
        return None
    if record.ended is not None:
        return ENDED
    if record.state is not RunState.STUCK:
        return Refusal("not-stuck", "only a stuck run is abandoned; cancel it instead")
    effects = tuple(item.name for item in record.items() if _may_remain(draft, item))
    draft.emit(e.Abandoned(draft.at, draft.epoch, effects, verb.who))
    tell_end(draft)
    return None


def _may_remain(draft: Draft, item: ItemRecord) -> bool:
    if item.request is None or draft.step(item.step).kind is Kind.NEUTRAL:
        return False
    match item.state:
        case StepState.ACTING | StepState.DONE | StepState.UNKNOWN | StepState.COMPENSATING | StepState.SKIPPED:
            return True
        case _:
            return draft.record.item_has_mark(item)


# -- on a step: which item is meant


def _on_item(
    draft: Draft, step: str, item: str | None, act: Callable[[ItemRecord | None], Refusal | None], verb: Verb
) -> Refusal | None:
    record = draft.record
    if record.ended is not None:
        return ENDED
    if step not in draft.definition.steps:
        return _no_such_step(draft.definition, record, step)
    known_step = record.steps.get(step)
    if known_step is None:
        if (step, "", Phase.ACTION) not in record.marks:
            return NOTHING_TO_DO
        return act(None)
    if item is not None:
        found = known_step.items.get(item) or known_step.items.get(encode_item(item))
        if found is None:
            return Refusal("no-such-item", f"{step} has no item {item}", status=404)
        return act(found)
    if "" in known_step.items:
        return act(known_step.items[""])
    movable = [each for each in known_step.items.values() if _is_movable(draft, each)]
    if isinstance(verb, RetryStep) and movable:
        return _first_if_all([act(each) for each in movable])
    if len(movable) == 1:
        return act(movable[0])
    if not movable:
        return NOTHING_TO_DO
    names = ", ".join(each.name for each in movable)
    return Refusal("item-needed", f"say which one: {names}", status=422)


def find_item(definition: Definition, record: RunRecord, step: str, item: str | None) -> ItemRecord | Refusal:
    """The item that a person means, whatever its state; where a step makes many calls one must be named."""
    if step not in definition.steps:
        return _no_such_step(definition, record, step)
    known = record.steps.get(step)
    if known is None or not known.items:
        return Refusal("never-attempted", f"{step} never started: nothing of it can be known")
    if item is not None:
        found = known.items.get(item) or known.items.get(encode_item(item))
        return found or Refusal("no-such-item", f"{step} has no item {item}", status=404)
    if len(known.items) == 1:
        return next(iter(known.items.values()))
    names = ", ".join(each.name for each in known.items.values())
    return Refusal("item-needed", f"say which one: {names}", status=422)


def cannot_probe(item: ItemRecord) -> Refusal | None:
    """Why the participant can't be asked about an action; `None` where it can."""
    request = item.request
    if request is None or item.action is None:
        return Refusal("never-attempted", f"{item.name} never started: nothing of it can be known")
    if request.participant == LOCAL or request.participant in BUILT_IN or not item.behind_barrier:
        return Refusal("no-probe", f"{item.name} can't be asked about: only an operation behind a barrier can tell")
    return None


def _no_such_step(definition: Definition, record: RunRecord, step: str) -> Refusal:
    known = ", ".join(definition.steps)
    told = f"{record.saga} v{record.version} has no step {step}; it has {known}"
    return Refusal("no-such-step", told, status=404)


def _is_movable(draft: Draft, item: ItemRecord) -> bool:
    if draft.record.item_has_mark(item):
        return True
    tries = _active(item)
    return tries is not None and not _is_in_flight(draft, item, tries)


def _active(item: ItemRecord) -> Tries | None:
    match item.state:
        case StepState.ACTING:
            return item.action
        case StepState.UNKNOWN:
            return item.settle
        case StepState.COMPENSATING:
            return item.settle if item.seal else item.undo
        case _:
            return None


def _is_in_flight(draft: Draft, item: ItemRecord, tries: Tries) -> bool:
    """An attempt is open in the log, and isn't one that is known to wait for its participant or for a slot."""
    return tries.is_open and (item.step, item.item, _active_phase(item)) not in draft.held


def _in_flight(draft: Draft) -> Refusal:
    """Wait for it; but nobody waits for a call of a run that was set aside."""
    return IN_FLIGHT if draft.record.quarantined is None else SET_ASIDE


# -- retry


def _retry_mark(draft: Draft, mark: Mark, who: e.Who) -> Refusal | None:
    item = draft.record.item(mark.step, mark.item)
    if item is None:  # never requested: the builder is called again
        draft.emit(e.RetryAsked(draft.at, draft.epoch, mark.step, "", Phase.ACTION, who, renewed=True))
        return None
    return _retry_stuck(draft, item, mark, who)


def _retry(draft: Draft, step: str, item: ItemRecord | None, who: e.Who) -> Refusal | None:
    name = "" if item is None else item.item
    marks = [mark for mark in draft.record.marks.values() if (mark.step, mark.item) == (step, name)]
    if marks or item is None:
        return _first_if_all([_retry_mark(draft, mark, who) for mark in marks])
    tries = _active(item)
    if tries is None:
        return NOTHING_TO_DO
    if _is_in_flight(draft, item, tries):
        return _in_flight(draft)
    if tries.pending:
        if item.request is not None and item.request.participant == SLEEP:
            _ask_again(draft, item, Phase.ACTION, who, renewed=False)
            draft.emit(e.ActionSucceeded(draft.at, draft.epoch, item.step, item.item, b"null"))
            return None
        return Refusal("pending", "it was taken on; its answer is waited for")
    _ask_again(draft, item, _active_phase(item), who, renewed=False)
    return None


def _active_phase(item: ItemRecord) -> Phase:
    if item.state is StepState.ACTING:
        return Phase.ACTION
    if item.settling is not None:
        return item.settling
    return Phase.COMPENSATION


def _retry_stuck(draft: Draft, item: ItemRecord, mark: Mark, who: e.Who) -> Refusal | None:
    if mark.reason in ACKNOWLEDGED:
        return Refusal("nothing-to-send", f"{item.name}: what is known contradicts itself: acknowledge it with resolve")
    if mark.reason == StuckReason.CONFIRM_UNDONE:
        return Refusal("confirm-undone", f"{item.name} is yours to undo by hand now: confirm with resolve undone")
    hurried = draft.record.hurries_pivot and draft.is_current_pivot(item)
    settles = mark.phase is Phase.ACTION and hurried and item.can_settle
    tries = item.tries(mark.phase)
    repeated = tries is not None and tries.guard is Guard.ONCE and tries.tainted
    fact = mark.phase in {Phase.ACTION, Phase.COMPENSATION} and repeated and not settles
    _ask_again(draft, item, mark.phase, who, renewed=True, fact=fact)
    if settles and draft.again(item).state is StepState.UNKNOWN and draft.again(item).settling is None:
        settle_action(draft, draft.again(item))
    return None


def _ask_again(draft: Draft, item: ItemRecord, phase: Phase, who: e.Who, *, renewed: bool, fact: bool = False) -> None:
    draft.emit(e.RetryAsked(draft.at, draft.epoch, item.step, item.item, phase, who, renewed, fact))


# -- resolve


def _resolve(draft: Draft, item: ItemRecord | None, verb: Resolve) -> Refusal | None:
    if item is None:
        return Refusal("never-attempted", f"{verb.step} never started: nothing of it can be known")
    marks = [m for m in draft.record.marks.values() if (m.step, m.item) == (item.step, item.item)]
    if any(mark.reason in ACKNOWLEDGED for mark in marks):
        _resolved(draft, item, Phase.ACTION, "acknowledged", verb)
        return None
    tries = _active(item)
    if tries is not None and _is_in_flight(draft, item, tries):
        return Refusal("sealing", f"{item.name} is being sealed") if item.seal else _in_flight(draft)
    if item.seal:
        return Refusal("sealing", f"{item.name} is being sealed: retry or skip it")
    match item.state:
        case StepState.ACTING | StepState.UNKNOWN:
            return _resolve_action(draft, item, verb)
        case StepState.COMPENSATING:
            return _resolve_undo(draft, item, verb)
        case _:
            return NOTHING_TO_DO


def _resolve_action(draft: Draft, item: ItemRecord, verb: Resolve) -> Refusal | None:
    step = draft.step(item.step)
    match verb.outcome:
        case "undone":
            return Refusal("not-compensating", f"{item.name} isn't being undone: say succeeded or rejected", status=422)
        case "succeeded":
            return _resolve_succeeded(draft, item, verb)
        case "rejected":
            if step.forward_only:
                return Refusal("past-pivot", "it must succeed in the end: skip it, or say that it succeeded")
            if item.behind_barrier:
                _resolved(draft, item, Phase.ACTION, StuckReason.SEALING, verb)
                settle_action(draft, draft.again(item), seal="rejected")
                return None
            until = may_arrive_until(draft, item)
            if draft.at < until and step.kind is not Kind.NEUTRAL:
                return Refusal(
                    "in-flight",
                    f"a copy of the call may still arrive: rejected is possible from {moment_text(until)}",
                    possible_from=until,
                )
            _resolved(draft, item, Phase.ACTION, "rejected", verb)
            draft.turned_by(item, None, f"{item.name} said no: {verb.who.reason}")
            return None
        case _ as never:
            assert_never(never)


def _resolve_succeeded(draft: Draft, item: ItemRecord, verb: Resolve) -> Refusal | None:
    request = item.request
    assert request is not None, "what acts, or may have, was requested"
    decode = draft.definition.reply_decoder(request.participant, request.operation, item.step)
    reply = verb.reply if verb.reply is not None and decode is not None else b"null"
    try:
        if decode is not None:
            decode(reply)
    except Exception as wrong:  # noqa: BLE001 - whatever a decoder says about a person's input is told to that person
        return Refusal("reply-invalid", f"this is no reply of {item.name}: {wrong}", status=422)
    _resolved(draft, item, Phase.ACTION, "succeeded", verb, reply=reply)
    return None


def _resolve_undo(draft: Draft, item: ItemRecord, verb: Resolve) -> Refusal | None:
    if verb.outcome != "undone" or verb.reply is not None:
        return Refusal(
            "compensating", f"{item.name} is being undone: the outcome can only be undone, without a reply", status=422
        )
    if not item.behind_barrier or item.found == "succeeded":
        _resolved(draft, item, Phase.COMPENSATION, "undone", verb)
    else:
        _resolved(draft, item, Phase.COMPENSATION, StuckReason.SEALING, verb)
        settle_action(draft, draft.again(item), seal="undone")
    return None


def _resolved(
    draft: Draft, item: ItemRecord, phase: Phase, outcome: str, verb: Resolve, *, reply: bytes = b"null"
) -> None:
    draft.emit(e.Resolved(draft.at, draft.epoch, item.step, item.item, phase, outcome, reply, verb.who))


# -- skip


def _skip(draft: Draft, step: str, item: ItemRecord | None, who: e.Who) -> Refusal | None:
    if item is None:
        return _skip_action(draft, step, "", who)
    tries = _active(item)
    if tries is not None and _is_in_flight(draft, item, tries):
        return _in_flight(draft)
    if item.seal == "undone" or item.state is StepState.COMPENSATING:
        draft.emit(e.Skipped(draft.at, draft.epoch, item.step, item.item, Phase.COMPENSATION, who))
        return None
    if item.state in {StepState.ACTING, StepState.UNKNOWN}:
        return _skip_action(draft, item.step, item.item, who)
    return NOTHING_TO_DO


def _skip_action(draft: Draft, step: str, item: str, who: e.Who) -> Refusal | None:
    if draft.step(step).kind is Kind.PIVOT:
        return Refusal("pivot", f"{step} is the pivot: it can't be left out; resolve it, or cancel the run")
    readers = [
        each.name
        for each in draft.definition.steps.values()
        if step in each.reads and step not in each.optional_reads and each.name not in draft.record.steps
    ]
    if readers and not draft.record.backward:
        return Refusal("reply-needed", f"{', '.join(readers)} reads the reply of {step}, and must have one")
    draft.emit(e.Skipped(draft.at, draft.epoch, step, item, Phase.ACTION, who))
    return None


# -- answers to questions


def _answer(draft: Draft, verb: AnswerQuestion) -> Refusal | None:
    record = draft.record
    if record.ended is not None:
        return ENDED
    known = record.steps.get(verb.step)
    if known is None:
        if verb.step not in draft.definition.steps:
            return _no_such_step(draft.definition, record, verb.step)
        return Refusal("not-asked", f"{verb.step} has not been asked")
    name = verb.item if verb.item is not None else next(iter(known.items), "")
    item = known.items.get(name) or known.items.get(encode_item(name))
    if item is None or item.request is None or item.request.participant != ASK:
        return Refusal("not-asked", f"{verb.step} asks no question")
    if item.state is StepState.DONE and verb.reply == item.reply:
        return None
    if item.state is StepState.REJECTED and verb.reply is None:
        return None
    if item.state not in {StepState.ACTING, StepState.UNKNOWN}:
        return Refusal("settled", f"{item.name} is settled otherwise: {item.state.value}")
    if verb.reply is None:
        return _decline(draft, item, verb)
    decode = draft.definition.reply_decoder(ASK, ASK, item.step)
    assert decode is not None, "a question has an answer"
    try:
        decode(verb.reply)
    except Exception as wrong:  # noqa: BLE001 - as above
        return Refusal("reply-invalid", f"this is no answer to {item.name}: {wrong}", status=422)
    draft.emit(e.Answered(draft.at, draft.epoch, item.step, item.item, verb.reply, declined=False, who=verb.who))
    return None


def _decline(draft: Draft, item: ItemRecord, verb: AnswerQuestion) -> Refusal | None:
    if draft.step(item.step).forward_only:
        return Refusal("past-pivot", "the run is past its pivot: it can only go forward")
    draft.emit(e.Answered(draft.at, draft.epoch, item.step, item.item, b"null", declined=True, who=verb.who))
    draft.turned_by(item, "declined", f"{item.name} said no: {verb.who.reason}")
    return None
