"""The worker: moves what the core decided. There is no recovery in it: a run that was claimed is driven like any other.

One event loop, no task per run. Everything that happens to a run is a command; commands that came while an append was
in flight are decided together in the next one. A call leaves only after the append that owes it is durable
(`_written`, then `_pay`), and its answer is the next command. What is in flight, queued or timed is memory only: it is
all derived again from the record.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Final

from amends.core.run import commands as c
from amends.core.run.decide import decide
from amends.core.run.definition import Definition
from amends.core.run.events import Event
from amends.core.run.evolve import apply
from amends.core.run.owed import Owed, owed
from amends.core.run.record import RunRecord
from amends.core.words.error_texts import told
from amends.core.words.errors import AmendsError, LogBroken, LogUnavailable
from amends.core.words.keys import CallKey
from amends.core.words.retry import MICROSECONDS
from amends.engine.active_run import Driven, PendingCommand, Ready
from amends.engine.appends import append_ids, is_progress, stored
from amends.engine.calls import Calls, LaneOf, key_of
from amends.engine.failure_log import FailureLog
from amends.engine.group_commit import GroupCommit
from amends.engine.lanes import Lane
from amends.engine.load import decoded
from amends.engine.projection import Projector
from amends.engine.wakeups import Alarm
from amends.ports.clock import LOOP_TIMERS, Timers, TimeSource
from amends.ports.events import EventCodec
from amends.ports.log import ACCEPTED, Append, TransactionLog, Written

EVICT_AFTER: Final = 60 * MICROSECONDS
"""A run that only waits, for longer than this, waits in the log and not in memory.

It is the longest pause between attempts by default: being claimed again costs reading the whole history, and what was
provably not sent can no longer be proven under another epoch.
"""

EVICT_AFTER_CROWDED: Final = 5 * MICROSECONDS
"""The same while more than half of the places in memory are taken: an outage must not keep others from running."""

HELD_MAX: Final = 60 * MICROSECONDS
"""How long a run waits in the log for a participant that is down before it is looked at again."""

SKEW_MAX: Final = MICROSECONDS
"""How far a run's own time may be ahead of the clock while it waits in the log; it waits that much longer."""

REREAD_SECONDS: Final = 1.0

CANCEL_SECONDS: Final = 0.5
"""How long code that was cancelled may take to end, before the engine is closed without it."""

Changed = Callable[[Definition, RunRecord], None]

_LOGGER = logging.getLogger("amends.engine")


class Worker:
    """Drives runs. `changed` is told of every record that became durable, `moved` of each run whose append was
    progress, `freed` when a run left memory.

    `expected` counts runs that are about to come: starts on their way into the log, and claims.
    """

    def __init__(  # noqa: PLR0917 - what a worker is made of
        self,
        log: TransactionLog,
        writer: GroupCommit,
        lane_of: LaneOf,
        events: EventCodec,
        clock: TimeSource,
        changed: Changed,
        moved: Callable[[str], None],
        freed: Callable[[], None],
        runs_max: int,
        timers: Timers = LOOP_TIMERS,
        may_send: Callable[[], bool] | None = None,
        late: Callable[[str, c.Reply], None] = lambda _run, _reply: None,
    ) -> None:
        """`may_send`: whether calls may leave now; `None`: always. `late` is told of answers to runs that were lost."""
        self.runs: dict[str, Driven] = {}
        self.expected = 0
        self._log = log
        self._writer = writer
        self._events = events
        self._clock = clock
        self._changed = changed
        self._moved = moved
        self._freed = freed
        self._runs_max = runs_max
        self._append_ids = append_ids()
        self._projector = Projector(events)
        self._timers = timers
        self._alarm = Alarm(clock, self._ring, timers)
        self._tasks: set[asyncio.Task[None]] = set()
        self.calls = Calls(lane_of, clock, timers, self.offer, self._make_room, self._call_early, late, may_send)
        self._late = late
        self._failures = FailureLog(time.monotonic)
        self._closing = False
        self._handing_over = False

    # -- taking runs on and letting them go

    def take(self, definition: Definition, record: RunRecord, owing: Owed) -> Driven:
        """Drive a run that was just started here under epoch 1."""
        driven = self.runs[record.run] = Driven(definition, record, epoch=1)
        self._pay(driven, owing)
        return driven

    def adopt(self, definition: Definition, record: RunRecord, epoch: int, urged: Iterable[CallKey] = ()) -> None:
        """Drive a run that was claimed, from where its durable record stands. `urged`: calls that a person asked for
        while no worker drove it.
        """
        driven = self.runs[record.run] = Driven(definition, record, epoch)
        driven.urged.update(urged)
        self.offer(driven, PendingCommand(c.Adopted(self._clock.now(), epoch)))

    def offer(self, driven: Driven, asked: PendingCommand) -> None:
        """Something happened to a run, or is asked of it."""
        driven.commands.append(asked)
        self._pump(driven)

    def halt(self) -> None:
        """Send nothing more."""
        self._closing = True
        self._alarm.close()
        self.calls.halt()

    async def close(self, grace_seconds: float) -> None:
        """Send nothing more, give calls in flight their time, then stop. The log tells the next worker where to go on.

        Code that goes on though its task was cancelled isn't waited for: `at_work` has it.
        """
        self.halt()
        flying = {task for driven in self.runs.values() for task in driven.tasks}
        if flying:
            self._handing_over = self._log.lease is not None
            for driven in list(self.runs.values()):
                self._hand_over(driven)
            await asyncio.wait(flying, timeout=grace_seconds)
            self._handing_over = False
        for driven in list(self.runs.values()):
            self.calls.stop(driven)
        for task in (*self._tasks, *self.calls.coming_back):
            task.cancel()
        ending = {*self.calls.under_way, *self._tasks}
        if ending:
            over, _ = await asyncio.wait(ending, timeout=CANCEL_SECONDS)
            for task in over:
                if not task.cancelled():
                    task.exception()  # of no interest: the log has what counts

    @property
    def at_work(self) -> dict[str, asyncio.Task[None]]:
        """Tasks of calls that aren't over, by the key of the call."""
        return {key_of(ready): task for task, ready in self.calls.under_way.items()}

    def _hand_over(self, driven: Driven) -> None:
        """Others needn't wait for runs whose calls are all back; the rest follow with what their calls answer."""
        if not self._handing_over or driven.dropped or driven.appending or driven.tasks or driven.commands:
            return
        now = self._clock.now()
        owing = owed(driven.definition, driven.record, driven.time(now), driven.epoch)
        self._start_release(driven, now if owing.sends else owing.wake)

    def forget(self) -> None:
        """Let go of every run: they are others' by now. Callers that still wait for one ask the log."""
        for driven in list(self.runs.values()):
            self._lose(driven)

    def look_again(self, run: str, version: int) -> None:
        """A visitor wrote up to this version: if the run is here and doesn't know, it reads what was written."""
        driven = self.runs.get(run)
        if driven is not None and not driven.appending and driven.record.length < version:
            self._start_reread(driven)

    def _lose(self, driven: Driven) -> None:
        """Another worker owns the run by now: answers that were not taken in are offered to the log."""
        answers = [each.command for each in (*driven.deciding, *driven.commands) if isinstance(each.command, c.Reply)]
        self._drop(driven)
        for reply in answers:
            self._late(driven.run, reply)

    def _drop(self, driven: Driven) -> None:
        driven.dropped = True
        if self.runs.get(driven.run) is driven:
            del self.runs[driven.run]
        self.calls.drop(driven)
        for asked in (*driven.deciding, *driven.commands):
            if asked.answer is not None and not asked.answer.done():
                asked.answer.set_exception(Moved())
        driven.deciding, driven.commands = [], []
        self._freed()

    # -- deciding and appending

    def _pump(self, driven: Driven) -> None:
        """Decide everything that was asked, as one append; nothing while the last one is in flight."""
        if driven.appending or driven.dropped or not driven.commands:
            return
        asked, driven.commands = driven.commands, []
        at = self._clock.now()
        record = driven.record
        events: list[Event] = []
        refused: list[tuple[PendingCommand, c.Refusal]] = []
        try:
            for each in asked:
                if each.answer is None:
                    decided = decide(driven.definition, record, each.command)
                else:
                    decided = driven.decide(record, each)
                if isinstance(decided, c.Refusal):
                    refused.append((each, decided))
                elif decided.events:
                    events.extend(decided.events)
                    record = decided.record
            at = max(driven.time(at), record.at)  # where the clock went back, a run's own time doesn't
            owing = owed(driven.definition, record, at, driven.epoch)
            may_rest = self._closing or not (owing.sends or driven.calls)
            releasing = may_rest and self._may_wait_in_the_log(driven, record, owing, at)
            entry = None if not events else self._entry(driven, record, events, owing, at, release=releasing)
        except Exception as error:  # noqa: BLE001 - a bug here must cost one run its progress, not all runs
            self._broken(driven, asked, error)
            return
        for each, refusal in refused:
            if each.answer is not None and not each.answer.done():
                each.answer.set_result(refusal)
        if entry is None:
            _tell(asked, record)
            self._pay(driven, owing)
            return
        driven.deciding = asked
        driven.appending = True
        driven.releasing = releasing
        driven.moving = entry.progress
        self._writer.put(entry, partial(self._written, driven, record, owing, events))

    def _entry(
        self, driven: Driven, record: RunRecord, events: list[Event], owing: Owed, at: int, *, release: bool
    ) -> Append:
        return Append(
            driven.run,
            driven.record.length,
            driven.epoch,
            self._append_ids(),
            at,
            stored(self._events, driven.run, driven.record.length, events),
            self._projector.row(driven.definition, record, at if owing.sends else owing.wake),
            release,
            release or is_progress(events),
        )

    @property
    def _patience(self) -> int:
        """How long a run may wait in memory, in microseconds."""
        return EVICT_AFTER_CROWDED if 2 * (len(self.runs) + self.expected) > self._runs_max else EVICT_AFTER

    def _may_wait_in_the_log(self, driven: Driven, record: RunRecord, owing: Owed, at: int) -> bool:
        """Nothing to do for a while, or for good: no memory is held for it.

        A run whose own time (`at`) is ahead of the clock stays: the log would keep it until the clock has caught up.
        """
        if self._closing:
            return not any(each.sent for each in driven.calls.values())
        if owing.sends or driven.calls:
            return False
        if record.ended is not None or owing.wake is None:
            return True
        return owing.wake - at > self._patience and at - self._clock.now() < SKEW_MAX

    def _written(
        self, driven: Driven, record: RunRecord, owing: Owed, events: list[Event], verdict: Written | LogUnavailable
    ) -> None:
        driven.appending = False
        asked, driven.deciding = driven.deciding, []
        if verdict is ACCEPTED:
            driven.record = record
            self._failures.tell(driven.definition, record, events)
            if driven.moving:
                self._moved(driven.run)
            self._changed(driven.definition, record)
            _tell(asked, record)
            if driven.releasing:
                self._let_go(driven)
                return
            self._pay(driven, owing)
            if driven.commands:
                self._pump(driven)
            return
        match verdict:
            case Written.MOVED_ON | Written.HELD:  # the latter is for the writer, and doesn't get here
                unanswered = [each for each in asked if each.answer is None or not each.answer.done()]
                driven.commands = unanswered + driven.commands
                self._start_reread(driven)
            case LogUnavailable():
                for each in asked:
                    if each.answer is not None and not each.answer.done():
                        each.answer.set_exception(verdict)
                self._drop(driven)
            case Written.NOT_YOURS | Written.NO_SUCH_RUN | Written.EXISTS:
                _LOGGER.info("%s has another owner by now: dropped here", driven.run)
                driven.deciding = asked
                self._lose(driven)

    def _let_go(self, driven: Driven) -> None:
        """The run waits in the log, or has ended.

        Callers that asked something of it meanwhile ask the log instead.
        """
        self._drop(driven)

    def _start_release(self, driven: Driven, wake: int | None) -> None:
        driven.appending = True  # from here on, not from when the task gets its turn: nothing is appended meanwhile
        self._spawn(self._release(driven, wake))

    async def _release(self, driven: Driven, wake: int | None) -> None:
        """Let go of a run that nothing is owed for, without a fact to write."""
        try:
            released = await self._log.release(driven.run, driven.epoch, driven.record.length, wake)
            row = None if released else await self._log.read_row(driven.run)
        except Exception as error:  # noqa: BLE001 - whatever it was, the run must not wait for this for ever
            _LOGGER.warning("%s can't be released, and stays: %s", driven.run, told(error))
            driven.appending = False
            if not self._closing:
                again = self._clock.now() + EVICT_AFTER_CROWDED
                self._alarm.set(driven, again if wake is None else min(wake, again))
                self._pump(driven)
            return
        if released or row is None or row.epoch != driven.epoch or row.owner is None:
            self._let_go(driven)
        else:
            await self._reread(driven)

    def _start_reread(self, driven: Driven) -> None:
        driven.appending = True  # as in `_start_release`
        self._spawn(self._reread(driven))

    async def _reread(self, driven: Driven) -> None:
        """A visitor wrote: fold its facts, then decide the same commands again on what is now true."""
        record = driven.record.copy()
        while True:
            try:
                new = await self._log.read_events(driven.run, driven.record.length)
                read = decoded(self._events, driven.run, driven.record.length, new)
                for event in read:
                    apply(record, event)
            except LogUnavailable as error:
                _LOGGER.warning("%s can't be read again: %s", driven.run, error)
                if self._closing or isinstance(error, LogBroken):
                    self._drop(driven)
                    return
                await self._pause(REREAD_SECONDS)
            except Exception:  # a history that can't be read must cost one run, and be heard of
                _LOGGER.exception("%s: what was written meanwhile can't be read; dropped here", driven.run)
                self._drop(driven)
                return
            else:
                driven.record = record
                driven.appending = False
                driven.hear_of(read)
                self._changed(driven.definition, record)
                if not driven.commands:
                    driven.commands.append(PendingCommand(c.Due(self._clock.now(), driven.epoch)))
                self._pump(driven)
                return

    async def _pause(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self._timers.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    def _broken(self, driven: Driven, asked: Iterable[PendingCommand], error: Exception) -> None:
        _LOGGER.error("%s: deciding failed; the run is left as it is", driven.run, exc_info=error)
        for each in asked:
            if each.answer is not None and not each.answer.done():
                each.answer.set_exception(AmendsError(f"{driven.run}: deciding failed: {told(error)}"))
        driven.commands.clear()

    # -- paying what is owed

    def _pay(self, driven: Driven, owing: Owed | None = None) -> None:
        """Send every call that is owed and not yet in flight; set the alarm for what is owed later.

        `owing` is what was owed when the record was decided: what came due since then has its moment in it.
        """
        if self._closing or driven.dropped:
            self._hand_over(driven)
            return
        if owing is None:
            at = driven.time(self._clock.now())
            owing = owed(driven.definition, driven.record, at, driven.epoch)
        if driven.wake != owing.wake:
            self._alarm.set(driven, owing.wake)
        if owing.sends or driven.calls:
            never = self.calls.make(driven, owing.sends)
            if never:
                driven.commands.extend(never)
                self._pump(driven)
                return
        if not driven.calls:
            self._rest(driven, owing)

    def _rest(self, driven: Driven, owing: Owed) -> None:
        """Nothing is in flight: unless there is more to come soon, the run is let go of."""
        if driven.commands or driven.appending or driven.dropped:
            return
        if self._may_wait_in_the_log(driven, driven.record, owing, driven.time(self._clock.now())):
            self._start_release(driven, owing.wake)

    def _make_room(self, lane: Lane[Ready]) -> None:
        """When it is crowded, runs whose calls are all held wait in the log: others must go on.

        They come back the later the longer it lasts.
        """
        if self._patience != EVICT_AFTER_CROWDED:
            return
        circuit, now = lane.circuit, self._clock.now()
        assert circuit is not None
        assert circuit.since is not None
        wake = now + min(max(now - circuit.since, EVICT_AFTER_CROWDED), HELD_MAX)
        too_many = len(self.runs) + self.expected - self._runs_max // 2
        for driven in list({each.driven.run: each.driven for each in lane.held()}.values())[:too_many]:
            calls = list(driven.calls.values())
            if driven.appending or driven.commands:
                continue
            if any(each.has_slot or each.asked or not each.lane.is_down for each in calls):
                continue
            for each in calls:
                each.gone = True
                each.lane.leave(each)
            driven.calls.clear()
            owing = owed(driven.definition, driven.record, driven.time(now), driven.epoch)
            self._start_release(driven, wake if owing.wake is None else min(wake, owing.wake))

    def _call_early(self, participant: str) -> None:
        """A participant answers again: runs that wait for their next attempt at it make it now."""
        now = self._clock.now()
        for driven in list(self.runs.values()):
            if not (driven.appending or driven.commands or driven.dropped or self._closing):
                owing = owed(driven.definition, driven.record, driven.time(now), driven.epoch, back=participant)
                if owing.sends:
                    self._pay(driven, owing)

    def _ring(self, driven: Driven) -> None:
        self.offer(driven, PendingCommand(c.Due(driven.time(self._clock.now()), driven.epoch)))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Moved(AmendsError):
    """The run left this worker before the command was decided: ask again, through the log."""


def _tell(asked: Iterable[PendingCommand], record: RunRecord) -> None:
    for each in asked:
        if each.answer is not None and not each.answer.done():
            each.answer.set_result(record)
