"""The story of one order that was turned back, told from the log's events for a reader new to sagas.

Every line is a fact of the log with its time since the order came in. What the log doesn't say by an event, that the
orchestrator was killed, it says by the epoch: a run that was taken over has a higher one from there on.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from amends.codecs.events import JsonEventCodec
from amends.core.run import events as e
from amends.core.run.answers import Cause
from amends.core.words.keys import Phase, decode_item, unit_name
from amends.shop.books import snapshot

LINES_MAX: Final = 40
"""A longer story isn't read; a shorter one is looked for."""

THE_ORDER: Final = "order"

HAPPENED: Final = {
    Cause.TIMED_OUT: "no answer in time; it may have happened",
    Cause.LOST: "the connection broke; it may have happened",
    Cause.SERVER_ERROR: "a server error; it may have happened",
    Cause.BUSY: "the service is busy",
    Cause.IN_PROGRESS: "the same call is still being worked on",
    Cause.NOT_SENT: "no connection; nothing was sent",
    Cause.UNREADABLE: "the answer can't be read; it may have happened",
    Cause.MISROUTED: "the answer isn't the service's",
    Cause.OWNER_LOST: "the process that asked is gone; it may have happened",
}


@dataclass(frozen=True, slots=True)
class StoryMoment:
    """One line: milliseconds since the order came in, which step, what happened."""

    milliseconds: float
    who: str
    what: str


@dataclass(frozen=True, slots=True)
class OrderStory:
    """What became of one order."""

    run: str
    saga: str
    lines: Sequence[StoryMoment]

    def __str__(self) -> str:
        width = max(len(line.who) for line in self.lines)
        return "\n".join(f"{line.milliseconds:>9,.1f} ms  {line.who:<{width}}  {line.what}" for line in self.lines)


KILLED: Final = "meanwhile the orchestrator was killed; a new one read the log, found this order in it, and goes on"
LEFT: Final = (
    "meanwhile the worker that had it was killed or stopped; another found this order in the log when the lease was "
    "over, and goes on"
)


async def choose_story(log: str, *, workers: int = 1) -> OrderStory | None:
    """The compensated order with the most to tell that is still short enough to be read; `None` if there is none."""
    codec = JsonEventCodec()
    best: tuple[tuple[int, ...], str, str, Sequence[e.Event]] | None = None
    async with snapshot(log) as db:
        turned = text("select id, saga from runs where state = 'compensated' order by created_at, id")
        for run, saga in (await db.execute(turned)).all():
            history = await _events(db, run, codec)
            worth = _worth(history)
            if best is None or worth > best[0]:
                best = (worth, run, saga, history)
    if best is None:
        return None
    _, run, saga, chosen = best
    return OrderStory(run, saga, tuple(tell(chosen, KILLED if workers == 1 else LEFT)))


def tell(history: Sequence[e.Event], taken_over: str = KILLED) -> Iterator[StoryMoment]:
    """The events as lines; `taken_over` is said where another process went on."""
    began = history[0].at
    epoch = history[0].epoch
    tries: Counter[tuple[str, str, Phase]] = Counter()
    for event in history:
        since = (event.at - began) / 1000
        if event.epoch > epoch > 0:
            yield StoryMoment(since, "", taken_over)
        epoch = event.epoch or epoch
        if isinstance(event, e.AttemptFailed):
            tries[event.step, event.item, event.phase] += 1
        said = _said(event, tries)
        if said is not None:
            yield StoryMoment(since, *said)


def _said(event: e.Event, tries: Counter[tuple[str, str, Phase]]) -> tuple[str, str] | None:  # noqa: C901, PLR0912 - one row per kind of event
    match event:
        case e.RunStarted():
            return THE_ORDER, "written to the log, and only then acknowledged"
        case e.ActionRequested(step=step, requests=requests):
            calls = ", ".join(f"{each.operation} {decode_item(each.item)}".strip() for each in requests)
            return step, f"asks {requests[0].participant} to {calls}" if requests else "has nothing to ask for"
        case e.AttemptFailed(step=step, item=item, phase=phase):
            return _unit(step, item), _failed(event, tries[step, item, phase])
        case e.ActionSucceeded(step=step, item=item):
            return _unit(step, item), f"done{_at_try(tries[step, item, Phase.ACTION])}"
        case e.ActionRejected(step=step, item=item, detail=detail, word="rejected"):
            return _unit(step, item), f"a definite no: {detail}{_at_try(tries[step, item, Phase.ACTION])}"
        case e.ActionRejected(step=step, item=item, detail=detail, word=word):
            return _unit(step, item), f"never happened ({word}): {detail}"
        case e.ActionUnknown(step=step, item=item):
            return _unit(step, item), "nobody knows whether it happened; undoing it makes sure that it didn't"
        case e.StepDeclined(step=step, detail=detail):
            return step, f"a definite no: {detail}"
        case e.Aborted(reason=reason):
            return THE_ORDER, f"turns back, because {reason}"
        case e.CompensationRequested(step=step, item=item, participant=participant, operation=operation):
            return _unit(step, item), f"asks {participant} to undo it: {operation}"
        case e.CompensationSucceeded(step=step, item=item, word="succeeded"):
            return _unit(step, item), f"undone{_at_try(tries[step, item, Phase.COMPENSATION])}"
        case e.CompensationSucceeded(step=step, item=item):
            return _unit(step, item), "it had never happened, and now never can: a late call will be refused"
        case e.LateReply(step=step, item=item, word=word):
            return _unit(step, item), f"a late answer ({word}): it changes nothing any more"
        case e.Marked(step=step, item=item, reason=reason):
            return _unit(step, item), f"stuck ({reason}): only a person can move this on"
        case e.RunEnded(state=state):
            ends = {
                "compensated": "compensated: it is in no service any more",
                "completed": "completed: it is in all three",
            }
            return THE_ORDER, ends.get(state, state)
        case e.AttemptStarted():
            return None
        case _:
            return THE_ORDER, type(event).__name__


def _failed(event: e.AttemptFailed, number: int) -> str:
    why = HAPPENED.get(event.cause, event.cause.value.replace("-", " "))
    what = "try" if event.phase is Phase.ACTION else "undo, try"
    if event.next_due is None:
        return f"{what} {number}: {why}"
    return f"{what} {number}: {why}; the same call again in {max(0, event.next_due - event.at) // 1000} ms"


def _at_try(failed: int) -> str:
    return f", at try {failed + 1}" if failed else ""


def _unit(step: str, item: str) -> str:
    return unit_name(step, decode_item(item))


def _worth(history: Sequence[e.Event]) -> tuple[int, ...]:
    """Short enough first; then: something was undone, a call failed, another process took it over, more happened."""
    undone = sum(isinstance(each, e.CompensationSucceeded) and each.word == "succeeded" for each in history)
    failed = sum(isinstance(each, e.AttemptFailed) for each in history)
    owners = len({each.epoch for each in history if each.epoch})
    short = len(history) <= LINES_MAX
    return (
        short,
        min(undone, 1),
        min(failed, 1),
        min(owners, 2),
        min(undone, 2),
        len(history) if short else -len(history),
    )


async def _events(db: AsyncConnection, run: str, codec: JsonEventCodec) -> list[e.Event]:
    wanted = text("select kind, body, at, epoch from events where run = :run order by version")
    rows = (await db.execute(wanted, {"run": run})).all()
    return [
        codec.decode(kind, body if isinstance(body, bytes) else str(body).encode(), at, epoch)  # bytes on PostgreSQL
        for kind, body, at, epoch in rows
    ]
