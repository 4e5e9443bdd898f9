"""Subscriptions to runs: waiters for a result, followers of every step of one, and observers of
all.
"""

import asyncio
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

from amends.core.run.definition import Definition
from amends.core.run.record import RunRecord

Observer = Callable[[Definition, RunRecord], None]
"""Told of a run whose record became durable. It must be quick, and raise nothing: runs wait for it."""


class Audience:
    """All subscriptions, by run."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[RunRecord]]] = {}
        self._followers: dict[str, set[asyncio.Event]] = {}
        self._observers: list[Observer] = []

    @property
    def awaited(self) -> Iterable[str]:
        """The runs that callers wait for."""
        return self._waiting.keys()

    def observe(self, observer: Observer) -> None:
        """Have an observer told of every record that became durable here."""
        self._observers.append(observer)

    @contextmanager
    def following(self, run: str) -> Generator[asyncio.Event]:
        """An event that is set whenever this process wrote something of a run, or read what others did."""
        changed = asyncio.Event()
        self._followers.setdefault(run, set()).add(changed)
        try:
            yield changed
        finally:
            self._followers[run].discard(changed)
            if not self._followers[run]:
                del self._followers[run]

    def wait(self, run: str) -> "asyncio.Future[RunRecord]":
        """The record once the run is settled. `leave` is to be called when the caller stops waiting."""
        future: asyncio.Future[RunRecord] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run, []).append(future)
        return future

    def leave(self, run: str, future: "asyncio.Future[RunRecord]") -> None:
        """The caller was told, or has given up."""
        if future.done() and not future.cancelled():
            future.exception()  # retrieved, also where no caller got to wait for it
        waiting = self._waiting.get(run)
        if waiting is not None and future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiting[run]

    def tell(self, definition: Definition, record: RunRecord) -> None:
        """A record became durable, here or elsewhere."""
        if self._followers:
            for follower in self._followers.get(record.run, ()):
                follower.set()
        for observer in self._observers:
            observer(definition, record)
        waiting = self._waiting.get(record.run)
        if waiting and is_settled(record):
            for each in waiting:
                if not each.done():
                    each.set_result(record)

    def fail(self, run: str, error: Exception) -> None:
        """Callers that wait for this run won't be told how it ended."""
        for each in self._waiting.get(run, ()):
            if not each.done():
                each.set_exception(error)


def is_settled(record: RunRecord) -> bool:
    """It has ended, or only a person can move it."""
    return record.ended is not None or bool(record.marks) or record.quarantined is not None
