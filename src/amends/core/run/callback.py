"""Result of a callback: whether the answer was taken in, known already, or comes too late."""

from collections.abc import Sequence
from enum import StrEnum
from typing import assert_never

from amends.core.run import events as e
from amends.core.run.answers import Outcome, SaidNo, Succeeded
from amends.core.run.record import ItemRecord, RunRecord, StepState
from amends.core.words.keys import Phase


class Heard(StrEnum):
    """What became of an answer that was posted."""

    RECORDED = "recorded"
    """It is in the log, or was already: the same answer again."""

    SETTLED = "settled"
    """The call is settled, otherwise than this answer says."""

    OVER = "over"
    """The run has ended, or the step was compensated; what is news about that is in the log."""

    TOO_EARLY = "too-early"
    """The log doesn't know yet that this answer is waited for: post it again."""


def heard(before: RunRecord, item: ItemRecord, phase: Phase, outcome: Outcome, events: Sequence[e.Event]) -> Heard:
    """`events` are what was decided of the answer to this phase of `item`, as the run stood `before`."""
    if before.ended is not None:
        return Heard.OVER
    if phase is Phase.COMPENSATION:
        return _heard_undo(item, outcome, events)
    match item.state:
        case StepState.COMPENSATING | StepState.COMPENSATED:
            return Heard.OVER
        case StepState.ACTING | StepState.UNKNOWN:
            return Heard.RECORDED if events else Heard.TOO_EARLY
        case StepState.DONE:
            same = isinstance(outcome, Succeeded) and outcome.reply == item.reply
            return Heard.RECORDED if same else Heard.SETTLED
        case StepState.REJECTED:
            same = isinstance(outcome, SaidNo) and outcome.code == item.code
            taken = any(isinstance(each, e.ActionSucceeded) for each in events)
            return Heard.RECORDED if same or taken else Heard.SETTLED
        case StepState.WAITING | StepState.SKIPPED:
            return Heard.SETTLED
        case _ as never:
            assert_never(never)


def _heard_undo(item: ItemRecord, outcome: Outcome, events: Sequence[e.Event]) -> Heard:
    if events:
        return Heard.RECORDED
    # Nothing new at a step that is still being undone means that a person has it now, sealed or stuck for this reason.
    same = item.state is StepState.COMPENSATED and isinstance(outcome, Succeeded)
    return Heard.RECORDED if same else Heard.SETTLED
