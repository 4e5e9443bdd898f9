"""`saga=place-order step=ship phase=action`: which runs are meant, in one line, for people and programs alike.

What the log can find by an index it is asked for; the rest is looked for in the rows that come.
"""

import asyncio
import shlex
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from amends.core.run.record import RunState
from amends.core.words.errors import AmendsError, LogTooSlow
from amends.core.words.keys import Phase
from amends.core.words.limits import TAG_CHARACTERS_MAX, TAGS_MAX
from amends.ports.log import Find, LogReader, StoredRun
from amends.ports.rows import RUN_PHASE
from amends.views.run import StuckRow, marks_of

PAGE: Final = 500
"""Rows asked of the log at a time."""


WHERE_CHARACTERS_MAX: Final = 8_192
"""Of the text: room for as many tags as a run may have, each as long as it may be."""

WALK_SECONDS: Final = 10.0
"""How long pages are looked through in which too little is meant, before that is given up."""

SHOWN: Final = 80
"""Characters of a text that a message repeats."""


class BadWhere(AmendsError):
    """The text isn't a list of conditions; the message says what is wrong and what there is."""


class WhereTooMuch(BadWhere):
    """The text is longer than it may be, or names more tags than a run can have."""


@dataclass(frozen=True, slots=True)
class Where:
    """Which runs: what the log is asked, and what a mark of a stuck run must be. `sagas`: none but these."""

    find: Find = field(default_factory=Find)
    phase: str | None = None
    reason: str | None = None
    code: str | None = None
    sagas: Collection[str] | None = None

    def matches(self, row: StoredRun) -> bool:
        """Whether a row that the log found is meant."""
        if self.sagas is not None and row.saga not in self.sagas:
            return False
        if self.phase is None and self.reason is None and self.code is None:
            return True
        return any(self.means(mark) for mark in marks_of(row))

    def means(self, mark: StuckRow) -> bool:
        """Whether a reason to be stuck is one of those meant."""
        step, wanted = mark.step, self.find.step
        return (
            (wanted is None or wanted in {step, step.partition("/")[0]})
            and self.phase in {None, mark.phase}
            and self.reason in {None, mark.reason}
            and self.code in {None, mark.code}
        )


def parse(text: str) -> Where:
    """The conditions in a text: `saga version state step phase reason code tag.NAME`, each `name=value`."""
    if len(text) > WHERE_CHARACTERS_MAX:
        msg = f"{len(text):,} characters of conditions; the limit is {WHERE_CHARACTERS_MAX:,}."
        raise WhereTooMuch(msg)
    try:
        words = shlex.split(text)
    except ValueError as error:
        msg = f"{text[:SHOWN]!r}: {error}."
        raise BadWhere(msg) from error
    where = Where()
    seen: set[str] = set()
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value:
            msg = f"{word[:SHOWN]!r} is no condition: expected name=value, as saga=place-order. Names: {_NAMES}."
            raise BadWhere(msg)
        if name in seen:
            msg = f"{name[:SHOWN]} is said twice."
            raise BadWhere(msg)
        seen.add(name)
        where = _with(where, name, value)
    check_tags(where.find.tags)
    return where


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse more tags than a run can have, and longer ones: each is looked for by itself, and no run has them all."""
    if len(tags) > TAGS_MAX:
        msg = f"{len(tags)} tags; a run has {TAGS_MAX} at the most."
        raise WhereTooMuch(msg)
    for name, value in tags.items():
        if max(len(name), len(value)) > TAG_CHARACTERS_MAX:
            msg = f"tag {name[:SHOWN]}: names and values of tags have {TAG_CHARACTERS_MAX} characters at the most."
            raise WhereTooMuch(msg)


def _with(where: Where, name: str, value: str) -> Where:
    tag = name.removeprefix("tag.")
    if tag != name and tag:
        return replace(where, find=replace(where.find, tags={**where.find.tags, tag: value}))
    try:
        return _CONDITIONS[name](where, value)
    except KeyError:
        msg = f"nothing is known by {name[:SHOWN]!r}. Names: {_NAMES}."
        raise BadWhere(msg) from None


def _state(where: Where, value: str) -> Where:
    states = tuple(dict.fromkeys(value.split(",")))
    known = [each.value for each in RunState]
    unknown = [each for each in states if each not in known]
    if unknown:
        msg = f"{unknown[0][:SHOWN]!r} is no state. States: {', '.join(known)}."
        raise BadWhere(msg)
    return replace(where, find=replace(where.find, states=states))


def _version(where: Where, value: str) -> Where:
    if not value.isascii() or not value.isdecimal() or len(value) > 9:
        msg = f"version={value[:SHOWN]}: expected a number."
        raise BadWhere(msg)
    return replace(where, find=replace(where.find, saga_version=int(value)))


def _phase(where: Where, value: str) -> Where:
    known = [*(each.value for each in Phase), RUN_PHASE]
    if value not in known:
        msg = f"{value[:SHOWN]!r} is no phase. Phases: {', '.join(known)}."
        raise BadWhere(msg)
    return replace(where, phase=value)


_CONDITIONS: Final[Mapping[str, Callable[[Where, str], Where]]] = {
    "saga": lambda where, value: replace(where, find=replace(where.find, saga=value)),
    "version": _version,
    "state": _state,
    "step": lambda where, value: replace(where, find=replace(where.find, step=value)),
    "phase": _phase,
    "reason": lambda where, value: replace(where, reason=value),
    "code": lambda where, value: replace(where, code=value),
}
_NAMES: Final = ", ".join([*_CONDITIONS, "tag.NAME"])


async def find_rows(log: LogReader, where: Where, *, after: tuple[int, str] | None = None) -> AsyncGenerator[StoredRun]:
    """Every row that is meant, newest first, asked for page by page. What the log can't find by an index is looked for
    in every page; `LogTooSlow` where that takes too long.
    """
    clock = asyncio.get_running_loop()
    until = clock.time() + WALK_SECONDS
    looked_at = 0
    while True:
        page = await log.find(replace(where.find, limit=PAGE, after=after))
        looked_at += len(page)
        for row in page:
            if where.matches(row):
                yield row
        if len(page) < PAGE:
            return
        if clock.time() > until:
            msg = f"a list was given up after {WALK_SECONDS:g} s and {looked_at:,} runs."
            raise LogTooSlow(msg)
        after = (page[-1].created_at, page[-1].run)
