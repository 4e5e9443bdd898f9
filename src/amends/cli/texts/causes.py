"""`amends stuck`: by cause, not by run."""

from collections.abc import Sequence
from datetime import datetime

from amends.cli.texts.tables import aligned, counted
from amends.cli.texts.times import age, clock
from amends.core.words.reasons import StuckReason
from amends.server.participants import ParticipantView
from amends.server.stuck import CauseView


def cause_text(cause: CauseView) -> str:
    """`cannot-compensate: already-picked`; `not from the barrier: 404 http://...` for a wrong address."""
    if cause.reason == StuckReason.MISROUTED and cause.detail:
        source = cause.detail.partition(", without Saga-Outcome")[0].replace(" from ", " ", 1)
        return f"not from the barrier: {source}"
    said = cause.code or cause.detail
    return f"{cause.reason}: {said}" if said else cause.reason


def causes_lines(causes: Sequence[CauseView], participants: Sequence[ParticipantView], now: datetime) -> list[str]:
    """The table, the sum of it, and what only waits."""
    lines: list[str] = []
    if causes:
        ages = [age(now - each.oldest) for each in causes]
        wide = max(len(each) for each in ages)
        rows = [("runs", "saga", "step", "phase", "reason", "oldest", "first")]
        rows += [
            (
                f"{each.count:>4}",
                each.saga,
                each.step or "-",
                each.phase or "-",
                cause_text(each),
                f"{old:>{wide}}",
                each.first,
            )
            for each, old in zip(causes, ages, strict=True)
        ]
        lines += aligned(rows, gaps=(2, 2, 2, 2, 4, 4))
    waiting = " ".join(waiting_text(each, now) for each in participants if each.down_since is not None)
    runs = sum(each.count for each in causes)
    need = "needs" if runs == 1 else "need"
    summary = (
        f"{counted(runs, 'run')} {need} a person, {counted(len(causes), 'cause')}." if causes else "nothing is stuck."
    )
    lines.append(f"{summary} {waiting}".rstrip())
    return lines


def waiting_text(each: ParticipantView, now: datetime) -> str:
    """What only waits: `41 more wait for inventory (circuit open since 03:02:20): nobody needs to act.`."""
    assert each.down_since is not None, "only of a participant that is down"
    verb = "waits" if each.runs == 1 else "wait"
    since = clock(each.down_since, now)
    return f"{each.runs} more {verb} for {each.name} (circuit open since {since}): nobody needs to act."
