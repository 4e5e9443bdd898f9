"""`amends graph`: a saga drawn, for a terminal, a page of documentation or Graphviz."""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from amends.cli.output import Json, as_json, say
from amends.cli.texts.tables import aligned


class Format(StrEnum):
    """How it is drawn."""

    TEXT = "text"
    MERMAID = "mermaid"
    DOT = "dot"


Steps = list[dict[str, Any]]
"""A graph as the log keeps it: `name kind reads after operations compensations`."""


def graph(
    sagas: Annotated[list[str], typer.Argument(metavar="MODULE[:NAME]...", help="Where the sagas are.")],
    *,
    drawn: Annotated[Format, typer.Option("--format", help="How to draw it.")] = Format.TEXT,
    json: Json = False,
) -> None:
    """Draw sagas: steps, kinds, what waits for what."""
    import msgspec

    from amends.cli.modules import find_sagas
    from amends.orchestrator import load_definitions

    graphs: list[dict[str, Any]] = []
    for each in load_definitions(find_sagas(sagas)):
        stored: dict[str, Any] = msgspec.json.decode(each.graph())
        steps = [{name: value for name, value in step.items() if name != "schemas"} for step in stored["steps"]]
        graphs.append({"saga": each.saga, "version": each.version, "digest": each.digest, "steps": steps})
    if json:
        as_json({"sagas": graphs})
        return
    for number, found in enumerate(graphs):
        lines = list(DRAWN[drawn](f"{found['saga']} v{found['version']}", found["steps"]))
        say(lines if number == 0 else ["", *lines])


def _text(title: str, steps: Steps) -> Iterator[str]:
    yield title
    rows = [
        (each["name"], each["kind"], _edges(each), ", ".join(each["operations"]) or "a person, or time", _undo(each))
        for each in steps
    ]
    yield from aligned(rows, indent="  ")


def _edges(step: Mapping[str, Any]) -> str:
    reads, after = ", ".join(step["reads"]), ", ".join(step["after"])
    return "; ".join(part for part in (f"reads {reads}" if reads else "", f"after {after}" if after else "") if part)


def _undo(step: Mapping[str, Any]) -> str:
    undo = ", ".join(step["compensations"])
    return f"undone by {undo}" if undo and step["kind"] == "compensable" else ""


_SHAPES: Final = {
    "compensable": ('["', '"]'),
    "pivot": ('{{"', '"}}'),
    "retriable": ('(["', '"])'),
    "neutral": ('("', '")'),
}
_DOT_SHAPES: Final = {"compensable": "box", "pivot": "diamond", "retriable": "oval", "neutral": "plaintext"}


def _mermaid(title: str, steps: Steps) -> Iterator[str]:
    yield "---"
    yield f"title: {title}"
    yield "---"
    yield "flowchart LR"
    for each in steps:
        opens, closes = _SHAPES[each["kind"]]
        yield f"    {each['name']}{opens}{each['name']}<br/>{each['kind']}{closes}"
    for each in steps:
        yield from (f"    {name} --> {each['name']}" for name in each["reads"])
        yield from (f"    {name} -.-> {each['name']}" for name in each["after"])


def _dot(title: str, steps: Steps) -> Iterator[str]:
    yield f'digraph "{title}" {{'
    yield "    rankdir=LR;"
    for each in steps:
        yield f'    {each["name"]} [shape={_DOT_SHAPES[each["kind"]]}, label="{each["name"]}\\n{each["kind"]}"];'
    for each in steps:
        yield from (f"    {name} -> {each['name']};" for name in each["reads"])
        yield from (f"    {name} -> {each['name']} [style=dashed];" for name in each["after"])
    yield "}"


DRAWN: Final[Mapping[Format, Callable[[str, Steps], Iterator[str]]]] = {
    Format.TEXT: _text,
    Format.MERMAID: _mermaid,
    Format.DOT: _dot,
}
