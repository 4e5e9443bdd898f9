"""The row that the log shows of a run: what is going on, in plain columns."""

from typing import Any

from amends.core.definition import Definition
from amends.core.state import ItemRecord, RunRecord, StepState
from amends.ports.events import EventCodec
from amends.ports.log import RunRow

_EMPTY = b"[]"
_CURRENT = frozenset({StepState.ACTING, StepState.UNKNOWN, StepState.COMPENSATING})


def project(definition: Definition, record: RunRecord, due_at: int | None, codec: EventCodec) -> RunRow:
    """The row after the events folded into `record`; `due_at` is when the run needs somebody next."""
    steps: list[dict[str, Any]] = []
    current: list[str] = []
    for name, step in definition.steps.items():
        known = record.steps.get(name)
        if known is None:
            steps.append({"name": name, "kind": step.kind, "state": "waiting", "attempts": 0, "error": None})
            continue
        state = known.state
        if state in _CURRENT:
            current.append(name)
        if len(known.items) == 1:
            item = next(iter(known.items.values()))
            attempts, error = attempts_of(item), error_of(item)
        else:
            attempts = sum(attempts_of(each) for each in known.items.values())
            error = next((told for each in known.items.values() if (told := error_of(each))), None)
        steps.append({"name": name, "kind": step.kind, "state": state, "attempts": attempts, "error": error})
    stuck = [
        {"step": mark.name, "phase": mark.phase, "reason": mark.reason, "attempts": mark.attempts, "since": mark.since}
        for mark in record.marks.values()
    ]
    return RunRow(
        state=record.state.value,
        by_hand=record.by_hand,
        due_at=due_at,
        current=codec.plain(current) if current else _EMPTY,
        steps=codec.plain(steps),
        stuck=codec.plain(stuck) if stuck else _EMPTY,
        ended_at=record.ended_at,
    )


def attempts_of(item: ItemRecord) -> int:
    """How often its action was sent, the attempt in flight included."""
    tries = item.action
    return 0 if tries is None else tries.sends + tries.is_open


def error_of(item: ItemRecord) -> str | None:
    """What went wrong last, where something did."""
    if item.state is StepState.COMPENSATING and item.undo is not None:
        return item.undo.detail or None
    if item.state is StepState.REJECTED:
        return item.code or item.detail or None
    if item.state in {StepState.ACTING, StepState.UNKNOWN} and item.action is not None:
        return item.action.detail or item.detail or None
    return None
