"""What the JSON columns of a run's row say, read so that no row can harm a list.

A row may have been written by an older or newer version, or been damaged. A column that can't be read as what it
should be counts as empty, its name is told, and the row carries a mark `unreadable`: the run is listed by its id,
beside all others.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from amends.core.run.record import StepState
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import Kind
from amends.core.words.values import value
from amends.ports.log import StoredRun

WHOLE_RUN: Final = ""
"""The step of a mark that is about the run as a whole: it was set aside, or its row can't be read."""

RUN_PHASE: Final = "run"
"""The phase of such a mark."""

EMPTY: Final = b"[]"
NO_TAGS: Final = b"{}"


class RowStep(msgspec.Struct, frozen=True):
    """One step as a row has it. Kind and state are text: a newer version may know more of them."""

    name: str
    kind: str
    state: str
    attempts: int
    error: str | None = None


@value
class RowMark:
    """One reason to be stuck as a row has it."""

    step: str
    phase: str
    reason: str
    attempts: int
    since: int
    code: str | None = None


@value
class RowFacts:
    """What a row says. `unreadable` names the columns that can't be read; then `marks` has one that says so."""

    current: Sequence[str]
    steps: Sequence[RowStep]
    marks: Sequence[RowMark]
    unreadable: Sequence[str]

    @property
    def past_pivot(self) -> bool:
        """Whether the run can only go forward: its pivot is done, or a step after it was begun."""
        return any(
            (each.kind == Kind.PIVOT and each.state == StepState.DONE)
            or (each.kind == Kind.RETRIABLE and each.state not in {StepState.WAITING, StepState.SKIPPED})
            for each in self.steps
        )


class _Mark(msgspec.Struct):
    """Rows of older versions have no step and no phase where the run as a whole is meant."""

    step: str | None
    phase: str | None
    reason: str
    attempts: int
    since: int
    code: str | None = None


_CURRENT: Final = msgspec.json.Decoder(list[str])
_STEPS: Final = msgspec.json.Decoder(list[RowStep])
_MARKS: Final = msgspec.json.Decoder(list[_Mark])
_TAGS: Final = msgspec.json.Decoder(dict[str, str])
_UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def facts_of(row: StoredRun) -> RowFacts:
    """What a row says; whatever its columns hold, this raises nothing."""
    bad = list(row.unreadable)
    current: Sequence[str] = ()
    steps: Sequence[RowStep] = ()
    marks: list[RowMark] = []
    try:
        current = _CURRENT.decode(row.current) if row.current != EMPTY else ()
    except _UNDECODABLE:
        bad.append("current")
    try:
        steps = _STEPS.decode(row.steps) if row.steps != EMPTY else ()
    except _UNDECODABLE:
        bad.append("steps")
    try:
        marks = [_mark(each) for each in _MARKS.decode(row.stuck)] if row.stuck != EMPTY else []
    except _UNDECODABLE:
        bad.append("stuck")
    if bad:
        marks.append(RowMark(WHOLE_RUN, RUN_PHASE, StuckReason.UNREADABLE, 0, row.updated_at))
    return RowFacts(current, steps, marks, tuple(bad))


NO_MARK: Final = RowMark(WHOLE_RUN, RUN_PHASE, StuckReason.UNREADABLE, 0, 0)
"""Of a run that is stuck by its state while its row has no mark."""


def tags_of(text: bytes) -> Mapping[str, str] | None:
    """The tags in the text of a row's column; `None` if it holds none of ours."""
    if text == NO_TAGS:
        return {}
    try:
        return _TAGS.decode(text)
    except _UNDECODABLE:
        return None


def whole_run_mark(reason: str, attempts: int, since: int) -> dict[str, object]:
    """The mark of a run that was set aside, as a row keeps it."""
    return {"step": WHOLE_RUN, "phase": RUN_PHASE, "reason": reason, "attempts": attempts, "since": since}


def _mark(mark: _Mark) -> RowMark:
    step, phase = mark.step or WHOLE_RUN, mark.phase or RUN_PHASE
    return RowMark(step, phase, mark.reason, mark.attempts, mark.since, mark.code)
