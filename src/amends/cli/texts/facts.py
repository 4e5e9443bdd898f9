"""A run's history as the API gives it, and how its facts are told."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

import msgspec

from amends.cli.texts.tables import aligned
from amends.cli.texts.times import clock, minute
from amends.core.words.keys import Phase, decode_item, make_key, unit_name
from amends.core.words.reasons import StuckReason
from amends.core.words.visible import padded, visible, width

SHOWN_MAX: Final = 72
"""Characters of a reply that are shown in a line."""

Body = Mapping[str, Any]


class Fact(msgspec.Struct, frozen=True):
    """One fact. `data` is what its kind says beside time and epoch."""

    version: int
    at: datetime
    kind: str
    data: Body
    epoch: int = 0

    def text(self, name: str) -> str:
        """A field that is text; `""` where there is none."""
        value = self.data.get(name)
        return value if isinstance(value, str) else ""

    def moment(self, name: str) -> datetime | None:
        """A field that is a time."""
        text = self.text(name)
        return datetime.fromisoformat(text) if text else None

    @property
    def step(self) -> str:
        """`reserve` or `reserve/sku-1`; `""` where it is of the run as a whole."""
        step = self.text("step")
        return unit_name(step, decode_item(self.text("item"))) if step else ""

    @property
    def who(self) -> Body:
        """The signature of the person behind it."""
        found: Body = self.data.get("who") or {}
        return found


class FactHistory:
    """The facts of one run, in order."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.facts = facts

    def last(self, kind: str, step: str | None = None, **fields: str) -> Fact | None:
        """The latest fact of this kind, of this step and with these fields."""
        for each in reversed(self.facts):
            if each.kind != kind or step not in {None, each.step}:
                continue
            if all(each.text(name) == value for name, value in fields.items()):
                return each
        return None

    def first(self, kind: str, step: str) -> Fact | None:
        """The earliest fact of this kind of this step; of an item also what is said of its step as a whole."""
        steps = {step, step.partition("/")[0]}
        return next((each for each in self.facts if each.kind == kind and each.step in steps), None)


# -- parts of texts


def quoted(code: str | None, detail: str | None) -> str:
    """`card-declined "Your card was declined"`."""
    said = f'"{detail}"' if detail and detail != code else ""
    return " ".join(part for part in (code, said) if part)


def shortly(value: object) -> str:
    """`id=r-8812` of a reply, as much as fits."""
    if isinstance(value, dict):
        named = cast("Body", value)
        text = ", ".join(f"{name}={_plain(each)}" for name, each in named.items())
    elif value is None:
        text = ""
    else:
        text = _plain(value)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "\N{HORIZONTAL ELLIPSIS}"


def named(reply: object) -> str:
    """`r-8812` of a reply that is a name, or holds nothing else; `""` of any other."""
    if isinstance(reply, dict):
        values = list(cast("Body", reply).values())
        reply = values[0] if len(values) == 1 else None
    return reply if isinstance(reply, str) else ""


def _plain(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def signed(who: Body) -> str:
    """`by ann: "put back by hand"`."""
    return f'by {name_of(who)}: "{who.get("reason", "")}"'


def name_of(who: Body) -> str:
    """The actor. Where the server can't tell callers apart, the name that it claimed; `(says: bo)` where it can."""
    by, claimed = who.get("by", "?"), who.get("claimed_by")
    if not claimed:
        return str(by)
    return str(claimed) if by in NAMELESS else f"{by} (says: {claimed})"


NAMELESS: Final = frozenset({"http", "embedded"})
"""Callers of a server without tokens, and of the process itself."""


# -- `show --events`


def event_lines(run: str, facts: Sequence[Fact], now: datetime) -> list[str]:
    """The history, a line per fact."""
    rows: list[tuple[str, str, str, str, str]] = []
    digits = len(str(len(facts)))
    for each in _with_hands(facts):
        for number, (step, what, detail) in enumerate(_told(run, each)):
            first = number == 0
            version = f"{each.version:>{digits}}" if first else ""
            at = clock(each.at, now, exactly=True) if first else ""
            rows.append((version, at, visible(step), what, detail))
    wide = max((width(step) for _, _, step, _, _ in rows if step), default=0)
    lines: list[tuple[str, str, str, str]] = []
    for version, at, step, what, detail in rows:
        lines.append((version, at, f"{padded(step, wide)}    {what}" if step else what, detail))
    return list(aligned(lines, indent=" ", gaps=(2, 2, 2)))


BY_HAND: Final = "by_hand"
"""Put beside an end's fields where a person had vouched for something before it."""


def _with_hands(facts: Sequence[Fact]) -> Iterator[Fact]:
    """The facts, and of the end whether a person had supplied one of them."""
    by_hand = False
    for each in facts:
        by_hand = by_hand or each.kind in {"Resolved", "Skipped"} or bool(each.data.get("fact"))
        ended = each.kind == "RunEnded" and by_hand
        yield msgspec.structs.replace(each, data={**each.data, BY_HAND: True}) if ended else each


OF_THE_RUN: Final = frozenset({"Aborted", "AbortRequested"})
"""Facts that name a step and are about the run."""

Told = tuple[str, str, str]
"""Step, what happened, and more about it."""


def _told(run: str, fact: Fact) -> Iterator[Told]:
    if fact.data.get(StuckReason.UNREADABLE):
        yield "", fact.kind, "can't be read"
        return
    if fact.kind == "ActionRequested":
        step = fact.text("step")
        for request in fact.data.get("requests", ()):
            item = request.get("item", "")
            key = make_key(run, step, item, Phase.ACTION)
            yield _action_asked(unit_name(step, decode_item(item)), key, request)
        return
    telling = TELLING.get(fact.kind)
    what, detail = telling(run, fact) if telling is not None else (fact.kind, "")
    yield "" if fact.kind in OF_THE_RUN else fact.step, what, detail


def _action_asked(name: str, key: str, request: Body) -> Told:
    match request.get("participant"):
        case "ask":
            return name, "asked", f'"{request.get("body", "")}"'
        case "sleep":
            return name, "sleeps", ""
        case _:
            return name, "action asked", f"key {key}"


def _key(run: str, fact: Fact) -> str:
    phase = Phase(fact.text("phase")) if fact.text("phase") else Phase.COMPENSATION
    return f"key {make_key(run, fact.text('step'), fact.text('item'), phase)}"


def _started(_: str, fact: Fact) -> tuple[str, str]:
    size = len(msgspec.json.encode(fact.data.get("input")))
    return "started", f"by {fact.text('by')}, input {size} bytes, digest {fact.text('digest')[:4]}"


def _failed(_: str, fact: Fact) -> tuple[str, str]:
    due = fact.moment("next_due")
    again = "; not again by itself" if due is None else f"; again at {clock(due, fact.at)}"
    what = {"action": "action failed", "compensation": "undo failed"}.get(fact.text("phase"), "asking failed")
    return what, f"{fact.text('detail') or fact.text('cause')}{again}"


def _marked(_: str, fact: Fact) -> tuple[str, str]:
    return "STUCK", f"{fact.text('reason')} {quoted(fact.text('code'), fact.text('detail'))}".rstrip()


def _undone(_: str, fact: Fact) -> tuple[str, str]:
    word = fact.text("word")
    return "undone", "" if word == "succeeded" else f"{word}: there was nothing to undo"


def _ended(_: str, fact: Fact) -> tuple[str, str]:
    left = fact.data.get("effects") or ()
    by_hand = ", by hand" if fact.data.get(BY_HAND) and not left else ""
    return "ended", f"{fact.text('state')}{by_hand}" + (f", left: {', '.join(left)}" if left else "")


def _settle(run: str, fact: Fact) -> tuple[str, str]:
    seal = fact.text("seal")
    return (
        "sealing" if fact.text("phase") == "seal" else "probing"
    ), f"{_key(run, fact)}{f', as {seal}' if seal else ''}"


def _answer_due(what: str) -> Callable[[str, Fact], tuple[str, str]]:
    def telling(_: str, fact: Fact) -> tuple[str, str]:
        due = fact.moment("answer_due")
        return what, "" if due is None else f"answer due {minute(due)}"

    return telling


def _of_person(what: Callable[[Fact], str]) -> Callable[[str, Fact], tuple[str, str]]:
    return lambda _, fact: (what(fact), signed(fact.who))


def _words(what: str, *fields: str) -> Callable[[str, Fact], tuple[str, str]]:
    return lambda _, fact: (what, " ".join(text for text in map(fact.text, fields) if text))


TELLING: Final[Mapping[str, Callable[[str, Fact], tuple[str, str]]]] = {
    "RunStarted": _started,
    "AttemptStarted": lambda run, fact: ("attempt begun", _key(run, fact)),
    "AttemptFailed": _failed,
    "ActionSucceeded": lambda _, fact: ("action done", shortly(fact.data.get("reply"))),
    "ActionRejected": lambda _, fact: ("action rejected", quoted(fact.text("code"), fact.text("detail"))),
    "ActionPending": _answer_due("taken on"),
    "ActionUnknown": _words("outcome unknown", "detail"),
    "SettleRequested": _settle,
    "Sealed": lambda _, fact: ("sealed", f"found: {fact.text('found')}"),
    "StepSkipped": lambda _, __: ("skipped", "its builder gave nothing to do"),
    "StepDeclined": lambda _, fact: ("declined", quoted(fact.text("code"), fact.text("detail"))),
    "BuildFailed": _words("not built", "error"),
    "CompensationRequested": lambda run, fact: ("undo asked", _key(run, fact)),
    "CompensationSucceeded": _undone,
    "CompensationPending": _answer_due("undo taken on"),
    "Marked": _marked,
    "Unmarked": lambda _, __: ("no longer stuck", ""),
    "Aborted": _words("turned back", "reason"),
    "AbortRequested": _words("asked to turn back", "reason"),
    "AbortVoid": lambda _, __: ("goes forward", "its pivot had succeeded"),
    "DeadlinePassed": lambda _, __: ("deadline passed", ""),
    "CancelAsked": _of_person(lambda fact: f"{fact.text('verb')} asked"),
    "RetryAsked": _of_person(lambda _: "retry asked"),
    "Resolved": _of_person(lambda fact: f"resolved {fact.text('outcome')}"),
    "Skipped": _of_person(lambda fact: "undo skipped" if fact.text("phase") == "compensation" else "skipped"),
    "Answered": _of_person(lambda fact: "declined" if fact.data.get("declined") else "answered"),
    "Abandoned": _of_person(lambda _: "abandoned"),
    "LateReply": _words("late answer", "phase", "word"),
    "RunEnded": _ended,
    "NoticeRequested": _words("notice asked", "participant", "operation"),
    "NoticeDelivered": lambda _, __: ("notice delivered", ""),
    "NoticeFailed": _words("notice failed", "detail"),
    "Quarantined": _words("quarantined", "reason"),
}
"""Every kind of fact in a few words, and what is worth saying beside them."""
