"""No text from outside steers a terminal, hides in a line or forges another one."""

import json
import unicodedata
from itertools import chain

import pytest

from amends.cli.texts.tables import aligned, fitted
from amends.core.words.visible import MARKS_MAX, cut, padded, visible, visible_json, width

_RANGES = [(0, 0x20), (0x7F, 0xA0), (0x200B, 0x2010), (0x2028, 0x202F), (0x2060, 0x2070), (0xFE00, 0xFE10)]
STEERS = [
    *(chr(code) for code in chain.from_iterable(range(*each) for each in [*_RANGES, (0xE0000, 0xE0080)])),
    *("\u034f", "\u061c", "\u115f", "\u2800", "\u3164", "\ufeff", "\uffa0", "\ud800", "\U000e0100"),
]


@pytest.mark.parametrize("each", STEERS, ids=ascii)
def test_what_steers_or_hides_is_shown_as_an_escape(each: str) -> None:
    shown = visible(f"a{each}b")
    assert shown.isprintable()
    assert each not in shown
    assert shown.startswith("a\\")
    assert visible(shown) == shown


def test_every_character_of_unicode_is_printable_afterwards() -> None:
    whole = "".join(map(chr, range(0x110000)))
    assert visible(whole).isprintable()
    whole = "".join(each for each in whole if not "\ud800" <= each <= "\udfff")  # two of them would be one in JSON
    assert json.loads(visible_json(json.dumps(whole, ensure_ascii=False))) == whole
    assert visible_json(json.dumps(whole, ensure_ascii=False)).isprintable()


def test_ordinary_text_of_any_script_stays() -> None:
    for text in ("place-order v2", "Größe", "日本語", "עברית", "हिन्दी", "e\u0301te\u0301", "😀", r"C:\new"):
        assert visible(text) == text
    assert visible("two\nlines", lines=True) == "two\nlines"
    assert visible("two\nlines") == r"two\nlines"


def test_marks_neither_pile_up_nor_sit_on_what_stands_before_the_text() -> None:
    piled = visible("a" + "\u0301" * 50)
    assert sum(unicodedata.category(each) == "Mn" for each in piled) == MARKS_MAX
    assert visible("\u0301a") == r"\u0301a"
    assert visible("a\n\u0301b", lines=True) == "a\n\\u0301b"


def test_json_keeps_its_lines_and_its_value() -> None:
    told = json.dumps({"a": "\x9b\u202e\U000e0041é"}, ensure_ascii=False, indent=2)
    shown = visible_json(told)
    assert json.loads(shown) == json.loads(told)
    assert "\\u009b\\u202e\\udb40\\udc41é" in shown
    assert shown.count("\n") == told.count("\n")


def test_columns_count_what_a_character_takes_on_a_screen() -> None:
    assert [width(each) for each in ("ab", "日本", "e\u0301", "😀")] == [2, 4, 1, 2]
    assert cut("日本語", 5) == "日本"
    assert cut("e\u0301e\u0301", 1) == "e\u0301"
    assert padded("日", 4) == "日  "
    first, second = aligned([("日本", "x"), ("a\n", "x")])
    assert width(first) == width(second)
    assert list(fitted(["日本語日本語", "a\nb"], 7)) == ["日本語…", r"a\nb"]
