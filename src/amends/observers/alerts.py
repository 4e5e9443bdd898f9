"""Alerts by cause: forty runs that are stuck for one reason are one message, and each mark is told once.

Marks that come within a moment of each other are gathered. A participant that is down is told after a while of it, and
again when it is back: nobody has to act, but somebody may want to know. What is told goes to webhooks that ask for
`alert`, and as one line of JSON to the logger `amends.alerts`.
"""

import json
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from amends.core.definition import Definition
from amends.core.keys import Phase
from amends.core.retry import MICROSECONDS, Kind
from amends.core.state import ItemRecord, Mark, RunRecord, StepState
from amends.core.values import value
from amends.core.visible import visible_json
from amends.ports.rows import RUN_PHASE, WHOLE_RUN

GATHER_SECONDS: Final = 2.0
"""How long after the first mark of a cause it is told: an outage of one service marks many runs at once."""

DOWN_AFTER_SECONDS: Final = 120.0
"""How long a participant is down before anybody hears of it."""

TOLD_MAX: Final = 50_000
RUNS_NAMED_MAX: Final = 20

_LOGGER = logging.getLogger("amends.alerts")


@value
class StuckMark:
    """One mark of one run, with what an alert says of it. `step` is `""` where the run as a whole is stuck."""

    saga: str
    run: str
    step: str
    phase: str
    reason: str
    code: str | None
    detail: str
    since: int
    participant: str
    took_effect: bool
    else_open: bool

    @property
    def cause(self) -> tuple[str, str, str, str, str | None]:
        """Runs of one cause are one thing to repair."""
        return self.saga, self.step.partition("/")[0], self.phase, self.reason, self.code


@value
class Alert:
    """One message. `id` is the same wherever it is made; `text` is for people, `fields` for programs."""

    id: str
    kind: str
    saga: str | None
    text: str
    fields: dict[str, Any]

    def body(self) -> dict[str, Any]:
        """As it is sent and logged."""
        return {"type": "alert", "alert": self.kind, "id": self.id, **self.fields, "text": self.text}


@value
class Links:
    """Where to look: the server's public URL, and each saga's runbook."""

    url: str = ""
    runbooks: tuple[tuple[str, str], ...] = ()

    def runbook(self, saga: str) -> str | None:
        """The page that says what to do, if there is one."""
        return dict(self.runbooks).get(saga)


class AlertBook:
    """Remembers what was told. `tell` is given every alert, once."""

    def __init__(self, tell: Callable[[Alert], None], links: Links | None = None, shown: "Shown | None" = None) -> None:
        self._tell = tell
        self._shown = shown or _as_it_is
        self._links = links or Links()
        self._told: OrderedDict[tuple[str, str, str, int], None] = OrderedDict()
        self._gathered: dict[tuple[str, str, str, str, str | None], list[StuckMark]] = {}
        self._down: dict[str, bool] = {}

    @property
    def is_gathering(self) -> bool:
        """Marks wait to be told."""
        return bool(self._gathered)

    def changed(self, definition: Definition, record: RunRecord) -> bool:
        """A record became durable; whether there is a mark in it that wasn't told."""
        if record.ended is not None or not (record.marks or record.quarantined):
            return False
        return self.take(marks_of(definition, record, self._shown))

    def take(self, marks: Iterable[StuckMark]) -> bool:
        """Gather those that weren't told yet."""
        new = False
        for mark in marks:
            key = (mark.run, mark.step, mark.phase, mark.since)
            if key in self._told:
                continue
            self._told[key] = None
            if len(self._told) > TOLD_MAX:
                self._told.popitem(last=False)
            self._gathered.setdefault(mark.cause, []).append(mark)
            new = True
        return new

    def flush(self) -> None:
        """Tell what was gathered, a message per cause."""
        gathered, self._gathered = self._gathered, {}
        for marks in gathered.values():
            self._tell(stuck_alert(sorted(marks, key=lambda mark: mark.since), self._links))

    def stands(self, participant: str, down_since: int | None, now: int, waiting: Callable[[], "Waiting"]) -> None:
        """How a participant stands; told when it has been down for a while, and when it is back after that."""
        if down_since is None:
            if self._down.pop(participant, False):
                self._tell(back_alert(participant, now))
            return
        long = now - down_since >= DOWN_AFTER_SECONDS * MICROSECONDS
        if long and not self._down.get(participant):
            self._down[participant] = True
            self._tell(down_alert(participant, down_since, waiting(), self._links))


Shown = Callable[[Definition, RunRecord, str], str]
"""What a service said, without what the run's input hides."""


def _as_it_is(_definition: Definition, _record: RunRecord, text: str) -> str:
    return text


def marks_of(definition: Definition, record: RunRecord, shown: Shown) -> list[StuckMark]:
    """Why a run is stuck, as alerts tell it."""
    if record.quarantined is not None:
        return [
            StuckMark(
                saga=record.saga,
                run=record.run,
                step=WHOLE_RUN,
                phase=RUN_PHASE,
                reason=record.quarantined,
                code=None,
                detail="",
                since=record.at,
                participant="",
                took_effect=False,
                else_open=False,
            )
        ]
    return [
        _stuck_mark(definition, record, mark, shown(definition, record, mark.detail)) for mark in record.marks.values()
    ]


def _stuck_mark(definition: Definition, record: RunRecord, mark: Mark, detail: str) -> StuckMark:
    item = record.item(mark.step, mark.item)
    tries = None if item is None else item.tries(mark.phase) or item.action
    others = [each for each in record.items() if each is not item and not record.item_has_mark(each)]
    busy = {StepState.ACTING, StepState.UNKNOWN, StepState.COMPENSATING}
    known = definition.steps.get(mark.step)
    return StuckMark(
        saga=record.saga,
        run=record.run,
        step=mark.name,
        phase=mark.phase.value,
        reason=mark.reason,
        code=mark.code,
        detail=detail,
        since=mark.since,
        participant="" if tries is None else tries.participant,
        took_effect=item is not None
        and item.reply is not None
        and known is not None
        and known.kind is not Kind.NEUTRAL,
        else_open=any(each.state in busy for each in others),
    )


# -- texts


def stuck_alert(marks: Sequence[StuckMark], links: Links) -> Alert:
    """`amends: 2 place-order runs are STUCK undoing reserve`."""
    first = marks[0]
    step = first.step.partition("/")[0]
    runs = list(dict.fromkeys(mark.run for mark in marks))
    are = f"{len(runs)} {first.saga} runs are" if len(runs) > 1 else f"1 {first.saga} run is"
    told = [
        f"amends: {are} STUCK{_at(first)}",
        f"{_says(first)}{_more(len(runs) - 1)}. First {_clock(first.since)} UTC.",
    ]
    told += [_effect(first, len(runs)), _look("amends stuck", links.url and f"{links.url}/stuck?{_query(first)}")]
    book = links.runbook(first.saga)
    if book is not None:
        told.append(f"Book:   {book}" + (f"#{step}-{first.phase}" if step else ""))
    fields: dict[str, Any] = {
        "saga": first.saga,
        "step": step,
        "phase": first.phase,
        "reason": first.reason,
        "code": first.code,
        "detail": first.detail or None,
        "count": len(runs),
        "runs": runs[:RUNS_NAMED_MAX],
        "since": _moment(first.since),
    }
    return Alert(f"stuck:{first.run}:{first.step}:{first.since}", "stuck", first.saga, "\n".join(told), fields)


def _at(mark: StuckMark) -> str:
    match mark.phase:
        case _ if mark.phase == RUN_PHASE:
            return ""
        case Phase.COMPENSATION.value:
            return f" undoing {mark.step.partition('/')[0]}"
        case Phase.ACTION.value:
            return f" at {mark.step.partition('/')[0]}"
        case _:
            return f" settling {mark.step.partition('/')[0]}"


def _says(mark: StuckMark) -> str:
    who = mark.participant or "amends"
    said = " ".join(part for part in (mark.code or "", f'"{mark.detail}"' if mark.detail else "") if part)
    cannot = f"{who} says it can't: " if mark.reason == "cannot-compensate" else f"{who}: " if mark.participant else ""
    return f"{cannot}{mark.reason} {said}".rstrip() + f" ({mark.run})"


def _more(others: int) -> str:
    if not others:
        return ""
    return " and one more" if others == 1 else f" and {others} more"


def _effect(mark: StuckMark, runs: int) -> str:
    these = "these runs" if runs > 1 else "this run"
    took = f"{mark.step} took effect and is not undone. " if mark.took_effect and mark.phase == "compensation" else ""
    if mark.else_open:
        return f"{took}Other steps of {these} go on by themselves."
    return f"{took}Nothing else of {these} is open, nothing gets worse by waiting."


def _query(mark: StuckMark) -> str:
    step = mark.step.partition("/")[0]
    return f"saga={mark.saga}&step={step}" if step else f"saga={mark.saga}"


@value
class Waiting:
    """Who waits for a participant that is down. `forward`: how many wait at which step; `done`: what they did."""

    detail: str
    probe_seconds: float
    undone: int
    forward: tuple[tuple[str, int], ...]
    done: tuple[tuple[str, int], ...]
    late: int
    next_deadline: int | None

    @property
    def runs(self) -> int:
        """How many in all."""
        return self.undone + sum(count for _, count in self.forward)


def waiting_for(participant: str, records: Iterable[RunRecord], now: int, detail: str, probe_seconds: float) -> Waiting:
    """Who waits, of these runs."""
    undone, late = 0, 0
    forward: Counter[str] = Counter()
    done: Counter[str] = Counter()
    deadlines: list[int] = []
    for record in records:
        steps = [each.step for each in record.items() if _calls(each) == participant]
        if record.ended is not None or not steps:
            continue
        if record.backward:
            undone += 1
        else:
            forward[steps[0]] += 1
        done.update({name for name in record.steps if record.step_state(name) is StepState.DONE})
        if record.deadline is not None:
            late += record.deadline <= now
            if record.deadline > now:
                deadlines.append(record.deadline)
    return Waiting(
        detail=detail,
        probe_seconds=probe_seconds,
        undone=undone,
        forward=tuple(forward.most_common()),
        done=tuple(done.most_common()),
        late=late,
        next_deadline=min(deadlines, default=None),
    )


def _calls(item: ItemRecord) -> str:
    match item.state:
        case StepState.ACTING | StepState.UNKNOWN if item.action is not None:
            return item.action.participant
        case StepState.COMPENSATING if item.undo is not None:
            return item.undo.participant
        case _:
            return ""


def down_alert(participant: str, since: int, waiting: Waiting, links: Links) -> Alert:
    """`amends: inventory is down, 41 runs wait for it`."""
    wait = "1 run waits" if waiting.runs == 1 else f"{waiting.runs} runs wait"
    parts = [f"{waiting.undone} are being undone"] if waiting.undone else []
    parts += [f"{count} wait to {step}" for step, count in waiting.forward]
    who = f" {', '.join(parts)}{_before(waiting)}." if parts else ""
    reason = waiting.detail.partition(" from ")[0] or "no answer"
    deadline = f"; the first will be at {_clock(waiting.next_deadline)[:5]}" if waiting.next_deadline else ""
    told = [
        f"amends: {participant} is down, {wait} for it",
        f"{reason} since {_clock(since)[:5]} UTC (circuit open, probed every {waiting.probe_seconds:g} s).{who}",
        f"{GO_ON.format(participant)} {waiting.late} are past their deadline{deadline}.",
        _look(f"amends ls --waiting-for {participant}", links.url and f"{links.url}/participants/{participant}"),
    ]
    fields: dict[str, Any] = {
        "participant": participant,
        "since": _moment(since),
        "detail": waiting.detail or None,
        "count": waiting.runs,
        "compensating": waiting.undone,
    }
    return Alert(f"down:{participant}:{since}", "participant-down", None, "\n".join(told), fields)


GO_ON: Final = "Nobody needs to act in amends: the runs go on when {} answers."


def _before(waiting: Waiting) -> str:
    done = ", ".join(f"{count} of them have done {step}" for step, count in waiting.done)
    return f"; {done}" if done else ""


def back_alert(participant: str, now: int) -> Alert:
    """It answers again."""
    text = f"amends: {participant} is back\nIts runs go on by themselves."
    return Alert(f"back:{participant}:{now}", "participant-back", None, text, {"participant": participant})


def _look(command: str, link: str) -> str:
    return f"Look:   {command:<52} {link}".rstrip()


def _clock(micros: int) -> str:
    return f"{datetime.fromtimestamp(micros / MICROSECONDS, UTC):%H:%M:%S}"


def _moment(micros: int) -> str:
    return datetime.fromtimestamp(micros / MICROSECONDS, UTC).isoformat().replace("+00:00", "Z")


def write_lines(stream: TextIO) -> None:
    """Have alerts written to a stream as lines of JSON and nothing else; once per process."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _LOGGER.handlers = [handler]
    _LOGGER.propagate = False


def log_line(alert: Alert) -> None:
    """The alert as one line of JSON, for whatever collects the process's log."""
    _LOGGER.warning("%s", visible_json(json.dumps(alert.body(), ensure_ascii=False)))
