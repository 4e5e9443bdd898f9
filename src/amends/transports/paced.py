"""Calls to a participant that bears only so many a second: evenly spaced, whatever runs they are of.

A call that waits here hasn't been sent, and its time-out hasn't begun; it holds one of the participant's slots, so what
queues behind it is still put in order by the lane, undo first.
"""

import asyncio

from amends.core.run.answers import Came
from amends.ports.transport import Outgoing, Reloadable, Transport


class Paced:
    """A transport around another one that sends `per_second` calls on average, never two closer than that."""

    def __init__(self, inner: Transport, per_second: float) -> None:
        self._inner = inner
        self._apart = 1 / per_second
        self._free_at = 0.0

    async def send(self, call: Outgoing) -> Came:
        now = asyncio.get_running_loop().time()
        leaves = max(now, self._free_at)
        self._free_at = leaves + self._apart
        if leaves > now:
            await asyncio.sleep(leaves - now)
        return await self._inner.send(call)

    def reload(self) -> None:
        if isinstance(self._inner, Reloadable):
            self._inner.reload()

    async def close(self) -> None:
        await self._inner.close()
