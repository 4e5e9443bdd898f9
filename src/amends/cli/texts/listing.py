"""`amends ls`: a line per run. What it is at, how long it has been, whether an operator has to act."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from amends.cli.texts.calls import doing
from amends.cli.texts.story import ENDED, Around, state_word, units
from amends.cli.texts.tables import aligned
from amends.cli.texts.times import age
from amends.core.run.record import RunState
from amends.core.words.keys import NOTICE
from amends.views.run import RowView, RunView


@dataclass(frozen=True, slots=True)
class Listed:
    """One run: its row, and the run itself where something goes on with it."""

    row: RowView
    run: RunView | None


def listing(runs: Sequence[Listed], around: Around) -> list[str]:
    """The table."""
    rows = [("run", "saga", "state", "at", "age", "needs")]
    for each in runs:
        at, needs = _standing(each, around)
        row = each.row
        rows.append(
            (row.id, f"{row.saga} v{row.version}", state_word(row), at, age(around.now - row.created_at), needs)
        )
    return list(aligned(rows))


def _standing(each: Listed, around: Around) -> tuple[str, str]:
    row = each.row
    if row.stuck:
        marks = [f"{_unit(mark.step, mark.phase)}: {mark.reason}" for mark in row.stuck]
        return ", ".join(marks), "a person"
    if row.state == RunState.STUCK.value:
        return "the run as a whole", "a person"
    if row.state in ENDED:
        return ("notice not delivered", "-" if row.due_at else "a person") if NOTICE in row.current else ("-", "-")
    run = each.run
    if run is None:
        return ", ".join(row.current) or "-", "-"
    found = [
        known for step in run.steps for name, owner in units(step) if (known := doing(run, name, owner, None, around))
    ]
    needs = "an answer" if any(known.answer for known in found) else "-"
    return ", ".join(known.brief for known in found) or ", ".join(row.current) or "-", needs


def _unit(step: str, phase: str) -> str:
    if not step:
        return "the run as a whole"
    return f"undo {step}" if phase == "compensation" else f"settle {step}" if phase in {"seal", "probe"} else step


def waits_for(each: Listed, participant: str, around: Around) -> bool:
    """Whether a run has a call to this participant that isn't answered."""
    run = each.run
    if run is None:
        return False
    for step in run.steps:
        for name, owner in units(step):
            if doing(run, name, owner, None, around) is None:
                continue
            current = owner.settle or owner.undo or owner.action
            if current is not None and current.participant == participant:
                return True
    return False


def oldest_first(runs: Sequence[Listed], now: datetime) -> list[Listed]:
    """What a person must move first, then the oldest."""
    return sorted(runs, key=lambda each: (not each.row.stuck, each.row.created_at - now))
