"""One world: its processes, their log, the network, callers and people, from a seed to rest.

A supervisor keeps one process running: what died is started again, what stood still for too long gets a successor and
is stopped when it wakes. Callers start runs and ask again until they are told that it is done. People ask for things
now and then. When nothing is under way any more, the promises are asked of every run; where one is stuck, a sensible
person helps, as long as it takes.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Final

from amends.codecs.events import JsonEventCodec
from amends.codecs.json import canonical
from amends.core.run import commands as c
from amends.core.run.definition import Definition
from amends.core.run.record import RunRecord
from amends.core.words.errors import AmendsError, InputInvalid, LogUnavailable, Overloaded
from amends.core.words.retry import MICROSECONDS
from amends.engine.active_run import Ready
from amends.engine.engine import Engine, Started
from amends.engine.lanes import Lane
from amends.ports.log import StoredRun
from amends.testing.broken import BrokenPromise
from amends.testing.explore.given import Given
from amends.testing.explore.people import Does, Sight, deeds, remedies
from amends.testing.invariants import Effect, Evidence, broken
from amends.testing.simulation.books import SimulatedBooks, Trace
from amends.testing.simulation.disk import Disk, Storage
from amends.testing.simulation.logs import Logs
from amends.testing.simulation.network import Network, Replies, SimulatedTransport
from amends.testing.simulation.processes import SimulatedProcess, Timeline
from amends.testing.simulation.weather import CLEAR_AFTER_MAX, PAUSE_MAX, Weather, WeatherFault

STARTS: Final = 1_767_225_600 * MICROSECONDS
"""When every world begins: the first of January 2026, UTC."""

AGAIN: Final = 1 * MICROSECONDS
PATIENCE: Final = 10 * MICROSECONDS
"""How long a caller waits for an answer before it asks again."""

LEASE: Final = 15 * MICROSECONDS
"""A process that stands still for longer gets a successor."""

POLL_SECONDS: Final = 30.0
"""How often a process looks for runs of others, where there may be others: pauses are minutes, and looks are many."""

ALONE: Final = math.inf
"""A process that is alone looks when it knows why."""

HELPED_MAX: Final = 25
"""How often people help in one world before it is said that they can't."""


@dataclass(frozen=True, slots=True)
class Cast:
    """What is played, in every world alike: sagas, what is given by their names, and what participants answer."""

    definitions: Sequence[Definition]
    given: Mapping[str, Given]
    replies: Replies
    runs: int = 4


@dataclass(eq=False, slots=True)
class Instance:
    """One process and the engine in it. `is_open`: it may be asked."""

    process: SimulatedProcess
    engine: Engine
    disk: Disk
    is_open: bool = False


@dataclass(eq=False, slots=True)
class Wanted:
    """A run that a caller wants."""

    run: str
    definition: Definition
    body: bytes
    time_left: int | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class WorldAtRest:
    """A world that came to rest: how its runs ended, and what really went wrong."""

    ends: tuple[str, ...]
    fired: Mapping[WeatherFault, int]
    helped: int


class SimulatedWorld:
    """Everything in one world."""

    def __init__(self, cast: Cast, logs: Logs, codec: JsonEventCodec, seed: int, trace: Trace | None = None) -> None:
        dice = Random(seed)  # noqa: S311 - a seed is a bug report, not a secret
        self._cast = cast
        self._logs = logs
        self._codec = codec
        self._dice = dice
        self._timeline = Timeline(STARTS)
        self._weather = Weather(dice, STARTS + int(CLEAR_AFTER_MAX * dice.random()), alone=logs.alone)
        self._books = SimulatedBooks(codec, trace)
        self._storage = Storage(self._timeline, self._weather, logs, self._books)
        self._network = Network(self._timeline, self._weather, self._books, self, cast.replies)
        self._now: Instance | None = None
        self._instances: list[Instance] = []
        self._at_once = dice.choice((1, 2, 16))
        self._poll = POLL_SECONDS if WeatherFault.PAUSE_PAST_LEASE in self._weather.others else ALONE
        self._wanted: dict[str, Wanted] = {}
        self._loaded: list[Definition] = []
        """What its processes know: the sagas of its runs. To tell the log of others would only take their time."""
        self._wrong: BaseException | None = None

    # -- from beginning to end

    def play(self) -> WorldAtRest:
        """Let it all happen; `BrokenPromise` if it isn't as it should be."""
        self._logs.begin()
        self._plan()
        self._timeline.run()
        self._check_processes()
        records, helped = self._help()
        return WorldAtRest(tuple(each.state.value for each in records.values()), self._weather.fired, helped)

    def leave(self) -> None:
        """Nothing of it is needed any more."""
        for each in self._instances:
            each.process.kill()
            self._logs.leave(each.disk.inner)
        self._instances.clear()

    def _plan(self) -> None:
        """Draw what is wanted, and what goes wrong when."""
        dice, cast, after = self._dice, self._cast, self._timeline.after
        for number in range(cast.runs):
            definition = cast.definitions[dice.randrange(len(cast.definitions))]
            wanted = Wanted(f"run-{number + 1}", definition, cast.given[definition.saga].input)
            if WeatherFault.DEADLINE in self._weather.others and dice.random() < 0.5:
                wanted.time_left = int(60 * MICROSECONDS * dice.random()) + 1
                self._weather.fire(WeatherFault.DEADLINE)
            self._wanted[wanted.run] = wanted
            after(int(3 * MICROSECONDS * dice.random()), self._want, wanted)
        wanted_sagas = {each.definition.saga for each in self._wanted.values()}
        self._loaded = [each for each in cast.definitions if each.saga in wanted_sagas]
        self._begin_process()
        span = self._weather.clear_at - STARTS
        for kind in self._weather.others:
            happens = self._events.get(kind)
            if happens is not None:
                for _ in range(dice.choice((1, 1, 2))):
                    after(int(span * dice.random() ** 2), happens)
        after(span, self._clear)

    @property
    def _events(self) -> Mapping[WeatherFault, "partial[None]"]:
        return {
            WeatherFault.PARTITION: partial(self._cut_off),
            WeatherFault.PAUSE: partial(self._pause, WeatherFault.PAUSE),
            WeatherFault.PAUSE_PAST_LEASE: partial(self._pause, WeatherFault.PAUSE_PAST_LEASE),
            WeatherFault.DEPLOY: partial(self._deploy),
            WeatherFault.SLOW_DISK: partial(self._slow_down),
            WeatherFault.PERSON: partial(self._somebody),
        }

    def _clear(self) -> None:
        """The storm is over. Where several processes may live, one more goes through all that is left, alone."""
        self._books.note(self._timeline.now(), "clear")
        self._weather.end_of_storm()
        self._network.cut_off.clear()
        if self._poll != ALONE:
            self._poll = ALONE
            for each in self._instances:
                self._end_process(each)

    # -- processes

    def _begin_process(self) -> None:
        """Start a process on the log."""
        number = len(self._instances) + 1
        process = SimulatedProcess(self._timeline, number)
        disk = Disk(self._storage, self, process)
        lanes: dict[str, Lane[Ready]] = {}

        def lane_of(_: Definition, participant: str) -> Lane[Ready]:
            lane = lanes.get(participant)
            if lane is None:
                lane = lanes[participant] = Lane(participant, SimulatedTransport(self._network, process), self._at_once)
            return lane

        engine = Engine(
            self._loaded,
            log=disk,
            lane_of=lane_of,
            events=self._codec,
            canonical=canonical,
            clock=self._timeline,
            timers=process,
            poll_seconds=self._poll,
        )
        instance = Instance(process, engine, disk)
        self._instances.append(instance)
        self._now = instance
        self._books.note(self._timeline.now(), "process", number)
        process.begin(engine.open, partial(self._opened, instance))

    def _opened(self, instance: Instance, task: "asyncio.Task[None]") -> None:
        error = task.exception()
        if error is None:
            instance.is_open = True
        elif isinstance(error, LogUnavailable):
            self._timeline.after(0, self._end_process, instance)
        else:
            self._fail(error)

    def _end_process(self, instance: Instance) -> None:
        """It is gone; the supervisor starts another one soon, if it was the one that counts."""
        if instance.process.is_dead:
            return
        instance.process.kill()
        self._network.dies(instance.process)
        # By the world, when the turn that killed it is over: what follows may have to wait for threads.
        self._timeline.after(0, self._logs.leave, instance.disk.inner)
        self._books.note(self._timeline.now(), "dead", instance.process.number)
        if instance is self._now:
            self._now = None
            self._timeline.after(int(AGAIN * self._dice.random()), self._begin_process)

    def _instance(self, process: SimulatedProcess) -> Instance:
        return self._instances[process.number - 1]

    def crash(self, process: SimulatedProcess) -> None:
        """Kill it now."""
        self._end_process(self._instance(process))

    def ruined(self, process: SimulatedProcess) -> None:
        """Its log failed: it says so and is started anew."""
        self._timeline.after(int(AGAIN * self._dice.random()), self._end_process, self._instance(process))

    def _pause(self, kind: WeatherFault) -> None:
        instance = self._now
        if instance is None or not instance.is_open:
            return
        self._weather.fire(kind)
        self._books.note(self._timeline.now(), kind.value, instance.process.number)
        instance.process.pause()
        lasts = int(PAUSE_MAX * self._dice.random())
        if kind is WeatherFault.PAUSE_PAST_LEASE:
            lasts += LEASE
            self._timeline.after(LEASE, self._succeed, instance)
        self._timeline.after(lasts, instance.process.wake)

    def _succeed(self, instance: Instance) -> None:
        """Its lease is over: another one takes over, and it is stopped some time after it has woken."""
        if instance is not self._now or instance.process.is_dead:
            return
        self._begin_process()
        self._timeline.after(2 * PAUSE_MAX, self._end_process, instance)

    def _deploy(self) -> None:
        instance = self._now
        if instance is None or not instance.is_open:
            return
        self._weather.fire(WeatherFault.DEPLOY)
        instance.is_open = False
        grace = self._dice.choice((0.0, 1.0, 10.0))
        instance.process.begin(partial(instance.engine.close, grace), partial(self._closed, instance))

    def _closed(self, instance: Instance, task: "asyncio.Task[None]") -> None:
        error = task.exception()
        if error is not None and not isinstance(error, LogUnavailable):
            self._fail(error)
        self._timeline.after(0, self._end_process, instance)

    def _fail(self, error: BaseException) -> None:
        self._wrong = self._wrong or error

    # -- other things that go wrong

    def _cut_off(self) -> None:
        known = [name for each in self._loaded for name in each.participants]
        if known:
            until = self._timeline.now() + int(90 * MICROSECONDS * self._dice.random())
            self._network.cut_off[self._dice.choice(known)] = until

    def _slow_down(self) -> None:
        self._storage.slow_until = self._timeline.now() + int(60 * MICROSECONDS * self._dice.random())

    # -- callers

    def _want(self, wanted: Wanted) -> None:
        """Ask for a run, until an answer says that it is durable."""
        if self._books.of(wanted.run).started or self._wrong is not None:
            return
        instance = self._now
        if instance is None or not instance.is_open:
            self._timeline.after(AGAIN, self._want, wanted)
            return
        wanted.tries += 1
        if wanted.tries > 1:
            self._weather.fire(WeatherFault.START_REPEATED)
        deadline = None if wanted.time_left is None else self._timeline.now() + wanted.time_left
        start = partial(instance.engine.start, wanted.definition, wanted.body, run=wanted.run, deadline=deadline)
        instance.process.begin(start, partial(self._started, wanted))
        self._timeline.after(PATIENCE, self._want, wanted)

    def _started(self, wanted: Wanted, task: "asyncio.Task[Started]") -> None:
        error = task.exception()
        if error is None:
            self._books.note(self._timeline.now(), "started", wanted.run)
            self._books.of(wanted.run).started = True
            if not self._books.of(wanted.run).stored:
                self._fail(BrokenPromise(f"P1 a start is durable: {wanted.run} was acknowledged and isn't in the log"))
        elif isinstance(error, InputInvalid) and wanted.time_left is not None:
            pass  # the process stood still until the deadline was over: its caller asks with a new one
        elif not isinstance(error, LogUnavailable | Overloaded):
            self._fail(error)

    # -- people

    def _somebody(self) -> None:
        """A person asks for something that can sensibly be asked."""
        instance = self._now
        run = self._dice.choice(list(self._wanted))
        book = self._books.of(run)
        if instance is None or not instance.is_open or not book.events:
            return
        known = deeds(self._sight(run))
        sensible = [each for each in known if each.word in _ASKED_ANY_TIME]
        if not sensible:
            return
        self._weather.fire(WeatherFault.PERSON)
        self._steer(instance, run, self._dice.choice(sensible))

    def _steer(self, instance: Instance, run: str, does: Does) -> None:
        self._books.note(self._timeline.now(), "person", run, does)
        if does.undoes is not None:
            self._books.happened(self._timeline.now(), run, Effect(*does.undoes, "undone", by_hand=True))

        def verb(at: int, epoch: int) -> c.Verb:
            return replace(does.command(at), epoch=epoch)

        instance.process.begin(partial(instance.engine.steer, run, verb), partial(self._steered, run, does))

    def _steered(self, run: str, does: Does, task: "asyncio.Task[RunRecord]") -> None:
        error = task.exception()
        if error is None:
            return
        if not isinstance(error, AmendsError):
            self._fail(error)
        if does.undoes is not None:
            ledger = self._books.of(run).ledger
            ledger.remove(Effect(*does.undoes, "undone", by_hand=True))

    # -- at rest

    def _check_processes(self) -> None:
        wrong = self._books.wrong or self._wrong
        if wrong is not None:
            raise wrong
        for each in self._instances:
            uncaught = each.process.went_wrong
            if uncaught is not None:
                msg = f"process {each.process.number}: {type(uncaught).__name__}: {uncaught}"
                raise BrokenPromise(msg) from (uncaught if isinstance(uncaught, BaseException) else None)
        for run in self._wanted:
            if not self._books.of(run).started:
                msg = f"P1 it ends or is stuck: {run} was asked for again and again and never started"
                raise BrokenPromise(msg)

    def _evidence(self, run: str) -> Evidence:
        book = self._books.of(run)
        return Evidence(self._wanted[run].definition, tuple(book.events), tuple(book.ledger))

    def _sight(self, run: str) -> Sight:
        """What a person sees of a run with a look into everything."""
        evidence = self._evidence(run)
        given = self._cast.given[evidence.definition.saga]
        return Sight(evidence.definition, evidence.record, evidence.net, self._network.at_work(run), given)

    def _check(self, run: str) -> RunRecord:
        """Ask every promise of a run that is left alone, by what the log has of it."""
        instance = self._now
        assert instance is not None, "at rest there is a process"
        row = self._logs.do(partial(instance.disk.inner.read, run))
        if row is None:
            raise BrokenPromise(f"P1 an acknowledged run is never lost: {run} isn't in the log")
        self._books.found(self._timeline.now(), instance.process.number, row)
        evidence = self._evidence(run)
        sentence = broken(evidence, quiet=True)
        if sentence is not None:
            raise BrokenPromise(f"{sentence} ({run}, {evidence.definition.saga})")
        _check_row(row, evidence.record)
        return evidence.record

    def _help(self) -> tuple[dict[str, RunRecord], int]:
        """Check every run, and have people help where one is stuck; gives how they ended and how often that was
        needed.
        """
        helped = 0
        tried: dict[tuple[str, int], int] = {}
        while True:
            records = {run: self._check(run) for run in self._wanted}
            stuck = [run for run, record in records.items() if record.ended is None]
            if not stuck:
                return records, helped
            helped += 1
            for run in stuck:
                self._remedy(run, records[run], tried)
            self._timeline.run()
            self._check_processes()
            if helped > HELPED_MAX:
                marks = ", ".join(f"{mark.name}: {mark.reason}" for mark in records[stuck[0]].marks.values())
                raise BrokenPromise(f"P1 it ends or is stuck: no person can move {stuck[0]} on ({marks})")

    def _remedy(self, run: str, record: RunRecord, tried: dict[tuple[str, int], int]) -> None:
        """What helps, by the next idea if the last one changed nothing."""
        instance = self._now
        assert instance is not None, "at rest there is a process"
        ideas = list(remedies(self._sight(run)))
        number = tried.get((run, record.length), 0)
        tried[run, record.length] = number + 1
        if ideas:
            self._steer(instance, run, ideas[number % len(ideas)])


def _check_row(row: StoredRun, record: RunRecord) -> None:
    """What the log shows of a run is what its history says, and no process holds what is over."""
    if row.version != record.length or row.state != record.state.value or row.by_hand != record.by_hand:
        raise BrokenPromise(
            f"the row is the history's: {row.run} is {row.state} at {row.version} in its row, and "
            f"{record.state.value} at {record.length} in its history"
        )
    if record.ended is not None and (row.owner is not None or row.due_at is not None):
        raise BrokenPromise(f"an end is final: {row.run} has ended, and {row.owner or 'somebody'} is still to look")


_ASKED_ANY_TIME: Final = frozenset({"cancel", "compensate", "answer", "decline", "retry", "abandon"})
