"""Several worker processes behind one address: `amends serve --workers N`.

This process takes the address, starts so many copies of the same command that serve on its socket, and starts again
each that ends by itself. It does nothing else, so there is nothing in it that could hang or grow. The kernel gives each
connection to a worker that is free to take it; a run is driven by the worker that took its request, or by the one that
claims it.

Processes and not threads, since one event loop is one core; one socket and not a port each, so that nothing before us
has to know how many there are. Told to stop, it tells all workers at once and waits: each hands its runs over, the
last ones to the next worker.
"""

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from threading import Thread
from types import FrameType
from typing import Final

from amends.core.words.errors import AmendsError

INHERITED: Final = "_AMENDS_SOCKET"
"""The variable (no setting, hence its first letter) that tells a worker the numbers of the socket it serves on, and of
the pipe that ends with us.
"""

AGAIN_FIRST_SECONDS: Final = 0.5
AGAIN_CAP_SECONDS: Final = 30.0
"""How long after its start a worker that keeps ending is started again: doubled each time, up to this."""

WELL_SECONDS: Final = 60.0
"""A worker that has served so long is well: if it ends, it is started again immediately."""

LOOK_SECONDS: Final = 0.1
KILL_SECONDS: Final = 15.0
"""How long beside the grace of its calls a worker may take to end before it is killed: answers and webhooks on their
way get their own time before, and handing over comes last. Killed before that, its runs wait until its lease is over.
"""

_LOGGER: Final = logging.getLogger("amends.server")

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


class WorkersFailed(AmendsError):
    """No worker could begin; what each said is on the standard error."""


class WorkerSlot:
    """One worker process, and those that came before it in its place."""

    def __init__(self, command: Sequence[str], numbers: tuple[int, int]) -> None:
        self._command = list(command)
        self._numbers = numbers
        self._started_at = 0.0
        self._due_at = 0.0
        self._pause = AGAIN_FIRST_SECONDS
        self._is_first = True
        self.could_not_begin = False
        """The first process here said no: it was never of use."""
        self.process: subprocess.Popen[bytes] | None = None

    def look(self, now: float) -> str | None:
        """Start a process where none runs and it is time; of one that has just ended: which, and how."""
        if self.process is None:
            if now >= self._due_at:
                self._start(now)
            return None
        code = self.process.poll()
        if code is None:
            return None
        ended = f"worker {self.process.pid} {_how(code)}"
        self.process = None
        self.could_not_begin = self.could_not_begin or (self._is_first and code > 0)
        self._is_first = False
        self._pause = AGAIN_FIRST_SECONDS if now - self._started_at > WELL_SECONDS else self._pause
        self._due_at = self._started_at + self._pause
        self._pause = min(2 * self._pause, AGAIN_CAP_SECONDS)
        return ended

    def _start(self, now: float) -> None:
        told = ",".join(map(str, self._numbers))
        self._started_at = now
        try:
            self.process = subprocess.Popen(  # noqa: S603 - this command once more
                self._command, env={**os.environ, INHERITED: told}, pass_fds=self._numbers, start_new_session=True
            )
        except OSError as error:  # no memory, too many processes: those that run go on
            _LOGGER.warning("no worker process can be started now, it is tried again: %s", error)
            self._due_at = now + self._pause
            self._pause = min(2 * self._pause, AGAIN_CAP_SECONDS)


def supervise(
    command: Sequence[str],
    count: int,
    listening: socket.socket,
    *,
    grace_seconds: float,
) -> None:
    """Keep so many workers running until told to stop, and end when they have ended.

    Raises `WorkersFailed` where the first ones all end with an error: it is the same for all of them, then.
    """
    asked: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        asked.append(number)

    before = {each: signal.signal(each, stop) for each in STOPPING}
    theirs, ours = os.pipe()
    places = [WorkerSlot(command, (listening.fileno(), theirs)) for _ in range(count)]
    signal.signal(signal.SIGHUP, lambda number, _: _tell(places, number))  # each reads its secrets again
    try:
        while not asked:
            now = time.monotonic()
            for place in places:
                ended = place.look(now)
                if ended is None:
                    continue
                if all(each.could_not_begin for each in places):
                    msg = f"none of the {count} workers could begin: what they said is above."
                    raise WorkersFailed(msg)
                _LOGGER.error("%s: another is started", ended)
            time.sleep(LOOK_SECONDS)
    finally:
        _end(places, grace_seconds)
        os.close(theirs)
        os.close(ours)
        for each, handler in before.items():
            signal.signal(each, handler)


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with {code}"
    return f"was ended by {signal.Signals(-code).name if -code in set(signal.Signals) else f'signal {-code}'}"


def _tell(places: Sequence[WorkerSlot], number: int) -> None:
    for each in places:
        if each.process is not None and each.process.poll() is None:
            each.process.send_signal(number)


def _end(places: Sequence[WorkerSlot], grace_seconds: float) -> None:
    """Tell all of them; one that doesn't end in time is killed, and others take its runs when its lease is over."""
    _tell(places, signal.SIGTERM)
    until = time.monotonic() + grace_seconds + KILL_SECONDS
    for each in places:
        if each.process is None:
            continue
        try:
            each.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()


def inherited() -> socket.socket | None:
    """The socket to serve on, where a supervisor has taken the address already; this process then ends with him."""
    told = os.environ.pop(INHERITED, None)
    if told is None:
        return None
    listening, pipe = map(int, told.split(","))
    Thread(target=_end_with_supervisor, args=(pipe,), name="amends-supervisor", daemon=True).start()
    return socket.socket(fileno=listening)


def _end_with_supervisor(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
