"""`amends explore`: every way a saga's run can go, and the smallest story that breaks a promise."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from msgspec import MsgspecError, Raw, Struct
from msgspec.json import decode

from amends.cli.errors import BadUsage
from amends.cli.output import Json, as_json, tell

if TYPE_CHECKING:
    from amends.core.saga.saga import Saga
    from amends.testing.broken import BrokenPromise
    from amends.testing.explore.report import Report
    from amends.testing.explore.scenario import Scenario
    from amends.testing.explore.search import Progress

CLEAR_LINE: Final = "\r\x1b[K"
WORLDS_DEFAULT: Final = 2_000_000


def explore(
    sagas: Annotated[list[str], typer.Argument(metavar="MODULE[:NAME]...", help="Where the sagas are.")],
    *,
    faults: Annotated[int, typer.Option(metavar="N", min=0, help="Things that go wrong in one run, at most.")] = 2,
    crashes: Annotated[int, typer.Option(metavar="N", min=0, help="Owners that die or lose the run, at most.")] = 1,
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input", metavar="FILE", help="The input as JSON, or a run as `export` wrote it. Made up without it."
        ),
    ] = None,
    services: Annotated[
        Literal["barrier", "idempotent", "once"],
        typer.Option(metavar="KIND", help="What services really do: barrier, idempotent (a key acts once) or once."),
    ] = "barrier",
    give_up: Annotated[bool, typer.Option("--give-up", help="People also skip steps and abandon runs.")] = False,
    worlds: Annotated[int, typer.Option(metavar="N", min=1, help="Worlds, at most.")] = WORLDS_DEFAULT,
    story: Annotated[str | None, typer.Option(metavar="PATH", help="Tell this story only.")] = None,
    mermaid: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the story as a Mermaid sequence diagram.")
    ] = None,
    json: Json = False,
) -> None:
    """Walk every fault of a saga. Exit code 1 if a promise breaks; prints the smallest story that breaks it."""
    from amends.cli.modules import find_sagas
    from amends.core.words.retry import Guard
    from amends.testing.broken import BrokenPromise
    from amends.testing.explore.moves import EVERY_FAULT, USUAL_FAULTS

    found = find_sagas(sagas)
    if len(found) > 1 and (input_file is not None or story is not None):
        msg = f"--input and --story are for one saga: name it. There are {', '.join(each.name for each in found)}."
        raise BadUsage(msg)
    told: list[dict[str, Any]] = []
    for saga in found:
        scenario = _scenario(saga, input_file)
        try:
            if story is not None:
                said = scenario.story(story, services=Guard(services))
                _write(mermaid, said.mermaid())
                told.append({"saga": saga.name, "version": saga.version, "story": said.text()})
                _say(said.text(), json=json)
                continue
            report = scenario.explore(
                faults_max=faults,
                crashes_max=crashes,
                kinds=EVERY_FAULT if give_up else USUAL_FAULTS,
                services=Guard(services),
                worlds_max=worlds,
                progress=_progress(saga),
            )
        except BrokenPromise as broken:
            _write(mermaid, broken.mermaid)
            told.append(_broken(saga, broken))
            _say(f"BrokenPromise: {broken}", json=json)
        else:
            told.append(_held(saga, report))
            _say(f"{saga.name} v{saga.version}: {report}", json=json)
        finally:
            _end_progress()
    if json:
        as_json({"sagas": told})
    if any(each.get("broken") for each in told):
        raise typer.Exit(1)


def _scenario(saga: "Saga[Any]", input_file: Path | None) -> "Scenario[Any]":
    from amends.codecs.json import JsonCodec
    from amends.core.words.codec import Undecodable
    from amends.testing.explore.scenario import Scenario

    if input_file is None:
        return Scenario(saga)
    try:
        body = _input_in(input_file.read_bytes())
        given: object = JsonCodec().decoder(saga.input_type)(body)
    except OSError as error:
        msg = f"--input {input_file}: {error.strerror}."
        raise BadUsage(msg) from error
    except Undecodable as error:
        msg = f"--input {input_file} is no input of {saga.name}: {error.detail} (at {error.path})."
        raise BadUsage(msg) from error
    return Scenario(saga, given)


def _input_in(body: bytes) -> bytes:
    """The input itself, or that of an exported run: what happened to it once is explored in every way."""
    try:
        exported = decode(body, type=_Exported)
    except (MsgspecError, UnicodeDecodeError):
        return body
    return bytes(exported.run.input)


class _ExportedRun(Struct):
    saga: str
    state: str
    input: Raw


class _Exported(Struct):
    """As much of what `amends export` writes as tells it from an input."""

    format: int
    run: _ExportedRun
    events: Raw


def _progress(saga: "Saga[Any]") -> "Callable[[Progress], None] | None":
    if not sys.stderr.isatty():
        return None

    def show(far: "Progress") -> None:
        far_on = f"{far.worlds:,} worlds, {far.spent} gone wrong, {far.waiting:,} moves to make"
        print(f"{CLEAR_LINE}{saga.name}: {far_on}", end="", file=sys.stderr)
        sys.stderr.flush()

    return show


def _end_progress() -> None:
    if sys.stderr.isatty():
        print(CLEAR_LINE, end="", file=sys.stderr)


def _say(text: str, *, json: bool) -> None:
    if not json:
        tell(text)


def _write(file: Path | None, diagram: str) -> None:
    if file is None:
        return
    try:
        file.write_text(f"{diagram}\n", "utf-8")
    except OSError as error:
        msg = f"--mermaid {file}: {error.strerror}."
        raise BadUsage(msg) from error


def _held(saga: "Saga[Any]", report: "Report") -> dict[str, Any]:
    return {
        "saga": saga.name,
        "version": saga.version,
        "worlds": report.worlds,
        "moves": report.moves,
        "ends": {state.value: count for state, count in report.ends.items()},
        "stuck": dict(report.stuck),
        "faults": {kind.value: count for kind, count in report.faults.items()},
        "crashes": report.crashes,
        "broken": None,
    }


def _broken(saga: "Saga[Any]", broken: "BrokenPromise") -> dict[str, Any]:
    told = {"promise": broken.promise, "story": str(broken), "path": broken.path, "mermaid": broken.mermaid}
    return {"saga": saga.name, "version": saga.version, "broken": told}
