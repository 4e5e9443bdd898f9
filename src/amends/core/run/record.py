"""Where a run stands: the fold of its events (`amends.core.run.evolve` does the folding), and what can be read off it.

A step lives its life per item: a step that makes one call has the single item `""`. What is shown as a step's state
is a summary; nothing is decided by it that concerns an item. Records are changed only by folding, and only in copies.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar, assert_never, cast

from amends.core.run.answers import Cause
from amends.core.run.events import Request, Who
from amends.core.words.keys import Phase, unit_name
from amends.core.words.retry import Guard, Kind
from amends.core.words.values import Words

LOCAL: Final = "local"
ASK: Final = "ask"
SLEEP: Final = "sleep"
BUILT_IN: Final = frozenset({ASK, SLEEP})
"""Participants without a service: nothing is sent to them."""


class RunState(Words):
    """The life of a run."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    STUCK = "stuck"
    ABANDONED = "abandoned"


class StepState(Words):
    """The life of a step, or of one item of it."""

    WAITING = "waiting"
    ACTING = "acting"
    DONE = "done"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    SKIPPED = "skipped"


RUNNING: Final = RunState.RUNNING
COMPLETED: Final = RunState.COMPLETED
ACTING: Final = StepState.ACTING
DONE: Final = StepState.DONE
SKIPPED: Final = StepState.SKIPPED

_SHOWN_FIRST: Final = (
    StepState.COMPENSATING,
    StepState.ACTING,
    StepState.UNKNOWN,
    StepState.REJECTED,
    StepState.COMPENSATED,
    StepState.DONE,
    StepState.SKIPPED,
)
"""A step with many items is shown as the first of these that any of them is in."""

SETTLED: Final = frozenset({StepState.DONE, StepState.SKIPPED})
CLEAR: Final = frozenset({StepState.REJECTED, StepState.COMPENSATED, StepState.SKIPPED})
"""Nothing of it remains, as far as the states go; a skipped one may still be owed its compensation."""


class Trait(Words):
    """A property of an item that decides, while the run goes back, whether the item has to be looked at."""

    STOPS = "stops"
    """It acts, and no attempt is open."""

    UNDOES = "undoes"
    """As far as the item itself goes, its compensation is still to be requested."""

    EFFECT = "effect"
    """It was skipped, and may have an effect all the same."""


Feature: TypeAlias = StepState | Trait | int
"""A property that is counted: a state, a trait, or the epoch of an open attempt that a later owner has to settle."""

Shape: TypeAlias = Literal["one", "dict", "list"]
"""A step made one call, calls by name, or calls in order."""

_R = TypeVar("_R", bound="ItemRecord | Tries | RunRecord")


@dataclass(slots=True)
class Tries:
    """The life of one key: what is sent, how often it was tried, when it goes out next.

    An attempt is *open* while its end isn't logged; `open_epoch` is the epoch it was opened under. `due` is when the
    next send is owed, `None` for never by itself. `sends` counts every ended send, `attempts` those that used up the
    budget. `tainted`: some send may have reached the participant, so an absence of proof is no proof of absence.
    `retry_after`: the wait that the participant asked for in its last answer (microseconds).
    """

    participant: str
    operation: str
    guard: Guard
    body: bytes
    since: int
    budget_from: int
    first_epoch: int
    open_epoch: int | None
    due: int | None
    attempts: int = 0
    sends: int = 0
    misrouted: int = 0
    tainted: bool = False
    pending: bool = False
    answer_due: int | None = None
    last_end: int | None = None
    cause: Cause | None = None
    detail: str = ""
    retry_after: int = 0

    @property
    def is_open(self) -> bool:
        """An attempt is in flight, as far as the log knows."""
        return self.open_epoch is not None


@dataclass(slots=True)
class ItemRecord:
    """One item of a step. `left` is the phase a person skipped it in; `settling` the phase that settles it, if one
    runs; `asked` how many sends earlier settlings made, so that no answer to one is taken for another's.
    """

    step: str
    item: str
    state: StepState
    request: Request | None
    action: Tries | None = None
    undo: Tries | None = None
    settle: Tries | None = None
    settling: Phase | None = None
    asked: int = 0
    seal: str = ""
    found: str = ""
    reply: bytes | None = None
    code: str | None = None
    detail: str = ""
    undo_word: str = ""
    left: Phase | None = None

    @property
    def name(self) -> str:
        """`reserve` or `reserve/sku-1`."""
        return unit_name(self.step, self.item)

    @property
    def guard(self) -> Guard:
        """What is promised about repeats of its action."""
        return self.request.guard if self.request is not None else Guard.IDEMPOTENT

    @property
    def behind_barrier(self) -> bool:
        """Whether its participant settles repeated, empty and late calls by itself."""
        return self.request is not None and self.request.guard is Guard.BARRIER

    @property
    def can_settle(self) -> bool:
        """Whether what became of its action can be learnt for good by asking."""
        return self.request is not None and (self.behind_barrier or self.request.can_settle)

    @property
    def may_have_effect(self) -> bool:
        """A skipped action that was requested from a barrier is still undone when the run turns back."""
        return self.state is StepState.SKIPPED and self.left is Phase.ACTION and self.behind_barrier

    @property
    def wants_undo(self) -> bool:
        """Whether a compensation is to be requested, as far as the item itself goes."""
        if self.request is None:
            return False
        match self.state:
            case StepState.DONE:
                return True
            case StepState.UNKNOWN:
                return self.behind_barrier and not self.seal
            case StepState.COMPENSATING:
                return self.undo is None and not self.seal
            case _:
                return self.may_have_effect

    @property
    def features(self) -> list[Feature]:
        """Everything of this item that its step counts."""
        found: list[Feature] = [self.state]
        action, undo = self.action, self.undo
        if self.state is StepState.ACTING and action is not None:
            found.append(Trait.STOPS if action.open_epoch is None else action.open_epoch)
        elif self.wants_undo:
            found.append(Trait.UNDOES)
            if self.state is StepState.SKIPPED:
                found.append(Trait.EFFECT)
        elif (
            self.state is StepState.COMPENSATING
            and undo is not None
            and undo.open_epoch is not None
            and undo.guard is not Guard.BARRIER
        ):
            found.append(undo.open_epoch)
        return found

    def tries(self, phase: Phase) -> Tries | None:
        """The life of this item's key of a phase."""
        match phase:
            case Phase.ACTION:
                return self.action
            case Phase.COMPENSATION:
                return self.undo
            case Phase.PROBE | Phase.SEAL:
                return self.settle if self.settling is phase else None
            case _ as never:
                assert_never(never)


@dataclass(slots=True)
class StepRecord:
    """A step that is no longer waiting. `counts` says how many of its items have each feature, where it has several:
    so a decision about the step costs as much with a thousand items as with two.

    `kind` is `None` where nothing was ever requested. `state` is the summary that is shown (a step without any call is
    done at once); `settled`: every item is done or skipped, so that those that wait for it may start. `turning` names
    the counted items that are looked at while the run goes back: those with one of `TURNS`. `shown` is no
    fact: the projection may keep here the JSON that it wrote, as long as this record lives.
    """

    name: str
    kind: Kind | None
    shape: Shape
    items: dict[str, ItemRecord]
    counts: dict[Feature, int]
    state: StepState
    settled: bool
    turning: frozenset[str] = frozenset()
    shown: bytes | None = field(default=None, compare=False)

    @property
    def features(self) -> Collection[Feature]:
        """Every feature that some item has."""
        if len(self.items) != 1:
            return self.counts
        (item,) = self.items.values()
        return item.features

    def to_turn(self) -> list[ItemRecord]:
        """Every item that stops, or whose compensation is still to be requested, in order."""
        if len(self.items) == 1:
            return list(self.items.values())
        if len(self.turning) == 1:
            return [self.items[each] for each in self.turning]
        return [each for name, each in self.items.items() if name in self.turning]


def summed_up(
    name: str,
    kind: Kind | None,
    shape: Shape,
    items: dict[str, ItemRecord],
    counts: dict[Feature, int],
    *,
    turning: frozenset[str],
) -> StepRecord:
    """A step's record, with the summary of its items."""
    if len(items) == 1:
        (item,) = items.values()
        return alone(name, kind, shape, item)
    state = next((each for each in _SHOWN_FIRST if counts.get(each)), StepState.DONE)
    settled = sum(counts.get(each, 0) for each in SETTLED) == len(items)
    return StepRecord(name, kind, shape, items, counts, state, settled, turning)


def alone(name: str, kind: Kind | None, shape: Shape, item: ItemRecord) -> StepRecord:
    """The record of a step with one item, whose state is the step's: nothing has to be counted."""
    return StepRecord(name, kind, shape, {item.item: item}, NOT_COUNTED, item.state, item.state in SETTLED)


NOT_COUNTED: Final[dict[Feature, int]] = {}
"""The counts of a step with one item."""


TURNS: Final = frozenset({Trait.STOPS, Trait.UNDOES})
"""An item with one of these is looked at while the run goes back."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Why a run is stuck: what only a person can move. A mark is not a step state."""

    step: str
    item: str
    phase: Phase
    reason: str
    detail: str
    attempts: int
    since: int
    code: str | None = None

    @property
    def name(self) -> str:
        """`reserve` or `reserve/sku-1`."""
        return unit_name(self.step, self.item)


@dataclass(frozen=True, slots=True)
class TurnedBack:
    """Why the run goes backward: the first trigger; later ones change nothing."""

    step: str | None
    code: str | None
    reason: str
    at: int


@dataclass(slots=True)
class RunRecord:
    """The folded state of one run. `length` is the number of its events: the version of its history.

    `purged`: the events are gone. Of such a run only its end is known, and it owes nothing.
    """

    run: str
    saga: str
    version: int
    digest: str
    input: bytes
    deadline: int | None
    by: str
    created_at: int
    at: int
    steps: dict[str, StepRecord]
    marks: dict[tuple[str, str, Phase], Mark]
    length: int = 0
    turned: TurnedBack | None = None
    abort_requested: str | None = None
    abort_void: bool = False
    deadline_passed: bool = False
    by_hand: bool = False
    ended: RunState | None = None
    ended_at: int | None = None
    ended_by: Who | None = None
    effects: tuple[str, ...] = ()
    notice: Tries | None = None
    notice_delivered: bool = False
    notice_failed: bool = False
    quarantined: str | None = None
    purged: bool = False

    def copy(self) -> Self:
        """A record that can be folded further without touching this one; items are copied when they change."""
        new = clone(self)
        new.steps = dict(self.steps)
        new.marks = dict(self.marks)
        return new

    @property
    def state(self) -> RunState:
        """The state that is shown and stored."""
        if self.ended is not None:
            return self.ended
        if self.marks or self.quarantined is not None:
            return RunState.STUCK
        return RUNNING if self.turned is None else RunState.COMPENSATING

    @property
    def notice_open(self) -> bool:
        """A completion notification is due, or can't be delivered."""
        return self.notice_failed or (self.notice is not None and not self.notice_delivered)

    @property
    def hurries_pivot(self) -> bool:
        """Compensation was asked for, and the pivot hasn't decided yet."""
        return self.abort_requested is not None and not self.abort_void and self.turned is None

    @property
    def backward(self) -> bool:
        """The run turned back."""
        return self.turned is not None

    def items(self) -> Iterator[ItemRecord]:
        """Every item of every step that is no longer waiting."""
        for step in self.steps.values():
            yield from step.items.values()

    def item(self, step: str, item: str) -> ItemRecord | None:
        """One item, if its step is no longer waiting."""
        record = self.steps.get(step)
        return record.items.get(item) if record is not None else None

    def step_state(self, step: str) -> StepState:
        """What is shown of a step."""
        record = self.steps.get(step)
        return StepState.WAITING if record is None else record.state

    def step_has_mark(self, step: str) -> bool:
        """Whether a person is needed for this step."""
        return any(mark.step == step for mark in self.marks.values())

    def item_has_mark_of(self, item: ItemRecord, phase: Phase) -> bool:
        """Whether a person is needed for this phase of it."""
        return (item.step, item.item, phase) in self.marks

    def item_has_mark(self, item: ItemRecord) -> bool:
        """Whether a person is needed for this item."""
        return any((item.step, item.item, phase) in self.marks for phase in Phase)


def clone(record: _R) -> _R:
    """A shallow copy of one of the records above; a tenth of what `copy.copy` costs."""
    cls = type(record)
    return cast("_R", _COPIERS[cls](object.__new__(cls), record))


def _copier(cls: type[Any]) -> Callable[[Any, Any], Any]:
    """A function that copies every field by name: half as dear as to hand the values to `__init__`."""
    lines = "".join(f"    new.{each.name} = old.{each.name}\n" for each in fields(cls))
    made: dict[str, Any] = {}
    exec(f"def copy(new, old):\n{lines}    return new\n", made)  # noqa: S102 - of our own fields' names, as dataclasses do
    return cast("Callable[[Any, Any], Any]", made["copy"])


_COPIERS: Final[Mapping[type, Callable[[Any, Any], Any]]] = {
    cls: _copier(cls) for cls in (Tries, ItemRecord, StepRecord, RunRecord)
}
