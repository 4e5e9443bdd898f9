"""A decision being made: facts are emitted one after the other, and each is folded at once, so the next is decided on
it.
"""

from typing import Final

from amends.core.run import events as e
from amends.core.run.answers import Cause, Unknown
from amends.core.run.definition import Definition, StepDefinition
from amends.core.run.evolve import apply
from amends.core.run.evolve_items import NEVER_LEFT
from amends.core.run.record import ItemRecord, RunRecord, StepState, Tries
from amends.core.saga.mistakes import BuildError
from amends.core.words.error_texts import cut
from amends.core.words.keys import CallKey, Phase, make_key
from amends.core.words.limits import EVENTS_MAX, MISROUTED_MAX, REASON_CHARACTERS_MAX
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import Guard, Kind, OnUnknown, Patience, delay


class Draft:
    """What is decided so far. `epoch` is the owner's, 0 for a visitor. `held`: calls that are open as far as the log
    knows and haven't left.
    """

    __slots__ = ("adopting", "at", "bug", "definition", "epoch", "events", "held", "record")

    def __init__(self, definition: Definition, record: RunRecord, at: int, epoch: int) -> None:
        self.definition = definition
        self.record = record
        self.at = at if at > record.at else record.at  # noqa: FURB136 - an eighth of what `max` takes
        self.epoch = epoch
        self.events: list[e.Event] = []
        self.adopting = False
        self.held: frozenset[CallKey] = frozenset()
        self.bug: tuple[BuildError, str] | None = None

    def emit(self, event: e.Event) -> None:
        """One more fact."""
        apply(self.record, event)
        self.events.append(event)

    def step(self, name: str) -> StepDefinition:
        """A step's definition."""
        return self.definition.steps[name]

    def mark(
        self, step: str, item: str, phase: Phase, reason: StuckReason, detail: str, *, code: str | None = None
    ) -> None:
        """Only a person can move this on."""
        self.emit(e.Marked(self.at, self.epoch, step, item, phase, reason, detail, code))

    def turn_back(self, step: str | None, code: str | None, reason: str) -> None:
        """The direction changes, once."""
        if self.record.turned is None:
            self.emit(e.Aborted(self.at, self.epoch, step, code, reason))

    def turned_by(self, item: ItemRecord, code: str | None, reason: str) -> None:
        """Start compensation because of this item. If a cancel was waiting for the pivot, its reason is used."""
        requested = self.record.abort_requested
        if requested is not None and self.is_current_pivot(item):
            self.turn_back(None, None, requested)
        else:
            self.turn_back(item.step, code, reason)

    # -- what can be read off the record with the definition at hand

    @property
    def pivot(self) -> ItemRecord | None:
        """The pivot, once it was requested."""
        name = self.definition.pivot
        return None if name is None else self.record.item(name, "")

    @property
    def pivot_open(self) -> bool:
        """The pivot was requested and its outcome isn't known."""
        pivot = self.pivot
        return pivot is not None and pivot.state in {StepState.ACTING, StepState.UNKNOWN}

    @property
    def past_pivot(self) -> bool:
        """There is no way back: the pivot is done, or something was requested that must succeed in the end."""
        pivot = self.pivot
        if pivot is not None and pivot.state is StepState.DONE:
            return True
        return any(
            record.kind is not None and self.step(name).forward_only for name, record in self.record.steps.items()
        )

    def is_current_pivot(self, item: ItemRecord) -> bool:
        """Whether this item is the pivot's."""
        return item.step == self.definition.pivot

    def never_left(self, tries: Tries) -> bool:
        """Provably nothing of this key was ever sent, over all its budgets."""
        if tries.tainted:
            return False
        return tries.guard is not Guard.BARRIER or self.epoch == tries.first_epoch

    def next_due(self, tries: Tries, patience: Patience, key: str, unknown: Unknown) -> int | None:
        """When the same key goes out again after this end of an attempt; `None`: the budget is spent."""
        if tries.guard is Guard.ONCE and unknown.cause not in NEVER_LEFT:
            return None
        if unknown.cause is Cause.MISROUTED and tries.misrouted + 1 >= MISROUTED_MAX:
            return None
        if patience.attempts_max is not None and tries.attempts + unknown.counted >= patience.attempts_max:
            return None
        if self.record.length >= EVENTS_MAX:
            return None
        due = self.at + delay(patience, key, tries.sends + 1, unknown.retry_after)
        return None if due - tries.budget_from > patience.give_up_after else due

    def fail(self, item: ItemRecord, phase: Phase, unknown: Unknown, next_due: int | None) -> None:
        """An attempt ended without a settled answer."""
        self.emit(
            e.AttemptFailed(
                self.at,
                self.epoch,
                item.step,
                item.item,
                phase,
                unknown.cause,
                unknown.detail,
                next_due,
                unknown.counted,
                unknown.retry_after,
            )
        )

    def key(self, item: ItemRecord, phase: Phase) -> str:
        """The idempotency key of one of its phases."""
        return make_key(self.record.run, item.step, item.item, phase)

    def again(self, item: ItemRecord) -> ItemRecord:
        """The item as it is by now."""
        return self.record.steps[item.step].items[item.item]


# -- what follows when an action's outcome stays open; shared by replies, timers and adoption


def give_up_action(draft: Draft, item: ItemRecord, unknown: Unknown) -> None:
    """Nothing more is tried by itself: turn back, ask the participant, or ask a person, as the step's kind and guard
    say.
    """
    step, record = draft.step(item.step), draft.record
    name = item.name
    if (
        unknown.cause in NEVER_LEFT
        and item.action is not None
        and draft.never_left(item.action)
        and not step.forward_only
    ):
        withdrawn = unknown.cause is Cause.WITHDRAWN or record.backward
        word = "withdrawn" if withdrawn else "unreachable"
        draft.emit(e.ActionRejected(draft.at, draft.epoch, item.step, item.item, "unreachable", unknown.detail, word))
        draft.turned_by(item, "unreachable", because(f"{name} could not be reached", unknown.detail))
        return
    draft.emit(e.ActionUnknown(draft.at, draft.epoch, item.step, item.item, unknown.cause, unknown.detail))
    if step.forward_only:
        reason = StuckReason.REJECTED_AFTER_PIVOT if unknown.cause is Cause.REJECTED else StuckReason.SPENT
        draft.mark(item.step, item.item, Phase.ACTION, _reason(unknown, reason), unknown.detail)
        return
    if step.kind is Kind.NEUTRAL:
        if unknown.cause is Cause.MISROUTED and not record.backward:
            draft.mark(item.step, item.item, Phase.ACTION, StuckReason.MISROUTED, unknown.detail)
        else:
            draft.turn_back(item.step, "no-answer", failed(name, unknown.cause, unknown.detail))
        return
    if record.backward and item.behind_barrier:
        return  # compensated, as soon as nothing depends on it
    if unknown.cause is Cause.MISROUTED and not record.backward:
        draft.mark(item.step, item.item, Phase.ACTION, StuckReason.MISROUTED, unknown.detail)
        return
    policy = step.policy.on_unknown_of(item.guard, can_settle=item.can_settle)
    asks_first = step.kind is Kind.PIVOT or record.backward or unknown.cause in {Cause.NO_ANSWER, Cause.REJECTED}
    if policy is OnUnknown.COMPENSATE and not asks_first:
        draft.turned_by(item, "no-answer", failed(name, unknown.cause, unknown.detail))
    elif item.can_settle and (asks_first or policy is OnUnknown.SETTLE):
        settle_action(draft, item)
    else:
        draft.mark(item.step, item.item, Phase.ACTION, StuckReason.OUTCOME_UNKNOWN, unknown.detail)


def settle_action(draft: Draft, item: ItemRecord, seal: str = "") -> None:
    """Ask the participant what became of an action; behind a barrier in a way that makes a late one impossible."""
    phase = Phase.SEAL if item.behind_barrier else Phase.PROBE
    draft.emit(e.SettleRequested(draft.at, draft.epoch, item.step, item.item, phase, seal))


def failed(name: str, cause: Cause | None, detail: str) -> str:
    """Why the run turns back over an action whose outcome stayed open: how it failed, with the last error."""
    return because(f"{name} did not answer" if cause in _SILENT else f"{name} failed", detail)


def because(text: str, detail: str) -> str:
    """A reason with the error behind it, within the limit of a reason."""
    return cut(f"{text}: {detail}" if detail else text, REASON_CHARACTERS_MAX)


_SILENT: Final = frozenset(
    {
        None,
        Cause.NOT_SENT,
        Cause.WITHDRAWN,
        Cause.LOST,
        Cause.TIMED_OUT,
        Cause.IN_PROGRESS,
        Cause.OWNER_LOST,
        Cause.NO_ANSWER,
        Cause.PENDING,
        Cause.ABSENT,
        Cause.TURNED_BACK,
    }
)
"""Ends of an action in which the participant gave no answer to it. In all others an answer came, or an exception."""


def _reason(unknown: Unknown, otherwise: StuckReason) -> StuckReason:
    return StuckReason.MISROUTED if unknown.cause is Cause.MISROUTED else otherwise
