"""Columns that line up, and lines that fit. Every cell and line is made visible here: see `core.visible`."""

from collections.abc import Iterable, Iterator, Sequence

from amends.core.words.visible import cut, padded, visible, width

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def aligned(rows: Sequence[Sequence[str]], *, indent: str = "", gaps: Sequence[int] = (3,)) -> Iterator[str]:
    """The rows as lines with their columns aligned; `gaps` are the spaces after each column, the last one repeated."""
    shown = [[visible(cell) for cell in row] for row in rows]
    columns = max((len(row) for row in shown), default=0)
    spaces = [gaps[min(index, len(gaps) - 1)] for index in range(columns)]
    widths = [max(width(row[index]) for row in shown if index < len(row)) for index in range(columns)]
    for row in shown:
        cells = (padded(cell, widths[index] + spaces[index]) for index, cell in enumerate(row))
        yield f"{indent}{''.join(cells)}".rstrip()


def fitted(lines: Iterable[str], columns: int | None) -> Iterator[str]:
    """The lines, each fit for one row of a screen, cut where a terminal ends; whole where there is none."""
    for each in lines:
        line = visible(each)
        yield line if columns is None or width(line) <= columns else cut(line, columns - 1) + ELLIPSIS


def counted(number: int, word: str) -> str:
    """`1 attempt`, `2 attempts`."""
    return f"{number} {word}{'' if number == 1 else 's'}"
