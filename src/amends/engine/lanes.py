"""Calls to one participant: so many in flight at a time, compensations and questions before new actions."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from amends.ports.transport import Transport


@dataclass(slots=True, kw_only=True)
class Waiting:
    """A call that wants to leave. `gone`: it was taken back while it waited."""

    urgent: bool
    has_slot: bool = False
    gone: bool = False


W = TypeVar("W", bound=Waiting)


class Lane(Generic[W]):
    """The queue in front of one participant."""

    def __init__(self, participant: str, transport: Transport, at_once: int) -> None:
        self.participant = participant
        self.transport = transport
        self.at_once = at_once
        self.in_flight = 0
        self._urgent: OrderedDict[int, W] = OrderedDict()
        self._others: OrderedDict[int, W] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return len(self._urgent) + len(self._others)

    def enter(self, call: W) -> bool:
        """Take a slot if one is free, else queue. True: the call may go."""
        if self.in_flight < self.at_once:
            self.in_flight += 1
            call.has_slot = True
            return True
        (self._urgent if call.urgent else self._others)[id(call)] = call
        return False

    def leave(self, call: W) -> W | None:
        """Give the slot back, or the place in the queue; the next call that may go, if one waits."""
        if not call.has_slot:
            (self._urgent if call.urgent else self._others).pop(id(call), None)
            return None
        call.has_slot = False
        if not self._urgent and not self._others:
            self.in_flight -= 1
            return None
        for queue in (self._urgent, self._others):
            while queue:
                _, following = queue.popitem(last=False)
                if not following.gone:
                    following.has_slot = True
                    return following
        self.in_flight -= 1
        return None
