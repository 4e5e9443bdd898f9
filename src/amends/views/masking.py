"""Texts of which hidden values are taken out: a service may repeat in an error what it was sent or had answered.

A text is read once, however many values are hidden: at each place the text is looked up in the lengths of values that
begin as it does there. A value is looked for as it is and as JSON, URLs and Python would quote it, in any case. One of
fewer than `LETTERS_MIN` characters must stand by itself there, since it is part of other words by chance.

A value can only be looked for once it is known. An error may come after the work was done and quote a reply that never
arrived. While such a reply is missing and its type hides something, words of services are left out.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

HIDDEN: Final = "***"

LETTERS_MIN: Final = 4
"""From this length on a hidden value is taken out wherever it stands."""

_CUT: Final = "\N{HORIZONTAL ELLIPSIS}"
"""How a text ends that was too long: the part of a value before it is taken out as well."""


_OURS: Final = re.compile(
    r"(?P<kept>\d{3}(?: from \S+?)?(?:, without Saga-Outcome: not from the barrier)?)(?P<words>: .*)?"
    r"|no (?:answer from|connection to) \S+?(?: within .*|: .*)",
    re.DOTALL,
)
"""Texts of an attempt that `core.answers` and the transports write; what a service said stands behind a status."""

_REASON: Final = re.compile(
    r"(?P<kept>\S+ (?:said no|failed|did not answer|could not be reached))(?P<words>: .*)", re.DOTALL
)


class Mask:
    """Texts without these values."""

    def __init__(self, secrets: Iterable[str] = (), *, knows_all: bool = True) -> None:
        self._knows_all = knows_all
        self._forms = frozenset(form for each in secrets for form in _forms(each))
        self._sorted = sorted(self._forms)
        lengths: dict[str, set[int]] = {}
        for form in self._forms:
            lengths.setdefault(form[:LETTERS_MIN], set()).add(len(form))
        self._begin = {head: sorted(each, reverse=True) for head, each in lengths.items()}
        self._heads = sorted({len(each) for each in self._begin}, reverse=True)

    def text(self, told: str) -> str:
        """The text as it may be shown."""
        if not self._knows_all and (reason := _REASON.fullmatch(told)):
            told = f"{reason['kept']}: {self.said(reason['words'].removeprefix(': '))}"
        if not self._begin:
            return told
        plain = _lower(told)
        found: list[str] = []
        at = 0
        while at < len(told):
            length = self._found(plain, at)
            found.append(HIDDEN if length else told[at])
            at += length or 1
        return "".join(found)

    def maybe(self, told: str | None) -> str | None:
        """The same where there may be none; an empty one is none."""
        return self.text(told) if told else None

    def said(self, told: str | None) -> str | None:
        """A text that may be a service's own words, or those of code that was given what is hidden."""
        if told and not self._knows_all:
            ours = _OURS.fullmatch(told)
            told = HIDDEN if ours is None else f"{ours['kept']}: {HIDDEN}" if ours["words"] else told
        return self.maybe(told)

    def _found(self, plain: str, at: int) -> int:
        """How many characters from here on are a hidden value."""
        for head in self._heads:
            for length in self._begin.get(plain[at : at + head], ()):  # the longest first: one may begin with another
                if plain[at : at + length] in self._forms and (
                    length >= LETTERS_MIN or _stands_alone(plain, at, at + length)
                ):
                    return length
        if plain.endswith(_CUT) and plain[at : at + LETTERS_MIN] in self._begin:
            rest = plain[at:-1]
            after = bisect_left(self._sorted, rest)
            if after < len(self._sorted) and self._sorted[after].startswith(rest):
                return len(rest)
        return 0


NOTHING_HIDDEN: Final = Mask()


def _forms(secret: str) -> Iterable[str]:
    stripped = secret.strip()
    if not stripped or (len(stripped) < LETTERS_MIN and not any(each.isalnum() for each in stripped)):
        return
    one_line = "".join(each if each.isprintable() else " " for each in stripped)
    quoted = (json.dumps(stripped)[1:-1], json.dumps(stripped, ensure_ascii=False)[1:-1], repr(stripped)[1:-1])
    for each in (
        stripped,
        one_line,
        *quoted,
        quote(stripped, errors="replace"),
        quote(stripped, safe="", errors="replace"),
    ):
        yield _lower(each)


def _lower(text: str) -> str:
    """In lower case, character by character: places stay what they are."""
    if text.isascii():
        return text.lower()
    return "".join(low if len(low := each.lower()) == 1 else each for each in text)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether it is no part of a word, of a number with a point, or of an address."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if before[-1:].isalnum() or after[:1].isalnum():
        return False
    return not (before[-1:] == "." and before[:1].isdigit()) and not (after[:1] == "." and after[1:].isdigit())
