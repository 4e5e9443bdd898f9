"""The transaction log: append-only facts per run, and one row per run that answers "what is going on" by itself.

The rules every implementation keeps, whatever it is built on:

- An append is accepted only if the run still has the expected version *and* the writer is its owner under the same
  epoch (an `Append` without an epoch is a visitor's: the version alone decides). Otherwise that entry, and only that
  entry, is refused. What is accepted is durable when `append` returns.
- The same append sent again (same `append_id`) is accepted again and changes nothing: that is how a commit whose
  outcome is unknown is settled.
- Row and events are written by one atomic act. The row's `version` is the number of the run's events.
- A claim raises the run's epoch by one; a run's id is never free again.
- A visitor's append makes the run due at once (unless it has ended and has no owner): its owner, or the worker that may
  become it, will look. So no visit is slept through.
- Where several processes can write, each is a worker with a lease (`WorkerLease`). A worker that lets its lease run out
  may be declared gone, for good, and its runs claimed. That is only about which worker *may* claim: what keeps two from
  driving one run is the first rule, which needs no clock.

Times are microseconds UTC. Bodies are bytes the log doesn't look into. `LogUnavailable` means: nothing of this batch
may be acknowledged.

Lists (`find`) are asked for by people, and may have to look at every run there is. They must not keep those waiting
who drive runs: a log gives a list up after a while (`LogTooSlow`), and answers it beside everything else.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from typing import Final, Protocol, runtime_checkable

from amends.core.words.values import Words, value


@value
class StoredEvent:
    """One fact as it is kept. `epoch` is the one it was appended under; 0 where a visitor wrote it."""

    kind: str
    body: bytes
    epoch: int
    at: int


@value
class RunRow:
    """What the log shows of a run without reading its events; written anew with every append.

    `current`, `steps` and `stuck` are JSON: names of steps; `[{name, kind, state, attempts, error}]`;
    `[{step, phase, reason, code, attempts, since}]`, where a run that was set aside as a whole has step `""` and phase
    `run` (older versions wrote `null` for both). `due_at` is when the run needs a worker next; `None`: never by
    itself.
    """

    state: str
    by_hand: bool
    due_at: int | None
    current: bytes
    steps: bytes
    stuck: bytes
    ended_at: int | None


@value
class Start:
    """A new run, with its first events, owned by the worker that starts it (`owned`), or unowned yet."""

    run: str
    saga: str
    saga_version: int
    digest: str
    start_print: bytes
    deadline: int | None
    tags: Mapping[str, str]
    at: int
    append_id: bytes
    events: Sequence[StoredEvent]
    row: RunRow
    owned: bool = True


@value
class Append:
    """More facts about a run. `epoch` is the owner's, `None` for a visitor. `release`: the owner lets go of the run.
    `progress`: the run moved on, so its `claims` count from zero; that an attempt began is no progress.

    There is at least one event. An owner's append to a run that was due and still is may leave `due_at` as it was. A
    visitor's append leaves `due_at` at the earliest of what it was, `row.due_at` and `at`; only of a run that has ended
    and has no owner it is `row.due_at` alone: no worker needs to look.
    """

    run: str
    expected: int
    epoch: int | None
    append_id: bytes
    at: int
    events: Sequence[StoredEvent]
    row: RunRow
    release: bool = False
    progress: bool = True


class Written(Words):
    """What became of one entry of a batch."""

    ACCEPTED = "accepted"
    """It is durable."""

    EXISTS = "exists"
    """A start whose id is taken; by what, `read` tells."""

    MOVED_ON = "moved-on"
    """An append whose run has another version by now: read and decide again. An owner's is still under its epoch."""

    NOT_YOURS = "not-yours"
    """An append whose run has another owner, another epoch or none."""

    NO_SUCH_RUN = "no-such-run"

    HELD = "held"
    """Nothing was written, and nothing is known against it: another session holds on to the run's row. Again later."""


ACCEPTED: Final = Written.ACCEPTED


@value
class StoredRun:
    """A run as the log has it. `events` is empty where only the row was asked for, and once they are purged.

    `claims` counts how often the run was taken over from an owner that was gone, since the last append with `progress`,
    or since an owner let go of the run. `Exonerating` takes it back to one. `current`, `steps` and `stuck` are given as
    they are kept, whatever they hold: `ports.rows` reads them. `unreadable` names columns that the log itself must
    decode and can't (`tags`): they are given as empty.
    """

    run: str
    saga: str
    saga_version: int
    digest: str
    state: str
    by_hand: bool
    version: int
    owner: str | None
    epoch: int
    due_at: int | None
    claims: int
    start_print: bytes
    current: bytes
    steps: bytes
    stuck: bytes
    deadline: int | None
    tags: Mapping[str, str]
    created_at: int
    updated_at: int
    ended_at: int | None
    events: Sequence[StoredEvent] = ()
    unreadable: Sequence[str] = ()


@value
class SagaKey:
    """The graph a run began with: a worker claims only runs whose graph it has loaded."""

    name: str
    version: int
    digest: str


@value
class Find:
    """A question about rows. Empty means "any". Pages go by `(created_at, run)`, newest first; `after` is the last one
    seen.

    `tags`: all of them, with these values. `step`: it is among the run's current steps, or stuck. `late_by`: it hasn't
    ended, and its deadline was before this time.
    """

    states: Sequence[str] = ()
    saga: str | None = None
    saga_version: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    step: str | None = None
    late_by: int | None = None
    limit: int = 100
    after: tuple[int, str] | None = None


@value
class LiveRuns:
    """Runs of one graph in one state that haven't ended: how many, and when the oldest began."""

    saga: SagaKey
    state: str
    count: int
    oldest: int


@value
class StuckRuns:
    """How many runs of one saga are stuck for one cause. `step` is named without an item; it is empty, and `phase` is
    `run`, where the run as a whole is meant.
    """

    saga: str
    step: str
    phase: str
    reason: str
    count: int


class WorkerState(Words):
    """Of a worker, as the log has it."""

    LIVE = "live"
    DEAD = "dead"
    """It let its lease run out."""

    LEFT = "left"
    """It ended in good order."""


@value
class WorkerRow:
    """A process that may own runs, or might lately. `expires_at`: when its lease is over; `None`: a lock is its lease.

    `sagas`: what it has loaded, where it said so; `runs`: how many it has.
    """

    id: str
    state: WorkerState
    host: str
    pid: int
    started_at: int | None
    heard_at: int | None
    expires_at: int | None
    sagas: Sequence[SagaKey]
    runs: int


class LogReader(Protocol):
    """What can be asked of a log without owning it."""

    async def read(self, run: str) -> StoredRun | None:
        """The row and all events, in order."""
        ...

    async def read_row(self, run: str) -> StoredRun | None:
        """The row without its events."""
        ...

    async def read_events(self, run: str, after: int) -> Sequence[StoredEvent]:
        """The events from version `after + 1` on."""
        ...

    async def find(self, question: Find) -> Sequence[StoredRun]:
        """Rows without events. A row that holds what no row should is given like any other, and hides none."""
        ...

    async def count(self) -> Mapping[str, int]:
        """How many runs are in each state."""
        ...

    async def live(self) -> Sequence[LiveRuns]:
        """What hasn't ended, by graph and state. It is asked at every scrape and start: it must be answered without
        reading the rows of such runs, however many there are, and ended runs must cost nothing.
        """
        ...

    async def due(self, now: int) -> int:
        """How many runs need a worker by now and have none."""
        ...

    async def stuck(self) -> Sequence[StuckRuns]:
        """All stuck runs by cause; one that is stuck for several causes counts for each."""
        ...

    async def late(self, now: int) -> Mapping[str, int]:
        """How many runs of each saga are past their deadline and past their pivot, so that they can only go on."""
        ...

    async def standing(self, runs: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        """Version and state of those of these runs that there are."""
        ...

    async def workers(self) -> Sequence[WorkerRow]:
        """The workers that may own runs, and those that might lately, the oldest first."""
        ...

    async def graph(self, saga: SagaKey) -> bytes | None:
        """The graph kept for a saga (JSON)."""
        ...


class WorkerLease(Protocol):
    """How a worker shows the others that it lives, and hears of them. Only a log for several processes has one."""

    @property
    def seconds(self) -> float:
        """How long a worker may be silent before the others may declare it gone."""
        ...

    async def renew(self) -> int | None:
        """Begin the lease anew, and declare gone the workers whose lease ran out. Gives the log's own time, by which
        all workers go; `None` if this worker was declared gone itself: it owns nothing any more.
        """
        ...

    @property
    def look_in(self) -> float | None:
        """In how many seconds from the last renewal, or look, the first of the others' leases is over; `None`: there
        are no others, or they are given time.
        """
        ...

    async def look(self) -> None:
        """Declare gone the workers whose lease ran out, without renewing."""
        ...

    async def begin_anew(self) -> None:
        """Be a new worker, under a new id, after the old one was declared gone."""
        ...

    def listen(self, heard: Callable[[], None]) -> None:
        """Call this when another process says that a run needs a worker. Not every such message arrives: it spares
        waiting for the next look, and nothing rests on it.
        """
        ...

    async def let_go_of_strays(self, held: Callable[[], Collection[str]], now: int) -> Sequence[str]:
        """Let go of runs that are ours by the log but not among those `held`: the answer to a claim was lost.

        `held` is asked once it is known what is ours by the log. Nothing may be claimed meanwhile.
        """
        ...


class TransactionLog(LogReader, Protocol):
    """See the module. Every method may raise `LogUnavailable`; opening may raise `LogInUse` or `LogDamaged`."""

    @property
    def lease(self) -> WorkerLease | None:
        """What this worker must renew; `None` where only one process may have the log open, and a lock is its lease."""
        ...

    @property
    def is_elsewhere(self) -> bool:
        """Whether an append is the work of another process, so that this one can get on with its own meanwhile."""
        ...

    async def open(self) -> None:
        """Take the log over (where only one process may) or join the others. Runs of workers that are gone get free."""
        ...

    async def close(self) -> None:
        """Let go of it, and of every run of ours: others may claim them at once. What was accepted stays."""
        ...

    async def announce(self, known: Sequence[SagaKey]) -> None:
        """Say which sagas this worker has loaded, for `workers` to show."""
        ...

    async def define(self, saga: SagaKey, graph: bytes, *, beside: bool = False) -> bytes | None:
        """Keep a saga's graph (JSON), unless this name and version has another digest: then that one's graph is given
        back.

        With `beside` it is kept beside the other. Once kept, a digest is no conflict any more.
        """
        ...

    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        """Write a batch, atomically per entry, durably on return: a verdict per entry. A run stands in it once."""
        ...

    async def claim(
        self, known: Sequence[SagaKey], now: int, limit: int, *, suspects: int | None = None
    ) -> Sequence[StoredRun]:
        """Become the owner of up to `limit` runs that need a worker and whose saga is known here, most overdue first.

        Needs a worker: it has no owner and is due by `now`, or its owner is gone (last of all where it isn't due by
        itself). Gives them with their events and new epoch. `suspects`: at most so many of them may have been taken
        over before (`claims`), because they may have crashed their former workers; those taken over least often come
        first, so that others' deaths aren't laid to one of them alone.
        """
        ...

    async def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
        """Let go of a run; refused (`False`) if another process wrote since `version`, or the run isn't ours."""
        ...

    async def nudged(self, now: int) -> Sequence[tuple[str, int]]:
        """Runs of ours that are due by `now` with their version: where it is higher than known, a visitor wrote."""
        ...

    async def next_due(self, known: Sequence[SagaKey] | None = None) -> int | None:
        """When the earliest run without an owner needs a worker; of these sagas only, where `known` is given.

        Pass the same sagas as to `claim`: runs that this worker can't claim would wake it.
        """
        ...

    async def setting(self, name: str, value: bytes) -> bytes:
        """The value kept under this name; `value` is stored first if there is none (once, even if two ask at once)."""
        ...

    async def purge(self, ended_before: int, limit: int, state: str | None = None) -> int:
        """Forget up to `limit` runs that ended before this time (in this state, if one is given) and need no worker;
        gives how many, 0 when there is nothing left.

        Their events, tags and what the row says about steps go; the row stays, so that the id is never free again, but
        nothing can be appended to it any more (`NO_SUCH_RUN`).
        """
        ...


@runtime_checkable
class Exonerating(Protocol):
    """A log that can record that an owner lived with a suspect; a log without this counts the next death against it."""

    async def exonerate(self, run: str, epoch: int) -> None:
        """Take the `claims` of a run back to one, if they are more and the run is still ours under this epoch."""
        ...


@runtime_checkable
class Excluding(Protocol):
    """An open log that keeps other processes out while this one has it, and can do so for longer."""

    def keep_out(self) -> Callable[[], None]:
        """Keep others out beyond `close`, until what is given is called, on any thread, or the process ends."""
        ...
