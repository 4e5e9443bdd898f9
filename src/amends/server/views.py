"""Runs as people and programs see them: the same body for the API, the command line and the dashboard.

Pure: what the log has (row, graph, record) goes in, a value that encodes as JSON comes out. A saga's own code isn't
needed: its graph is in the log, so whoever can read the log can show every run in it. Inputs are shown redacted;
replies of a run that has ended are given as they are, since a client decodes them as their types.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from amends.core.keys import decode_item
from amends.core.state import ItemRecord, RunRecord, RunState, StepRecord, StepState
from amends.core.summary import left_by, undone_steps
from amends.engine.projection import attempts_of, error_of
from amends.ports.log import StoredRun
from amends.server.redaction import Redaction

_EPOCH_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = int((datetime.max.replace(tzinfo=UTC) - _EPOCH_START) / timedelta(microseconds=1))

_CURRENT: Final = frozenset({StepState.ACTING, StepState.UNKNOWN, StepState.COMPENSATING})
_NULL: Final = msgspec.Raw(b"null")


class ItemView(msgspec.Struct, frozen=True):
    """One call of a step that makes many."""

    name: str
    state: str
    attempts: int
    error: str | None


class StepView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step. `items` is there only where it makes many calls."""

    name: str
    kind: str
    state: str
    attempts: int
    error: str | None
    items: list[ItemView] | None = None


class StuckView(msgspec.Struct, frozen=True):
    """What only a person can move. `step` is `None` where the run as a whole is meant."""

    step: str | None
    phase: str | None
    reason: str
    detail: str | None
    attempts: int
    since: datetime


class OutcomeView(msgspec.Struct, frozen=True):
    """How a run ended. `step` and `code` say who said no, `by` who abandoned it; `replies` are of done steps."""

    state: str
    by_hand: bool
    step: str | None
    code: str | None
    reason: str | None
    by: str | None
    undone: tuple[str, ...]
    replies: dict[str, Any]


class RunView(msgspec.Struct, frozen=True):
    """One run, whole. `version` is the saga's. Times are UTC."""

    id: str
    saga: str
    version: int
    state: str
    by_hand: bool
    current: list[str]
    steps: list[StepView]
    input: msgspec.Raw
    outcome: OutcomeView | None
    stuck: list[StuckView]
    created_at: datetime
    updated_at: datetime
    deadline: datetime | None
    tags: Mapping[str, str]


class RowView(msgspec.Struct, frozen=True):
    """One run as a list shows it."""

    id: str
    saga: str
    version: int
    state: str
    by_hand: bool
    current: list[str]
    stuck: list[dict[str, Any]]
    created_at: datetime
    updated_at: datetime
    deadline: datetime | None
    tags: Mapping[str, str]


class _GraphStep(msgspec.Struct):
    name: str
    kind: str


class _Graph(msgspec.Struct):
    steps: list[_GraphStep]
    input: dict[str, Any]


class Graph:
    """What views need of a saga: its steps in their order, and what of its input must not be shown."""

    def __init__(self, graph: bytes) -> None:
        known = msgspec.json.decode(graph, type=_Graph)
        self.kinds: Mapping[str, str] = {step.name: step.kind for step in known.steps}
        self.input = Redaction(known.input)


def run_view(graph: Graph, record: RunRecord, tags: Mapping[str, str]) -> RunView:
    """A run from its record."""
    return RunView(
        id=record.run,
        saga=record.saga,
        version=record.version,
        state=record.state.value,
        by_hand=record.by_hand,
        current=[name for name in graph.kinds if record.step_state(name) in _CURRENT],
        steps=[_step(name, kind, record.steps.get(name)) for name, kind in graph.kinds.items()],
        input=msgspec.Raw(graph.input.shown(record.input)),
        outcome=None if record.ended is None else _outcome(graph, record),
        stuck=_stuck(record),
        created_at=moment(record.created_at),
        updated_at=moment(record.at),
        deadline=None if record.deadline is None else moment(record.deadline),
        tags=tags,
    )


def purged_view(row: StoredRun) -> RunView:
    """A run whose history was purged: what its row still says."""
    shown = row_view(row)
    return RunView(
        id=row.run,
        saga=row.saga,
        version=row.saga_version,
        state=row.state,
        by_hand=row.by_hand,
        current=shown.current,
        steps=msgspec.json.decode(row.steps, type=list[StepView]),
        input=_NULL,
        outcome=None,
        stuck=[],
        created_at=shown.created_at,
        updated_at=shown.updated_at,
        deadline=shown.deadline,
        tags=row.tags,
    )


def row_view(row: StoredRun) -> RowView:
    """A run from its row alone."""
    stuck = msgspec.json.decode(row.stuck, type=list[dict[str, Any]])
    return RowView(
        id=row.run,
        saga=row.saga,
        version=row.saga_version,
        state=row.state,
        by_hand=row.by_hand,
        current=msgspec.json.decode(row.current, type=list[str]),
        stuck=[{**each, "since": moment(each["since"])} for each in stuck],
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
        deadline=None if row.deadline is None else moment(row.deadline),
        tags=row.tags,
    )


def moment(micros: int) -> datetime:
    """Microseconds since 1970 as a time, which JSON shows as RFC 3339; what is beyond the calendar is its end."""
    return _EPOCH_START + timedelta(microseconds=min(micros, _LATEST))


def _step(name: str, kind: str, record: StepRecord | None) -> StepView:
    if record is None:
        return StepView(name, kind, StepState.WAITING.value, 0, None)
    items = list(record.items.values())
    if record.shape == "one":
        attempts = sum(attempts_of(each) for each in items)
        return StepView(name, kind, record.state.value, attempts, _error(items))
    views = [
        ItemView(decode_item(each.item), each.state.value, attempts_of(each), error_of(each) or None) for each in items
    ]
    attempts = sum(each.attempts for each in views)
    return StepView(name, kind, record.state.value, attempts, _error(items), views)


def _error(items: list[ItemRecord]) -> str | None:
    return next((told for each in items if (told := error_of(each))), None)


def _stuck(record: RunRecord) -> list[StuckView]:
    found = [
        StuckView(mark.name, mark.phase.value, mark.reason, mark.detail or None, mark.attempts, moment(mark.since))
        for mark in record.marks.values()
    ]
    if record.quarantined is not None and record.ended is None:
        found.append(StuckView(None, None, record.quarantined, None, 0, moment(record.at)))
    return found


def _outcome(graph: Graph, record: RunRecord) -> OutcomeView:
    turned, state = record.turned, record.state
    by = None
    reason = None if turned is None else turned.reason
    if state is RunState.ABANDONED:
        by, reason = left_by(record)
    return OutcomeView(
        state=state.value,
        by_hand=record.by_hand,
        step=None if turned is None else turned.step,
        code=None if turned is None else turned.code,
        reason=reason,
        by=by,
        undone=undone_steps(graph.kinds, record),
        replies={
            step.name: _replies(step) for step in record.steps.values() if step.state is StepState.DONE and step.items
        },
    )


def _replies(step: StepRecord) -> object:
    known = {
        decode_item(each.item): msgspec.Raw(each.reply) if each.reply is not None else None
        for each in step.items.values()
        if each.state is StepState.DONE
    }
    match step.shape:
        case "one":
            return known.get("")
        case "dict":
            return known
        case "list":
            return list(known.values())
