"""Text from outside, fit for a screen: whatever can steer a terminal or hide in a line is written as an escape.

Ids of items, replies, reasons, tags and error texts are chosen by callers and services. Printed raw, they can clear a
screen, retitle a window, reverse a line (bidi controls) or forge further lines. Every text for a terminal goes through
`visible`, every JSON text through `visible_json`. Both leave harmless text as it is, and a second pass changes nothing.
"""

import re
from typing import Final
from unicodedata import category, east_asian_width

MARKS_MAX: Final = 4
"""Combining marks on one character; no script stacks more, and a pile of them covers the lines above."""

_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters that Unicode calls printable and that show nothing."""

_SHORT: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_MARKS: Final = frozenset({"Mn", "Me"})
_PLAIN: Final = re.compile(r"[ -~]*")
_PLAIN_LINES: Final = re.compile(r"[ -~\n]*")


def visible(text: str, *, lines: bool = False) -> str:
    r"""The text with controls, bidi and zero-width characters as `\x1b`, `\u202e`; `lines` keeps line ends."""
    if (_PLAIN_LINES if lines else _PLAIN).fullmatch(text):
        return text
    found: list[str] = []
    marks = MARKS_MAX  # at the beginning of a text a mark would sit on what stands before it
    for each in text:
        if each == "\n" and lines:
            found.append(each)
            marks = MARKS_MAX
        elif _is_mark(each):
            marks += 1
            found.append(each if marks <= MARKS_MAX and each not in _BLANK and not _selects(each) else _escape(each))
        else:
            shows = each.isprintable() and each not in _BLANK
            found.append(each if shows else _SHORT.get(each) or _escape(each))
            marks = 0 if shows and each != " " else MARKS_MAX
    return "".join(found)


def visible_json(text: str) -> str:
    r"""JSON text whose strings hold nothing that steers a terminal: the same value, with `\u` escapes."""
    if _PLAIN_LINES.fullmatch(text):
        return text
    return "".join(each if each == "\n" or _is_harmless(each) else _json_escape(each) for each in text)


def width(text: str) -> int:
    """Columns that a visible text takes: wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def cut(text: str, columns: int) -> str:
    """As much of a visible text as these columns hold."""
    if text.isascii():
        return text[:columns]
    taken = 0
    for index, each in enumerate(text):
        taken += _columns(each)
        if taken > columns:
            return text[:index]
    return text


def padded(text: str, columns: int) -> str:
    """A visible text with spaces up to this width."""
    return text + " " * (columns - width(text))


def _columns(each: str) -> int:
    if _is_mark(each):
        return 0
    return 2 if east_asian_width(each) in {"W", "F"} else 1


def _is_mark(each: str) -> bool:
    return category(each) in _MARKS


def _is_harmless(each: str) -> bool:
    return each.isprintable() and each not in _BLANK and not _is_mark(each)


def _selects(each: str) -> bool:
    """A variation selector, which shows nothing itself."""
    return "\ufe00" <= each <= "\ufe0f" or "\U000e0100" <= each <= "\U000e01ef"


def _escape(each: str) -> str:
    code = ord(each)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(each: str) -> str:
    code = ord(each)
    if code < 0x10000:
        return f"\\u{code:04x}"
    units = each.encode("utf-16-be")
    return f"\\u{units[:2].hex()}\\u{units[2:].hex()}"
