"""Calls to one participant: so many in flight at a time, compensations and questions before new actions."""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amends.core.keys import Phase
from amends.core.owed import Send
from amends.ports.transport import Transport

if TYPE_CHECKING:
    from amends.engine.driven import Driven


@dataclass(slots=True)
class Ready:
    """A call that is owed. `sent`: it has left, or is about to; before that it can still be withdrawn."""

    driven: "Driven"
    send: Send
    lane: "Lane"
    has_slot: bool = False
    sent: bool = False
    gone: bool = False


class Lane:
    """The queue in front of one participant."""

    def __init__(self, participant: str, transport: Transport, at_once: int) -> None:
        self.participant = participant
        self.transport = transport
        self.at_once = at_once
        self.in_flight = 0
        self._urgent: deque[Ready] = deque()
        self._actions: deque[Ready] = deque()

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return len(self._urgent) + len(self._actions)

    def enter(self, ready: Ready) -> bool:
        """Take a slot if one is free, else queue. True: the call may go."""
        if self.in_flight < self.at_once:
            self.in_flight += 1
            ready.has_slot = True
            return True
        (self._actions if ready.send.phase is Phase.ACTION else self._urgent).append(ready)
        return False

    def leave(self, ready: Ready) -> Ready | None:
        """Give the slot back; the next call that may go, if one waits."""
        if not ready.has_slot:
            return None
        ready.has_slot = False
        for queue in (self._urgent, self._actions):
            while queue:
                following = queue.popleft()
                if not following.gone:
                    following.has_slot = True
                    return following
        self.in_flight -= 1
        return None
