"""What can be done about a stuck step: reason by reason, with the exact commands."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import UNSET

from amends.core.answers import AUTHOR_ERROR
from amends.core.keys import Phase
from amends.server.views import RunView, StepView, StuckView

CommandLine = tuple[str, str, str]
"""Command, what it means, and how the run ends by it."""

WHY_NOT_AGAIN: Final[Mapping[str, str]] = {
    "cannot-compensate": "The service says so for good: it is not tried again by itself.",
    "compensation-rejected": "An undo can't be refused: the service must be repaired.",
    "misrouted": "Nothing was undone for it. Is the base URL right, is the token valid?",
    "spent": "It was tried for as long as its policy allows.",
    "outcome-unknown": "Nobody can tell whether it happened, so nothing is assumed.",
    AUTHOR_ERROR: "Nothing was sent. Deploy a fix (same version), then: amends retry {run} --step {step}",
    "key-reused": "Something else used this key, or the request was changed: look in the service.",
    "barrier-expired": "The service has purged rows that old: it can't tell any more whether it acted.",
    "blocked": "This step is never undone, and yet its undo came first.",
    "rejected-after-pivot": "Past the pivot it must succeed: make it possible, then retry.",
    "no-answer": "Nobody answered the question in time.",
    "contradiction": "What is known contradicts itself: look in the service, then acknowledge it.",
    "late-success": "It acted again after its undo: look in the service, then acknowledge it.",
    "confirm-undone": "Its effect was found in place and is yours to undo now. Confirm once it is undone.",
    "sealing": "The service must hear that this is settled by hand; it doesn't answer.",
    "stale-epoch": "A later owner of this run has called already: are two logs in use for one set of runs?",
    "protocol": "The service answered what the contract has no place for: it must be repaired.",
    "crash-loop": "Its workers died over it again and again.",
    "unreadable": "Its history can't be read here: was it written by a newer version?",
}


CODE_AND_CALL = (
    "The code and this call don't fit, so it would fail each time. Deploy a fix (same version), then: "
    "amends retry {run} --step {step}"
)
"""Instead, where the call was made: its arguments couldn't be read, or its reply couldn't be written."""


def why_not_again(run: RunView, mark: StuckView) -> str:
    """Why nothing more is tried by itself, in one line; empty where there is nothing to add."""
    made = mark.reason == AUTHOR_ERROR and mark.attempts
    text = CODE_AND_CALL if made else WHY_NOT_AGAIN.get(mark.reason, "")
    return text.format(run=run.id, step=mark.step)


def commands(run: RunView, mark: StuckView, made: str = "") -> list[CommandLine]:
    """What a person may do about one mark. `made` names what the step made, where it is known."""
    if not mark.step:
        return [
            (f"amends retry   {run.id}", "let a worker have it again", ""),
            (f"amends abandon {run.id}", "end it as it is; lists what may remain", "ends: abandoned"),
        ]
    at = f"{run.id} --step {mark.step}"
    name = mark.step.partition("/")[0]
    step = next((each for each in run.steps if each.name == name), None)
    return list(_commands(run, mark, at, step, made or f"what {mark.step} did"))


def _commands(run: RunView, mark: StuckView, at: str, step: StepView | None, made: str) -> Iterator[CommandLine]:
    kind = "" if step is None else step.kind
    who = _participant(step, mark.step)
    probe = (f"amends probe   {at}", f"ask {who} what it knows about the key; changes nothing", "")
    retry = (f"amends retry   {at}", "send it again: same key, same bytes", "")
    match mark.reason:
        case "author-error" if not mark.attempts:
            yield f"amends retry   {at}", "build its request again, with the fix deployed", ""
        case "contradiction" | "late-success":
            yield probe
            yield f"amends resolve {at} --happened", "you looked and know how things are", ""
        case "confirm-undone":
            yield f"amends resolve {at} --undone", "you undid it", "ends: compensated, by hand"
            yield f"amends skip    {at}", "leave it as it is, on purpose", "ends: abandoned"
        case "sealing":
            yield f"amends retry   {at}", "tell the service once more", ""
            yield f"amends skip    {at}", "leave it as it is, on purpose", "ends: abandoned"
        case _ if mark.phase == Phase.COMPENSATION.value:
            yield probe
            yield retry
            yield f"amends resolve {at} --undone", "you undid it, or know it is undone", "ends: compensated, by hand"
            yield f"amends skip    {at}", f"leave {made} as it is, on purpose", "ends: abandoned"
        case _:
            yield probe
            yield retry
            yield from _about_action(run, at, kind)


def _about_action(run: RunView, at: str, kind: str) -> Iterator[CommandLine]:
    yield f"amends resolve {at} --happened --reply JSON", "you know that it took effect, and its reply", "by hand"
    forward = kind == "retriable"
    if not forward:
        yield f"amends resolve {at} --never-happened", "you know that it never will", "ends: compensated, by hand"
    if kind == "compensable" and run.turned is not UNSET:
        yield f"amends compensate {run.id}", "undo it without knowing", ""
    elif not forward:
        yield f"amends compensate {run.id}", "turn the run back and undo everything", ""
    if kind != "pivot":
        yield f"amends skip    {at}", "go on without it", "by hand"


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
