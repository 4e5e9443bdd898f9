"""What goes wrong in one world, drawn from its seed.

Each world has a weather of its own: a few kinds of fault, some rare and some all the time, rather than a little of
everything. A world with everything in it looks like every other, and most bugs need two or three kinds together, not
ten. After a while the sky clears for good: from then on nothing goes wrong any more, and every run must come to rest.
"""

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Final

from amends.core.words.retry import MICROSECONDS
from amends.core.words.values import Words


class WeatherFault(Words):
    """Everything that may go wrong in a world. Each counts as happened only once it has had its effect."""

    REFUSED = "refused"
    REQUEST_LOST = "request-lost"
    REPLY_LOST = "reply-lost"
    RESET = "reset"
    LATE = "late"
    REPEATED = "repeated"
    GARBLED = "garbled"
    SERVER_ERROR = "server-error"
    MISROUTED = "misrouted"
    PARTITION = "partition"
    NO = "no"
    LATER = "later"
    FAILS = "fails"
    UNDO_REFUSED = "undo-refused"
    CRASH_BEFORE_WRITE = "crash-before-write"
    CRASH_AFTER_WRITE = "crash-after-write"
    CRASH_AT_SEND = "crash-at-send"
    CRASH_AT_ANSWER = "crash-at-answer"
    PAUSE = "pause"
    PAUSE_PAST_LEASE = "pause-past-lease"
    DEPLOY = "deploy"
    SLOW_DISK = "slow-disk"
    FULL_DISK = "full-disk"
    IO_ERROR = "io-error"
    COMMIT_UNKNOWN = "commit-unknown"
    START_REPEATED = "start-repeated"
    DEADLINE = "deadline"
    PERSON = "person"


WHAT: Final[Mapping[WeatherFault, str]] = {
    WeatherFault.REFUSED: "no connection: nothing was sent",
    WeatherFault.REQUEST_LOST: "the request never arrives, and its caller waits",
    WeatherFault.REPLY_LOST: "the participant did its work, and its answer is lost",
    WeatherFault.RESET: "the connection breaks after the request has left",
    WeatherFault.LATE: "the request arrives when its caller has long given up",
    WeatherFault.REPEATED: "the request arrives a second time, perhaps much later",
    WeatherFault.GARBLED: "the answer can't be read",
    WeatherFault.SERVER_ERROR: "the participant is out of order",
    WeatherFault.MISROUTED: "something in between answers, with a page and status 200",
    WeatherFault.PARTITION: "nothing gets to one participant, or back from it, for a while",
    WeatherFault.NO: "the participant says no",
    WeatherFault.LATER: "the participant takes the work on and does it later",
    WeatherFault.FAILS: "the participant's own code fails",
    WeatherFault.UNDO_REFUSED: "the participant can't undo it by itself: a person must",
    WeatherFault.CRASH_BEFORE_WRITE: "the process dies right before the log takes something",
    WeatherFault.CRASH_AFTER_WRITE: "the process dies when the log has taken something, before it says so",
    WeatherFault.CRASH_AT_SEND: "the process dies when a request has just left",
    WeatherFault.CRASH_AT_ANSWER: "the process dies as an answer arrives",
    WeatherFault.PAUSE: "the process stands still, and goes on where it stood",
    WeatherFault.PAUSE_PAST_LEASE: "it stands still for so long that another one takes its runs over; then it goes on",
    WeatherFault.DEPLOY: "the process is closed in good order, and another one started",
    WeatherFault.SLOW_DISK: "writes take seconds",
    WeatherFault.FULL_DISK: "nothing can be written for a while; what there is stays",
    WeatherFault.IO_ERROR: "a write fails, and what of it is on the disk isn't known: the log must be opened anew",
    WeatherFault.COMMIT_UNKNOWN: "the log took an append, and the answer got lost",
    WeatherFault.START_REPEATED: "a caller that got no answer starts the same run again",
    WeatherFault.DEADLINE: "a run has little time",
    WeatherFault.PERSON: "a person asks for something in the middle of it all",
}
"""What each of them is."""

CALLS: Final = (
    WeatherFault.REFUSED,
    WeatherFault.REQUEST_LOST,
    WeatherFault.REPLY_LOST,
    WeatherFault.RESET,
    WeatherFault.LATE,
    WeatherFault.REPEATED,
    WeatherFault.GARBLED,
    WeatherFault.SERVER_ERROR,
    WeatherFault.MISROUTED,
)
"""What may become of one call."""

CRASHES: Final = (
    WeatherFault.CRASH_BEFORE_WRITE,
    WeatherFault.CRASH_AFTER_WRITE,
    WeatherFault.CRASH_AT_SEND,
    WeatherFault.CRASH_AT_ANSWER,
)

WRITES: Final = (WeatherFault.FULL_DISK, WeatherFault.IO_ERROR, WeatherFault.COMMIT_UNKNOWN)
"""What may become of one write."""

RATES: Final = (0.02, 0.05, 0.2)
"""How often a kind of fault strikes where it may: now and then, or so often that most runs meet it."""

UNDO_RATES: Final = (0.2, 0.6)
"""The same for what only an undo meets, and undos are few."""

KIND_CHANCE: Final = 0.15
"""How likely a kind of fault is to be in a world at all: one or two kinds out of ten. More would only be slower."""

CRASH_WITHIN: Final = 40
"""A crash strikes at one of the first so many passings of its place: that is about what four runs need."""

CLEAR_AFTER_MAX: Final = 180 * MICROSECONDS
PAUSE_MAX: Final = 60 * MICROSECONDS


class Weather:
    """One world's dice, and what they say. `fired` counts what really happened."""

    def __init__(self, dice: Random, clear_at: int, *, alone: bool) -> None:
        self.dice = dice
        self.fired: Counter[WeatherFault] = Counter()
        self.clear_at = clear_at
        draw = dice.random
        self._calls = self._rates(CALLS)
        wishes = (
            (WeatherFault.NO, RATES),
            (WeatherFault.LATER, RATES),
            (WeatherFault.FAILS, RATES),
            (WeatherFault.UNDO_REFUSED, UNDO_RATES),
        )
        self._wishes = {kind: dice.choice(rates) for kind, rates in wishes if draw() < KIND_CHANCE}
        self._ticks: dict[WeatherFault, set[int]] = {}
        if draw() < 0.4:
            for _ in range(dice.choice((1, 1, 2, 4))):
                self._tick(dice.choice(CRASHES))
        if draw() < 0.25:
            self._tick(dice.choice(WRITES))
        self._passed: Counter[WeatherFault] = Counter()
        self.others = [
            kind
            for kind, chance in (
                (WeatherFault.PARTITION, 0.1),
                (WeatherFault.PAUSE, 0.1),
                (WeatherFault.PAUSE_PAST_LEASE, 0.0 if alone else 0.1),
                (WeatherFault.DEPLOY, 0.1),
                (WeatherFault.SLOW_DISK, 0.15),
                (WeatherFault.DEADLINE, 0.15),
                (WeatherFault.PERSON, 0.3),
            )
            if draw() < chance
        ]

    def _rates(self, kinds: tuple[WeatherFault, ...]) -> tuple[tuple[float, WeatherFault], ...]:
        """Kinds with where they end on a scale from 0 to 1."""
        rates: list[tuple[float, WeatherFault]] = []
        end = 0.0
        for kind in kinds:
            if self.dice.random() < KIND_CHANCE:
                end += self.dice.choice(RATES)
                rates.append((end, kind))
        return tuple(rates)

    def _tick(self, kind: WeatherFault) -> None:
        self._ticks.setdefault(kind, set()).add(self.dice.randrange(CRASH_WITHIN))

    def fire(self, kind: WeatherFault) -> None:
        """It has happened."""
        self.fired[kind] += 1

    def of_call(self) -> WeatherFault | None:
        """What becomes of the next call, where it isn't answered as it should be."""
        if not self._calls:
            return None
        drawn = self.dice.random()
        return next((kind for end, kind in self._calls if drawn < end), None)

    def strikes(self, kind: WeatherFault) -> bool:
        """Whether this happens at this passing of the place where it can; each passing counts."""
        if not self._ticks or (ticks := self._ticks.get(kind)) is None:
            return False
        self._passed[kind] += 1
        return self._passed[kind] - 1 in ticks

    @property
    def has_ticks(self) -> bool:
        """Whether anything strikes at a certain passing of its place."""
        return bool(self._ticks)

    def wishes(self, kind: WeatherFault) -> bool:
        """Whether a participant's own code does this."""
        rate = self._wishes.get(kind)
        return rate is not None and self.dice.random() < rate

    def end_of_storm(self) -> None:
        """From now on nothing goes wrong by itself."""
        self._calls = ()
        self._wishes.clear()
        self._ticks.clear()
