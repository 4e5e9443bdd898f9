"""How commands talk: aligned text for people, one JSON value for programs."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Say it as JSON.")]


def as_json(value: object) -> None:
    """One JSON value on one line."""
    import msgspec

    print(msgspec.json.encode(value).decode())


def columns(rows: Sequence[Sequence[str]], *, indent: str = "", gap: int = 3) -> Iterator[str]:
    """The rows as lines with their columns aligned."""
    widths = [max(len(each) for each in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width + gap) for cell, width in zip(row, widths, strict=True))
        yield f"{indent}{''.join(cells)}".rstrip()
