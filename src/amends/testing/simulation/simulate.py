"""Thousands of bad days for your own sagas, each from a seed: the real engine, a real log, all else pretended.

```python
def test_orders_survive_bad_days() -> None:
    simulate([place_order], inputs={place_order: ORDER}, seed=1, schedules=500)
```

One *schedule* is one world: a few runs, one process after another, a log, a network, participants, callers, people, and
a clock that jumps; what goes wrong in it is drawn from its seed. Afterwards nothing is under way any more, and the
promises (`testing.invariants`) are asked of every run, of its history and of what its participants really did. The same
seed gives the same world, bit for bit, so a failure is a number.
"""

import asyncio
import gc
import hashlib
import subprocess
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Self

from amends.codecs.events import JsonEventCodec
from amends.codecs.json import JsonCodec
from amends.core.run.answers import NULL
from amends.core.run.definition import Definition
from amends.core.run.record import LOCAL
from amends.core.saga.saga import Saga
from amends.core.saga.steps import Step
from amends.core.words.codec import TypeForm
from amends.core.words.errors import AmendsError
from amends.orchestrator import load_definitions
from amends.ports.transport import Outgoing
from amends.testing.broken import BrokenPromise
from amends.testing.explore.given import Given
from amends.testing.made_up import MadeUpValues
from amends.testing.simulation.books import Trace
from amends.testing.simulation.complaints import Complaints, heard
from amends.testing.simulation.log_names import logs_by_name
from amends.testing.simulation.logs import Logs
from amends.testing.simulation.weather import WeatherFault
from amends.testing.simulation.world import Cast, SimulatedWorld, WorldAtRest

RUNS: Final = 4
"""Runs in one world: enough to meet each other in a batch and in a queue, few enough to read their story."""

TIDY_EVERY: Final = 200
"""Worlds after which their remains are looked through; what a killed process leaves is full of cycles."""


@dataclass(slots=True)
class SimulationReport:
    """What a simulation has seen.

    `ends`: runs by the state in which they came to rest. `fired`: what really went wrong, and how often. `helped`:
    schedules in which a person was needed.
    """

    schedules: int = 0
    ends: Counter[str] = field(default_factory=Counter[str])
    fired: Counter[str] = field(default_factory=Counter[str])
    helped: int = 0

    def add(self, rest: WorldAtRest) -> None:
        """One more world."""
        self.schedules += 1
        self.ends.update(rest.ends)
        self.fired.update({kind.value: count for kind, count in rest.fired.items()})
        self.helped += rest.helped > 0

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {state}" for state, count in sorted(self.ends.items()))
        fired = ", ".join(f"{kind} {self.fired[kind]}" for kind in WeatherFault if self.fired[kind])
        return f"{self.schedules} schedules, {self.helped} with a person's help; runs: {ends}; what went wrong: {fired}"


class SimulationFailed(BrokenPromise):
    """A promise was broken, or something raised that must not; the message says in which world, and how to see it
    again. `seed` is that world's own.
    """

    def __init__(self, message: str, seed: int) -> None:
        super().__init__(message)
        self.seed = seed


def simulate(
    sagas: Iterable[Saga[Any]],
    *,
    inputs: Mapping[Saga[Any], object] | None = None,
    replies: Mapping[Step[Any, Any], object] | None = None,
    seed: int = 0,
    schedules: int = 100,
    log: str = "memory",
    runs: int = RUNS,
) -> SimulationReport:
    """Play these sagas in `schedules` worlds, from `seed` on: the seeds `seed`, `seed + 1`, and so on.

    Inputs and replies that aren't given are made up. Local steps aren't executed: what they would do is pretended as
    well. `log` is `memory`, or `sqlite` for real files in a temporary folder. Raises `SimulationFailed`, with the one
    seed that shows it again; `DefinitionInvalid` for sagas that can't run at all. Not for use inside a running event
    loop: the test that calls it is a plain `def`.
    """
    listed = list(sagas)
    definitions = load_definitions(listed)
    simulation = Simulation(definitions, log, runs=runs)
    for saga, value in (inputs or {}).items():
        simulation.takes(saga.name, simulation.codec.encode(value))
    for step, value in (replies or {}).items():
        simulation.gives(step.name, simulation.codec.encode(value))
    with simulation:
        return simulation.play(seed, schedules)


class Simulation:
    """Definitions and a kind of log, ready to be played. Close it: it may have files."""

    def __init__(
        self,
        definitions: Sequence[Definition],
        log: str | Logs = "memory",
        *,
        runs: int = RUNS,
        again: Callable[[int], str] | None = None,
    ) -> None:
        """`again` writes the command that plays one seed again."""
        if runs < 1:
            msg = f"a schedule of {runs} runs: expected at least 1."
            raise ValueError(msg)
        self.codec = JsonCodec()
        self._definitions = definitions
        self._inputs: dict[str, bytes] = {}
        self._replies: dict[str, bytes] = {}
        self._made: dict[tuple[str, str, str], bytes] = {}
        self._events = JsonEventCodec()
        self._logs = logs_by_name(log) if isinstance(log, str) else log
        self._log_name = log if isinstance(log, str) else type(log).__name__
        self._runs = runs
        self._again = again or self._call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._logs.close()

    def takes(self, saga: str, body: bytes) -> None:
        """Runs of this saga are started with this input, as JSON; to be said before anything is played."""
        self._inputs[saga] = body

    def gives(self, step: str, reply: bytes) -> None:
        """The step's action is answered with this, as JSON."""
        self._replies[step] = reply

    def play(
        self, seed: int, schedules: int, *, seen: Callable[[SimulationReport], None] | None = None
    ) -> SimulationReport:
        """Play so many worlds, from this seed on; `seen` is told of each."""
        report = SimulationReport()
        with _alone() as complaints:
            for number in range(schedules):
                report.add(self._world(seed + number, complaints))
                if seen is not None:
                    seen(report)
                if number % TIDY_EVERY == TIDY_EVERY - 1:
                    gc.collect()
        return report

    def _world(self, seed: int, complaints: Complaints, trace: Trace | None = None) -> WorldAtRest:
        """Play one world; what happens in it is added to `trace`, also where it ends badly."""
        world = SimulatedWorld(self._cast, self._logs, self._events, seed, trace)
        wrong: Exception | None = None
        rest: WorldAtRest | None = None
        try:
            rest = world.play()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told with its seed
            wrong = error
        finally:
            world.leave()
        wrong = complaints.take() or wrong
        if wrong is not None or rest is None:
            raise SimulationFailed(self._told(seed, wrong), seed) from wrong
        return rest

    def trace(self, seed: int) -> Trace:
        """Everything that happens in one world, in order; also where it ends badly, up to there."""
        trace: Trace = []
        with _alone() as complaints, suppress(SimulationFailed):
            self._world(seed, complaints, trace)
        return trace

    def print(self, seed: int) -> str:
        """A hash of everything that happens in one world, in order."""
        return hashlib.sha256(repr(self.trace(seed)).encode()).hexdigest()

    @cached_property
    def _cast(self) -> Cast:
        given = {each.saga: Given(each, self._input(each)) for each in self._definitions}
        return Cast(self._definitions, given, self._reply, self._runs)

    def _input(self, definition: Definition) -> bytes:
        known = self._inputs.get(definition.saga)
        if known is None:
            known = self._inputs[definition.saga] = self._value(definition.input_type, "input")
        return known

    def _reply(self, call: Outgoing) -> bytes:
        """What an action gives: what was said, or something of the right type, the same every time."""
        given = self._replies.get(call.step)
        if given is not None:
            return given
        key = (call.participant, call.operation, call.step)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._made_up(call)
        return made

    def _made_up(self, call: Outgoing) -> bytes:
        for definition in self._definitions:
            if call.participant == LOCAL:
                step = definition.steps.get(call.step)
                if step is not None and step.is_local:
                    return NULL if step.reply_type is None else self._value(step.reply_type, call.step)
                continue
            operation = definition.operation(call.participant, call.operation)
            if operation is not None:
                return NULL if operation.reply_type is None else self._value(operation.reply_type, operation.name)
        return NULL

    def _value(self, type_: TypeForm, name: str) -> bytes:
        """A value of this type, whatever was made up before: a world mustn't depend on those that came earlier."""
        return MadeUpValues(self.codec).json(type_, name)

    def _told(self, seed: int, error: Exception | None) -> str:
        what = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        return f"{what}\n  seed: {seed}\n  at: {commit()}\n  again: {self._again(seed)}"

    def _call(self, seed: int) -> str:
        names = ", ".join(each.saga.replace("-", "_") for each in self._definitions)
        runs = "" if self._runs == RUNS else f", runs={self._runs}"
        return f"simulate([{names}], ..., seed={seed}, schedules=1, log={self._log_name!r}{runs})"


@contextmanager
def _alone() -> Generator[Complaints]:
    """Nothing else runs in this thread meanwhile, and garbage is looked for when a world is over, not in its middle."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        msg = "simulate() can't be used inside a running event loop: let the test that calls it be a plain def."
        raise AmendsError(msg)
    was_on = gc.isenabled()
    gc.disable()
    gc.freeze()  # what there is by now is looked through no more
    try:
        with heard() as complaints:
            yield complaints
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def commit() -> str:
    """Which amends this is: its version, and the commit where it is run from a checkout."""
    here = Path(__file__).parent
    told = f"amends {version('amends')}"
    try:
        found = subprocess.run(  # noqa: S603 - fixed words, and where this file lies
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607 - whichever git there is
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return told
    known = found.stdout.strip()
    return f"{told}, commit {known}" if found.returncode == 0 and known else told
