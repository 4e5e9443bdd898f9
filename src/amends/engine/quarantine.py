"""Leaving a run to a person: one that its owners may have died of, or whose history can't be read.

It is an event in the run's log like any other, written by the owner that claimed the run to do so. Nothing is sent for
the run any more until a person asks for it with `retry`.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from amends.core.run import events as e
from amends.core.run.definition import Definition
from amends.core.run.evolve import apply
from amends.core.run.record import RunRecord
from amends.core.words.errors import LogUnavailable
from amends.engine.appends import append_ids, stored
from amends.engine.group_commit import GroupCommit
from amends.engine.load import bare_record
from amends.engine.projection import Projector
from amends.ports.clock import TimeSource
from amends.ports.events import EventCodec
from amends.ports.log import Append, RunRow, StoredRun, Written
from amends.ports.rows import EMPTY, facts_of, whole_run_mark

SUSPECT_CLAIMS: Final = 2
"""Taken over so often in a row, a run is driven with no other suspect beside it."""

CLAIMS_MAX: Final = 5
"""Taken over so often in a row, it isn't driven any more."""

_LOGGER = logging.getLogger("amends.engine")


class Quarantine:
    """Sets runs aside. `changed` is told of each, once that is durable: people must hear it."""

    def __init__(
        self,
        writer: GroupCommit,
        events: EventCodec,
        clock: TimeSource,
        changed: Callable[[Definition, RunRecord], None],
    ) -> None:
        self._changed = changed
        self._writer = writer
        self._events = events
        self._clock = clock
        self._projector = Projector(events)
        self._append_ids = append_ids()

    def read(self, run: StoredRun, definition: Definition, record: RunRecord, reason: str) -> None:
        """Put a run aside whose history is known."""
        event = e.Quarantined(max(self._clock.now(), record.at), run.epoch, reason)
        after = record.copy()
        apply(after, event)
        row = self._projector.row(definition, after, None)
        self._write(run, event, row, lambda: self._changed(definition, after))

    def unread(self, run: StoredRun, definition: Definition, reason: str) -> None:
        """Set a run aside of which only the row is known; one that has ended stays as it ended."""
        at = max(self._clock.now(), run.updated_at)
        mark = whole_run_mark(reason, run.claims, at)
        ended = run.ended_at is not None
        bad = facts_of(run).unreadable
        row = RunRow(
            state=run.state if ended else "stuck",
            by_hand=run.by_hand,
            due_at=None,
            current=EMPTY if "current" in bad else run.current,
            steps=EMPTY if "steps" in bad else run.steps,
            stuck=(EMPTY if "stuck" in bad else run.stuck) if ended else self._events.plain([mark]),
            ended_at=run.ended_at,
        )
        record = bare_record(run)
        record.at, record.quarantined = at, reason
        then = partial(self._changed, definition, record)
        self._write(run, e.Quarantined(at, run.epoch, reason), row, _nothing if ended else then)

    def _write(self, run: StoredRun, event: e.Quarantined, row: RunRow, then: Callable[[], None]) -> None:
        entry = Append(
            run=run.run,
            expected=run.version,
            epoch=run.epoch,
            append_id=self._append_ids(),
            at=event.at,
            events=stored(self._events, run.run, run.version, [event]),
            row=row,
            release=True,
        )
        self._writer.put(entry, partial(self._written, run.run, then))

    def _written(self, run: str, then: Callable[[], None], verdict: Written | LogUnavailable) -> None:
        if verdict is Written.ACCEPTED:
            then()
        else:
            _LOGGER.warning("%s can't be put aside now, it will be tried again: %s", run, verdict)


def _nothing() -> None:
    """A run that has ended stays as it ended: there is nothing to tell."""
