"""What goes wrong in one world, drawn from its seed.

Each world has a weather of its own: a few kinds of fault, some rare and some all the time, rather than a little of
everything. A world with everything in it looks like every other, and most bugs need two or three kinds together, not
ten. After a while the sky clears for good: from then on nothing goes wrong any more, and every run must come to rest.
"""

from collections import Counter
from enum import StrEnum
from random import Random
from typing import Final

from amends.core.retry import MICROSECONDS


class Fault(StrEnum):
    """Everything that may go wrong in a world. Each counts as happened only once it has had its effect."""

    REFUSED = "refused"
    """No connection: nothing was sent."""
    REQUEST_LOST = "request-lost"
    REPLY_LOST = "reply-lost"
    """The participant did its work, and nobody hears of it."""
    RESET = "reset"
    """The connection broke after the request had left."""
    LATE = "late"
    """The request arrives when its caller has long given up."""
    REPEATED = "repeated"
    """The request arrives a second time."""
    GARBLED = "garbled"
    """The answer can't be read."""
    SERVER_ERROR = "server-error"
    MISROUTED = "misrouted"
    """Something in between answered, not the participant."""
    PARTITION = "partition"
    """Nothing gets to one participant, or back from it, for a while."""
    NO = "no"
    LATER = "later"
    """The participant takes the work on and does it later."""
    FAILS = "fails"
    """The participant's own code fails."""
    UNDO_REFUSED = "undo-refused"
    CRASH_BEFORE_WRITE = "crash-before-write"
    CRASH_AFTER_WRITE = "crash-after-write"
    """The process dies when the log has taken what was written, and before it says so."""
    CRASH_AT_SEND = "crash-at-send"
    CRASH_AT_ANSWER = "crash-at-answer"
    PAUSE = "pause"
    PAUSE_PAST_LEASE = "pause-past-lease"
    """The process stands still for so long that another one takes its runs over; then it goes on."""
    DEPLOY = "deploy"
    """The process is closed in good order, and another one started."""
    SLOW_DISK = "slow-disk"
    FULL_DISK = "full-disk"
    """Nothing can be written for a while; what there is stays."""
    IO_ERROR = "io-error"
    """A write failed, and nobody knows what of it is on the disk: the log is of no use until it is opened again."""
    COMMIT_UNKNOWN = "commit-unknown"
    """The log took an append, and the answer got lost."""
    START_REPEATED = "start-repeated"
    """A caller that got no answer starts the same run again."""
    DEADLINE = "deadline"
    """A run that has little time."""
    PERSON = "person"
    """Somebody asks for something in the middle of it all."""


CALLS: Final = (
    Fault.REFUSED,
    Fault.REQUEST_LOST,
    Fault.REPLY_LOST,
    Fault.RESET,
    Fault.LATE,
    Fault.REPEATED,
    Fault.GARBLED,
    Fault.SERVER_ERROR,
    Fault.MISROUTED,
)
"""What may become of one call."""

CRASHES: Final = (Fault.CRASH_BEFORE_WRITE, Fault.CRASH_AFTER_WRITE, Fault.CRASH_AT_SEND, Fault.CRASH_AT_ANSWER)

WRITES: Final = (Fault.FULL_DISK, Fault.IO_ERROR, Fault.COMMIT_UNKNOWN)
"""What may become of one write."""

RATES: Final = (0.03, 0.1, 0.3)
"""How often a kind of fault strikes where it may: now and then, often, nearly always with all retries in mind."""

CRASH_WITHIN: Final = 40
"""A crash strikes at one of the first so many passings of its place: that is about what four runs need."""

CLEAR_AFTER_MAX: Final = 180 * MICROSECONDS
PAUSE_MAX: Final = 60 * MICROSECONDS


class Weather:
    """One world's dice, and what they say. `fired` counts what really happened."""

    def __init__(self, dice: Random, clear_at: int, *, alone: bool) -> None:
        self.dice = dice
        self.fired: Counter[Fault] = Counter()
        self.clear_at = clear_at
        draw = dice.random
        self._calls = self._rates(CALLS, 0.3)
        wishes = (Fault.NO, Fault.LATER, Fault.FAILS, Fault.UNDO_REFUSED)
        self._wishes = {kind: dice.choice(RATES) for kind in wishes if draw() < 0.3}
        self._ticks: dict[Fault, set[int]] = {}
        if draw() < 0.5:
            for _ in range(dice.choice((1, 1, 2, 4))):
                self._tick(dice.choice(CRASHES))
        if draw() < 0.35:
            self._tick(dice.choice(WRITES))
        self._passed: Counter[Fault] = Counter()
        self.others = [
            kind
            for kind, chance in (
                (Fault.PARTITION, 0.2),
                (Fault.PAUSE, 0.1),
                (Fault.PAUSE_PAST_LEASE, 0.0 if alone else 0.1),
                (Fault.DEPLOY, 0.1),
                (Fault.SLOW_DISK, 0.15),
                (Fault.DEADLINE, 0.15),
                (Fault.PERSON, 0.3),
            )
            if draw() < chance
        ]

    def _rates(self, kinds: tuple[Fault, ...], chance: float) -> tuple[tuple[float, Fault], ...]:
        """Kinds with where they end on a scale from 0 to 1."""
        rates: list[tuple[float, Fault]] = []
        end = 0.0
        for kind in kinds:
            if self.dice.random() < chance:
                end += self.dice.choice(RATES)
                rates.append((end, kind))
        return tuple(rates)

    def _tick(self, kind: Fault) -> None:
        self._ticks.setdefault(kind, set()).add(self.dice.randrange(CRASH_WITHIN))

    def fire(self, kind: Fault) -> None:
        """It has happened."""
        self.fired[kind] += 1

    def of_call(self) -> Fault | None:
        """What becomes of the next call, where it isn't answered as it should be."""
        if not self._calls:
            return None
        drawn = self.dice.random()
        return next((kind for end, kind in self._calls if drawn < end), None)

    def strikes(self, kind: Fault) -> bool:
        """Whether this happens at this passing of the place where it can; each passing counts."""
        ticks = self._ticks.get(kind)
        if ticks is None:
            return False
        self._passed[kind] += 1
        return self._passed[kind] - 1 in ticks

    def wishes(self, kind: Fault) -> bool:
        """Whether a participant's own code does this."""
        rate = self._wishes.get(kind)
        return rate is not None and self.dice.random() < rate

    def end_of_storm(self) -> None:
        """From now on nothing goes wrong by itself."""
        self._calls = ()
        self._wishes.clear()
        self._ticks.clear()
