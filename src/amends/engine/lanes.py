"""Calls to one participant: so many in flight at a time, compensations and questions before new actions, and nothing
but trials while it is down. What a person asked for goes before all others, and is a trial while it is down.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from amends.core.words.values import value
from amends.engine.circuit import Circuit
from amends.ports.transport import Transport


@dataclass(slots=True, kw_only=True)
class QueuedCall:
    """A call that wants to leave. `gone`: it was taken back while it waited. `trial`: it leaves through an open
    circuit. `asked`: a person wants it to be made now.
    """

    urgent: bool
    asked: bool = False
    has_slot: bool = False
    gone: bool = False
    trial: bool = False


W = TypeVar("W", bound=QueuedCall)


class Lane(Generic[W]):
    """The queue in front of one participant. Work done in this process has no circuit."""

    def __init__(self, participant: str, transport: Transport, at_once: int, circuit: Circuit | None = None) -> None:
        self.participant = participant
        self.transport = transport
        self.at_once = at_once
        self.circuit = circuit
        self.in_flight = 0
        self._asked: OrderedDict[int, W] = OrderedDict()
        self._urgent: OrderedDict[int, W] = OrderedDict()
        self._others: OrderedDict[int, W] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot, or for the participant to be back."""
        return len(self._asked) + len(self._urgent) + len(self._others)

    @property
    def is_down(self) -> bool:
        """Nothing but trials leaves."""
        return self.circuit is not None and self.circuit.is_open

    def enter(self, call: W) -> bool:
        """Take a slot if one is free, else queue. True: the call may go."""
        if self.in_flight < self.at_once and (call.asked or not self.is_down):
            self.in_flight += 1
            self._give_slot(call)
            return True
        self._queue(call)[id(call)] = call
        return False

    def leave(self, call: W) -> W | None:
        """Give the slot back, or the place in the queue; the next call that may go, if one waits."""
        if not call.has_slot:
            self._queue(call).pop(id(call), None)
            return None
        call.has_slot = False
        if call.trial and self.circuit is not None:
            call.trial = False
            self.circuit.trying -= 1
        if not self._asked and not self._urgent and not self._others:
            self.in_flight -= 1
            return None
        following = self._first(self._asked) if self.is_down else self._first(*self._queues)
        if following is None:
            self.in_flight -= 1
        return following

    def trial(self) -> W | None:
        """The call that may leave through the open circuit, to see whether the participant answers again."""
        circuit = self.circuit
        if circuit is None or not circuit.is_open or circuit.trying or self.in_flight >= self.at_once:
            return None
        call = self._first(*self._queues)
        if call is not None:
            self.in_flight += 1
        return call

    def let_through(self) -> Iterator[W]:
        """The participant is back: every call that may go now, as many as there are slots."""
        while self.in_flight < self.at_once and not self.is_down and (call := self._first(*self._queues)) is not None:
            self.in_flight += 1
            yield call

    def held(self) -> list[W]:
        """Calls that wait for the participant, those that came last first: they have the longest to wait."""
        return [*reversed(self._others.values()), *reversed(self._urgent.values())]

    @property
    def _queues(self) -> "tuple[OrderedDict[int, W], ...]":
        return self._asked, self._urgent, self._others

    def _queue(self, call: W) -> "OrderedDict[int, W]":
        return self._asked if call.asked else self._urgent if call.urgent else self._others

    def _first(self, *queues: "OrderedDict[int, W]") -> W | None:
        """Take the first call out of these queues, with a slot."""
        for queue in queues:
            while queue:
                _, call = queue.popitem(last=False)
                if not call.gone:
                    self._give_slot(call)
                    return call
        return None

    def _give_slot(self, call: W) -> None:
        """It may leave; through an open circuit as a trial."""
        call.has_slot = True
        if self.circuit is not None and self.circuit.is_open:
            call.trial = True
            self.circuit.trying += 1


@value
class Standing:
    """How things stand with a participant. `where` is its address as it may be shown. `down_since` (microseconds UTC)
    is set while its circuit is open, `detail` says how its last call without an answer went, `probe_seconds` how often
    it is tried meanwhile.
    """

    participant: str
    where: str
    in_flight: int
    waiting: int
    at_once: int
    down_since: int | None
    detail: str
    probe_seconds: float


def standing(lane: Lane[Any], where: str) -> Standing:
    """How things stand with a lane's participant."""
    circuit = lane.circuit
    return Standing(
        participant=lane.participant,
        where=where,
        in_flight=lane.in_flight,
        waiting=lane.waiting,
        at_once=lane.at_once,
        down_since=None if circuit is None else circuit.since,
        detail="" if circuit is None else circuit.detail,
        probe_seconds=0.0 if circuit is None else circuit.probe_seconds,
    )
