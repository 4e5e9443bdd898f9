"""How commands talk: aligned text for people, one JSON value for programs. All output of a command leaves here.

On a terminal lines of tables are cut where it ends and what matters has a colour; into a pipe goes plain text, whole.
Whatever others put into runs is escaped on its way (`core.visible`): no text of theirs steers a terminal or forges a
line.
"""

import shutil
import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from amends.core.words.visible import visible, visible_json

Json = Annotated[bool, typer.Option("--json", help="Say it as JSON.")]


def as_json(value: object) -> None:
    """One JSON value on one line."""
    import msgspec

    json_text(msgspec.json.encode(value).decode())


def json_text(text: str) -> None:
    """JSON that is written already."""
    print(visible_json(text), flush=True)


def tell(told: str, *, error: bool = False) -> None:
    """A text of one or several lines, to the standard output or error."""
    print(visible(told, lines=True), file=sys.stderr if error else sys.stdout, flush=True)


def on_terminal() -> bool:
    """Whether a person reads this."""
    return sys.stdout.isatty()


def terminal_width() -> int | None:
    """Where lines end; `None` into a pipe."""
    return shutil.get_terminal_size().columns if on_terminal() else None


def say(lines: Iterable[str], *, table: bool = False) -> None:
    """Print lines. Those of a table are cut where the terminal ends; others may go on in the next row."""
    from amends.cli.texts.tables import fitted

    width = terminal_width()
    for line in fitted(lines, width if table else None):
        print(line if width is None else _coloured(line))
    sys.stdout.flush()


def paint(before: str, lines: Iterable[str], *, rows: int, columns: int, end: str = "") -> None:
    """A whole screen, after the sequence that makes room for it."""
    from amends.cli.texts.tables import fitted

    shown = [_coloured(each) for each in fitted(list(lines)[:rows], columns)]
    sys.stdout.write(before + "\n".join(shown) + end)
    sys.stdout.flush()


def _coloured(line: str) -> str:
    from amends.cli.colours import painted

    return painted(line)
