"""Keeping this process's lease, and stopping where it can't be kept.

The heartbeat comes from the event loop that does the work: a loop that hangs must lose its lease. A worker that let it
run out may be declared gone by the others, for good; told so, this process drops every run and begins as a new worker.

Until it is told, the send gate bounds what it may do: nothing leaves unless the last heartbeat that was confirmed began
less than the lease, minus a margin, ago, on a clock that goes on while the machine sleeps or the process is stopped. A
process that wakes late has at most the calls that were already leaving. Safety doesn't rest on this: the log's
conditions and the participants' barriers do it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from amends.core.words.errors import LogUnavailable
from amends.engine.log_clock import LogClock
from amends.engine.repeated_warning import Complaint
from amends.ports.clock import Timers, pause, timeout
from amends.ports.log import WorkerLease
from amends.system.interrupts import contained

BEATS: Final = 3
"""Heartbeats in the time of a lease: two may be lost."""

MARGIN: Final = 0.25
"""This part of the lease before its end nothing is sent any more: a call that leaves takes its time."""

LOOK_SECONDS: Final = 0.005
"""So long after another one's lease is over one looks whether it was renewed, and no two looks are closer."""

_LOGGER = logging.getLogger("amends.engine")


class LeaseKeeper:
    """Renews one lease for ever. `lost` is called when this worker was declared gone, `kept` at every heartbeat."""

    def __init__(  # noqa: PLR0917 - what it takes to keep a lease
        self,
        lease: WorkerLease,
        clock: LogClock,
        elapsed: Callable[[], float],
        timers: Timers,
        lost: Callable[[], None],
        kept: Callable[[], None],
    ) -> None:
        self._lease = lease
        self._clock = clock
        self._elapsed = elapsed
        self._timers = timers
        self._lost = lost
        self._kept = kept
        self._confirmed: float | None = None
        self._task: asyncio.Task[None] | None = None
        self.tenure: int | None = 0
        """Which of the workers that this process was holds its runs; `None` from the end of one to the next."""
        self.lost_times = 0
        """How often this process was declared gone."""
        self.trouble: str | None = None
        """Why the last heartbeat failed; `None` once one was confirmed."""
        self._complaint = Complaint(_LOGGER, "the lease is renewed again", elapsed)

    def may_send(self) -> bool:
        """Whether the lease is far enough from its end for a call to leave."""
        return self._confirmed is not None and self._elapsed() - self._confirmed < (1 - MARGIN) * self._lease.seconds

    async def confirm(self) -> None:
        """Confirm the lease once, and take over the log's time."""
        await self._beat()

    async def start(self) -> None:
        """Confirm the lease, take over the log's time, and go on renewing."""
        await self.confirm()
        self._task = asyncio.create_task(self._run(), name="amends-lease")

    async def close(self) -> None:
        """Renew no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        period = patience = self._lease.seconds / BEATS
        while True:
            if patience == period:
                await self._watch(period)
            try:
                with contained():
                    async with timeout(self._timers, patience):
                        await self._beat()
                patience = period
            except TimeoutError:
                # At once again, over a new connection, and with more patience: on a busy machine that takes its time.
                self._warn(f"no answer for {patience:g} s")
                patience = min(2 * patience, self._lease.seconds)
            except LogUnavailable as error:
                self._warn(str(error))
                patience = period
            except Exception:  # a bug here must not end the lease of a process that is well
                _LOGGER.exception("the lease can't be renewed")
                patience = period

    async def _watch(self, seconds: float) -> None:
        """Until the next heartbeat; in between, look at the very moment at which another one's lease is over, so that
        its runs don't wait for when we would look anyway.
        """
        until = self._elapsed() + seconds
        while (left := until - self._elapsed()) > 0:
            look_in = self._lease.look_in
            if look_in is None or look_in + LOOK_SECONDS >= left:
                await pause(self._timers, left)
                return
            await pause(self._timers, look_in + LOOK_SECONDS)
            try:
                async with timeout(self._timers, seconds):
                    await self._lease.look()
            except Exception as error:  # noqa: BLE001 - whatever it was, the heartbeat that follows must not fail for it
                _LOGGER.info("expired leases can't be looked for: %s", error)
                await pause(self._timers, max(0.0, until - self._elapsed()))

    def _warn(self, reason: str) -> None:
        self.trouble = f"the lease can't be renewed: {reason}"
        self._complaint.wrong(self.trouble)

    async def _beat(self) -> None:
        began = self._elapsed()
        now = await self._lease.renew()
        if now is None:
            _LOGGER.error(
                "this process was taken for gone: it had been silent for longer than its lease of %g s. "
                "It drops its runs, which others go on with, and begins anew",
                self._lease.seconds,
            )
            self.lost_times += 1
            self._confirmed = self.tenure = None
            self._lost()
            await self._lease.begin_anew()
            began = self._elapsed()
            now = await self._lease.renew()
            if now is None:
                return  # gone again already: at the next heartbeat
        self._clock.set(now, (began + self._elapsed()) / 2)
        self._confirmed = began
        self.tenure = self.lost_times
        self.trouble = None
        self._complaint.fine()
        self._kept()
