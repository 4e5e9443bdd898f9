"""The row that the log shows of a run: what is going on, in plain columns.

It is written with every append, and nearly all of it is the same few texts again and again ("reserve, compensable,
done, one attempt"), so those are kept once they were written.
"""

from functools import lru_cache

from amends.core.definition import Definition
from amends.core.keys import NOTICE
from amends.core.retry import Kind
from amends.core.state import ItemRecord, RunRecord, StepRecord, StepState
from amends.ports.events import EventCodec
from amends.ports.log import RunRow

_EMPTY = b"[]"
_CURRENT = frozenset({StepState.ACTING, StepState.UNKNOWN, StepState.COMPENSATING})
_TEXTS_KEPT = 4_096


class Projector:
    """Makes rows."""

    def __init__(self, codec: EventCodec) -> None:
        self._codec = codec
        self._texts: dict[tuple[str, Kind, StepState, int, str | None], bytes] = {}
        self._plans: dict[str, list[tuple[str, bytes]]] = {}
        self._names = lru_cache(_TEXTS_KEPT)(codec.plain)

    def row(self, definition: Definition, record: RunRecord, due_at: int | None) -> RunRow:
        """The row after the events folded into `record`; `due_at` is when the run needs somebody next."""
        plan = self._plans.get(definition.digest) or self._plan(definition)
        known = record.steps
        current = [name for name, step in known.items() if step.state in _CURRENT]
        if len(current) > 1:
            current = [name for name, _ in plan if name in current]
        steps = [
            waiting if (step := known.get(name)) is None else step.shown or self._show(definition, name, step)
            for name, waiting in plan
        ]
        if record.ended is not None and record.notice_open:
            current.append(NOTICE)
        return RunRow(
            record.state.value,
            record.by_hand,
            due_at,
            self._names(tuple(current)) if current else _EMPTY,
            b"[" + b",".join(steps) + b"]",
            self._stuck(record) if record.marks or record.quarantined is not None else _EMPTY,
            record.ended_at,
        )

    def _plan(self, definition: Definition) -> list[tuple[str, bytes]]:
        """The steps in the graph's order, each with what is shown while it waits."""
        plan = [
            (name, self._text(name, step.kind, StepState.WAITING, 0, None)) for name, step in definition.steps.items()
        ]
        self._plans[definition.digest] = plan
        return plan

    def _show(self, definition: Definition, name: str, step: StepRecord) -> bytes:
        shown = step.shown = self._text(name, definition.steps[name].kind, step.state, *_tried(step))
        return shown

    def _text(self, name: str, kind: Kind, state: StepState, attempts: int, error: str | None) -> bytes:
        key = (name, kind, state, attempts, error)
        found = self._texts.get(key)
        if found is None:
            if len(self._texts) >= _TEXTS_KEPT:
                self._texts.clear()
            shown = {"name": name, "kind": kind, "state": state, "attempts": attempts, "error": error}
            found = self._texts[key] = self._codec.plain(shown)
        return found

    def _stuck(self, record: RunRecord) -> bytes:
        aside = {"step": None, "phase": None, "reason": record.quarantined, "attempts": 0, "since": record.at}
        return self._codec.plain(
            [
                *([] if record.quarantined is None else [aside]),
                *(
                    {
                        "step": mark.name,
                        "phase": mark.phase,
                        "reason": mark.reason,
                        "code": mark.code,
                        "attempts": mark.attempts,
                        "since": mark.since,
                    }
                    for mark in record.marks.values()
                ),
            ]
        )


def _tried(step: StepRecord) -> tuple[int, str | None]:
    """Attempts and the last error, over all of a step's items."""
    items = step.items.values()
    if len(items) == 1:
        (item,) = items
        return attempts_of(item), None if item.state is StepState.DONE else error_of(item)
    return sum(map(attempts_of, items)), next((told for each in items if (told := error_of(each))), None)


def attempts_of(item: ItemRecord) -> int:
    """How often its action was sent, the attempt in flight included."""
    tries = item.action
    return 0 if tries is None else tries.sends + (tries.open_epoch is not None)


def error_of(item: ItemRecord) -> str | None:
    """What went wrong last, where something did."""
    if item.state is StepState.COMPENSATING and item.undo is not None:
        return item.undo.detail or None
    if item.state is StepState.REJECTED:
        return item.code or item.detail or None
    if item.state in {StepState.ACTING, StepState.UNKNOWN} and item.action is not None:
        return item.action.detail or item.detail or None
    return None
