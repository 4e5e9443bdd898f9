"""Finds every fenced block in the pages and how it is to be checked; a block that nobody can check is an error.

A block says it in one of two ways. Python names its file in its first line:

    # file: trip.py

and is written beside the page's other files and type-checked. Anything else has a comment on the line above it:

    <!-- check: output of python trip.py -->     text: what the command prints
    <!-- check: run -->                          console: each `$ ` line is run, what follows is what it prints
    <!-- check: served by amends serve trip -->  console: the same while that command serves; 8700 is its port
    <!-- check: rows of trips.db -->             sql: runs read-only, and finds something; with `-- ` lines: just that
    <!-- check: excerpt of CONTRIBUTING.md -->   any: stands in that file of the repository, word for word
    <!-- check: not run, REASON -->              any: for what can't be; the reason is for the reader of the source

JSON must parse and Mermaid name its kind of diagram; they need no comment. In expected output `...` stands for the
rest of a line, alone on a line for any lines; times and ports of this machine are put aside.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w-]*)\s*$")
CHECK = re.compile(r"<!-- check: (?P<how>.+?) -->")
FILE = re.compile(r"# file: (?P<name>[\w./-]+\.py)$")
HOWS = {
    "output of": {"text"},
    "run": {"console"},
    "served by": {"console"},
    "rows of": {"sql"},
    "excerpt of": {"text", "sql", "python", "console"},
    "not run,": {"text", "console", "sql"},
}
REASON_MIN = 10


class Unchecked(Exception):
    """A block that says nothing, or nothing known, about how it is to be checked."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `how` is a word of `HOWS`, `file`, `json` or `mermaid`; `what` is what it says beside that."""

    page: Path
    line: int
    language: str
    how: str
    what: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page of the documentation."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def blocks(page: Path, text: str) -> Iterator[Block]:
    """The blocks of a page in their order; `Unchecked` names the first that can't be checked."""
    lines = text.split("\n")
    number = 0
    above = ""
    while number < len(lines):
        opened = FENCE.match(lines[number])
        if opened is None:
            above = lines[number] or above
            number += 1
            continue
        first = number + 1
        closing = opened["indent"] + opened["ticks"]
        while number + 1 < len(lines) and lines[number + 1].rstrip() != closing:
            number += 1
        if number + 1 == len(lines):
            raise Unchecked(f"{page}:{first}: the block has no end")
        body = "\n".join(each.removeprefix(opened["indent"]) for each in lines[first : number + 1])
        yield classified(page, first, opened["language"], above.strip(), body)
        above = ""
        number += 2


def classified(page: Path, line: int, language: str, above: str, body: str) -> Block:
    said = CHECK.fullmatch(above)
    if said is not None:
        how = next((each for each in HOWS if said["how"] == each or said["how"].startswith(f"{each} ")), None)
        if how is None or language not in HOWS[how]:
            raise Unchecked(f"{page}:{line}: a {language or 'nameless'} block can't be checked by {said['how']!r}")
        what = said["how"].removeprefix(how).strip()
        if how == "not run," and len(what) < REASON_MIN:
            raise Unchecked(f"{page}:{line}: say why it isn't run")
        return Block(page, line, language, how, what, body)
    if language == "python":
        named = FILE.match(body.partition("\n")[0])
        if named is not None:
            return Block(page, line, language, "file", named["name"], body)
        raise Unchecked(f"{page}:{line}: Python needs '# file: name.py' in its first line")
    if language in {"json", "mermaid"}:
        return Block(page, line, language, language, "", body)
    raise Unchecked(f"{page}:{line}: a {language or 'nameless'} block needs '<!-- check: ... -->' above it")
