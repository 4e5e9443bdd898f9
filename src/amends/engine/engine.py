"""The engine behind every orchestrator: runs are started, driven, asked for, and steered by people.

It is given ports only (log, transports, codecs, clock); the composition root decides which ones.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any, Final, TypeAlias

from amends.core.run import commands as c
from amends.core.run import decide as decider
from amends.core.run.definition import EPOCH_START, Definition
from amends.core.run.offers import Offer
from amends.core.run.owed import Owed, owed
from amends.core.run.record import RunRecord
from amends.core.words.codec import Undecodable
from amends.core.words.errors import (
    AmendsError,
    DefinitionNotHere,
    InputInvalid,
    LogBroken,
    LogUnavailable,
    LogUnclear,
    NoSuchRun,
    Overloaded,
    RunExists,
    TooLarge,
)
from amends.core.words.keys import RUN_ID
from amends.core.words.limits import REASON_CHARACTERS_MAX, REQUEST_BYTES_MAX, TAG_CHARACTERS_MAX, TAGS_MAX
from amends.engine.active_run import Driven, PendingCommand
from amends.engine.appends import append_ids, stored
from amends.engine.calls import LaneOf
from amends.engine.claims import POLL_SECONDS, Claims
from amends.engine.deploys import define_all, ensure_drivable
from amends.engine.elsewhere import Elsewhere
from amends.engine.group_commit import GroupCommit
from amends.engine.input_diff import input_difference
from amends.engine.lanes import Standing
from amends.engine.late import LateAnswers
from amends.engine.lease import LeaseKeeper
from amends.engine.load import record_of
from amends.engine.log_clock import LogClock
from amends.engine.projection import Projector
from amends.engine.visits import VISITS_MAX, Ask, Preview, Visits, keeps_changing, refused
from amends.engine.waiters import Audience, is_settled
from amends.engine.worker import EVICT_AFTER, Moved, Worker
from amends.ports.clock import LOOP_TIMERS, Timers, TimeSource, elapsed
from amends.ports.events import EventCodec
from amends.ports.log import ACCEPTED, Append, Excluding, SagaKey, Start, StoredRun, TransactionLog, Written

RUNS_MAX: Final = 1_000
"""Runs in memory per process; more wait in the log."""

STARTS_WAITING_MAX: Final = 20_000
"""Appends that may wait for the log before new runs are turned away."""

GRACE_SECONDS: Final = 10.0


UNCLEAR_SECONDS: Final = 5.0
"""How long a caller waits to learn whether its request was written, while the log can't be asked."""

_LOGGER = logging.getLogger("amends.engine")


Work: TypeAlias = Future[Any] | asyncio.Task[None]
"""Code that is at work, on a thread or in the event loop."""


@dataclass(slots=True)
class Started:
    """A run that was started, or had been. `driven` is set while this process drives it since its start."""

    run: str
    definition: Definition
    is_new: bool
    driven: Driven | None


class Engine:
    """Everything between the ports and the public API. Enter it to open the log and resume what is unfinished."""

    def __init__(
        self,
        definitions: Iterable[Definition],
        *,
        log: TransactionLog,
        lane_of: LaneOf,
        events: EventCodec,
        canonical: Callable[[bytes], bytes],
        clock: TimeSource,
        runs_max: int = RUNS_MAX,
        timers: Timers = LOOP_TIMERS,
        poll_seconds: float = POLL_SECONDS,
        participants: Callable[[], Sequence[Standing]] = tuple,
        leave: Iterable[str] = (),
        at_work: Callable[[], Mapping[str, Work]] = dict[str, Work],
    ) -> None:
        """`at_work` has the work of calls that is done in this process and may outlast them, by the key of its call."""
        self.definitions: dict[SagaKey, Definition] = {
            SagaKey(each.saga, each.version, each.digest): each for each in definitions
        }
        self.log = log
        self.participants = participants
        self._at_work = at_work
        self.outlasted: list[str] = []
        """Keys of calls whose code was at work still when the engine was closed."""
        self._leave = frozenset(leave)
        self._canonical = canonical
        self.events = events
        lease = log.lease
        self._clock = clock = LogClock(clock, clock.monotonic if lease is None else elapsed)
        self._lease: LeaseKeeper | None = None
        if lease is not None:
            self._lease = LeaseKeeper(lease, clock, elapsed, timers, self._lease_lost, self._lease_kept)
        self._timers = timers
        self._runs_max = runs_max
        self._append_ids = append_ids()
        self._projector = Projector(events)
        self.audience = Audience()
        self._writer = GroupCommit(log, self._log_broke, timers)
        may_send = None if self._lease is None else self._lease.may_send
        self.visits = Visits(self.read, self._write, lane_of, events, clock, self._append_ids, self._visited)
        self._late = LateAnswers(self.visits.offer, timers)
        self.worker = Worker(
            log,
            self._writer,
            lane_of,
            events,
            clock,
            self._changed,
            self._moved,
            self._freed,
            runs_max,
            timers,
            may_send,
            self._late.put,
        )
        self._claims = Claims(
            log,
            self.worker,
            self._writer,
            self.definitions,
            events,
            clock,
            self._changed,
            runs_max,
            timers,
            poll_seconds,
            self._tenure,
        )
        self._elsewhere = Elsewhere(log, self._watched_elsewhere, self._hear_of, timers)
        self.last_append = 0
        """When this process last wrote something of a run (microseconds UTC); 0 before it did."""
        self.broken: asyncio.Event = asyncio.Event()
        self._broken_by: LogBroken | None = None

    async def open(self) -> None:
        """Open the log, tell it the graphs, and go on with everything that is unfinished."""
        if self._lease is None:
            self._clock.begin()
        await self.log.open()
        try:
            if self._lease is not None:
                await self._lease.start()
            await define_all(self.log, self.definitions)
            await self.log.announce(list(self.definitions))
            await ensure_drivable(self.log, self.definitions, self._leave, timers=self._timers)
        except BaseException:
            if self._lease is not None:
                await self._lease.close()
            await self.log.close()
            raise
        self._writer.start()
        self._claims.start()
        if self._lease is not None:
            self._elsewhere.start()

    async def open_for_visits(self) -> None:
        """Open the log for looking, and for what people ask; no run is claimed or driven here.

        What is asked happens at the log's time: by a clock that is ahead, the run would be due only when that is over.
        """
        if self._lease is None:
            self._clock.begin()
        await self.log.open()
        if self._lease is not None:
            try:
                await self._lease.confirm()
            except BaseException:
                await self.log.close()
                raise
        self._writer.start()

    async def close(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """No new claims and sends; calls in flight get their time; what they said is written; the log is closed."""
        try:
            await self._claims.close()
            await self._elsewhere.close()
            await self.worker.close(grace_seconds)
            await self._late.close()
            await self._writer.close()
        finally:
            if self._lease is not None:
                await self._lease.close()
            self._outlast({**self._at_work(), **self.worker.at_work})
            await self.log.close()
            self.worker.forget()
            for run in list(self.audience.awaited):
                self.audience.fail(run, AmendsError(f"{run}: the engine was closed before the run ended"))

    def _outlast(self, work: Mapping[str, Work]) -> None:
        """Code of steps can't be stopped: its end is not heard of, and no other process may repeat it before."""
        if not work:
            return
        self.outlasted = sorted(work)
        _LOGGER.warning(
            "the log is closed while code of steps is still at work: %s. Its result is lost; these calls are made "
            "again by the process that opens the log next",
            ", ".join(self.outlasted),
        )
        if isinstance(self.log, Excluding):
            for each in work.values():
                each.add_done_callback(partial(_let_in, self.log.keep_out()))

    @property
    def trouble(self) -> str | None:
        """Why this process can't drive runs just now, though it will again by itself; `None` if it can."""
        if self._lease is not None and not self._lease.may_send():
            return self._lease.trouble or "the lease isn't confirmed: nothing is sent until it is"
        # What was refused and given back isn't for ever: a process that isn't ready is given nothing new to write.
        return self._writer.trouble if self._lease is not None or self._writer.runs else None

    @property
    def clock(self) -> TimeSource:
        """What deadlines and timers go by: the log's own time where several processes share it."""
        return self._clock

    @property
    def appends_waiting(self) -> int:
        """Appends that aren't in flight to the log yet."""
        return self._writer.waiting

    # -- starting

    def latest(self, saga: str, version: int | None = None) -> Definition | None:
        """The definition under which a new run starts: this version, or the highest that is loaded."""
        known = [each for each in self.definitions.values() if each.saga == saga and version in {None, each.version}]
        return max(known, key=lambda each: each.version, default=None)

    async def start(
        self,
        definition: Definition,
        body: bytes,
        *,
        run: str | None = None,
        deadline: int | None = None,
        tags: Mapping[str, str] | None = None,
        by: str = "embedded",
    ) -> Started:
        """Begin a run whose input is this JSON; when this returns it is durable."""
        if self._broken_by is not None:
            raise self._broken_by
        if self._writer.waiting > STARTS_WAITING_MAX:
            msg = f"{self._writer.waiting} appends wait for the log"
            raise Overloaded(msg, retry_after=timedelta(seconds=1))
        _check_size(body)
        tags = _checked_tags(tags or {})
        at = self._clock.now()
        run = run if run is not None else new_run_id(at)
        if RUN_ID.fullmatch(run) is None:
            msg = f"{run!r} is no run id: expected {RUN_ID.pattern}"
            raise InputInvalid(msg, path="id")
        try:
            definition.input_value(body)
        except Undecodable as error:
            raise InputInvalid(error.detail, path=error.path) from error
        start_print = self._start_print(definition, body)
        owned = len(self.worker.runs) + self.worker.expected < self._runs_max
        epoch = 1 if owned else 0
        decision = decider.start(definition, c.StartRun(at, epoch, run, body, deadline, by))
        owing = owed(definition, decision.record, at, epoch)
        idle = decision.record.ended is not None and not owing.sends
        rests = idle or waits_in_the_log(owing, at)  # starts unowned: to let go of it would cost another commit
        entry = Start(
            run=run,
            saga=definition.saga,
            saga_version=definition.version,
            digest=definition.digest,
            start_print=start_print,
            deadline=deadline,
            tags=tags,
            at=at,
            append_id=self._append_ids(),
            events=stored(self.events, run, 0, decision.events),
            row=self._projector.row(definition, decision.record, None if idle else at if owing.sends else owing.wake),
            owned=owned and not rests,
        )
        driven: Driven | None = None
        tenure = self._tenure()

        def begin(verdict: Written | LogUnavailable) -> None:
            nonlocal driven
            self.worker.expected -= owned
            if verdict is not ACCEPTED:
                return
            self.last_append = at
            if rests:
                driven = Driven(definition, decision.record, 0, dropped=True)
                self._changed(definition, decision.record)
                self._claims.freed()
            elif owned and (tenure is None or self._tenure() != tenure):
                self._claims.stray()  # its owner may be the worker that was declared gone: it is claimed like any other
            elif owned:
                driven = self.worker.take(definition, decision.record, owing)
            else:
                self._claims.look()

        self.worker.expected += owned
        if await self._write(entry, begin) is not ACCEPTED:
            return await self._started_before(run, definition, body, start_print)
        return Started(run, definition, is_new=True, driven=driven)

    def _start_print(self, definition: Definition, body: bytes) -> bytes:
        return sha256(definition.saga.encode() + b"\0" + self._canonical(body)).digest()

    async def _write(self, entry: Start | Append, follow: Callable[[Written | LogUnavailable], None]) -> Written:
        """The verdict; `follow` is called with it too, also when no caller waits for it any more."""
        answer: asyncio.Future[Written] = asyncio.get_running_loop().create_future()

        def give_up(reason: LogUnclear) -> None:
            if not answer.done():
                answer.set_exception(reason)

        def done(verdict: Written | LogUnavailable) -> None:
            if isinstance(verdict, LogUnclear):  # it goes on being settled, and `follow` hears how
                self._timers.call_later(UNCLEAR_SECONDS, partial(give_up, verdict))
                return
            try:
                follow(verdict)
            finally:
                if answer.done():
                    pass
                elif isinstance(verdict, LogUnavailable):
                    answer.set_exception(verdict)
                else:
                    answer.set_result(verdict)

        self._writer.put(entry, done)
        return await answer

    async def _started_before(self, run: str, definition: Definition, body: bytes, start_print: bytes) -> Started:
        row = await self.log.read_row(run)
        if row is None:
            msg = f"{run} can't be started: the log refused it"
            raise LogUnavailable(msg)
        if row.start_print != start_print:
            raise RunExists(await self._another(row, definition, body))
        driven = self.worker.runs.get(run)
        if driven is None and row.owner is not None and row.ended_at is None:
            await self._take_up(row)
        return Started(run, self.definition_of(row), is_new=False, driven=driven)

    async def _take_up(self, row: StoredRun) -> None:
        """A run that this process doesn't drive, though it may be ours: the log took its start, and the answer got
        lost.

        If it is ours, it is let go of and claimed like any other; if it isn't, the log refuses to let it go.
        """
        if await self.log.release(row.run, row.epoch, row.version, row.due_at):
            self._claims.look()

    async def _another(self, row: StoredRun, definition: Definition, body: bytes) -> str:
        """What the run that has the id was started with, and where this input differs from it."""
        at = f"{EPOCH_START + timedelta(microseconds=row.created_at):%H:%M:%S}"
        remedy = "Starting again with the same input is fine; another order needs another id."
        if row.saga != definition.saga:
            return f"{row.run} was started as a run of {row.saga} at {at}. {remedy}"
        stored = await self.log.read(row.run)
        first = None if stored is None or not stored.events else stored.events[0]
        differs = "" if first is None else input_difference(definition, self.events, row.run, first, body)
        return f"{row.run} was started with another input at {at}{differs}. {remedy}"

    # -- looking

    def definition_of(self, row: StoredRun) -> Definition:
        """The definition a stored run began with; `DefinitionNotHere` if this process hasn't loaded it."""
        found = self.definitions.get(SagaKey(row.saga, row.saga_version, row.digest))
        if found is None:
            msg = f"{row.run} began with {row.saga} v{row.saga_version}, which isn't loaded here. Load it too."
            raise DefinitionNotHere(msg)
        return found

    async def read(self, run: str) -> tuple[StoredRun, Definition, RunRecord]:
        """A run as the log has it; `NoSuchRun` if it doesn't."""
        row = await self.log.read(run)
        if row is None:
            msg = f"there is no run {run}"
            raise NoSuchRun(msg)
        return row, self.definition_of(row), record_of(row, self.events)

    async def settled(
        self, run: str, wait_seconds: float | None, driven: Driven | None = None
    ) -> tuple[Definition, RunRecord]:
        """The record once the run has ended or is stuck; as it stands when `wait_seconds` are over."""
        clock = asyncio.get_running_loop()
        until = None if wait_seconds is None else clock.time() + wait_seconds
        while True:
            changed = self.audience.wait(run)
            try:
                known = (
                    driven
                    if driven is not None and (not driven.dropped or driven.record.ended)
                    else self.worker.runs.get(run)
                )
                if known is not None:
                    definition, record = known.definition, known.record
                else:
                    _, definition, record = await self.read(run)
                left = None if until is None else until - clock.time()
                if is_settled(record) or (left is not None and left <= 0):
                    return definition, record
                if self._broken_by is not None:
                    raise self._broken_by
                try:
                    if left is None:
                        return definition, await changed
                    async with asyncio.timeout(left):
                        return definition, await changed
                except TimeoutError:
                    continue
            finally:
                self.audience.leave(run, changed)

    def _visited(self, definition: Definition, record: RunRecord) -> None:
        self._claims.moved(record.run)
        self._changed(definition, record)
        self._claims.visited()

    def _moved(self, run: str) -> None:
        self._claims.moved(run)

    def _changed(self, definition: Definition, record: RunRecord) -> None:
        self.last_append = record.at
        self.audience.tell(definition, record)

    def _watched_elsewhere(self) -> list[str]:
        """The runs that callers wait for and this process doesn't drive."""
        return [run for run in self.audience.awaited if run not in self.worker.runs]

    async def _hear_of(self, run: str) -> None:
        """A run that another process drives is settled, by its row: callers that wait for it are told."""
        try:
            _, definition, record = await self.read(run)
        except AmendsError as error:
            self.audience.fail(run, error)
        else:
            self._changed(definition, record)

    def _lease_lost(self) -> None:
        self.worker.forget()

    def _tenure(self) -> int | None:
        """Which worker this process is: it was another before it was declared gone. `None`: none just now."""
        return 0 if self._lease is None else self._lease.tenure

    def _lease_kept(self) -> None:
        if not self._writer.runs:
            self._writer.trouble = None  # this was written
        self.worker.calls.send_on()

    def _freed(self) -> None:
        self._claims.freed()

    def _log_broke(self, error: LogBroken) -> None:
        _LOGGER.error("the log broke, this process must be started anew: %s", error)
        self._broken_by = error
        self.worker.halt()
        self.broken.set()
        for run in list(self.audience.awaited):
            self.audience.fail(run, error)

    # -- steering

    async def steer(self, run: str, verb: Ask, *, expected: int | None = None) -> RunRecord:
        """Do what a person asks, as one append; `verb` is given the time and the epoch. `Refused` says why not.

        With `expected` only if the run's history is at this version; else, or as soon as it isn't any more: `Changed`.
        """
        _check_reason(verb(self._clock.now(), 0).who.reason)
        for _ in range(VISITS_MAX):
            driven = self.worker.runs.get(run)
            if driven is not None:
                try:
                    answer: asyncio.Future[RunRecord | c.Refusal] = asyncio.get_running_loop().create_future()
                    self.worker.offer(driven, PendingCommand(verb(self._clock.now(), driven.epoch), answer, expected))
                    decided = await answer
                except Moved:
                    continue
                if isinstance(decided, c.Refusal):
                    raise refused(decided)
                return decided
            record = await self.visits.steer(run, verb, expected)
            if record is not None:
                return record
        raise keeps_changing(run)

    async def preview(self, run: str, verb: Ask, *, expected: int | None = None) -> Preview:
        """What would follow from a verb, without doing it."""
        _check_reason(verb(self._clock.now(), 0).who.reason)
        driven = self.worker.runs.get(run)
        return await self.visits.preview(run, verb, expected, None if driven is None else driven.held)

    def offers(self, row: StoredRun, record: RunRecord) -> tuple[Offer, ...] | None:
        """The verbs that would be accepted of a stored run; `None` if its definition isn't loaded here."""
        definition = self.definitions.get(SagaKey(row.saga, row.saga_version, row.digest))
        if definition is None:
            return None
        driven = self.worker.runs.get(row.run)
        return self.visits.offers(row, definition, record, None if driven is None else driven.held)


def _let_in(let_go: Callable[[], None], _over: object) -> None:
    let_go()


def waits_in_the_log(owing: Owed, at: int) -> bool:
    """Whether a new run owes nothing for so long that no memory is held for it."""
    return not owing.sends and (owing.wake is None or owing.wake - at > EVICT_AFTER)


def new_run_id(at: int) -> str:
    """A run id that sorts by time: milliseconds since 1970, then randomness."""
    return f"{at // 1_000:012x}{secrets.token_hex(8)}"


def _check_size(body: bytes) -> None:
    if len(body) > REQUEST_BYTES_MAX:
        msg = f"the input has {len(body)} bytes; the limit is {REQUEST_BYTES_MAX}"
        raise TooLarge(msg)


def _check_reason(reason: str) -> None:
    if not 1 <= len(reason) <= REASON_CHARACTERS_MAX:
        msg = f"a reason has 1 to {REASON_CHARACTERS_MAX} characters; this one has {len(reason)}"
        raise InputInvalid(msg, path="reason")


def _checked_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    if len(tags) > TAGS_MAX:
        msg = f"{len(tags)} tags; the limit is {TAGS_MAX}"
        raise InputInvalid(msg, path="tags")
    for name, value in tags.items():
        for each in (name, value):
            if not isinstance(each, str) or not each or len(each) > TAG_CHARACTERS_MAX:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped code
                msg = f"{name!r}: tags are text of 1 to {TAG_CHARACTERS_MAX} characters"
                raise InputInvalid(msg, path=f"tags.{name}")
            if "\0" in each or any("\ud800" <= one <= "\udfff" for one in each):
                msg = f"{name!r}: tags hold neither NUL nor half of a character, which no database could keep"
                raise InputInvalid(msg, path="tags")
    return dict(tags)
