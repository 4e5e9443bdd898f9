"""What a verb would do, and what it did."""

from collections.abc import Container, Iterator, Sequence

from msgspec import UNSET

from amends.cli.texts.calls import is_settling
from amends.cli.texts.facts import Fact, quoted, shortly
from amends.cli.texts.story import state_word, units
from amends.cli.texts.tables import aligned, counted
from amends.core.run.record import RunState
from amends.server.bulk import BulkView
from amends.server.probes import ProbeView
from amends.views.event import EventView, PreviewView, SendView
from amends.views.run import ItemView, RunView, StepView

Change = tuple[str, str]
"""A step, or `run`, and how its state changes."""


def preview_lines(before: RunView, preview: PreviewView, by: str) -> list[str]:
    """`--dry-run` of one verb."""
    sealed = _sealed_as_undone(preview.events)
    lines = changed_lines(before, preview.after, by, sealed)
    sent = list(_sent(before, preview.sends))
    refused = " Refused while an attempt is in flight." if any(each.phase == "seal" for each in preview.sends) else ""
    lines.append(f"Sent: {' '.join(sent) or 'nothing.'}{refused}")
    if sealed:
        lines.append(
            "Where the service finds the effect in place, it is yours to undo: say resolve --undone once more."
        )
    return lines


def changed_lines(before: RunView, after: RunView, by: str, sealed: Sequence[str] = ()) -> list[str]:
    """How the states change, step by step, and the run's."""
    changes = list(_changes(before, after, by, sealed)) or [("run", f"{state_word(before)}, no change")]
    rows = [(before.id if number == 0 else "", name, told) for number, (name, told) in enumerate(changes)]
    return [*aligned(rows), *_noted(before, after)]


def _noted(before: RunView, after: RunView) -> Iterator[str]:
    """What follows and is no change of a state: a wish to turn back, and what may remain."""
    if after.abort_requested is not UNSET and after.outcome is None:
        again = " already" if before.abort_requested is not UNSET else ""
        yield f"The wish to turn back is recorded{again}; the pivot is open, and its outcome decides."
    if after.state == RunState.ABANDONED.value and before.state != after.state:
        remains = ", ".join(after.effects) if after.effects is not UNSET else "nothing"
        yield f"What may remain: {remains}."


def _changes(before: RunView, after: RunView, by: str, sealed: Sequence[str]) -> Iterator[Change]:
    were, are = _words(before), _words(after)
    for name in dict.fromkeys([*were, *are]):
        was, now = were.get(name, "waiting"), are.get(name, "waiting")
        if name in sealed:
            yield name, f"{was} -> compensated, by hand ({by})"
        elif was != now:
            yield name, f"{was} -> {now}"
    was, now = state_word(before), state_word(after)
    if sealed and after.state == RunState.COMPENSATING.value and _nothing_else(after, sealed):
        now = "compensated, by hand"
    if was != now:
        yield "run", f"{was} -> {now}"


def _words(run: RunView) -> dict[str, str]:
    marked = {mark.step for mark in run.stuck}
    return {name: _word(name, owner, marked) for step in run.steps for name, owner in units(step)}


def _word(name: str, owner: StepView | ItemView, marked: Container[str | None]) -> str:
    if name in marked:
        return "STUCK"
    return "sealing" if is_settling(owner) else owner.state


def _nothing_else(run: RunView, sealed: Sequence[str]) -> bool:
    busy = {"acting", "unknown", "compensating"}
    return all(name in sealed or owner.state not in busy for step in run.steps for name, owner in units(step))


def _sealed_as_undone(events: Sequence[EventView]) -> list[str]:
    facts = [Fact(each.version, each.at, each.kind, each.data) for each in events]
    return [each.step for each in facts if each.kind == "SettleRequested" and each.text("seal") == "undone"]


def _sent(before: RunView, sends: Sequence[SendView]) -> Iterator[str]:
    undone_by = {
        name: owner.undo.operation for step in before.steps for name, owner in units(step) if owner.undo is not None
    }
    for each in sends:
        match each.phase:
            case "seal":
                undo = undone_by.get(each.step, "its undo")
                why = f"so that a {each.operation} or {undo} still on its way does nothing."
                yield f"one seal to {each.participant}, {why}"
            case "probe":
                yield f"a question to {each.participant} what became of {each.step}."
            case "compensation":
                yield f"{each.operation} to {each.participant}, which undoes {each.step}{_attempt(each)}."
            case _:
                yield f"{each.operation} to {each.participant} for {each.step}{_attempt(each)}."


def _attempt(send: SendView) -> str:
    return f", attempt {send.attempt}: same key, same bytes" if send.attempt > 1 else ""


# -- many at once


def match_line(matched: int, past_pivot: int) -> str:
    """`41 runs match, 41 are past their pivot: they can only go forward. At most 64 calls at once.`."""
    match = "matches" if matched == 1 else "match"
    past = "is past its pivot: it" if past_pivot == 1 else "are past their pivot: they"
    forward = f", {past_pivot} {past} can only go forward" if past_pivot else ""
    return f"{counted(matched, 'run')} {match}{forward}. At most 64 calls at once."


def bulk_lines(done: BulkView, where: str) -> list[str]:
    """What became of it."""
    asked = done.asked - done.refused
    lines = [f"{asked} asked. Follow: amends ls --where '{where}' --watch"]
    if done.refused:
        told = ", ".join(f"{count} {problem}" for problem, count in sorted(done.problems.items()))
        lines.append(f"{done.refused} refused: {told}.")
        lines += [f"  {each.run}   {each.detail}" for each in done.refusals]
    return lines


# -- probe


def probe_line(found: ProbeView) -> str:
    """What the participant says; nothing was changed."""
    reply = shortly(found.reply)
    said = quoted(found.code, found.detail)
    more = "".join(f", {part}" for part in (f"reply {reply}" if reply else "", said) if part)
    status = "" if found.status is None else f" ({found.status})"
    meaning = PROBED.get(found.answer, "")
    return f"{found.run}   {found.step}   {found.participant} says {found.answer}{more}{status}. {meaning}".rstrip()


PROBED = {
    "succeeded": "It took effect.",
    "rejected": "It said no: it had no effect.",
    "noop": "Nothing there yet: a call may still be on its way. Only a seal settles.",
    "blocked": "Its undo came first, or it is undone: it can't act any more.",
    "pending": "It is still being worked on.",
    "unknown": "That settles nothing.",
}
