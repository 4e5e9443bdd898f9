"""What is going on with one call: on its way, waiting, asked of a person, held because its participant is down."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from amends.cli.texts.facts import FactHistory
from amends.cli.texts.times import age, clock, minute
from amends.core.run.record import ASK, LOCAL, SLEEP, StepState
from amends.server.participants import ParticipantView
from amends.views.run import CallView, ItemView, RunView, StepView


class Surroundings(Protocol):
    """What is known beside the run."""

    @property
    def now(self) -> datetime:
        """The time of looking."""
        ...

    @property
    def participants(self) -> Mapping[str, ParticipantView]:
        """State of the called participants, by name; empty where only the log is known."""
        ...


@dataclass(frozen=True, slots=True)
class Doing:
    """`brief` is for a list, `told` for a page. `sooner` makes it go now, `answer` answers what is asked."""

    brief: str
    told: str
    sooner: str = ""
    answer: str = ""


def doing(
    run: RunView, name: str, owner: StepView | ItemView, history: FactHistory | None, around: Surroundings
) -> Doing | None:
    """What goes on with a step, or one of its calls; `None` where nothing does."""
    if owner.settle is not None and is_settling(owner):
        return _sealing(name, owner.settle)
    match owner.state:
        case StepState.COMPENSATING.value if owner.undo is not None:
            return _call(run, name, owner.undo, around, undo=True)
        case StepState.ACTING.value if owner.action is not None:
            match owner.action.participant:
                case participant if participant == ASK:
                    return _asked(run, name, owner.action, history, around)
                case participant if participant == SLEEP:
                    return _sleeping(run, name, owner.action)
                case _:
                    return _call(run, name, owner.action, around, undo=False)
        case StepState.UNKNOWN.value if owner.settle is not None:
            return _sealing(name, owner.settle)
        case _:
            return None


def where(call: CallView, participants: Mapping[str, ParticipantView]) -> str:
    """`http://inventory:8001/saga/release` where the address is known, else `inventory/release`."""
    known = participants.get(call.participant)
    base = known.where if known is not None else ""
    return f"{base.rstrip('/')}/{call.operation}" if "://" in base else f"{call.participant}/{call.operation}"


def is_settling(owner: StepView | ItemView) -> bool:
    """The participant is being asked what became of it, or told that it is settled."""
    return owner.settle is not None and (owner.settle.in_flight or owner.settle.next_at is not None)


def _sealing(name: str, call: CallView) -> Doing:
    told = f"sealing {name} at {call.participant}"
    return Doing(told, told)


def _call(run: RunView, name: str, call: CallView, around: Surroundings, *, undo: bool) -> Doing:
    what = f"undo {name}" if undo else name
    doing_what = f"undoing {name}" if undo else name
    sooner = f"amends retry {run.id} --step {name}"
    down = around.participants.get(call.participant)
    if down is not None and down.down_since is not None:
        return _down(f"{what}, waiting for {call.participant}", call, down, around, sooner)
    after = f", after {_error(call)}" if call.error else ""
    if call.pending:
        due = f" until {minute(call.answer_due)}" if call.answer_due is not None else ""
        return Doing(f"{what}, answer awaited", f"{doing_what}: taken on, its answer is awaited{due}")
    if call.next_at is not None:
        number = call.attempts + 1
        of = "" if call.attempts_max is None else f" of {call.attempts_max}"
        told = (
            f"{doing_what}: attempt {number}{of} at {clock(call.next_at, around.now)}, in {_in(call.next_at, around)}"
        )
        return Doing(f"{what}, attempt {number}", f"{told}{after}", sooner)
    tried = f", attempt {call.attempts}" if call.attempts > 1 else ""
    told = f"{doing_what}: attempt {max(call.attempts, 1)} is on its way{after}"
    return Doing(f"{what}{tried}", told)


def _down(brief: str, call: CallView, down: ParticipantView, around: Surroundings, sooner: str) -> Doing:
    assert down.down_since is not None, "the caller looked at it"
    told = f"waiting for {call.participant}, which is down since {clock(down.down_since, around.now)}"
    if call.next_at is None or call.next_at <= around.now:
        return Doing(brief, f"{told}; probed every {down.probe_seconds:g} s")
    return Doing(
        brief, f"{told}; next attempt at {clock(call.next_at, around.now)}, in {_in(call.next_at, around)}", sooner
    )


def _error(call: CallView) -> str:
    """Why the last attempt failed; of work done here, what to do about it."""
    error = call.error or ""
    if call.participant == LOCAL and call.cause in {"raised", "exited"}:
        return f"{error}. It may have happened, so it is tried again. If it is a definite no, raise amends.Rejected."
    return error


def _in(moment: datetime, around: Surroundings) -> str:
    return age(moment - around.now)


def _asked(run: RunView, name: str, call: CallView, history: FactHistory | None, around: Surroundings) -> Doing:
    ago = age(around.now - call.since) if call.since is not None else "?"
    due = f", an answer is due by {minute(call.answer_due)}" if call.answer_due is not None else ""
    asked = None if history is None else history.first("ActionRequested", name)
    question = next((str(each.get("body", "")) for each in asked.data.get("requests", ())), "") if asked else ""
    quoted = f': "{question}"' if question else ""
    return Doing(
        f"{name}, asked {ago} ago",
        f"{name}: asked {ago} ago{quoted}{due}",
        answer=f"amends answer {run.id} {name} JSON, or --decline REASON",
    )


def _sleeping(run: RunView, name: str, call: CallView) -> Doing:
    until = f" until {minute(call.answer_due)}" if call.answer_due is not None else ""
    told = f"{name}{until}"
    return Doing(told, told, f"amends retry {run.id} --step {name}")
