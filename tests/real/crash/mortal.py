"""A process that kills itself, without a trace of it in what is tested: the log and the ways to the participants are
wrapped, and at one place, the n-th time it is passed, the process sends itself SIGKILL.

Nothing is flushed and nobody says goodbye, as when the machine's owner pulls the process from under us. One place is
different: `on-the-wire`. There the call has left: it is put on a wire (a file) and the sender dies. Whoever keeps the
wire delivers it whenever he likes.
"""

import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from typing_extensions import override

from amends.core.run.answers import Came
from amends.core.run.record import LOCAL
from amends.logs.sqlite.log import SqliteLog
from amends.ports.log import Append, SagaKey, Start, StoredRun, Written
from amends.ports.transport import Outgoing, Transport
from amends.wire.call import call_headers

APPENDS: Final = ("before-append", "after-append")
UPKEEP: Final = ("before-upkeep", "after-upkeep")
"""What else is written: opening, definitions, claims, releases."""
MESSAGES: Final = ("before-send", "on-the-wire", "in-work", "after-reply")
PLACES: Final = (*APPENDS, *UPKEEP, *MESSAGES)


@dataclass(frozen=True, slots=True)
class Death:
    """Where a process dies: at the `time`-th passing of `place`, from 1."""

    place: str
    time: int

    def __str__(self) -> str:
        return f"{self.place} {self.time}"


class Fate:
    """Counts what is passed, and ends the process where that is meant to be."""

    def __init__(self, death: Death | None) -> None:
        self._death = death
        self._passed: Counter[str] = Counter()

    def is_due(self, place: str) -> bool:
        """Count this passing; whether it is the last thing that is done."""
        self._passed[place] += 1
        return self._death == Death(place, self._passed[place])

    def passing(self, place: str) -> None:
        if self.is_due(place):
            die()


def die() -> None:
    """No `finally`, no `atexit`, no flush; does not return."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


class MortalLog(SqliteLog):
    """The SQLite log of a process that may die at each of its writes."""

    def __init__(self, path: Path, fate: Fate) -> None:
        super().__init__(path)
        self._fate = fate

    @override
    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        self._fate.passing("before-append")
        verdicts = await super().append(batch)
        self._fate.passing("after-append")
        return verdicts

    @override
    async def open(self) -> None:
        self._fate.passing("before-upkeep")
        await super().open()
        self._fate.passing("after-upkeep")

    @override
    async def define(self, saga: SagaKey, graph: bytes, *, beside: bool = False) -> bytes | None:
        self._fate.passing("before-upkeep")
        other = await super().define(saga, graph, beside=beside)
        self._fate.passing("after-upkeep")
        return other

    @override
    async def claim(
        self, known: Sequence[SagaKey], now: int, limit: int, *, suspects: int | None = None
    ) -> Sequence[StoredRun]:
        self._fate.passing("before-upkeep")
        claimed = await super().claim(known, now, limit, suspects=suspects)
        self._fate.passing("after-upkeep")
        return claimed

    @override
    async def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
        self._fate.passing("before-upkeep")
        released = await super().release(run, epoch, version, due_at)
        self._fate.passing("after-upkeep")
        return released


class OnTheWire(msgspec.Struct):
    """A call that has left its sender."""

    participant: str
    operation: str
    headers: dict[str, str]
    body: bytes


class MortalTransport:
    """A way to a participant whose sender may die before a call leaves, once it has left, and once it is answered."""

    def __init__(self, inner: Transport, fate: Fate, folder: Path) -> None:
        self._inner = inner
        self._fate = fate
        self._folder = folder

    async def send(self, call: Outgoing) -> Came:
        self._fate.passing("before-send")
        write_line(self._folder / "sent", msgspec.json.encode([call.key, call.body.decode()]))
        if call.participant != LOCAL and self._fate.is_due("on-the-wire"):
            wire = OnTheWire(call.participant, call.operation, call_headers(call), call.body)
            (self._folder / "wire").write_bytes(msgspec.json.encode(wire))
            die()
        answer = await self._inner.send(call)
        self._fate.passing("after-reply")
        return answer

    async def close(self) -> None:
        await self._inner.close()


def write_line(path: Path, line: bytes) -> None:
    """One system call: it is there however the process ends."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line + b"\n")
    finally:
        os.close(descriptor)
