"""How commands talk: aligned text for people, one JSON value for programs.

On a terminal lines of tables are cut where it ends and what matters has a colour; into a pipe goes plain text, whole.
"""

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Say it as JSON.")]


def as_json(value: object) -> None:
    """One JSON value on one line."""
    import msgspec

    print(msgspec.json.encode(value).decode(), flush=True)


def columns(rows: Sequence[Sequence[str]], *, indent: str = "", gap: int = 3) -> Iterator[str]:
    """The rows as lines with their columns aligned."""
    widths = [max(len(each) for each in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width + gap) for cell, width in zip(row, widths, strict=True))
        yield f"{indent}{''.join(cells)}".rstrip()


def on_terminal() -> bool:
    """Whether a person reads this."""
    return sys.stdout.isatty()


def terminal_width() -> int | None:
    """Where lines end; `None` into a pipe."""
    return shutil.get_terminal_size().columns if on_terminal() else None


def say(lines: Iterable[str], *, table: bool = False) -> None:
    """Print lines. Those of a table are cut where the terminal ends; others may go on in the next row."""
    from amends.cli.colours import painted
    from amends.cli.texts.tables import fitted

    width = terminal_width()
    for line in fitted(lines, width) if table else lines:
        print(line if width is None else painted(line))
    sys.stdout.flush()
