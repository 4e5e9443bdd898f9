"""The transaction log in memory: the reference that every other log is measured by. Simple, not fast; not durable.

A `MemoryStore` is what would be on disk, a `MemoryLog` is one worker on it. Opening declares every other worker gone,
so a crash is told by opening a second `MemoryLog` on the same store; the first one may go on trying to write, as a
process that hung for a while would, and its appends meet the same conditions as all others'.

No method waits for anything, so each is atomic as it stands.
"""

import os
import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from amends.core.words.errors import LogUnavailable
from amends.ports.log import (
    Append,
    Find,
    LiveRuns,
    SagaKey,
    Start,
    StoredEvent,
    StoredRun,
    StuckRuns,
    WorkerLease,
    WorkerRow,
    WorkerState,
    Written,
)
from amends.ports.rows import NO_MARK, facts_of


@dataclass(slots=True)
class KeptRun:
    """A run's row, its events, and the append that wrote each of them."""

    row: StoredRun
    events: list[StoredEvent]
    append_ids: list[bytes]


@dataclass(slots=True)
class MemoryStore:
    """What outlives a `MemoryLog`."""

    runs: dict[str, KeptRun] = field(default_factory=dict[str, KeptRun])
    graphs: dict[SagaKey, bytes] = field(default_factory=dict[SagaKey, bytes])
    settings: dict[str, bytes] = field(default_factory=dict[str, bytes])
    openings: int = 0
    live: str | None = None
    """The one worker that isn't gone."""


class MemoryLog:
    """A worker on a store; on one of its own where none is given."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store
        self._worker: str | None = None
        self._known: Sequence[SagaKey] = ()

    @property
    def lease(self) -> WorkerLease | None:
        return None

    @property
    def is_elsewhere(self) -> bool:
        return False

    async def open(self) -> None:
        self.store.openings += 1
        self._worker = self.store.live = f"worker-{self.store.openings}"

    async def close(self) -> None:
        if self._worker is not None and self.store.live == self._worker:
            self.store.live = None
            for kept in self.store.runs.values():
                if kept.row.owner == self._worker:
                    kept.row = replace(kept.row, owner=None, claims=0)
        self._worker = None
        self._known = ()

    def _ensure_open(self) -> str:
        """Give the worker's id."""
        if self._worker is None:
            raise LogUnavailable("The log in memory isn't open.")
        return self._worker

    async def define(self, saga: SagaKey, graph: bytes, *, beside: bool = False) -> bytes | None:
        self._ensure_open()
        if saga in self.store.graphs:
            return None
        others = [kept for kept in self.store.graphs if (kept.name, kept.version) == (saga.name, saga.version)]
        if others and not beside:
            return self.store.graphs[others[-1]]
        self.store.graphs[saga] = graph
        return None

    async def announce(self, known: Sequence[SagaKey]) -> None:
        self._ensure_open()
        self._known = tuple(known)

    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        assert len({entry.run for entry in batch}) == len(batch), "a run stands in a batch once"
        return [self._start(entry) if isinstance(entry, Start) else self._append(entry) for entry in batch]

    def _start(self, entry: Start) -> Written:
        assert entry.events
        me = self._ensure_open()
        kept = self.store.runs.get(entry.run)
        if kept is not None:
            return Written.ACCEPTED if kept.append_ids[:1] == [entry.append_id] else Written.EXISTS
        row = StoredRun(
            run=entry.run,
            saga=entry.saga,
            saga_version=entry.saga_version,
            digest=entry.digest,
            state=entry.row.state,
            by_hand=entry.row.by_hand,
            version=len(entry.events),
            owner=me if entry.owned else None,
            epoch=1,
            due_at=entry.row.due_at,
            claims=0,
            start_print=entry.start_print,
            current=entry.row.current,
            steps=entry.row.steps,
            stuck=entry.row.stuck,
            deadline=entry.deadline,
            tags=dict(entry.tags),
            created_at=entry.at,
            updated_at=entry.at,
            ended_at=entry.row.ended_at,
        )
        self.store.runs[entry.run] = KeptRun(row, list(entry.events), [entry.append_id] * len(entry.events))
        return Written.ACCEPTED

    def _append(self, entry: Append) -> Written:
        assert entry.events
        me = self._ensure_open()
        kept = self.store.runs.get(entry.run)
        if kept is None or not kept.events:  # never there, or purged
            return Written.NO_SUCH_RUN
        row = kept.row
        ours = entry.epoch is None or (row.owner, row.epoch) == (me, entry.epoch)
        if row.version != entry.expected or not ours:
            if kept.append_ids[entry.expected : entry.expected + 1] == [entry.append_id]:
                return Written.ACCEPTED
            return Written.MOVED_ON if ours else Written.NOT_YOURS
        kept.row = appended_to(row, entry)
        kept.events.extend(entry.events)
        kept.append_ids.extend([entry.append_id] * len(entry.events))
        return Written.ACCEPTED

    async def read(self, run: str) -> StoredRun | None:
        self._ensure_open()
        kept = self.store.runs.get(run)
        return None if kept is None else with_events(kept.row, kept.events)

    async def read_row(self, run: str) -> StoredRun | None:
        self._ensure_open()
        kept = self.store.runs.get(run)
        return None if kept is None else kept.row

    async def read_events(self, run: str, after: int) -> Sequence[StoredEvent]:
        self._ensure_open()
        kept = self.store.runs.get(run)
        return () if kept is None else tuple(kept.events[after:])

    async def claim(
        self, known: Sequence[SagaKey], now: int, limit: int, *, suspects: int | None = None
    ) -> Sequence[StoredRun]:
        me = self._ensure_open()
        if me != self.store.live:
            return ()  # declared gone by a later opening
        needy = [
            kept
            for kept in self.store.runs.values()
            if saga_of(kept.row) in known
            and (is_due(kept.row, now) if kept.row.owner is None else kept.row.owner != self.store.live)
        ]
        needy.sort(key=lambda kept: (kept.row.due_at is None, kept.row.due_at or 0))
        if suspects is not None:
            suspected = [kept for kept in needy if kept.row.owner is not None and kept.row.claims]
            suspected.sort(key=lambda kept: kept.row.claims)
            needy = [kept for kept in needy if kept not in suspected[suspects:]]
        for kept in needy[:limit]:
            row = kept.row
            kept.row = owned_by(row, me, row.epoch + 1, row.due_at, row.claims + (row.owner is not None))
        return [with_events(kept.row, kept.events) for kept in needy[:limit]]

    async def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
        me = self._ensure_open()
        kept = self.store.runs.get(run)
        if kept is None or (kept.row.owner, kept.row.epoch, kept.row.version) != (me, epoch, version):
            return False
        kept.row = owned_by(kept.row, None, epoch, due_at, claims=0)
        return True

    async def exonerate(self, run: str, epoch: int) -> None:
        me = self._ensure_open()
        kept = self.store.runs.get(run)
        if kept is not None and (kept.row.owner, kept.row.epoch) == (me, epoch):
            kept.row = replace(kept.row, claims=min(kept.row.claims, 1))

    async def nudged(self, now: int) -> Sequence[tuple[str, int]]:
        me = self._ensure_open()
        return [(row.run, row.version) for row in self._rows() if row.owner == me and is_due(row, now)]

    async def next_due(self, known: Sequence[SagaKey] | None = None) -> int | None:
        self._ensure_open()
        free = (row for row in self._rows() if row.owner is None and (known is None or saga_of(row) in known))
        return min((row.due_at for row in free if row.due_at is not None), default=None)

    async def find(self, question: Find) -> Sequence[StoredRun]:
        self._ensure_open()
        found = [row for row in self._rows() if answers(question, row)]
        found.sort(key=lambda row: (row.created_at, row.run), reverse=True)
        return found[: question.limit]

    async def count(self) -> Mapping[str, int]:
        self._ensure_open()
        return Counter(row.state for row in self._rows())

    async def live(self) -> Sequence[LiveRuns]:
        self._ensure_open()
        rows: dict[tuple[SagaKey, str], list[StoredRun]] = {}
        for row in self._rows():
            if row.ended_at is None:
                rows.setdefault((saga_of(row), row.state), []).append(row)
        return [
            LiveRuns(
                saga=saga,
                state=state,
                count=len(found),
                oldest=min(row.created_at for row in found),
            )
            for (saga, state), found in rows.items()
        ]

    async def due(self, now: int) -> int:
        self._ensure_open()
        return sum(row.owner is None and is_due(row, now) for row in self._rows())

    async def stuck(self) -> Sequence[StuckRuns]:
        self._ensure_open()
        counts: Counter[tuple[str, str, str, str]] = Counter()
        for row in self._rows():
            if row.state == "stuck" and row.ended_at is None:
                marks = facts_of(row).marks or [NO_MARK]
                counts.update({(row.saga, mark.step.partition("/")[0], mark.phase, mark.reason) for mark in marks})
        return [StuckRuns(*cause, count) for cause, count in counts.items()]

    async def late(self, now: int) -> Mapping[str, int]:
        self._ensure_open()
        return Counter(row.saga for row in self._rows() if is_late(row, now) and facts_of(row).past_pivot)

    async def standing(self, runs: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        self._ensure_open()
        rows = {run: self.store.runs[run].row for run in runs if run in self.store.runs}
        return {run: (row.version, row.state) for run, row in rows.items()}

    async def workers(self) -> Sequence[WorkerRow]:
        me = self._ensure_open()
        owned = sum(row.owner == me for row in self._rows())
        return [
            WorkerRow(me, WorkerState.LIVE, socket.gethostname(), os.getpid(), None, None, None, self._known, owned)
        ]

    async def graph(self, saga: SagaKey) -> bytes | None:
        self._ensure_open()
        return self.store.graphs.get(saga)

    async def setting(self, name: str, value: bytes) -> bytes:
        self._ensure_open()
        return self.store.settings.setdefault(name, value)

    async def purge(self, ended_before: int, limit: int, state: str | None = None) -> int:
        self._ensure_open()
        kept = [each for each in self.store.runs.values() if each.events and state in {None, each.row.state}]
        over = [each for each in kept if is_over(each.row, ended_before)][:limit]
        for each in over:
            each.row = replace(each.row, current=b"[]", steps=b"[]", stuck=b"[]", tags={})
            each.events.clear()
            each.append_ids.clear()
        return len(over)

    def _rows(self) -> Iterable[StoredRun]:
        return (kept.row for kept in self.store.runs.values())


def appended_to(row: StoredRun, entry: Append) -> StoredRun:
    """The row once this is appended. By place, for every append: `dataclasses.replace` takes eight times as long."""
    told = entry.row
    visit = entry.epoch is None
    return StoredRun(
        row.run,
        row.saga,
        row.saga_version,
        row.digest,
        told.state,
        told.by_hand,
        entry.expected + len(entry.events),
        None if entry.release and not visit else row.owner,
        row.epoch,
        due_after_visit(row, entry) if visit else told.due_at,
        0 if entry.progress else row.claims,
        row.start_print,
        told.current,
        told.steps,
        told.stuck,
        row.deadline,
        row.tags,
        row.created_at,
        entry.at,
        told.ended_at,
    )


def owned_by(
    row: StoredRun,
    owner: str | None,
    epoch: int,
    due_at: int | None,
    claims: int,
    *,
    events: Sequence[StoredEvent] = (),
) -> StoredRun:
    """The row under this owner."""
    return StoredRun(
        row.run,
        row.saga,
        row.saga_version,
        row.digest,
        row.state,
        row.by_hand,
        row.version,
        owner,
        epoch,
        due_at,
        claims,
        row.start_print,
        row.current,
        row.steps,
        row.stuck,
        row.deadline,
        row.tags,
        row.created_at,
        row.updated_at,
        row.ended_at,
        events,
    )


def with_events(row: StoredRun, events: Iterable[StoredEvent]) -> StoredRun:
    """The row as it is given to callers that ask for the whole run."""
    return owned_by(row, row.owner, row.epoch, row.due_at, row.claims, events=tuple(events))


def due_after_visit(row: StoredRun, entry: Append) -> int | None:
    """When a run needs a worker after a visitor wrote: now, unless it has ended and no worker has it in memory."""
    if row.owner is None and entry.row.ended_at is not None:
        return entry.row.due_at
    return min(at for at in (row.due_at, entry.row.due_at, entry.at) if at is not None)


def saga_of(row: StoredRun) -> SagaKey:
    """The graph the run began with."""
    return SagaKey(row.saga, row.saga_version, row.digest)


def is_due(row: StoredRun, now: int) -> bool:
    """Whether the run needs a worker by now."""
    return row.due_at is not None and row.due_at <= now


def is_over(row: StoredRun, ended_before: int) -> bool:
    """Whether the run ended before this time, and nothing of it is owed or held any more."""
    return row.ended_at is not None and row.ended_at < ended_before and row.owner is None and row.due_at is None


def is_late(row: StoredRun, now: int) -> bool:
    """Whether the run should have ended before this time."""
    return row.ended_at is None and row.deadline is not None and row.deadline < now


def answers(question: Find, row: StoredRun) -> bool:
    """Whether this row is asked for."""
    return (
        (not question.states or row.state in question.states)
        and (question.saga is None or row.saga == question.saga)
        and (question.saga_version is None or row.saga_version == question.saga_version)
        and all(row.tags.get(name) == value for name, value in question.tags.items())
        and (question.step is None or question.step in steps_at_work(row))
        and (question.late_by is None or is_late(row, question.late_by))
        and (question.after is None or (row.created_at, row.run) < question.after)
    )


def steps_at_work(row: StoredRun) -> set[str]:
    """The names of the steps that are current or stuck, where the row can be read."""
    facts = facts_of(row)
    return {*facts.current, *(mark.step for mark in facts.marks)}
