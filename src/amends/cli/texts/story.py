"""`amends show`: the story of one run. Why it stands where it stands, what is known, and whether an operator has to
act.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec import UNSET

from amends.cli.texts.calls import Doing, doing, is_settling, where
from amends.cli.texts.facts import FactHistory, name_of, named, quoted, shortly, signed
from amends.cli.texts.remedies import commands, explained, later, reasoned
from amends.cli.texts.tables import aligned, counted
from amends.cli.texts.times import age, clock, span, took
from amends.core.run.record import RunState, StepState
from amends.core.words.reasons import StuckReason
from amends.server.participants import ParticipantView
from amends.views.run import CallView, ItemView, RowView, RunView, StepView, StuckView

LABEL = 11
NEVER = "never started"
UNCHECKED = "  The saga's code isn't loaded here, so some of these may be refused; checked with --load or --server."
ENDED = frozenset({RunState.COMPLETED.value, RunState.COMPENSATED.value, RunState.ABANDONED.value})


@dataclass(frozen=True, slots=True)
class Around:
    """What is known beside the run itself. `same`: other runs that are stuck for the same reason as its oldest mark.
    `left`: no live worker has its saga's version, so that no worker drives it.
    """

    now: datetime
    participants: Mapping[str, ParticipantView] = field(default_factory=dict[str, ParticipantView])
    same: int = 0
    runbook: str | None = None
    left: bool = False


def state_word(run: RunView | RowView) -> str:
    """The run's state. What only a person can move stands out; an end that a person vouched for says so."""
    if run.state == RunState.STUCK.value:
        return "STUCK"
    by_hand = run.by_hand and run.state in ENDED and run.state != RunState.ABANDONED.value
    return f"{run.state}, by hand" if by_hand else run.state


def story(run: RunView, history: FactHistory, around: Around) -> list[str]:
    """The lines of `amends show`."""
    telling = _Telling(run, history, around)
    if run.state in ENDED:
        return list(telling.ended())
    return list(telling.stuck() if run.state == RunState.STUCK.value else telling.going())


@dataclass(frozen=True, slots=True)
class _Telling:
    run: RunView
    history: FactHistory
    around: Around

    # -- the three forms

    def ended(self) -> Iterator[str]:
        run = self.run
        ended = self.history.last("RunEnded") or self.history.last("Abandoned")
        whole = (ended.at if ended is not None else run.ended_at or run.updated_at) - run.created_at
        started = clock(run.created_at, self.around.now, exactly=True)
        yield self._header(state_word(run), f"{started} UTC, took {span(whole)}")
        if run.history is not UNSET:
            yield from self._lacks(run.history)
            return
        yield from self._because()
        yield from self._left_behind()
        yield from self._notice()
        if run.state == RunState.COMPLETED.value:
            yield from self._forward_table()
        else:
            yield ""
            yield from self._both_table()

    def _lacks(self, history: str) -> Iterator[str]:
        if history == "purged":
            yield self._line("history", "purged: only how and when the run ended is kept.")
            return
        for mark in self.run.stuck:
            yield self._line("history", f"can't be read: {mark.detail or mark.reason}.")

    def going(self) -> Iterator[str]:
        run, now = self.run, self.around.now
        began = f"started {clock(run.created_at, now)} UTC, {age(now - run.created_at)} ago"
        yield self._header(run.state, began)
        if run.history is not UNSET:
            yield from self._lacks(run.history)
        yield from self._because()
        yield from self._now()
        yield from self._deadline()
        yield from self._owner()
        yield ""
        yield from self._both_table()
        yield ""
        yield from self._what_is_left()

    def stuck(self) -> Iterator[str]:
        run, now = self.run, self.around.now
        oldest = min(run.stuck, key=lambda mark: mark.since)
        more = f" and {len(run.stuck) - 1} more" if len(run.stuck) > 1 else ""
        at = f" {_at(oldest)}" if oldest.step else ""
        since = f"since {clock(oldest.since, now)} UTC, {age(now - oldest.since)} ago"
        yield self._header(f"STUCK{at}{more}", since)
        yield from self._because(before="turned back: ")
        for mark in run.stuck:
            yield from self._mark(mark)
        yield from self._now(quiet=True)
        yield self._line("open", f"{self._open()} {self._others(oldest)}".rstrip())
        yield from self._deadline()
        yield ""
        yield from self._both_table()
        yield ""
        yield from self._you_can()
        if self.around.runbook:
            step = "" if not oldest.step else f"#{oldest.step.partition('/')[0]}-{oldest.phase}"
            yield self._line("book", f"{self.around.runbook}{step}")

    # -- lines

    def _header(self, state: str, when: str) -> str:
        run = self.run
        tags = "".join(f"   {name}={value}" for name, value in run.tags.items())
        return f"{run.id}   {run.saga} v{run.version}   {state}   {when}{tags}"

    @staticmethod
    def _line(label: str, text: str) -> str:
        return f"  {label:<{LABEL}}{text}"

    def _because(self, before: str = "") -> Iterator[str]:
        turned, now = self.run.turned, self.around.now
        if turned is UNSET:
            if self.run.abort_requested is not UNSET:
                yield self._line("because", f"asked to turn back, the pivot decides: {self.run.abort_requested}")
            return
        at = f"at {clock(turned.at, now)}"
        said = None if turned.step is None else self.history.last("ActionRejected", turned.step)
        asked = self.history.last("CancelAsked")
        if said is not None and said.text("word") == "rejected":
            told = f"{turned.step} said no {at}: {quoted(said.text('code'), said.text('detail'))}"
        elif turned.reason.startswith("cancelled: ") and asked is not None:
            told = f'cancelled by {name_of(asked.who)} {at}: "{asked.who.get("reason", "")}"'
        else:
            told = f"{turned.reason}, {at}"
        yield self._line("because", before + told)

    def _left_behind(self) -> Iterator[str]:
        end = self.run.outcome
        if self.run.state == RunState.ABANDONED.value and end is not None:
            by = self.history.last("Abandoned") or self.history.last("Skipped")
            yield self._line("left", f"abandoned: {end.reason}" if by is None else f"abandoned {signed(by.who)}")
            if self.run.effects is not UNSET:
                yield self._line("", f"what may remain: {', '.join(self.run.effects)}")

    def _notice(self) -> Iterator[str]:
        notice = self.run.notice
        if notice is UNSET:
            return
        to = f"{notice.participant}.{notice.operation}"
        if self.run.notice_delivered is True:
            yield self._line("notice", f"delivered to {to}")
        elif notice.next_at is not None:
            yield self._line("notice", f"not delivered yet to {to}: next at {clock(notice.next_at, self.around.now)}")
        else:
            after = f": {notice.error}" if notice.error else ""
            yield self._line("notice", f"NOT DELIVERED to {to}{after}")

    def _now(self, *, quiet: bool = False) -> Iterator[str]:
        if self.around.left:
            yield self._line("now", "nobody drives it")
            return
        told: dict[str, None] = {}
        for _, found in self._doings():
            told[found.told] = None
        for number, text in enumerate(told):
            yield self._line("now" if number == 0 else "", text)
        if not told and not quiet:
            yield self._line("now", "about to go on")

    def _doings(self) -> Iterator[tuple[StepView | ItemView, Doing]]:
        marked = {mark.step for mark in self.run.stuck}
        for step in self.run.steps:
            for name, owner in units(step):
                found = None if name in marked else doing(self.run, name, owner, self.history, self.around)
                if found is not None:
                    yield owner, found

    def _deadline(self) -> Iterator[str]:
        deadline, now = self.run.deadline, self.around.now
        if deadline is None:
            return
        left = deadline - now
        told = f"in {age(left)}" if left > timedelta(0) else f"{age(-left)} ago"
        yield self._line("deadline", f"{clock(deadline, now)} UTC, {told}")

    def _owner(self) -> Iterator[str]:
        owner = self.run.owner
        if owner is not UNSET:
            yield self._line("owner", f"{owner.worker}, epoch {owner.epoch}")

    def _mark(self, mark: StuckView) -> Iterator[str]:
        if not mark.step:
            yield self._line("stuck", f"the run as a whole: {mark.reason}. {self._why_aside(mark)}".rstrip())
            return
        tried = f", attempt {mark.attempts}" if mark.attempts else ""
        yield self._line("stuck", f"{mark.step}, {mark.phase}{tried}: {_said(mark)}")
        came = self._came_from(mark)
        meaning, remedy = explained(mark)
        if came or meaning:
            yield self._line("", f"{came} {meaning}".strip())
        if remedy:
            yield self._line("", remedy)
        yield self._line("known", self._known(mark))

    def _why_aside(self, mark: StuckView) -> str:
        """What is known of the cause; else what the reason means."""
        return f"{mark.detail}." if mark.detail else explained(mark)[0]

    def _came_from(self, mark: StuckView) -> str:
        call = self._call(mark)
        if call is None or not mark.attempts or mark.reason == StuckReason.CONFIRM_UNDONE:
            return ""
        place = where(call, self.around.participants)
        return "" if place in (mark.detail or "") else f"from {place}."

    def _call(self, mark: StuckView) -> CallView | None:
        owner = self._owner_of(mark.step)
        if owner is None:
            return None
        match mark.phase:
            case "action":
                return owner.action
            case "compensation":
                return owner.undo
            case _:
                return owner.settle

    def _owner_of(self, unit: str) -> StepView | ItemView | None:
        return next((owner for step in self.run.steps for name, owner in units(step) if name == unit), None)

    def _known(self, mark: StuckView) -> str:
        step = mark.step
        done, asked = self.history.last("ActionSucceeded", step), self.history.first("ActionRequested", step)
        if done is not None:
            reply = shortly(done.data.get("reply"))
            with_reply = f", reply {reply}" if reply else ""
            told = f"{step} took effect ({clock(done.at, self.around.now)}{with_reply})."
            return f"{told} It is not undone." if mark.phase == "compensation" else told
        if asked is None:
            return f"{step} was never asked for: nothing of it happened."
        undoing = " It is not known to be undone." if mark.phase == "compensation" else ""
        return f"whether {step} took effect isn't known; first asked {clock(asked.at, self.around.now)}.{undoing}"

    def _made(self, mark: StuckView) -> str:
        """`r-8812`: what the step made, by the name that its reply gives it."""
        done = self.history.last("ActionSucceeded", mark.step)
        return "" if done is None else named(done.data.get("reply"))

    def _open(self) -> str:
        others = [each.told for _, each in self._doings()]
        return "nothing else." if not others else f"{counted(len(others), 'call')} go on by themselves."

    def _others(self, oldest: StuckView) -> str:
        if not self.around.same or not oldest.step:
            return ""
        runs = "1 more run is" if self.around.same == 1 else f"{self.around.same} more runs are"
        return f"{runs} stuck for the same reason: amends stuck"

    def _you_can(self) -> Iterator[str]:
        told = [line for mark in self.run.stuck for line in commands(self.run, mark, self._made(mark))]
        lines = list(dict.fromkeys(told))
        yield "  you can"
        yield from aligned(lines, indent="    ", gaps=(5, 5))
        for line, moment in (each for mark in self.run.stuck for each in later(self.run, mark)):
            yield f"    from {clock(moment, self.around.now)} UTC: {line[0]}   {line[1]}"
        if self.run.offers is UNSET and any(mark.step for mark in self.run.stuck):
            yield UNCHECKED
        if reasoned(lines):
            yield '  each but probe takes --reason "..." (required); --dry-run shows what would follow.'

    def _what_is_left(self) -> Iterator[str]:
        run = self.run
        steps = [each for each in run.steps if _is_owed(each, backward=run.turned is not UNSET)]
        what = "left to undo" if run.turned is not UNSET else "left to do"
        names = ", ".join(each.name for each in steps) or "nothing"
        waits = next((found for _, found in self._doings() if found.sooner), None)
        asks = next((found for _, found in self._doings() if found.answer), None)
        if asks is not None:
            yield f"  {what}: {names}. Somebody must answer: {asks.answer}"
            return
        if self.around.left:
            yield f"  {what}: {names}. No live worker has {run.saga} v{run.version}: start one that does."
            return
        sooner = f" Sooner: {waits.sooner}" if waits is not None else ""
        yield f"  {what}: {names}. Nobody needs to act.{sooner}"

    # -- tables

    def _forward_table(self) -> Iterator[str]:
        rows: list[tuple[str, str, str, str, str]] = []
        for step in self.run.steps:
            for name, owner in units(step):
                tries = counted(owner.attempts, "attempt") if owner.attempts else ""
                rows.append((name, step.kind if owner is step else "", owner.state, tries, self._took(name)))
        wide = max((len(each[4]) for each in rows), default=0)
        states = max(9, *(len(each[2]) + 2 for each in rows)) if rows else 9
        lined = [
            (name, kind, f"{state:<{states}}{tries:<10}", f"{dur:>{wide}}") for name, kind, state, tries, dur in rows
        ]
        yield from aligned(lined, indent="  ", gaps=(4, 3, 3))

    def _took(self, step: str) -> str:
        asked, done = self.history.first("ActionRequested", step), self.history.last("ActionSucceeded", step)
        return "" if asked is None or done is None else took(done.at - asked.at)

    def _both_table(self) -> Iterator[str]:
        rows: list[tuple[str, str, str, str]] = [("step", "kind", "action", "undo")]
        for step in self.run.steps:
            for name, owner in units(step):
                kind = step.kind if owner is step else ""
                rows.append((name, kind, _action(step, owner), self._undo(name, owner)))
        yield from aligned(rows, indent="  ", gaps=(4, 3, 6))

    def _patience(self, call: CallView) -> str:
        """How long it goes on by itself, where that is known."""
        return "" if call.gives_up_at is None else f", gives up in {age(call.gives_up_at - self.around.now)}"

    def _undo(self, name: str, owner: StepView | ItemView) -> str:
        undo = owner.undo
        mark = next((each for each in self.run.stuck if each.step == name and each.phase == "compensation"), None)
        if mark is not None:
            key = "" if undo is None else f"   key {undo.key}"
            return f"STUCK   {counted(mark.attempts, 'attempt')}{key}"
        if is_settling(owner):
            return f"sealing   {counted(undo.attempts, 'attempt')}" if undo is not None else "sealing"
        match owner.state:
            case StepState.COMPENSATING.value if undo is not None:
                waits = undo.next_at - self.around.now if undo.next_at is not None else None
                doing_now = f"waiting {age(waits)}" if waits is not None else "in flight"
                return f"{doing_now}   {counted(undo.attempts, 'attempt')}{self._patience(undo)}"
            case StepState.COMPENSATED.value:
                return "undone" if undo is not None else "-"
            case StepState.SKIPPED.value if undo is not None:
                return "skipped, on purpose"
            case StepState.WAITING.value:
                return ""
            case _:
                return "-" if self.run.turned is not UNSET else ""


def units(step: StepView) -> Iterator[tuple[str, StepView | ItemView]]:
    """The step, or each of its calls under its own name."""
    if not step.items:
        yield step.name, step
        return
    for each in step.items:
        yield f"{step.name}/{each.name}", each


def _said(mark: StuckView) -> str:
    """Why, in the words of its source; a sentence of our own stands without quotes."""
    match mark.reason:
        case StuckReason.AUTHOR_ERROR:
            return mark.detail or mark.reason
        case StuckReason.MISROUTED:
            return f"{mark.reason}: {mark.detail}"
        case StuckReason.CONFIRM_UNDONE:
            return mark.reason
        case reason:
            return f"{reason} {quoted(mark.code, mark.detail)}".rstrip()


def _at(mark: StuckView) -> str:
    match mark.phase:
        case "compensation":
            return f"undoing {mark.step}"
        case "seal" | "probe":
            return f"settling {mark.step}"
        case _:
            return f"at {mark.step}"


def _action(step: StepView, owner: StepView | ItemView) -> str:
    match owner.state:
        case StepState.WAITING.value:
            return NEVER
        case StepState.COMPENSATING.value | StepState.COMPENSATED.value if step.kind != "neutral":
            shown = "done" if not _is_unknown(owner) else "unknown"
        case state:
            shown = "-" if state == StepState.COMPENSATED.value else state
    return f"{shown:<11}{counted(owner.attempts, 'attempt')}" if owner.attempts else shown


def _is_unknown(owner: StepView | ItemView) -> bool:
    """Its undo was asked for without knowing whether it acted."""
    return owner.action is not None and owner.action.cause is not None and owner.action.cause != "rejected"


def _is_owed(step: StepView, *, backward: bool) -> bool:
    if backward:
        return step.state in {StepState.COMPENSATING.value, StepState.UNKNOWN.value, StepState.ACTING.value} or (
            step.state == StepState.DONE.value and step.kind == "compensable"
        )
    return step.state not in {StepState.DONE.value, StepState.SKIPPED.value}
