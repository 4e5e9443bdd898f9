"""Columns that line up, and lines that fit."""

from collections.abc import Iterable, Iterator, Sequence

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def aligned(rows: Sequence[Sequence[str]], *, indent: str = "", gaps: Sequence[int] = (3,)) -> Iterator[str]:
    """The rows as lines with their columns aligned; `gaps` are the spaces after each column, the last one repeated."""
    columns = max((len(row) for row in rows), default=0)
    spaces = [gaps[min(index, len(gaps) - 1)] for index in range(columns)]
    widths = [max(len(row[index]) for row in rows if index < len(row)) for index in range(columns)]
    for row in rows:
        cells = (cell.ljust(widths[index] + spaces[index]) for index, cell in enumerate(row))
        yield f"{indent}{''.join(cells)}".rstrip()


def fitted(lines: Iterable[str], width: int | None) -> Iterator[str]:
    """The lines, cut where a terminal ends; as they are where there is none."""
    for line in lines:
        yield line if width is None or len(line) <= width else line[: width - 1] + ELLIPSIS


def counted(number: int, word: str) -> str:
    """`1 attempt`, `2 attempts`."""
    return f"{number} {word}{'' if number == 1 else 's'}"
