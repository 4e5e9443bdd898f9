"""How often a caller may ask: a bucket per caller that fills evenly. Memory is bounded, whatever callers come."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from amends.server.problems import Problem, ProblemRaised

CALLERS_MAX: Final = 10_000
"""Callers kept in mind; the one that was away longest is forgotten first, which is to its advantage."""

FAILURES_MAX: Final = 20
"""Wrong tokens from one address before it has to wait; one is forgiven every few seconds."""

FAILURES_FORGIVEN_SECONDS: Final = 5.0


GUESSES_MAX: Final = 5
"""Starts under one taken id with another input, where the saga hides part of it: each is a guess at what is hidden."""

GUESS_FORGIVEN_SECONDS: Final = 600.0


class Buckets:
    """`burst` requests at once, `per_second` on average, for each name."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many names are kept in mind."""
        return len(self._levels)

    def wait(self, name: str) -> float:
        """Seconds until this name may ask again; 0: now."""
        level = self._level(name)
        return 0.0 if level >= 1 else (1 - level) / self._per_second

    def take(self, name: str) -> None:
        """One more request of this name."""
        self._levels[name] = (self._level(name) - 1, self._clock())
        self._levels.move_to_end(name)
        if len(self._levels) > CALLERS_MAX:
            self._levels.popitem(last=False)

    def _level(self, name: str) -> float:
        known = self._levels.get(name)
        if known is None:
            return self._burst
        level, since = known
        return min(self._burst, level + (self._clock() - since) * self._per_second)


class Shares:
    """How many of a thing (requests, streams) each caller holds: one that takes all it can leaves some for the others.

    `each` of them at the most, for each name; `None`: any number.
    """

    def __init__(self, each: int | None) -> None:
        self._each = each
        self._held: dict[str, int] = {}

    def full(self, name: str) -> bool:
        """Whether this name holds its share already."""
        return self._each is not None and self._held.get(name, 0) >= self._each

    @contextmanager
    def held(self, name: str) -> Generator[None]:
        """One more of this name, for as long as this is entered."""
        self._held[name] = self._held.get(name, 0) + 1
        try:
            yield
        finally:
            left = self._held[name] - 1
            if left:
                self._held[name] = left
            else:
                del self._held[name]


class WrongTokens:
    """Wrong tokens, by address. A token has 256 bits, so it can't be guessed; this bounds the work that attempts cause.

    A right token is never turned away for the wrong ones of others behind the same proxy.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Buckets(1 / FAILURES_FORGIVEN_SECONDS, FAILURES_MAX, clock)

    def count(self, client: str) -> None:
        """One more wrong token; 429 for an address that sent too many."""
        wait = self._buckets.wait(client)
        if wait:
            raise too_many("Too many wrong tokens came from this address.", wait)
        self._buckets.take(client)


def too_many(detail: str, wait: float) -> ProblemRaised:
    """429, and when to come again."""
    seconds = max(1, math.ceil(wait))
    return ProblemRaised(
        Problem(
            429,
            "too-many-requests",
            "Too many requests",
            detail,
            remedy=f"Nothing was done. Ask again in {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )
    )
