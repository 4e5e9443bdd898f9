"""The promises, each a named function of what can be seen: the definition, the history, and what really happened.

`Evidence` is what a run leaves behind: its events, and the ledger of effects that its participants saw, in order. A
promise answers with a sentence about how it is broken, or with `None`. The same functions judge a run on paper and
one of real processes; nothing in here knows how the evidence came about.

All but P1 hold at every moment, so they are asked after every step. P1 speaks of runs that are left alone: it is asked
when nothing is owed, on its way or waited for any more.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, Final, Literal, TypeAlias, TypeVar

from amends.core.run import events as e
from amends.core.run.definition import Definition
from amends.core.run.evolve import fold
from amends.core.run.record import RunRecord, RunState, StepState
from amends.core.words.keys import Phase, unit_name
from amends.core.words.retry import Guard, Kind
from amends.testing.broken import BrokenPromise

E = TypeVar("E", bound=e.Event)


@dataclass(frozen=True, slots=True)
class Effect:
    """Something really happened at a participant, or was undone there. `by_hand`: a person undid it."""

    step: str
    item: str
    did: Literal["acted", "undone"]
    by_hand: bool = False

    @property
    def name(self) -> str:
        """`reserve` or `reserve/sku-1`."""
        return unit_name(self.step, self.item)

    def __str__(self) -> str:
        return f"{'undo ' if self.did == 'undone' else ''}{self.name}{' (by hand)' if self.by_hand else ''}"


@dataclass(frozen=True)
class Evidence:
    """What a run leaves behind. `ledger`: effects in the order in which they really happened."""

    definition: Definition
    events: tuple[e.Event, ...]
    ledger: tuple[Effect, ...] = ()
    folded: RunRecord | None = field(default=None, compare=False, repr=False)
    told: Mapping[object, str | None] = field(default_factory=dict[object, str | None], compare=False, repr=False)
    """What was found of these events before, whatever their effects were; by `of_the_log`."""

    @cached_property
    def record(self) -> RunRecord:
        """The fold of the events."""
        return fold(self.events) if self.folded is None else self.folded

    @cached_property
    def _by_type(self) -> Mapping[type[Any], list[tuple[int, Any]]]:
        found: dict[type[Any], list[tuple[int, Any]]] = {}
        for index, event in enumerate(self.events):
            found.setdefault(type(event), []).append((index, event))
        return found

    def of(self, kind: type[E]) -> list[tuple[int, E]]:
        """All events of a type, with their place in the history."""
        return self._by_type.get(kind, [])

    @cached_property
    def net(self) -> Mapping[tuple[str, str], int]:
        """How often each item acted and wasn't undone."""
        counts: dict[tuple[str, str], int] = {}
        for effect in self.ledger:
            key = (effect.step, effect.item)
            counts[key] = counts.get(key, 0) + (1 if effect.did == "acted" else -1)
        return counts

    @cached_property
    def acts(self) -> Mapping[tuple[str, str], int]:
        """How often each item acted."""
        counts: dict[tuple[str, str], int] = {}
        for effect in self.ledger:
            if effect.did == "acted":
                counts[effect.step, effect.item] = counts.get((effect.step, effect.item), 0) + 1
        return counts

    def matters(self, step: str) -> bool:
        """Whether a step can leave anything behind: it is of the saga and isn't neutral."""
        known = self.definition.steps.get(step)
        return known is not None and known.kind is not Kind.NEUTRAL


Promise: TypeAlias = Callable[[Evidence], str | None]


def of_the_log(promise: Promise) -> Promise:
    """A promise about the definition and the events alone: what was found of them before is `Evidence.told`."""

    @wraps(promise)
    def asked(evidence: Evidence) -> str | None:
        if promise in evidence.told:
            return evidence.told[promise]
        return promise(evidence)

    WELL[promise] = None
    return asked


WELL: Final[dict[object, str | None]] = {}
"""What is found of a log that breaks no promise. Filled while this module is read, and never changed afterwards."""


def check(evidence: Evidence, *, quiet: bool = False) -> None:
    """Raise `BrokenPromise` for the first promise that is broken. `quiet`: nothing moves any more, so P1 counts too."""
    found = broken(evidence, quiet=quiet)
    if found is not None:
        raise BrokenPromise(found)


def broken(evidence: Evidence, *, quiet: bool = False) -> str | None:
    """The first broken promise, by name and sentence."""
    for name, promise in PROMISES.items():
        sentence = promise(evidence)
        if sentence is not None:
            return f"{name}: {sentence}"
    if quiet:
        sentence = p1_ends_or_is_stuck(evidence)
        if sentence is not None:
            return f"{ENDS_OR_IS_STUCK}: {sentence}"
    return None


# -- the promises


def p1_ends_or_is_stuck(evidence: Evidence) -> str | None:
    """A run that is left alone has ended, or is listed as stuck with its reason."""
    record = evidence.record
    if record.ended is not None:
        return None
    if record.quarantined:
        return None
    if not record.marks:
        states = ", ".join(f"{item.name} {item.state.value}" for item in record.items())
        return f"nothing is owed any more, but it is still {record.state.value} ({states})"
    return next((f"{mark.name} is stuck without a reason" for mark in record.marks.values() if not mark.reason), None)


def p2_completed_acted_once(evidence: Evidence) -> str | None:
    """`completed`: whatever wasn't skipped took effect exactly once and nothing was compensated."""
    record = evidence.record
    if record.ended is not RunState.COMPLETED:
        return None
    if any(isinstance(event, e.CompensationRequested | e.Aborted) for event in evidence.events):
        return "it completed, but it had turned back"
    for name, step in evidence.definition.steps.items():
        if not evidence.matters(name):
            continue
        known = record.steps.get(name)
        if known is None:
            return f"it completed without {name}"
        for item in known.items.values():
            acts, net = evidence.acts.get((name, item.item), 0), evidence.net.get((name, item.item), 0)
            if item.state is StepState.SKIPPED:
                if item.left is None and acts:
                    return f"{item.name} was skipped and acted"
            elif acts != 1 or net != 1:
                return f"it completed, but {item.name} ({step.kind.value}) acted {acts} times, {net} left"
    return None


def p3_compensated_left_nothing(evidence: Evidence) -> str | None:
    """`compensated`: every effect was undone, once, and nothing acts afterwards."""
    if evidence.record.ended is not RunState.COMPENSATED:
        return None
    for (step, item), left in evidence.net.items():
        if evidence.matters(step) and left:
            word = "is left behind" if left > 0 else "was undone more than once"
            return f"it is compensated, but {unit_name(step, item)} {word}"
    return None


def p4_undone_after_dependents(evidence: Evidence) -> str | None:
    """A step is undone only after every attempted step that depends on it, item by item, in fact and in the log."""
    return _undone_in_order(evidence) or _requested_in_order(evidence)


def _undone_in_order(evidence: Evidence) -> str | None:
    left_by_hand = {(event.step, event.item) for _, event in evidence.of(e.Skipped)}
    net: dict[tuple[str, str], int] = {}
    undone: list[str] = []
    for effect in evidence.ledger:
        known = evidence.definition.steps.get(effect.step)
        if known is None or known.kind is Kind.NEUTRAL:
            continue
        key = (effect.step, effect.item)
        if effect.did == "acted":
            net[key] = net.get(key, 0) + 1
            for name in undone:
                if name in known.vertex.ancestors and key not in left_by_hand:
                    return f"{effect.name} acted after {name}, which it depends on, had been undone"
            continue
        net[key] = net.get(key, 0) - 1
        undone.append(effect.step)
        for (step, item), left in net.items():
            if left > 0 and step in known.vertex.descendants and (step, item) not in left_by_hand:
                return f"{effect.name} was undone while {unit_name(step, item)}, which depends on it, was in place"
    return None


@of_the_log
def _requested_in_order(evidence: Evidence) -> str | None:
    requests = evidence.of(e.CompensationRequested)
    if not requests:
        return None
    steps = evidence.definition.steps
    open_: dict[tuple[str, str], bool] = {}
    for event in evidence.events:
        match event:
            case e.ActionRequested(step=step):
                if steps[step].kind is not Kind.NEUTRAL:
                    open_.update({(step, request.item): True for request in event.requests})
            case e.ActionSucceeded() | e.ActionUnknown():
                if steps[event.step].kind is not Kind.NEUTRAL:
                    open_[event.step, event.item] = True
            case e.ActionRejected() | e.CompensationSucceeded() | e.Skipped():
                open_[event.step, event.item] = False
            case e.Sealed(found=found):
                open_[event.step, event.item] = found == "succeeded"
            case e.Resolved(outcome=outcome):
                if steps[event.step].kind is not Kind.NEUTRAL and outcome in {"rejected", "undone", "succeeded"}:
                    open_[event.step, event.item] = outcome == "succeeded"
            case e.CompensationRequested(step=step):
                open_[step, event.item] = True
                for (name, item), is_open in open_.items():
                    if is_open and name in steps[step].vertex.descendants:
                        unit = unit_name(step, event.item)
                        return f"the undo of {unit} was requested before {unit_name(name, item)} was clear"
            case _:
                pass
    return None


def p5_past_the_pivot_only_forward(evidence: Evidence) -> str | None:
    """Once the pivot has succeeded, or something that must succeed was requested, nothing turns back."""
    return _turned_back_late(evidence) or _undone_past_it(evidence)


@of_the_log
def _turned_back_late(evidence: Evidence) -> str | None:
    definition = evidence.definition
    passed: str | None = None
    for event in evidence.events:
        match event:
            case e.ActionSucceeded() | e.Resolved(outcome="succeeded"):
                if event.step == definition.pivot:
                    passed = f"{event.step} succeeded"
            case e.ActionRequested():
                if definition.steps[event.step].forward_only:
                    passed = passed or f"{event.step} was requested"
            case e.Aborted() | e.CompensationRequested():
                if passed is not None:
                    return f"{type(event).__name__} after {passed}"
            case _:
                pass
    return None


def _undone_past_it(evidence: Evidence) -> str | None:
    definition = evidence.definition
    for (step, item), left in evidence.net.items():
        known = definition.steps.get(step)
        if (
            known is not None
            and known.kind in {Kind.PIVOT, Kind.RETRIABLE}
            and left < evidence.acts.get((step, item), 0)
        ):
            return f"{unit_name(step, item)} was undone"
    return None


def p6_same_key_same_bytes(sent: Iterable[tuple[str, bytes]]) -> str | None:
    """Every send of a key carries the same bytes. Asked of what went over the wire: `(key, body)` in any order."""
    seen: dict[str, bytes] = {}
    for key, body in sent:
        if seen.setdefault(key, body) != body:
            return f"{key} was sent with {seen[key]!r} and with {body!r}"
    return None


@of_the_log
def p6_requested_once(evidence: Evidence) -> str | None:
    """What is sent under a key is logged once, so that it can't differ."""
    requested = [event.step for _, event in evidence.of(e.ActionRequested)]
    undone = [(event.step, event.item) for _, event in evidence.of(e.CompensationRequested)]
    if len(set(requested)) != len(requested):
        return f"a step was requested more than once: {', '.join(requested)}"
    if len(set(undone)) != len(undone):
        return f"an undo was requested more than once: {', '.join(unit_name(*each) for each in undone)}"
    return None


@of_the_log
def p7_one_owner_at_a_time(evidence: Evidence) -> str | None:
    """Owners' epochs never fall within a history; 0 is a visitor's."""
    highest = 0
    for event in evidence.events:
        if event.epoch:
            if event.epoch < highest:
                return f"{type(event).__name__} of epoch {event.epoch} after epoch {highest}"
            highest = event.epoch
    return None


_BY_PERSONS: Final = (e.CancelAsked, e.RetryAsked, e.Resolved, e.Skipped, e.Answered, e.Abandoned)
_FACTS: Final = (e.Resolved, e.Skipped, e.Abandoned)


@of_the_log
def p8_persons_sign(evidence: Evidence) -> str | None:
    """Every command of a person names actor and reason; nothing that only a person may do was done without one."""
    signed = False
    for event in evidence.events:
        if isinstance(event, _BY_PERSONS):
            signed = True
            if not event.who.by or not event.who.reason:
                return f"{type(event).__name__} doesn't say who did it, or why"
    if evidence.of(e.Unmarked) and not signed:
        return "a mark was lifted and no person asked for it"
    return None


def p9_ends_have_their_names(evidence: Evidence) -> str | None:
    """Clean, repaired and dirty ends are told apart, and a dirty one names all that may remain."""
    record = evidence.record
    if record.ended is None:
        return None
    repeated = any(event.fact for _, event in evidence.of(e.RetryAsked))
    facts = repeated or any(isinstance(event, _FACTS) for event in evidence.events)
    if facts != record.by_hand:
        return f"it ended {record.ended.value}, by_hand is {record.by_hand}, but a person's fact is {facts}"
    left_undone = [event for _, event in evidence.of(e.Skipped) if event.phase is not Phase.ACTION]
    if left_undone and record.backward and record.ended is not RunState.ABANDONED:
        return f"{left_undone[0].step} was left as it is, but the run ended {record.ended.value}"
    if record.ended is RunState.ABANDONED:
        for (step, item), left in evidence.net.items():
            if left > 0 and evidence.matters(step) and unit_name(step, item) not in record.effects:
                return f"it was abandoned, but {unit_name(step, item)} remains and isn't listed"
    return None


# -- the log's own shape

_AFTER_THE_END: Final = (e.LateReply, e.NoticeRequested, e.NoticeDelivered, e.NoticeFailed)
_ONCE_PER_RUN: Final = (e.Aborted, e.AbortRequested, e.AbortVoid, e.DeadlinePassed, e.RunEnded, e.NoticeDelivered)


@of_the_log
def the_log_is_gapless(evidence: Evidence) -> str | None:
    """The record counts every event, and time never falls."""
    if evidence.record.length != len(evidence.events):
        return f"{len(evidence.events)} events, but the record counts {evidence.record.length}"
    before = 0
    for event in evidence.events:
        if event.at < before:
            return f"{type(event).__name__} at {event.at}, after {before}"
        before = event.at
    return None


@of_the_log
def no_fact_twice(evidence: Evidence) -> str | None:
    """What can be true only once is said only once."""
    said: set[tuple[type[e.Event], str, str]] = set()
    fact: tuple[type[e.Event], str, str]
    for event in evidence.events:
        match event:
            case e.ActionSucceeded() | e.CompensationSucceeded():
                fact = (type(event), event.step, event.item)
            case e.StepSkipped() | e.StepDeclined():
                fact = (type(event), event.step, "")
            case _ if isinstance(event, _ONCE_PER_RUN):
                fact = (type(event), "", "")
            case _:
                continue
        if fact in said:
            return f"{type(event).__name__} is in the history more than once"
        said.add(fact)
    return None


@of_the_log
def an_end_is_final(evidence: Evidence) -> str | None:
    """After the end only the notice and late answers are told."""
    ends = [index for index, _ in (*evidence.of(e.RunEnded), *evidence.of(e.Abandoned))]
    if not ends:
        return None
    for event in evidence.events[min(ends) + 1 :]:
        if not isinstance(event, _AFTER_THE_END):
            return f"{type(event).__name__} after the end"
    return None


_FORWARD: Final = (e.ActionRequested, e.StepSkipped, e.StepDeclined, e.AbortRequested, e.AbortVoid)


@of_the_log
def one_direction(evidence: Evidence) -> str | None:
    """A run that turned back starts nothing new, and nothing is undone before it turned."""
    turned = evidence.of(e.Aborted)
    if not turned:
        for _, early in evidence.of(e.CompensationRequested):
            return f"the undo of {early.step} was requested and the run hasn't turned back"
        return None
    index = turned[0][0]
    for event in evidence.events[index + 1 :]:
        if isinstance(event, _FORWARD):
            return f"{type(event).__name__} after Aborted"
    for place, undo in evidence.of(e.CompensationRequested):
        if place < index:
            return f"the undo of {undo.step} was requested before the run turned back"
    return None


@of_the_log
def rejected_owes_nothing(evidence: Evidence) -> str | None:
    """A definite no isn't undone; only what acted or may have acted is."""
    if not evidence.of(e.CompensationRequested) or not evidence.of(e.ActionRejected):
        return None
    rejected: set[tuple[str, str]] = set()
    for event in evidence.events:
        match event:
            case e.ActionRejected():
                rejected.add((event.step, event.item))
            case e.ActionSucceeded():
                rejected.discard((event.step, event.item))
            case e.CompensationRequested():
                if (event.step, event.item) in rejected:
                    return f"{unit_name(event.step, event.item)} said no and was told to undo"
            case _:
                pass
    return None


def once_is_sent_once(evidence: Evidence) -> str | None:
    """A call that nothing makes safe to repeat acts once, unless a person had it repeated."""
    for (step, name), acts in evidence.acts.items():
        if acts > 1:
            item = evidence.record.item(step, name)
            again = any(event.step == step and event.fact for _, event in evidence.of(e.RetryAsked))
            if item is not None and item.guard is Guard.ONCE and not again:
                return f"{item.name} acted more than once"
    return None


PROMISES: Final[Mapping[str, Promise]] = {
    "the log is gapless": the_log_is_gapless,
    "no fact twice": no_fact_twice,
    "an end is final": an_end_is_final,
    "one direction": one_direction,
    "P2 completed means done once": p2_completed_acted_once,
    "P3 compensated means nothing is left": p3_compensated_left_nothing,
    "P4 undone after its dependents": p4_undone_after_dependents,
    "P5 past the pivot only forward": p5_past_the_pivot_only_forward,
    "P6 same key, same bytes": p6_requested_once,
    "P7 one owner at a time": p7_one_owner_at_a_time,
    "P8 persons sign": p8_persons_sign,
    "P9 ends have their names": p9_ends_have_their_names,
    "a definite no owes nothing": rejected_owes_nothing,
    "once is sent once": once_is_sent_once,
}
"""What holds at every moment, by name."""

ENDS_OR_IS_STUCK: Final = "P1 it ends or is stuck"
"""What is asked of a run that is left alone."""

ON_THE_WAY: Final[Mapping[str, str]] = {
    "P1 a start is durable": "A caller that was told that a run was started finds it in the log.",
    "P1 an acknowledged run is never lost": "What was acknowledged is in the log when all is calm.",
    "P1 nothing leaves before the log knows of it": "Every call that leaves was asked for by an event that is durable.",
    "P1 what the log took stays": "A log gives back every event that it ever took, in the same order.",
    "P6 same key, same bytes": "Every call under a key has the bytes, and the moment of its request, of the first one.",
    "P7 one owner at a time": "Calls of one epoch leave from one process.",
    "P8 persons sign": "What a person asked for and got is an event with the actor and the reason.",
    "the log is append-only": "No event that was taken is ever another one.",
    "the log is gapless": "An append follows right after what the log has.",
    "the row is the history's": "State, version and `by_hand` in a run's row are what its events fold to.",
    "an end is final": "No worker holds a run that has ended, and none is to look at it again.",
    "one direction": "No action leaves once the run has turned back, nor a pivot once compensation is asked for.",
    "nothing is sent for a marked phase": "What waits for a person isn't tried meanwhile.",
}
"""What is asked at the moment itself, by name, and what it says: an order between the log, the wire and people can't be
seen afterwards.
"""

WORDING: Final[Mapping[str, str]] = {
    "P1": "An acknowledged run survives any crash, and always ends or is listed as stuck with its reason.",
    "P2": "`completed`: every step that wasn't skipped took effect exactly once, and nothing was compensated.",
    "P3": "`compensated`: every effect was undone, and what never acted can't act any more.",
    "P4": "A step is undone only after every attempted step that depends on it.",
    "P5": "Once the pivot has succeeded a run only goes forward.",
    "P6": "Every retry of a call carries the same key and the same bytes.",
    "P7": "Two orchestrators never drive one run.",
    "P8": "Every operator command on a run is an event with the actor, the time and the reason.",
    "P9": "Clean ends, repaired ends and dirty ends have different names.",
}
"""The promises themselves, of which these are the checks."""
