"""Participants that are down: hears how calls ended, lets a trial leave now and then, and all the others once they are
back.

Its timers are the worker's; which runs make room while they only wait is the worker's to say.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from amends.core.run.answers import Outcome, Unknown
from amends.engine.active_run import Ready
from amends.engine.circuit import is_outage
from amends.engine.lanes import Lane
from amends.ports.clock import Timer, Timers, TimeSource

_LOGGER = logging.getLogger("amends.engine")


class Outages:
    """Watches the circuits of all lanes. `go` sends a call that has its slot; `waited` is told of a lane whose calls
    have waited once more, `back` of a participant that is there again.
    """

    def __init__(
        self,
        clock: TimeSource,
        timers: Timers,
        go: Callable[[Ready], None],
        waited: Callable[[Lane[Ready]], None],
        back: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._timers = timers
        self._go = go
        self._waited = waited
        self._back = back
        self._closed = False
        self.trials: dict[str, Timer] = {}

    def close(self) -> None:
        """Let nothing through any more."""
        self._closed = True
        for each in self.trials.values():
            each.cancel()

    def heard(self, ready: Ready, outcome: Outcome) -> tuple[bool, Outcome]:
        """Tell the participant's circuit how a call ended. Returns whether that closed the circuit (then the caller
        calls `resume`, once the run has its answer), and the outcome: a failed trial uses up no attempt of its run.
        """
        lane, circuit = ready.lane, ready.lane.circuit
        if circuit is None:
            return False, outcome
        if not is_outage(outcome):
            is_back = circuit.answered()
            if is_back:
                _LOGGER.info("%s is back", lane.participant)
                self._stop_trying(lane)
            return is_back, outcome
        assert isinstance(outcome, Unknown)
        said = outcome.ours or outcome.detail  # shown beside no run, whose values could be taken out
        if circuit.failed(self._clock.now(), said):
            _LOGGER.warning("%s is down: %s", lane.participant, said)
            self._try_later(lane)
        return False, replace(outcome, counted=False) if ready.trial else outcome

    def resume(self, lane: Lane[Ready]) -> None:
        """Send the calls that waited for this participant's circuit to close."""
        for each in lane.let_through() if not self._closed else ():
            self._go(each)
        self._back(lane.participant)

    def _stop_trying(self, lane: Lane[Ready]) -> None:
        timer = self.trials.pop(lane.participant, None)
        if timer is not None:
            timer.cancel()

    def _try_later(self, lane: Lane[Ready]) -> None:
        assert lane.circuit is not None
        if not self._closed:
            seconds = lane.circuit.probe_seconds
            self.trials[lane.participant] = self._timers.call_later(seconds, partial(self._try, lane))

    def _try(self, lane: Lane[Ready]) -> None:
        """Let one call through, if the participant is still down."""
        del self.trials[lane.participant]
        if not lane.is_down or self._closed:
            return
        self._try_later(lane)
        trial = lane.trial()
        if trial is not None:
            self._go(trial)
        self._waited(lane)
