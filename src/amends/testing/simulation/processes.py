"""Processes and time, without either: a process is an event loop of its own, and time is what the next event says.

Everything that a real process has in memory hangs on its loop: tasks, timers, callbacks. So to kill a process is to
forget its loop, with nothing tidied up; to pause one is to let its loop wait while the world goes on; and what was set
free meanwhile it does all at once when it wakes, as a stopped process would. A loop here never waits for anything:
when no process has anything to do, time jumps to the next event. Which event comes first is decided by its moment and
then by its number, so the same causes give the same order, bit for bit.
"""

import asyncio
import inspect
import math
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from enum import Enum, auto
from heapq import heappop, heappush
from typing import Any, Final, TypeVar

from typing_extensions import override

from amends.core.words.retry import MICROSECONDS

R = TypeVar("R")

TURNS_MAX: Final = 30_000
"""What may happen in one world before it is said that it goes on for ever; hundreds of turns are usual."""


class EndlessWorld(AssertionError):
    """Something happens again and again, and no end of it is in sight."""


class Turn(asyncio.TimerHandle):
    """Something that a loop is going to call, now or at its moment."""

    __slots__ = ("args", "callback", "context")

    def __init__(self, callback: Callable[..., object], args: tuple[object, ...], context: Context | None) -> None:
        # The parent's own fields are for the loops of asyncio, and to fill them takes as long as the rest of a turn.
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context

    @override
    def cancel(self) -> None:
        self.callback = None

    @override
    def cancelled(self) -> bool:
        return self.callback is None


class Timeline:
    """The moments of one world, `ports.clock.Clock` for all in it. `now` is in microseconds UTC."""

    def __init__(self, starts: int) -> None:
        self.starts = starts
        self._now = starts
        self._heap: list[tuple[int, int, SimulatedProcess | None, Turn]] = []
        self._number = 0
        self._turns = 0
        self.ready: deque[SimulatedProcess] = deque()
        """Processes with something to do, in the order in which they got it."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the world began."""
        return (self._now - self.starts) / MICROSECONDS

    def after(self, micros: int, callback: Callable[..., object], *args: object) -> Turn:
        """Let the world do something so much later, outside of every process."""
        turn = Turn(callback, args, None)
        self.put(self._now + micros, None, turn)
        return turn

    def put(self, moment: int, process: "SimulatedProcess | None", turn: Turn) -> None:
        """Let it happen at this moment, in this process or in none."""
        self._number += 1
        heappush(self._heap, (moment, self._number, process, turn))

    def run(self) -> None:
        """Until no process has anything to do and nothing is due any more."""
        heap, ready = self._heap, self.ready
        while True:
            while ready and self._turns < TURNS_MAX:
                self._turns += ready.popleft().work(TURNS_MAX - self._turns)
            if not heap:
                return
            self._turns += 1
            if self._turns > TURNS_MAX:
                msg = f"{TURNS_MAX} things have happened, and there is always another one"
                raise EndlessWorld(msg)
            moment, _, process, turn = heappop(heap)
            if turn.callback is None or (process is not None and process.is_dead):
                continue
            self._now = max(self._now, moment)
            if process is None:
                turn.callback(*turn.args)
            else:
                process.enter(turn)


class ProcessState(Enum):
    """How a process is."""

    RUNS = auto()
    PAUSED = auto()
    DEAD = auto()


class SimulatedProcess(asyncio.BaseEventLoop):
    """One process: an event loop that may be paused and killed. It is also its engine's `Timers`."""

    def __init__(self, timeline: Timeline, number: int) -> None:
        super().__init__()
        self.number = number
        self.life = ProcessState.RUNS
        self.is_dead = False
        self._timeline = timeline
        self._turns: deque[Turn] = deque()
        self._queued = False
        self._fresh: list[asyncio.Task[Any]] = []
        """Tasks that may not have begun yet."""
        self.went_wrong: BaseException | str | None = None
        """What was not caught."""

    def __del__(self) -> None:
        """A loop warns when it wasn't closed; these are let go of as killed processes are."""

    # -- how it lives

    def kill(self) -> None:
        """It is gone, at once; nothing in it ever happens again."""
        self.life = ProcessState.DEAD
        self.is_dead = True
        self._turns.clear()
        for task in self._fresh:
            work = task.get_coro()
            if inspect.iscoroutine(work) and inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
                work.close()  # or Python warns that what never began was not awaited
        self._fresh.clear()

    def ensure_alive(self) -> None:
        """What is left of a killed process comes here only as its memory is swept up: that is the end of it."""
        if self.is_dead:
            raise GeneratorExit

    def pause(self) -> None:
        """It does nothing until it is woken."""
        if self.life is ProcessState.RUNS:
            self.life = ProcessState.PAUSED

    def wake(self) -> None:
        """It goes on, beginning with all that came meanwhile."""
        if self.life is ProcessState.PAUSED:
            self.life = ProcessState.RUNS
            if self._turns and not self._queued:
                self._queued = True
                self._timeline.ready.append(self)

    def work(self, turns_max: int) -> int:
        """Do what there is to do, until there is no more; gives how many turns that took."""
        self._queued = False
        taken = 0
        turns = self._turns
        asyncio._set_running_loop(self)  # noqa: SLF001 - how a loop says that it is the one that runs
        try:
            while turns and taken < turns_max and self.life is ProcessState.RUNS:
                turn = turns.popleft()
                callback = turn.callback
                if callback is None:
                    continue
                taken += 1
                context = turn.context
                try:
                    if context is None:
                        callback(*turn.args)  # only tasks need a context of their own, and they bring it
                    else:
                        context.run(callback, *turn.args)
                except Exception as error:  # noqa: BLE001 - judged by the runner of the world
                    self.went_wrong = error
            if not turns:
                self._fresh.clear()
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001
        return taken

    def enter(self, turn: Turn) -> None:
        """Do this when its turn comes."""
        if self.is_dead:
            return
        self._turns.append(turn)
        if not self._queued and self.life is ProcessState.RUNS:
            self._queued = True
            self._timeline.ready.append(self)

    def begin(self, work: Callable[[], Coroutine[Any, Any, R]], then: Callable[[asyncio.Task[R]], None]) -> None:
        """Do this work as a task; `then` is told of its end, unless the process dies before."""
        self.call_soon(self._begin, work, then)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, R]], then: Callable[[asyncio.Task[R]], None]) -> None:
        self.create_task(work()).add_done_callback(then)

    # -- an event loop, as far as an engine needs one

    @override
    def time(self) -> float:
        return self._timeline.monotonic()

    @override
    def call_soon(self, callback: Callable[..., object], *args: object, context: Context | None = None) -> Turn:
        turn = Turn(callback, args, context)
        if not self.is_dead:  # as `enter`: this is called for every step of every task
            self._turns.append(turn)
            if not self._queued and self.life is ProcessState.RUNS:
                self._queued = True
                self._timeline.ready.append(self)
        return turn

    @override
    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> Turn:
        msg = "there are no threads here"
        raise RuntimeError(msg)

    @override
    def call_later(
        self, delay: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> Turn:
        turn = Turn(callback, args, context)
        if math.isfinite(delay):
            # Moments in the log are whole microseconds: a timer for one must not ring a fraction too early.
            moment = self._timeline.now() + max(0, round(delay * MICROSECONDS))
            self._timeline.put(moment, self, turn)
        return turn

    @override
    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> Turn:
        return self.call_later(when - self.time(), callback, *args, context=context)

    @override
    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - a killed process leaves its tasks as they are
        self._fresh.append(task)
        return task

    @override
    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self  # noqa: SLF001

    @override
    def get_debug(self) -> bool:
        return False

    @override
    def call_exception_handler(self, context: Any) -> None:
        if self.is_dead:
            return  # it is being swept up
        self.went_wrong = context.get("exception") or str(context.get("message"))
