"""The measurable part of the project's language: subjects are nouns, and terms are the field's.

Prose is what people read: pages without code, docstrings and comments. A pronoun as a subject ("who leaves forgets")
makes a reader look for the thing that acts. A page or a package may have one in a thousand words, or one in all.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.docs.collect import PROJECT

WORDS: Final = ("who", "whom", "whoever", "somebody", "someone", "nobody", "no one", "anybody", "anyone", "everybody")
PRONOUN: Final = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)
PER_WORDS: Final = 1_000
PACKAGE: Final = PROJECT / "src" / "amends"


def prose_of_page(path: Path) -> str:
    text = re.sub(r"```.*?```", " ", path.read_text("utf-8"), flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", " ", text, flags=re.DOTALL)
    return re.sub(r"`[^`]*`", " ", text)


def prose_of_module(path: Path) -> str:
    """Docstrings, also those of fields, and comments that aren't for tools."""
    text = path.read_text("utf-8")
    found = [
        node.value.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found += [token.string for token in tokens if token.type == tokenize.COMMENT]
    return re.sub(r"`[^`]*`", " ", "\n".join(found))


def pages() -> Iterator[Path]:
    for pattern in ("*.md", "docs/**/*.md", "bench/*.md", "changelog.d/*.md"):
        yield from sorted(PROJECT.glob(pattern))


def counted() -> dict[str, tuple[int, int]]:
    """Pronouns and words: of each page, and of each package. The fragments of the changelog count as one page."""
    found: dict[str, tuple[int, int]] = {}
    for path in pages():
        relative = path.relative_to(PROJECT)
        name = "changelog.d" if relative.parts[0] == "changelog.d" else relative.as_posix()
        add(found, name, prose_of_page(path))
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        add(found, "src/amends" if len(parts) == 1 else f"src/amends/{parts[0]}", prose_of_module(path))
    return found


def add(found: dict[str, tuple[int, int]], name: str, prose: str) -> None:
    pronouns, words = found.get(name, (0, 0))
    found[name] = (pronouns + len(PRONOUN.findall(prose)), words + len(re.findall(r"[A-Za-z']+", prose)))


COUNTED: Final = counted()


@pytest.mark.parametrize("name", COUNTED)
def test_subjects_are_nouns(name: str) -> None:
    pronouns, words = COUNTED[name]
    assert pronouns <= max(1, words // PER_WORDS), (
        f"{name}: {pronouns} of {words} words are pronouns; name the thing that acts"
    )


def test_a_pronoun_in_code_is_no_prose(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("A worker `nobody` claims.\n\n```text\nwho\n```\n<!-- nobody -->\nNobody writes.\n")
    module = tmp_path / "module.py"
    module.write_text('"""Somebody asks."""\nwho = "nobody"  # whoever reads\n')
    assert PRONOUN.findall(prose_of_page(page)) == ["Nobody"]
    assert PRONOUN.findall(prose_of_module(module)) == ["Somebody", "whoever"]
