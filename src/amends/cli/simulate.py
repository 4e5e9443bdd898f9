"""`amends simulate`: thousands of bad days for sagas, each from a seed; a failure is a number that shows it again."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from amends.cli.errors import BadUsage
from amends.cli.output import Json, as_json, tell

if TYPE_CHECKING:
    from amends.core.saga.saga import Saga
    from amends.testing.simulation.simulate import Simulation, SimulationReport

TOLD_EVERY: Final = 100
"""Schedules after which a terminal is told how far it is."""


def simulate(
    sagas: Annotated[list[str], typer.Argument(metavar="MODULE[:NAME]...", help="Where the sagas are.")],
    *,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    schedules: Annotated[int, typer.Option(min=1, help="How many, each from the next seed.")] = 1_000,
    log: Annotated[str, typer.Option(metavar="KIND", help="memory, or sqlite: real files, slower.")] = "memory",
    runs: Annotated[int, typer.Option(min=1, help="Runs per schedule.")] = 4,
    input: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The runs' input as JSON, for one saga. Default: made up.")
    ] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Show all that happens in the first schedule.")] = False,
    json: Json = False,
) -> None:
    """Play sagas through bad days, each from a seed. Exit code 1 if a promise is broken."""
    from amends.cli.modules import find_sagas
    from amends.core.words.errors import AmendsError
    from amends.orchestrator import load_definitions
    from amends.testing.simulation.log_names import KINDS
    from amends.testing.simulation.simulate import Simulation, SimulationFailed

    if log.removesuffix(":") not in KINDS:
        msg = f"--log {log}: known are {', '.join(KINDS)}."
        raise BadUsage(msg)
    found = find_sagas(sagas)
    given = _given(found, input)

    def again(of: int) -> str:
        options = f"--seed {of} --schedules 1 --log {log} --runs {runs}"
        return f"amends simulate {shlex.join(sagas)} {options}{f' --input {shlex.quote(str(input))}' if input else ''}"

    with Simulation(load_definitions(found), log, runs=runs, again=again) as simulation:
        if given is not None:
            simulation.takes(found[0].name, given)
        if trace:
            _print_trace(simulation, seed)
        try:
            report = simulation.play(seed, schedules, seen=_teller(schedules))
        except SimulationFailed as failed:
            raise AmendsError(str(failed)) from failed
        finally:
            _end_line()
    if json:
        as_json(_as_value(report))
    else:
        _print(report)


def _given(sagas: "Sequence[Saga[Any]]", file: Path | None) -> bytes | None:
    """What runs are started with, checked against the saga's input type."""
    from amends.codecs.json import JsonCodec
    from amends.core.words.codec import Undecodable

    if file is None:
        return None
    if len(sagas) != 1:
        names = ", ".join(each.name for each in sagas)
        msg = f"--input is for one saga, and there are {len(sagas)}: {names}. Name one, as MODULE:NAME."
        raise BadUsage(msg)
    try:
        body = file.read_bytes().strip()
    except OSError as error:
        msg = f"--input {file}: {error.strerror}."
        raise BadUsage(msg) from error
    try:
        JsonCodec().decoder(sagas[0].input_type)(body)
    except Undecodable as error:
        msg = f"--input {file} is no input of {sagas[0].name}: {error.detail} at {error.path}."
        raise BadUsage(msg) from error
    return body


def _print_trace(simulation: "Simulation", seed: int) -> None:
    trace = simulation.trace(seed)
    began = next((each[0] for each in trace if isinstance(each[0], int)), 0)
    for at, *what in trace:
        seconds = (at - began) / 1_000_000 if isinstance(at, int) else 0.0
        tell(f"{seconds:>12.6f}  {'  '.join(_shown(each) for each in what)}")


def _shown(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _teller(schedules: int) -> "Callable[[SimulationReport], None]":
    """Tells a terminal how far it is, and only a terminal."""
    if not sys.stderr.isatty():
        return lambda _: None

    def progress(report: "SimulationReport") -> None:
        if report.schedules % TOLD_EVERY == 0:
            print(f"\r{report.schedules:,} of {schedules:,} schedules", end="", file=sys.stderr, flush=True)

    return progress


def _end_line() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _as_value(report: "SimulationReport") -> dict[str, Any]:
    return {
        "schedules": report.schedules,
        "helped": report.helped,
        "ends": dict(sorted(report.ends.items())),
        "fired": dict(sorted(report.fired.items())),
    }


def _print(report: "SimulationReport") -> None:
    ends = ", ".join(f"{count:,} {state}" for state, count in sorted(report.ends.items()))
    tell(f"{report.schedules:,} schedules, every promise kept; in {report.helped:,} a person had to help")
    tell(f"runs    {ends}")
    tell(f"faults  {sum(report.fired.values()):,} of {len(report.fired)} kinds")
    for kind, count in report.fired.most_common():
        tell(f"        {kind:<20}{count:>9,}")
