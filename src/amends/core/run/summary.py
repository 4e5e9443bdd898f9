"""How a run stands, as its author is told: the record, read with the definition at hand."""

from collections.abc import Iterable
from typing import Any

from amends.core.run.definition import Definition
from amends.core.run.record import DONE, RunRecord, RunState, StepState
from amends.core.saga.outcomes import Abandoned, Compensated, Completed, Ended, Outcome, Stuck, Unfinished
from amends.core.saga.steps import Step
from amends.core.words.contract import UNDONE_NOTHING
from amends.core.words.errors import NoSuchReply

PURGED = "its history was purged"
"""The reason of an end of which nothing else is kept."""

_CURRENT = frozenset({StepState.ACTING, StepState.UNKNOWN, StepState.COMPENSATING})


def ended_outcome(definition: Definition, record: RunRecord) -> Ended:
    """The outcome of a run that has ended."""
    match record.ended:
        case RunState.COMPLETED:
            steps = tuple(name for name in definition.steps if record.step_state(name) is DONE)

            def read(step: Step[Any, Any]) -> object:
                if record.purged:
                    msg = f"{record.run} is completed, and {PURGED}: the reply of {step.name} isn't kept any more."
                    raise NoSuchReply(msg)
                return definition.reply_value(record, step.name)

            return Completed(record.run, record.by_hand, steps, read)
        case RunState.COMPENSATED:
            turned = record.turned
            return Compensated(
                run=record.run,
                by_hand=record.by_hand,
                step=None if turned is None else turned.step,
                code=None if turned is None else turned.code,
                reason=reason_of(record) or "",
                undone=undone_steps(definition.steps, record),
            )
        case RunState.ABANDONED:
            by, reason = left_by(record)
            return Abandoned(record.run, by, reason)
        case _:
            msg = f"{record.run} has not ended"
            raise ValueError(msg)


def reason_of(record: RunRecord) -> str | None:
    """Why a run turned back, where it did; of a purged run that didn't complete, that this isn't known any more."""
    if record.turned is not None:
        return record.turned.reason
    return PURGED if record.purged and record.ended is not RunState.COMPLETED else None


def outcome(definition: Definition, record: RunRecord) -> Outcome:
    """The outcome of a run as it stands now."""
    if record.ended is not None:
        return ended_outcome(definition, record)
    if record.marks:
        oldest = min(record.marks.values(), key=lambda mark: mark.since)
        reason = oldest.reason if not oldest.detail else f"{oldest.reason}: {oldest.detail}"
        return Stuck(record.run, oldest.name, oldest.phase.value, reason)
    if record.quarantined is not None:
        return Stuck(record.run, "", "action", record.quarantined)
    return Unfinished(record.run, "running" if record.turned is None else "compensating", current(definition, record))


def current(definition: Definition, record: RunRecord) -> tuple[str, ...]:
    """The steps that are being acted on, settled or undone, in the graph's order."""
    return tuple(name for name in definition.steps if record.step_state(name) in _CURRENT)


def undone_steps(names: Iterable[str], record: RunRecord) -> tuple[str, ...]:
    """The steps whose compensation was done, in the order of `names`; those that never acted aren't among them."""
    found: list[str] = []
    for name in names:
        step = record.steps.get(name)
        if step is not None and any(
            item.state is StepState.COMPENSATED and item.undo is not None and item.undo_word not in UNDONE_NOTHING
            for item in step.items.values()
        ):
            found.append(name)
    return tuple(found)


def left_by(record: RunRecord) -> tuple[str, str]:
    """The operator that abandoned a run and the reason; without one, what was left."""
    if record.purged:
        return "", PURGED
    if record.ended_by is not None:
        return record.ended_by.by, record.ended_by.reason
    return "", f"left: {', '.join(record.effects)}" if record.effects else "left as it is"
