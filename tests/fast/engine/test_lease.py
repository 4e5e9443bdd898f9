"""Keeping a lease, and looking at others' the moment they are over: on time that jumps, with a lease that is played."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import pytest

from amends.core.words.errors import LogUnavailable
from amends.engine.lease import BEATS, LOOK_SECONDS, LeaseKeeper
from amends.engine.log_clock import LogClock
from amends.ports.clock import LOOP_TIMERS
from tests.fast.engine.support import Clock, seconds, virtually

LEASE = 3.0


@dataclass
class Played:
    """`ports.log.WorkerLease`. `over` is when the others' leases are over, on the loop's clock."""

    over: list[float] = field(default_factory=list[float])
    seconds: float = LEASE
    renewed: list[float] = field(default_factory=list[float])
    looked: list[float] = field(default_factory=list[float])
    gone: list[float] = field(default_factory=list[float])
    errors: list[Exception] = field(default_factory=list[Exception])
    takes: list[float] = field(default_factory=list[float])
    """Seconds until each further renewal is answered; after these at once."""

    begun: list[float] = field(default_factory=list[float])
    refusals: list[Exception] = field(default_factory=list[Exception])
    """What the renewals from the third on fail with, at once."""

    @property
    def look_in(self) -> float | None:
        last = max([*self.renewed, *self.looked], default=0.0)
        return min((each - last for each in self.over), default=None)

    def _reap(self) -> None:
        self.gone += [seconds() for each in self.over if each < seconds()]
        self.over = [each for each in self.over if each >= seconds()]

    async def renew(self) -> int | None:
        self.begun.append(seconds())
        await asyncio.sleep(self.takes.pop(0) if self.takes else 0)
        if self.refusals and len(self.begun) > 2:
            raise self.refusals.pop(0)
        self.renewed.append(seconds())
        self._reap()
        return Clock().now()

    async def look(self) -> None:
        self.looked.append(seconds())
        if self.errors:
            raise self.errors.pop(0)
        self._reap()

    async def begin_anew(self) -> None:
        raise NotImplementedError

    def listen(self, heard: Callable[[], None]) -> None:
        raise NotImplementedError

    async def let_go_of_strays(self, held: Callable[[], Collection[str]], now: int) -> Sequence[str]:
        raise NotImplementedError


def kept(lease: Played, lasts: float) -> None:
    """Keep it for so long."""

    async def test() -> None:
        keeper = LeaseKeeper(lease, LogClock(Clock(), seconds), seconds, LOOP_TIMERS, lambda: None, lambda: None)
        await keeper.start()
        await asyncio.sleep(lasts)
        assert keeper.may_send()
        await keeper.close()

    virtually(test)


def test_whose_lease_runs_out_is_seen_at_once_and_not_at_the_next_heartbeat() -> None:
    lease = Played(over=[1.3, 1.6, 2.4])
    kept(lease, 3.5)
    assert lease.gone == [pytest.approx(each + LOOK_SECONDS) for each in (1.3, 1.6, 2.4)]
    assert lease.renewed == [pytest.approx(beat * LEASE / BEATS) for beat in range(4)], "the own beats are as ever"


def test_who_is_alone_looks_at_nobody() -> None:
    lease = Played()
    kept(lease, 10.5)
    assert lease.looked == []
    assert len(lease.renewed) == 11


def test_leases_that_are_renewed_in_time_cost_no_look() -> None:
    lease = Played(over=[100.0])
    kept(lease, 10.0)
    assert lease.looked == []


@pytest.mark.parametrize("error", [LogUnavailable("gone"), ValueError("a bug")])
def test_a_look_that_fails_waits_for_the_heartbeat(error: Exception) -> None:
    lease = Played(over=[0.2], errors=[error])
    kept(lease, 2.5)
    assert lease.looked == [pytest.approx(0.2 + LOOK_SECONDS)]
    assert lease.gone == [pytest.approx(1.0)]
    assert lease.renewed == [pytest.approx(each) for each in (0.0, 1.0, 2.0)]


def test_a_heartbeat_that_isnt_answered_is_made_again_at_once_and_waited_for_longer() -> None:
    """Else a machine that is busy would break off each new connection before it is there."""
    lease = Played(takes=[0.0, 100.0, 1.5])
    kept(lease, 4.8)
    assert lease.begun == [pytest.approx(each) for each in (0.0, 1.0, 2.0, 4.5)]
    assert lease.renewed == [pytest.approx(each) for each in (0.0, 3.5, 4.5)]


@pytest.mark.parametrize("error", [LogUnavailable("refused"), ValueError("a bug")])
def test_a_database_that_refuses_at_once_is_asked_no_oftener_than_ever(error: Exception) -> None:
    lease = Played(takes=[0.0, 100.0], refusals=[error, error])
    kept(lease, 4.5)
    assert lease.begun == [pytest.approx(each) for each in (0.0, 1.0, 2.0, 3.0, 4.0)]
    assert lease.renewed == [pytest.approx(each) for each in (0.0, 4.0)]
