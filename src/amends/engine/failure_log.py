"""Log lines about failed attempts, for the people who watch a process: the last error in the participant's or the
exception's own words, and when the call is tried again.

An outage makes thousands of runs fail at once. Of one step and phase a few lines are written in a while; the next line
after it has the number of those that were left out. The log has them all.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from amends.core.run import events as e
from amends.core.run.answers import Cause
from amends.core.run.definition import Definition
from amends.core.run.record import RunRecord
from amends.core.words.keys import Phase, unit_name
from amends.core.words.retry import MICROSECONDS

LINES_MAX: Final = 10
"""Lines about one step and phase..."""

WITHIN_SECONDS: Final = 30.0
"""... within this time."""

NO_FAILURES: Final = frozenset({Cause.WITHDRAWN, Cause.IN_PROGRESS, Cause.PENDING, Cause.ABSENT, Cause.TURNED_BACK})
"""Ends of an attempt that tell of no error."""

Failed: TypeAlias = e.AttemptFailed | e.ActionUnknown | e.BuildFailed | e.Aborted

FAILED: Final = (e.AttemptFailed, e.ActionUnknown, e.BuildFailed, e.Aborted)

MARK: Final = b'"x-redacted"'
"""What a schema has that hides a value."""

WITHHELD: Final = "(`amends show` has the error: this saga hides values that it may repeat)"

_LOGGER: Final = logging.getLogger("amends.steps")


@dataclass(slots=True)
class _Said:
    since: float
    lines: int = 0
    left_out: int = 0


class FailureLog:
    """Says what failed, once the log has it. `seconds` is a clock that never goes back."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._said: dict[tuple[str, str, str], _Said] = {}

    def tell(self, definition: Definition, record: RunRecord, events: Sequence[e.Event]) -> None:
        """Tell of the failures among these events, which were appended together; `record` is the run after them."""
        for event in events:
            if isinstance(event, FAILED):
                found = _text(record, event, events, words=not hides_values(definition))
                if found is not None:
                    self._say(record, *found)

    def _say(self, record: RunRecord, step: str, phase: str, text: str) -> None:
        now, key = self._seconds(), (record.saga, step, phase)
        said = self._said.get(key)
        if said is None or now - said.since >= WITHIN_SECONDS:
            before = 0 if said is None else said.left_out
            said = self._said[key] = _Said(now)
            text += f" ({before} more like it were not written here)" if before else ""
        if said.lines >= LINES_MAX:
            said.left_out += 1
            return
        said.lines += 1
        _LOGGER.warning("%s: %s", record.run, text)


def _was_rejected(events: Sequence[e.Event]) -> bool:
    """A rejection is an answer, no failure: nothing is wrong with a run that turns back for one."""
    for event in events:
        if isinstance(event, e.StepDeclined | e.Answered | e.Resolved):
            return True
        if isinstance(event, e.ActionRejected) and event.word == "rejected":
            return True
    return False


def hides_values(definition: Definition) -> bool:
    """Whether a value of these runs must not be shown: an error may repeat it."""
    return MARK in definition.graph()


def _text(record: RunRecord, event: Failed, together: Sequence[e.Event], *, words: bool) -> tuple[str, str, str] | None:
    """The step, the phase and the line; `None` where nothing failed, or another line has the same error. `words`:
    whether the error's own words may be written.
    """
    if isinstance(event, e.Aborted):
        if event.step is None or _was_rejected(together):
            return None
        return event.step, "", f"the run turns back: {event.reason if words else f'{event.step}, {event.code}'}"
    phase = Phase.ACTION if isinstance(event, e.ActionUnknown) else event.phase
    name = unit_name(event.step, event.item) + ("" if phase is Phase.ACTION else f", {phase.value}")
    if isinstance(event, e.BuildFailed):
        return (
            event.step,
            phase.value,
            f"{name}: the code that makes the call failed: {event.error if words else WITHHELD}",
        )
    if event.cause in NO_FAILURES:
        return None
    detail = event.detail if words else f"{event.cause.value} {WITHHELD}"
    if isinstance(event, e.ActionUnknown):
        if any(isinstance(each, e.Aborted) for each in together):
            return None
        return event.step, phase.value, f"{name} failed, it is not tried again: {detail}"
    if event.next_due is None:
        return event.step, phase.value, f"{name} failed, it is not tried again by itself: {detail}"
    item = record.item(event.step, event.item)
    tries = None if item is None else item.tries(phase)
    number = "" if tries is None else f" (attempt {tries.sends})"
    wait = max(event.next_due - event.at, 0) / MICROSECONDS
    return event.step, phase.value, f"{name} failed{number}, it is tried again in {wait:.1f} s: {detail}"
