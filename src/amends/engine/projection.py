"""The row that the log shows of a run: what is going on, in plain columns.

It is written with every append, and nearly all of it is the same few texts again and again ("reserve, compensable,
done, one attempt"), so those are kept once they were written.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from amends.core.run.definition import Definition
from amends.core.run.record import ACTING, DONE, ItemRecord, RunRecord, StepRecord, StepState
from amends.core.words.keys import NOTICE
from amends.core.words.retry import Kind
from amends.ports.events import EventCodec
from amends.ports.log import RunRow
from amends.ports.rows import whole_run_mark

_EMPTY = b"[]"
_CURRENT = frozenset({StepState.ACTING, StepState.UNKNOWN, StepState.COMPENSATING})
_TEXTS_KEPT = 4_096


class _Plan:
    """How the rows of one graph's runs are written: its steps in order, with the text of each while it waits, and the
    texts of steps that don't wait any more.
    """

    __slots__ = ("kinds", "steps", "texts")

    def __init__(self, kinds: Mapping[str, Kind], steps: Sequence[tuple[str, bytes]]) -> None:
        self.kinds = kinds
        self.steps = steps
        self.texts: dict[tuple[str, StepState, int, str | None], bytes] = {}


class Projector:
    """Makes rows."""

    def __init__(self, codec: EventCodec) -> None:
        self._codec = codec
        self._plans: dict[str, _Plan] = {}
        self._names = lru_cache(_TEXTS_KEPT)(codec.plain)

    def row(self, definition: Definition, record: RunRecord, due_at: int | None) -> RunRow:
        """The row after the events folded into `record`; `due_at` is when the run needs a worker next."""
        plan = self._plans.get(definition.digest) or self._plan(definition)
        known = record.steps
        steps = [
            waiting if (step := known.get(name)) is None else step.shown or self._show(plan, name, step)
            for name, waiting in plan.steps
        ]
        current = [step.name for step in known.values() if not step.settled and step.state in _CURRENT]
        if len(current) > 1:
            current = [name for name, _ in plan.steps if name in current]
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

    def _plan(self, definition: Definition) -> _Plan:
        kinds = {name: step.kind for name, step in definition.steps.items()}
        waiting = [(name, self._text(name, kind, StepState.WAITING, 0, None)) for name, kind in kinds.items()]
        plan = self._plans[definition.digest] = _Plan(kinds, waiting)
        return plan

    def _show(self, plan: _Plan, name: str, step: StepRecord) -> bytes:
        attempts, error = _tried(step)
        key = (name, step.state, attempts, error)
        shown = plan.texts.get(key)
        if shown is None:
            if len(plan.texts) >= _TEXTS_KEPT:
                plan.texts.clear()
            shown = plan.texts[key] = self._text(name, plan.kinds[name], step.state, attempts, error)
        step.shown = shown
        return shown

    def _text(self, name: str, kind: Kind, state: StepState, attempts: int, error: str | None) -> bytes:
        return self._codec.plain({"name": name, "kind": kind, "state": state, "attempts": attempts, "error": error})

    def _stuck(self, record: RunRecord) -> bytes:
        aside = record.quarantined
        return self._codec.plain(
            [
                *([] if aside is None else [whole_run_mark(aside, 0, record.at)]),
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
    if len(items) > 1:
        return sum(map(attempts_of, items)), next((told for each in items if (told := error_of(each))), None)
    for item in items:
        return attempts_of(item), None if item.state is DONE else error_of(item)
    return 0, None


def attempts_of(item: ItemRecord) -> int:
    """How often its action was sent, the attempt in flight included."""
    tries = item.action
    return 0 if tries is None else tries.sends + (tries.open_epoch is not None)


def error_of(item: ItemRecord) -> str | None:
    """What went wrong last, where something did."""
    state = item.state
    if state is ACTING or state is StepState.UNKNOWN:
        return None if item.action is None else item.action.detail or item.detail or None
    if state is StepState.COMPENSATING and item.undo is not None:
        return item.undo.detail or None
    if state is StepState.REJECTED:
        return item.code or item.detail or None
    return None
