"""What can be done about a stuck step: reason by reason, with the exact commands."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from msgspec import UNSET

from amends.core.words.keys import Phase
from amends.core.words.reasons import ACKNOWLEDGED, StuckReason
from amends.views.run import OfferView, RunView, StepView, StuckView

CommandLine = tuple[str, str, str]
"""Command, what it means, and how the run ends by it."""


def explained(mark: StuckView) -> tuple[str, str]:
    """What the mark's reason means and what helps; two empty texts for a reason of a newer version."""
    if mark.reason not in _REASONS:
        return "", ""
    reason = StuckReason(mark.reason)
    return reason.meaning, reason.remedy


_REASONS: Final = frozenset(StuckReason)


def commands(run: RunView, mark: StuckView, made: str = "") -> list[CommandLine]:
    """What a person may do about one mark: what the run would accept now, where that is known. `made` names what the
    step made, where it is known.
    """
    if not mark.step:
        return [
            (f"amends retry   {run.id}", "let a worker have it again", ""),
            (f"amends abandon {run.id}", "end it as it is; lists what may remain", "ends: abandoned"),
        ]
    step = next((each for each in run.steps if each.name == mark.step.partition("/")[0]), None)
    lines = _Lines(run, mark, step, made or f"what {mark.step} did")
    offers = list(_guessed(mark, step)) if run.offers is UNSET else list(run.offers)
    return [line for offer in offers if (line := lines.of(offer)) is not None]


def later(run: RunView, mark: StuckView) -> list[tuple[CommandLine, datetime]]:
    """What will be accepted about one mark by time alone, and from when."""
    step = next((each for each in run.steps if each.name == mark.step.partition("/")[0]), None)
    lines = _Lines(run, mark, step, "")
    return [
        (line, offer.possible_from)
        for offer in (() if run.offers is UNSET else run.offers)
        if offer.possible_from is not None
        and (line := lines.of(msgspec.structs.replace(offer, possible_from=None))) is not None
    ]


def _guessed(mark: StuckView, step: StepView | None) -> Iterator[OfferView]:
    """What is usually accepted, where the saga isn't loaded and the rules can't be asked."""
    kind, at = "" if step is None else step.kind, mark.step
    if mark.reason not in {StuckReason.SEALING, StuckReason.CONFIRM_UNDONE} and not (
        mark.reason == StuckReason.AUTHOR_ERROR and not mark.attempts
    ):
        yield OfferView("probe", at)
    if mark.reason in ACKNOWLEDGED:
        yield OfferView("resolve", at, "succeeded")
        return
    if mark.reason != StuckReason.CONFIRM_UNDONE:
        yield OfferView("retry", at)
    if mark.reason == StuckReason.SEALING or (mark.reason == StuckReason.AUTHOR_ERROR and not mark.attempts):
        pass
    elif mark.phase == Phase.COMPENSATION.value:
        yield OfferView("resolve", at, "undone")
    else:
        yield OfferView("resolve", at, "succeeded", needs_reply=True)
        if kind != "retriable":
            yield OfferView("resolve", at, "rejected")
            yield OfferView("compensate")
    if kind != "pivot" and not (mark.reason == StuckReason.AUTHOR_ERROR and not mark.attempts):
        yield OfferView("skip", at)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The command of each offer that concerns one mark."""

    run: RunView
    mark: StuckView
    step: StepView | None
    made: str

    def of(self, offer: OfferView) -> CommandLine | None:
        """`None`: the offer is about another mark, or about nothing of its own, or holds only later."""
        if offer.possible_from is not None:
            return None
        if not offer.step:
            return self._whole(offer)
        if offer.step != self.mark.step:
            return None
        at = f"{self.run.id} --step {self.mark.step}"
        match offer.verb:
            case "probe":
                who = _participant(self.step, self.mark.step)
                return f"amends probe   {at}", f"ask {who} what it knows about the key; changes nothing", ""
            case "retry":
                return f"amends retry   {at}", self._again(), ""
            case "resolve":
                return self._resolve(offer, at)
            case "answer":
                given = "--decline WHY" if offer.outcome == "rejected" else "JSON"
                told = "decline it" if offer.outcome == "rejected" else "answer the question"
                return f"amends answer  {self.run.id} {self.mark.step} {given}", told, ""
            case "skip":
                return self._skip(at)
            case _:
                return None

    def _again(self) -> str:
        match self.mark.reason:
            case StuckReason.AUTHOR_ERROR if not self.mark.attempts:
                return "build its request again, with the fix deployed"
            case StuckReason.SEALING:
                return "tell the service once more"
            case _:
                return "send it again: same key, same bytes"

    def _resolve(self, offer: OfferView, at: str) -> CommandLine | None:
        backward = self.mark.phase == Phase.COMPENSATION.value
        match offer.outcome:
            case "succeeded" if self.mark.reason in ACKNOWLEDGED:
                return f"amends resolve {at} --happened", "you looked and know how things are", ""
            case _ if self.mark.reason in ACKNOWLEDGED:
                return None  # any outcome acknowledges it: one is enough
            case "succeeded":
                reply = " --reply JSON" if offer.needs_reply else ""
                told = "you know that it took effect, and its reply" if reply else "you know that it took effect"
                return f"amends resolve {at} --happened{reply}", told, "by hand"
            case "rejected":
                return (
                    f"amends resolve {at} --never-happened",
                    "you know that it never will",
                    "ends: compensated, by hand",
                )
            case _:
                told = (
                    "you undid it"
                    if self.mark.reason == StuckReason.CONFIRM_UNDONE
                    else "you undid it, or know it is undone"
                )
                return f"amends resolve {at} --undone", told, "ends: compensated, by hand" if backward else "by hand"

    def _skip(self, at: str) -> CommandLine:
        if self.mark.reason in {StuckReason.CONFIRM_UNDONE, StuckReason.SEALING}:
            return f"amends skip    {at}", "leave it as it is, on purpose", "ends: abandoned"
        if self.mark.phase == Phase.COMPENSATION.value:
            return f"amends skip    {at}", f"leave {self.made} as it is, on purpose", "ends: abandoned"
        return f"amends skip    {at}", "go on without it", "by hand"

    def _whole(self, offer: OfferView) -> CommandLine | None:
        """Of the verbs on the whole run only the one that takes the place of a verb on this step."""
        if offer.verb != "compensate" or self.mark.phase == Phase.COMPENSATION.value:
            return None
        known = self.run.turned is UNSET
        told = "turn the run back and undo everything" if known else "undo it without knowing"
        return f"amends compensate {self.run.id}", told, ""


def _participant(step: StepView | None, unit: str) -> str:
    if step is None:
        return "its participant"
    _, _, item = unit.partition("/")
    owner = next((each for each in step.items or () if each.name == item), step)
    for call in (owner.action, owner.undo):
        if call is not None:
            return call.participant
    return "its participant"


def reasoned(lines: Sequence[CommandLine]) -> bool:
    """Whether any of the commands needs a reason."""
    return any(not line.startswith("amends probe") for line, _, _ in lines)
