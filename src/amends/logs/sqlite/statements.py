"""The statements of `queries.sql`, by name, read once. Each begins with `-- name: ...` and says what it is for."""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Final

CHUNKS: Final = (64, 32, 16, 8, 4, 2, 1)


def statements(text: str) -> dict[str, str]:
    """Take a file of named statements apart; comments and the final semicolon go."""
    found: dict[str, str] = {}
    for block in text.split("-- name: ")[1:]:
        name, _, body = block.partition("\n")
        lines = [line for line in body.splitlines() if line and not line.startswith("--")]
        assert name not in found, f"two statements are called {name}"
        assert body.startswith("-- "), f"statement {name} doesn't say what it is for"
        found[name] = re.sub(r"\s+", " ", " ".join(lines)).strip().removesuffix(";")
    return found


def repeated(statement: str, place: str, row: str) -> dict[int, str]:
    """A statement for so many rows at once, by how many; `chunks` takes any number apart into these."""
    return {size: statement.replace(place, ", ".join([row] * size)) for size in CHUNKS}


def chunks(count: int) -> Iterator[tuple[int, int]]:
    """Where each chunk begins and how many rows it has: few sizes, so that every statement is prepared once."""
    begin = 0
    for size in CHUNKS:
        while count - begin >= size:
            yield begin, size
            begin += size


def resource(name: str) -> str:
    """A file of this package."""
    return files("amends.logs.sqlite").joinpath(name).read_text("utf-8")


SQL = statements(resource("queries.sql"))
SCHEMA = resource("schema.sql")
DERIVED = tuple(re.findall(r"^(CREATE (?:INDEX|VIEW)[^;]+);", SCHEMA, re.MULTILINE))
"""Indexes and views: what can be made anew from the tables at any time."""
