"""Faults of the network, of participants and of the orchestrator itself, each of which must really happen.

A fault is decided when a call is sent and counted when it bites. A test whose fault never fired tested something else
than its name says: `assert_all_fired`, which a workshop also does at its end, names such faults.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias

from amends.core.saga.operation import Operation, Participant, name_of
from amends.core.words.keys import Phase, unit_name
from amends.core.words.retry import MICROSECONDS, micros
from amends.ports.clock import TimeSource
from amends.ports.transport import Outgoing
from amends.testing.workshop.sent import Sent

CallPhase: TypeAlias = Literal["action", "compensation"]

POINTS: Final = ("requested", "sent", "answered", "logged")


class FaultNeverFired(AssertionError):
    """The message names the faults that a test asked for and that never happened."""


@dataclass(eq=False, slots=True)
class PlannedFault:
    """Something that shall go wrong `times` times; `taken`: meant for a call already, `fired`: happened."""

    label: str
    times: int
    taken: int = 0
    fired: int = 0
    hits: Callable[[Outgoing], bool] = field(default=lambda _: True)
    until: int | None = None
    """An outage's end; it is no matter of times."""

    def take(self, call: Outgoing) -> bool:
        """Whether this call is one to go wrong."""
        if self.taken >= self.times or not self.hits(call):
            return False
        self.taken += 1
        return True

    def fire(self) -> None:
        """It has happened."""
        self.fired += 1

    @property
    def missing(self) -> str | None:
        """What didn't happen of it."""
        if self.until is not None:
            return None if self.fired else f"{self.label}: nothing was sent there meanwhile"
        if self.fired >= self.times:
            return None
        return f"{self.label}: fired {self.fired} of {self.times} times"


@dataclass(slots=True)
class Fate:
    """What is to become of one call."""

    refused: PlannedFault | None = None
    delay_seconds: float = 0.0
    lost: PlannedFault | None = None
    copies: list[PlannedFault] = field(default_factory=list[PlannedFault])


class Faults:
    """What shall go wrong. Every fault is for calls that are sent after it was asked for."""

    def __init__(self, clock: TimeSource, steps: Collection[str], sent: Sequence[Sent]) -> None:
        self._clock = clock
        self._steps = steps
        self._sent = sent
        self._outages: list[PlannedFault] = []
        self._refusals: list[PlannedFault] = []
        self._losses: list[PlannedFault] = []
        self._copies: list[PlannedFault] = []
        self._delays: list[tuple[PlannedFault, float]] = []
        self._crashes: dict[str, PlannedFault] = {}

    # -- asking for faults

    def lose_reply(
        self, operation: Operation[..., Any, Any], /, *, times: int = 1, phase: CallPhase = "action"
    ) -> None:
        """The participant does its work and its answer gets lost: the caller waits until the call's time-out.

        With `phase="compensation"` the answers of what undoes this operation.
        """
        self._losses.append(_of("lose_reply", operation, times, phase))

    def duplicate(self, operation: Operation[..., Any, Any], /, *, times: int = 1, phase: CallPhase = "action") -> None:
        """The request arrives once more, later: when everything else there is to do at that moment has been done."""
        self._copies.append(_of("duplicate", operation, times, phase))

    def slow(
        self, operation: Operation[..., Any, Any], /, *, by: timedelta, times: int = 1, phase: CallPhase = "action"
    ) -> None:
        """The request is so long on its way. If that is longer than the call's time-out, it arrives all the same."""
        self._delays.append((_of("slow", operation, times, phase), micros(by) / MICROSECONDS))

    def reject_connection(
        self, operation: Operation[..., Any, Any], /, *, times: int = 1, phase: CallPhase = "action"
    ) -> None:
        """The connection is refused, so the request certainly never left."""
        self._refusals.append(_of("reject_connection", operation, times, phase))

    def outage(self, participant: type[Participant], /, *, lasting: timedelta) -> None:
        """From now on, for so long, connections there are refused."""
        name, until = name_of(participant), self._clock.now() + micros(lasting)
        label = f"outage({participant.__name__}, lasting={lasting})"
        self._outages.append(PlannedFault(label, 1, hits=lambda call: call.participant == name, until=until))

    def crash_orchestrator(self, *, after: str) -> None:
        """Kill the orchestrator right after this, and start a new one on the same log. `runs` goes on with the new one.

        `after` is a step (`reserve`, `reserve/sku-1`), a phase and a point: `"reserve:action sent"`. Points:
        `requested` is when the log knows that the call is owed and nothing has left yet; `sent`, when the request is on
        its way, and arrives late; `answered`, when the participant has done its work and the answer dies with us;
        `logged`, when the log knows the answer and nothing has followed from it yet.
        """
        unit, _, rest = after.partition(":")
        phase, _, point = rest.partition(" ")
        step = unit.partition("/")[0]
        if step not in self._steps or phase not in set(Phase) or point not in POINTS:
            msg = (
                f"{after!r} is no moment to crash at: expected '<step>:<phase> <point>', as 'reserve:action sent'. "
                f"Steps: {', '.join(sorted(self._steps))}. Phases: {', '.join(Phase)}. Points: {', '.join(POINTS)}."
            )
            raise ValueError(msg)
        if after in self._crashes:
            msg = f"a crash after {after!r} was asked for already"
            raise ValueError(msg)
        self._crashes[after] = PlannedFault(f"crash_orchestrator(after={after!r})", 1)

    # -- looking back

    def assert_all_fired(self) -> None:
        """`FaultNeverFired` if something that was asked for didn't happen."""
        missing = [text for fault in self._all() if (text := fault.missing) is not None]
        if not missing:
            return
        counted = Counter(f"{unit_name(each.step, each.item)}:{each.phase}" for each in self._sent)
        sent = ", ".join(f"{name} x{times}" if times > 1 else name for name, times in counted.items()) or "nothing"
        lines = "\n  ".join(missing)
        msg = f"these faults never fired, so nothing was tested against them:\n  {lines}\nsent: {sent}"
        raise FaultNeverFired(msg)

    def _all(self) -> list[PlannedFault]:
        delays = [fault for fault, _ in self._delays]
        return [
            *(*self._outages, *self._refusals, *self._losses, *self._copies, *delays),
            *self._crashes.values(),
        ]

    # -- for the workshop

    def fate_of(self, call: Outgoing) -> Fate:
        """What becomes of this call; what is taken for it is taken from no other."""
        now = self._clock.now()
        for outage in self._outages:
            if outage.until is not None and now < outage.until and outage.hits(call):
                return Fate(refused=outage)
        for refusal in self._refusals:
            if refusal.take(call):
                return Fate(refused=refusal)
        fate = Fate()
        for fault, seconds in self._delays:
            if fault.take(call):
                fault.fire()
                fate.delay_seconds += seconds
        fate.copies = [fault for fault in self._copies if fault.take(call)]
        fate.lost = next((fault for fault in self._losses if fault.take(call)), None)
        return fate

    def crashes_after(self, step: str, item: str, phase: Phase, point: str) -> bool:
        """Whether the orchestrator dies here; once."""
        crash = self._crashes.get(f"{unit_name(step, item)}:{phase.value} {point}")
        if crash is None or crash.fired:
            return False
        crash.fire()
        return True


def _of(what: str, operation: Operation[..., Any, Any], times: int, phase: CallPhase) -> PlannedFault:
    if times < 1:
        msg = f"{what}({operation.label}): {times} times is no fault"
        raise ValueError(msg)
    participant = operation.participant
    names = {operation.name}
    if phase == "compensation" and isinstance(operation.compensation, str):
        names = {operation.compensation}

    def hits(call: Outgoing) -> bool:
        return call.participant == participant and call.operation in names and call.phase.value == phase

    undoing = "" if phase == "action" else f", phase={phase!r}"
    return PlannedFault(f"{what}({operation.label}{undoing})", times, hits=hits)
