# pyright: reportPrivateUsage=false
"""One story, told to the worker that ships and to the explorer's account of it (`testing.drive`).

The worker is the real engine, on a log in memory and on a clock that only the story moves; its calls reach nobody, and
are answered by the story. After each step both must agree: the same events with the same times and epochs, the same
calls sent, the same calls waited for.
"""

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Final, NamedTuple

from amends.adapters import Lanes
from amends.codecs.events import JsonEventCodec
from amends.codecs.json import canonical
from amends.core.run import commands as c
from amends.core.run.answers import CallResponse, Came, Outcome, read_answer
from amends.core.run.definition import Definition
from amends.core.run.events import Event
from amends.core.run.record import BUILT_IN, LOCAL, RunRecord
from amends.core.saga.operation import Route
from amends.core.words.keys import Key, Phase
from amends.core.words.retry import Guard, Kind
from amends.engine.active_run import Driven
from amends.engine.appends import append_ids
from amends.engine.engine import Engine
from amends.engine.visits import Visits
from amends.logs.memory import MemoryLog, MemoryStore
from amends.ports.transport import Outgoing
from amends.testing.explore.drive import Drive, Drives, Followed, _Driving
from amends.testing.explore.history import RunHistory
from amends.testing.explore.marks import Marks
from amends.testing.explore.moves import AnswerOnWay, Flying, Move, RequestOnWay
from amends.testing.workshop.clock import VirtualTime
from tests.method.exploration.sagas import INPUT

RUN: Final = "run"
SPINS: Final = 15
"""Rounds of the event loop without anything new: the engine's longest way from one of its ports to another is four."""

CRASH: Final = Move("crash", ends_process=True)
ADOPT: Final = Move("adopt")
POLL: Final = Move("poll")
JUMP: Final = Move("jump")


class Left(NamedTuple):
    """A call that left, as both tell it."""

    epoch: int
    step: str
    item: str
    phase: Phase
    attempt: int
    guard: Guard
    kind: Kind
    body: bytes
    since: int
    seal: str

    @property
    def flying(self) -> Flying:
        """What its process waits for."""
        return Flying(self.step, self.item, self.phase, self.attempt)


@dataclass(eq=False)
class Process:
    """The engine of one process, and the calls it waits for. It is the transport to every participant itself."""

    definition: Definition
    store: MemoryStore
    time: VirtualTime
    sent: list[Left] = field(default_factory=list[Left])
    waits: dict[Left, "asyncio.Future[Came]"] = field(default_factory=dict[Left, "asyncio.Future[Came]"])
    engine: Engine = field(init=False)
    visits: Visits = field(init=False)
    """As a process that shares the log would make them: nothing in memory here hears of them."""

    def __post_init__(self) -> None:
        names = [name for name in self.definition.participants if name not in {*BUILT_IN, LOCAL}]
        routes = [Route(name, self) for name in names]
        lanes = Lanes([self.definition], routes, lambda _: self, lambda _: self)
        self.engine = Engine(
            [self.definition],
            log=MemoryLog(self.store),
            lane_of=lanes.lane_of,
            events=JsonEventCodec(),
            canonical=canonical,
            clock=self.time,
            timers=self.time,
            poll_seconds=math.inf,
        )
        self.visits = Visits(
            self.engine.read,
            self.engine._write,
            lanes.lane_of,
            JsonEventCodec(),
            self.time,
            append_ids(),
            lambda _definition, _record: None,
        )

    async def send(self, call: Outgoing) -> Came:
        """Wait until the story has an answer."""
        left = Left(
            call.epoch,
            call.step,
            call.item,
            call.phase,
            call.attempt,
            call.guard,
            call.kind,
            call.body,
            call.since,
            call.seal or "",
        )
        assert left not in self.waits, f"sent while it is waited for: {left}"
        self.sent.append(left)
        answer: asyncio.Future[Came] = asyncio.get_running_loop().create_future()
        self.waits[left] = answer
        try:
            return await answer
        finally:
            self.waits.pop(left, None)

    async def close(self) -> None:
        """As a transport: nothing to let go of."""

    @property
    def driven(self) -> Driven | None:
        """The run, if this process has it in memory."""
        return self.engine.worker.runs.get(RUN)


class TwoTellings:
    """Both, side by side. `told`: what happened, for messages."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.time = VirtualTime(datetime(2026, 1, 1, tzinfo=UTC))
        self.told: list[str] = []
        self.kinds: Counter[str] = Counter()
        self._store = MemoryStore()
        self._codec = JsonEventCodec()
        self._drives = Drives(Marks())
        self._left: list[Left] = []
        self._sent: list[Left] = []
        self.owner: Process
        self.former: Process | None = None
        self.drive: Drive

    # -- moves

    async def start(self) -> None:
        """A run begins."""
        self.owner = await self._opened()
        await self.owner.engine.start(self.definition, INPUT, run=RUN)
        command = c.StartRun(self.time.now(), 1, RUN, INPUT)
        self._follow(self._drives.begun(RunHistory.begin(self.definition, command), self.time.now()))
        await self._agree("start")

    async def answer(self, process: Process, left: Left, came: Came) -> None:
        """A call is answered, or comes to another end."""
        outcome = self._read(left, came)
        process.waits[left].set_result(came)
        heard = AnswerOnWay(left.epoch, left.attempt, left.step, left.item, left.phase, outcome)
        self._follow(self.drive.receive(heard, dies=False))
        await self._agree(f"{left.epoch}: {left.flying} is answered {outcome}", f"answer {type(outcome).__name__}")

    async def post(self, left: Left, came: CallResponse) -> None:
        """What was taken on is over: its callback is posted, to somebody."""
        outcome = self._read(left, came)
        await self.owner.visits.hear(Key(RUN, left.step, left.item, left.phase), came)
        self._follow(self.drive.receive(AnswerOnWay(0, 0, left.step, left.item, left.phase, outcome), dies=False))
        await self._agree(f"{left.flying} is posted {outcome}", "post")

    async def ask(self, verb: c.Verb) -> None:
        """A person asks for something that is possible now, of a process that doesn't have the run."""
        self.drive, refused = self.drive.asked(verb)
        assert refused is None, refused
        await self.owner.visits.steer(RUN, lambda _at, _epoch: verb)
        await self._agree(f"a person asks: {verb}", f"ask {type(verb).__name__}")

    async def poll(self) -> None:
        """The owner hears that somebody else wrote."""
        self.owner.engine.worker.look_again(RUN, self.version)
        self._follow(self.drive.after(POLL))
        await self._agree("poll")

    async def pass_time(self, moment: int) -> None:
        """It is this moment."""
        owner = self.drive.owner
        wake = None if owner is None or owner.seen is None else owner.seen.owed(self.drive.now, owner.epoch).wake
        if wake == moment:
            self._follow(self.drive.after(JUMP))
        else:
            drive = self.drive
            later = self._drives.one(drive.history, drive.processes, moment, drive.epoch)
            self._follow(_Driving(self._drives, later).end(sends=False, dies=False))
        self.time.pass_to(moment)
        await self._agree(f"time passes to {moment}", "jump" if wake == moment else "time passes")

    async def crash(self) -> None:
        """The owner's process dies, and another one starts."""
        gone, self.owner = self.owner, await self._opened()
        gone.waits.clear()
        await gone.engine.close(grace_seconds=0)
        if self.drive.owner is not None:
            self._follow(self.drive.after(CRASH))
        await self._agree("crash")

    async def take_over(self) -> None:
        """Another process takes the run; the owner doesn't know."""
        assert self.former is None
        self.former, self.owner = self.owner, await self._opened()
        await self._agree("take over")

    async def close(self) -> None:
        """The story is over."""
        for process in (self.former, self.owner):
            if process is not None:
                await process.engine.close(grace_seconds=0)

    # -- what there is

    @property
    def version(self) -> int:
        """How many events the log holds."""
        return self._store.runs[RUN].row.version

    @property
    def record(self) -> RunRecord:
        """Where the run stands."""
        return self.drive.history.record

    @property
    def unread(self) -> bool:
        """Somebody wrote, and the owner doesn't know."""
        driven = self.owner.driven
        return driven is not None and driven.record.length < self.version

    @property
    def waits(self) -> list[tuple[Process, Left]]:
        """Every call that a process waits for."""
        processes = [each for each in (self.former, self.owner) if each is not None]
        return [(process, left) for process in processes for left in process.waits]

    # -- agreeing

    async def _opened(self) -> Process:
        process = Process(self.definition, self._store, self.time, self._sent)
        await process.engine.open()
        return process

    def _read(self, left: Left, came: Came) -> Outcome:
        item = self.record.item(left.step, left.item)
        asked = self.record.notice if item is None else item.request
        assert asked is not None
        decode = None
        if left.phase is not Phase.COMPENSATION and left.seal != "undone":
            decode = self.definition.reply_decoder(asked.participant, asked.operation, left.step)
        return read_answer(
            came, phase=left.phase, retriable=left.kind is Kind.RETRIABLE, decode=decode, now=self.time.now()
        )

    def _follow(self, followed: Followed) -> None:
        assert followed.wrong is None, (followed.wrong, self.told)
        self.drive = followed.drive
        self._left += [_left(request) for request in followed.left]

    async def _agree(self, what: str, kind: str | None = None) -> None:
        self.told.append(what)
        self.kinds[kind or what] += 1
        await self._settle()
        while (moment := self.time.next_moment()) is not None and moment <= self.time.now():
            self.time.pass_to(moment)  # what is due at once rings at once
            await self._settle()
        self._change_owners()
        story = "\n".join(self.told)
        differ = _difference(list(self.drive.history.events), self._events())
        assert not differ, f"the log differs after:\n{story}\n{differ}"
        assert Counter(self._left) == Counter(self._sent), f"calls that left differ after:\n{story}"
        if self.record.ended is not None:
            return  # the worker waits for calls that are still in flight; the explorer leaves them to anybody
        owner = self.drive.owner
        flying: set[Flying] = set() if owner is None else set(owner.flying)
        assert flying == {left.flying for left in self.owner.waits}, f"calls waited for differ after:\n{story}"
        read = owner is None or owner.seen is self.drive.history
        assert read != self.unread, f"what the owner has read differs after:\n{story}"

    def _change_owners(self) -> None:
        """A run that only waits leaves memory, and is claimed again later: to the explorer that is another process."""
        row = self._store.runs[RUN].row
        if row.epoch != self.drive.epoch:
            assert row.epoch == self.drive.epoch + 1
            self._follow(self.drive.after(ADOPT))
            self.kinds["adopt"] += 1
        if row.owner is None and self.drive.owner is not None:
            assert not self.drive.owner.flying, "let go of with calls in flight"
            self._follow(self.drive.after(CRASH))
            self.kinds["let go of"] += 1

    async def _settle(self) -> None:
        quiet, before = 0, (-1, -1, -1)
        while quiet < SPINS:
            await asyncio.sleep(0)
            now = (
                self.version,
                len(self._sent),
                sum(len(process.waits) for process in {self.former, self.owner} if process),
            )
            quiet, before = (quiet + 1 if now == before else 0), now

    def _events(self) -> list[Event]:
        stored = self._store.runs[RUN].events
        return [self._codec.decode(each.kind, each.body, each.at, each.epoch) for each in stored]


def _left(request: RequestOnWay) -> Left:
    call = request.call
    return Left(
        request.epoch,
        call.step,
        call.item,
        call.phase,
        request.attempt,
        request.guard,
        call.kind,
        call.body,
        request.since,
        call.seal,
    )


def _difference(told: list[Event], happened: list[Event]) -> str:
    """The first event that isn't the same in both, or `""`."""
    for one, other in zip_longest(told, happened):
        if one != other:
            return f"the explorer: {one}\nthe worker: {other}"
    return ""
