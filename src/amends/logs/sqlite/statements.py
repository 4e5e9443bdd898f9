"""The statements of `queries.sql`, by name, read once. Each begins with `-- name: ...` and says what it is for."""

import re
from importlib.resources import files


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


def resource(name: str) -> str:
    """A file of this package."""
    return files("amends.logs.sqlite").joinpath(name).read_text("utf-8")


SQL = statements(resource("queries.sql"))
SCHEMA = resource("schema.sql")
