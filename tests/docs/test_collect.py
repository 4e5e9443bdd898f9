"""The collector refuses what nobody can check, and the comparison what differs; else every page would pass."""

import subprocess
from pathlib import Path

import pytest

from tests.docs.collect import Unchecked, blocks
from tests.docs.playing import aside, commands, matches, play

PAGE = Path("page.md")


def collected(text: str) -> list[tuple[str, str, str]]:
    return [(each.how, each.what, each.text) for each in blocks(PAGE, text)]


def test_python_names_its_file() -> None:
    assert collected("# x\n\n```python\n# file: a.py\nb = 1\n```\n") == [("file", "a.py", "# file: a.py\nb = 1")]


def test_a_comment_says_how() -> None:
    page = "<!-- check: output of python a.py -->\n```text\nhello\n```\n\n<!-- check: run -->\n\n```console\n$ x\n```\n"
    assert collected(page) == [("output of", "python a.py", "hello"), ("run", "", "$ x")]


def test_a_block_in_a_list_loses_its_indent() -> None:
    assert collected("1. so:\n\n   ```json\n   {}\n   ```\n") == [("json", "", "{}")]


@pytest.mark.parametrize(
    "page",
    [
        "```python\na = 1\n```\n",
        "```text\nhello\n```\n",
        "```\nhello\n```\n",
        "```console\n$ ls\n```\n",
        "```sql\nselect 1\n```\n",
        "```toml\na = 1\n```\n",
        "<!-- check: by eye -->\n```text\nhello\n```\n",
        "<!-- check: runs -->\n```console\n$ ls\n```\n",
        "<!-- check: run -->\n```text\n$ ls\n```\n",
        "<!-- check: not run, no -->\n```console\n$ ls\n```\n",
        "<!-- check: run -->\nwords between\n```console\n$ ls\n```\n",
        "```json\n{}\n",
    ],
)
def test_what_nobody_can_check_is_refused(page: str) -> None:
    with pytest.raises(Unchecked, match=r"page\.md:\d"):
        collected(page)


def test_one_comment_is_for_one_block() -> None:
    with pytest.raises(Unchecked):
        collected("<!-- check: output of x -->\n```text\na\n```\n```text\nb\n```\n")


def test_commands_go_on_in_the_next_line_as_they_stand() -> None:
    """Pasted into a shell, a backslash within quotes is part of the text: it must not be mended on the way."""
    assert list(commands("$ a \\\n    b\nsaid\nmore\n$ c")) == [("a \\\n    b", "said\nmore"), ("c", "")]
    assert list(commands("$ a '{\n  b}' | c\nsaid\n$ it's\n' d\nmore")) == [
        ("a '{\n  b}' | c", "said"),
        ("it's\n' d", "more"),
    ]
    (broken,) = commands("$ printf %s '{ \\\n }'\nsaid")
    assert subprocess.run(["sh", "-c", broken[0]], capture_output=True, check=True).stdout == b"{ \\\n }"


@pytest.mark.parametrize(
    ("said", "printed", "is_it"),
    [
        ("a", "a", True),
        ("a", "a\nb", False),
        ("a\n...", "a\nb\nc", True),
        ("...\nc", "a\nb\nc", True),
        ("a ... c", "a b c", True),
        ("a ... c", "a b d", False),
        ("a.c", "abc", False),
        ("at 2026-03-02 03:00:00 UTC", "at 2031-01-01 13:10:07 UTC", True),
        ("at 2026-03-02T03:00:00Z", "at noon", False),
        ("127.0.0.1:8700", "127.0.0.1:40101", True),
    ],
)
def test_output_is_compared_but_for_what_is_left_open(said: str, printed: str, *, is_it: bool) -> None:
    assert matches(aside(said), aside(printed)) is is_it


@pytest.mark.parametrize(
    "page",
    [
        "<!-- check: output of echo a -->\n```text\nb\n```\n",
        "<!-- check: run -->\n```console\n$ echo a\nb\n```\n",
        "<!-- check: run -->\n```console\n$ false\n```\n",
        "<!-- check: excerpt of README.md -->\n```text\nthis sentence stands nowhere else\n```\n",
        "```mermaid\npoem\n```\n",
    ],
)
def test_a_page_that_is_wrong_fails(page: str, tmp_path: Path) -> None:
    (block,) = blocks(PAGE, page)
    with pytest.raises(AssertionError, match=r"page\.md:\d"):
        play(block, tmp_path)


def test_json_that_does_not_parse_fails(tmp_path: Path) -> None:
    (block,) = blocks(PAGE, "```json\n{a: 1}\n```\n")
    with pytest.raises(ValueError, match="property name"):
        play(block, tmp_path)
