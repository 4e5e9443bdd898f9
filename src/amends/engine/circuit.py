"""Whether a participant is called at all: after many failures in a row nothing is sent to it, but for a trial now and
then.

A run whose call is held waits; it isn't stuck, and it uses up no attempt: an outage is no rejection. The trial is a
call that is owed anyway, sent like any other (same key, same bytes, its end is logged); if it fails it uses up no
attempt either, since the engine chose that run for the trial.

Pure: it is told what happened and when, and says whether calls may leave. The lane holds them, the worker has the
timer.
"""

from collections import deque

from amends.core.run.answers import OUTAGES, Outcome, Unknown
from amends.core.saga.operation import CircuitLimits
from amends.core.words.retry import micros


def is_outage(outcome: Outcome) -> bool:
    """Whether a call ended as calls to a participant that is down end."""
    return isinstance(outcome, Unknown) and outcome.cause in OUTAGES


class Circuit:
    """One participant's. Times are microseconds UTC.

    `since`: when the failures began that opened it; `None` while it is closed. `detail`: how the last of them went.
    `trying`: so many trials are on their way.
    """

    def __init__(self, limits: CircuitLimits) -> None:
        self.limits = limits
        self.since: int | None = None
        self.detail = ""
        self.trying = 0
        self._within = micros(limits.within)
        self._failures: deque[int] = deque(maxlen=limits.failures)

    @property
    def is_open(self) -> bool:
        """Nothing is sent, but for trials."""
        return self.since is not None

    @property
    def probe_seconds(self) -> float:
        """How often a trial may leave while it is open."""
        return self.limits.probe_every.total_seconds()

    def failed(self, at: int, detail: str) -> bool:
        """A call ended without an answer; whether that opened the circuit."""
        self.detail = detail
        if self.is_open:
            return False
        self._failures.append(at)
        if len(self._failures) < self.limits.failures or at - self._failures[0] > self._within:
            return False
        self.since = self._failures[0]
        return True

    def answered(self) -> bool:
        """The participant answered, whatever it said; whether that closed the circuit."""
        if self._failures:
            self._failures.clear()
        if self.since is None:
            return False
        self.since = None
        return True
