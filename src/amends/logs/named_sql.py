"""Files of named statements. Each begins with `-- name: ...`, and its next line says what it is for."""

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


def resource(package: str, name: str) -> str:
    """A file of a package."""
    return files(package).joinpath(name).read_text("utf-8")
