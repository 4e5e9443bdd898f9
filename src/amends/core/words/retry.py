"""How hard to try, as data: attempts, patience, delays. Nothing in here waits.

A `Policy` is what an author writes; each field that isn't given means "as the step's kind, guard and participant say".
`resolve` fills those in once, when a definition is loaded.
"""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Final, Literal

from amends.core.words.limits import RETRY_AFTER_MAX_SECONDS
from amends.core.words.values import Words

MICROSECONDS: Final = 1_000_000


def micros(duration: timedelta) -> int:
    """A duration as the core counts time: whole microseconds."""
    return duration // timedelta(microseconds=1)


class Kind(Words):
    """What a step may do to a run; see `Saga`."""

    COMPENSABLE = "compensable"
    PIVOT = "pivot"
    RETRIABLE = "retriable"
    NEUTRAL = "neutral"


COMPENSABLE: Final = Kind.COMPENSABLE
PIVOT: Final = Kind.PIVOT
RETRIABLE: Final = Kind.RETRIABLE


class Guard(Words):
    """What a participant promises about repeats of a call.

    `barrier`: repeated, empty and late calls are settled inside the service's own transaction.
    `idempotent`: a repeat with the same key acts once, but nothing stops a late copy.
    `once`: nothing is promised, so it is sent once.
    """

    BARRIER = "barrier"
    IDEMPOTENT = "idempotent"
    ONCE = "once"


BARRIER: Final = Guard.BARRIER
IDEMPOTENT: Final = Guard.IDEMPOTENT


class OnUnknown(Words):
    """What follows when an action's outcome stays unknown after every attempt."""

    COMPENSATE = "compensate"
    SETTLE = "settle"
    STUCK = "stuck"


FIRST_DEFAULT: Final = timedelta(seconds=1)
CAP_DEFAULT: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Retry:
    """Waits `first`, then twice as long each time up to `cap`, less up to a half of it by jitter.

    `attempts_max` bounds the attempts that were really made (`None`: no limit); a call that an open circuit held back
    is none. `give_up_after` bounds the whole, counted from the first request or the last `retry` of a person.
    """

    attempts_max: int | None = 8
    give_up_after: timedelta | None = None
    first: timedelta = FIRST_DEFAULT
    cap: timedelta = CAP_DEFAULT


@dataclass(frozen=True, slots=True)
class Policy:
    """How one step's calls are tried. `None` means: as the step's kind, guard and participant say.

    `timeout` bounds one attempt, from its leaving the queue to the last byte of the answer; default 5 s.
    """

    timeout: timedelta | None = None
    retry: Retry | None = None
    compensation_retry: Retry | None = None
    on_unknown: Literal["compensate", "settle", "stuck"] | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """A `Retry` with every default filled in, in microseconds."""

    attempts_max: int | None
    give_up_after: int
    first: int
    cap: int


@dataclass(frozen=True, slots=True)
class ResolvedPolicy:
    """A `Policy` with every default filled in. `on_unknown` stays open: it depends on the guard of the call made."""

    timeout: int
    action: Patience
    compensation: Patience
    on_unknown: OnUnknown | None

    def on_unknown_of(self, guard: Guard, *, can_settle: bool) -> OnUnknown:
        """What to do about an unknown outcome of a call under this guard."""
        if self.on_unknown is not None:
            return self.on_unknown
        if guard is Guard.BARRIER:
            return OnUnknown.COMPENSATE
        return OnUnknown.SETTLE if can_settle else OnUnknown.STUCK


TIMEOUT_DEFAULT: Final = timedelta(seconds=5)
GIVE_UP_DEFAULT: Final = timedelta(hours=24)
ATTEMPTS_DEFAULT: Final = 8


@dataclass(frozen=True, slots=True)
class Defaults:
    """How hard calls to a participant are tried where a step's policy doesn't say; settings may say otherwise.

    `attempts_max` is for what may be turned back; what must succeed in the end, and undo, are bounded by time alone.
    """

    timeout: timedelta = TIMEOUT_DEFAULT
    attempts_max: int = ATTEMPTS_DEFAULT
    give_up_after: timedelta = GIVE_UP_DEFAULT
    first: timedelta = FIRST_DEFAULT
    cap: timedelta = CAP_DEFAULT


DEFAULTS: Final = Defaults()


def resolve(policy: Policy | None, kind: Kind, defaults: Defaults = DEFAULTS) -> ResolvedPolicy:
    """Fill in what the author left open."""
    given = policy or Policy()
    attempts_max = None if kind is Kind.RETRIABLE else defaults.attempts_max
    forward = given.retry or Retry(attempts_max=attempts_max, first=defaults.first, cap=defaults.cap)
    backward = given.compensation_retry or Retry(attempts_max=None, first=defaults.first, cap=defaults.cap)
    return ResolvedPolicy(
        timeout=micros(given.timeout or defaults.timeout),
        action=_patience(forward, defaults),
        compensation=_patience(backward, defaults),
        on_unknown=None if given.on_unknown is None else OnUnknown(given.on_unknown),
    )


def _patience(retry: Retry, defaults: Defaults) -> Patience:
    return Patience(
        attempts_max=retry.attempts_max,
        give_up_after=micros(retry.give_up_after or defaults.give_up_after),
        first=micros(retry.first),
        cap=micros(retry.cap),
    )


def delay(patience: Patience, key: str, sends: int, retry_after: int = 0) -> int:
    """Microseconds to wait after the `sends`-th send of `key` failed.

    Exponential and capped, times 0.5 to 1: never longer than the cap. The jitter is a function of key and count, so
    that deciding stays a pure function and no two runs come back in step. `retry_after` (microseconds, as the
    participant asked) is a floor, one hour at the most.
    """
    exponent = min(sends - 1, 62)
    base = min(patience.cap, patience.first << exponent)
    drawn = int.from_bytes(sha256(f"{key} {sends}".encode()).digest()[:8], "big")
    jittered = base // 2 + ((base * drawn) >> 65)
    return max(jittered, min(retry_after, RETRY_AFTER_MAX_SECONDS * MICROSECONDS))
