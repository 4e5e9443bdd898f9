"""What is owed from where a run stands, not from what just happened: so recovery is the normal path, and the log is
the outbox.

A call goes out again and again as long as it is owed; the sender keeps apart what is already in flight. Nothing
is owed for a phase that is marked: a person decides first.
"""

from datetime import UTC, datetime

from amends.core.run.answers import OUTAGES
from amends.core.run.definition import Definition
from amends.core.run.record import ACTING, ItemRecord, RunRecord, StepState, Tries
from amends.core.words.keys import ACTION, NOTICE, SEAL, Phase
from amends.core.words.retry import BARRIER, COMPENSABLE, MICROSECONDS, PIVOT, RETRIABLE, Guard, Kind
from amends.core.words.values import value


@value
class Send:
    """A call to be made now. `starts`: the log must know of it first (`Begin`), since no barrier protects it."""

    step: str
    item: str
    phase: Phase
    participant: str
    operation: str
    guard: Guard
    kind: Kind
    body: bytes
    attempt: int
    since: int
    timeout: int
    starts: bool
    seal: str = ""


@value
class Owed:
    """Calls due by now, compensations and questions before actions; and the earliest later moment that matters."""

    sends: tuple[Send, ...]
    wake: int | None


def owed(definition: Definition, record: RunRecord, now: int, epoch: int, back: str | None = None) -> Owed:
    """Everything this run owes by `now` to an owner of this epoch.

    `back`: a participant whose circuit has just closed. Its calls that wait after an outage are due now, except those
    whose wait the participant asked for (`Retry-After`). Only calls under `barrier` leave early, because they need no
    append first.
    """
    urgent: list[Send] = []
    later: list[Send] = []
    moments: list[int] = []
    if record.ended is not None:
        _notice(record, now, later, moments)
        return Owed(tuple(later), min(moments) if moments else None)
    if record.quarantined is not None:
        return Owed((), None)
    clean = record.turned is None and not record.by_hand
    for step in record.steps.values():
        if clean and step.settled:
            continue  # only when a run turned back, or by a person's hand, is anything owed for what is done
        for item in step.items.values():
            if item.state is ACTING and item.settle is None:
                phase, tries = ACTION, item.action
            else:
                phase, tries = _active(record, item)
            if tries is None:
                continue
            if tries.pending and tries.answer_due is not None:
                moments.append(tries.answer_due)
            if tries.due is None:
                continue
            if tries.due > now:
                moments.append(tries.due)
                if tries.participant != back or not _leaves_early(tries):
                    continue
            send = _send(definition, item, phase, tries, epoch)
            (later if phase is ACTION else urgent).append(send)
    if record.deadline is not None and not record.deadline_passed and not record.backward:
        moments.append(record.deadline)
    return Owed((*urgent, *later), min(moments) if moments else None)


def _leaves_early(tries: Tries) -> bool:
    """Whether the end of an outage makes this delayed call due."""
    return tries.cause in OUTAGES and tries.guard is BARRIER and not tries.retry_after


def _active(record: RunRecord, item: ItemRecord) -> tuple[Phase, Tries | None]:
    """The one phase of an item that isn't simply acting for which something may be owed, with its key's life; without
    one nothing is.
    """
    phase, tries = Phase.ACTION, None
    if item.settle is not None and item.settling is not None:
        phase, tries = item.settling, item.settle
    elif item.state is StepState.COMPENSATING:
        phase, tries = Phase.COMPENSATION, item.undo
    return phase, None if tries is None or record.item_has_mark_of(item, phase) else tries


def _send(definition: Definition, item: ItemRecord, phase: Phase, tries: Tries, epoch: int) -> Send:
    step = definition.steps[item.step]
    kind = step.kind
    guard = tries.guard
    return Send(
        item.step,
        item.item,
        phase,
        tries.participant,
        tries.operation,
        guard,
        RETRIABLE if step.forward_only else kind if kind is PIVOT else COMPENSABLE,
        tries.body,
        tries.sends + 1,
        tries.since if item.action is None else item.action.since,
        step.policy.timeout,
        guard is not BARRIER and tries.open_epoch != epoch and phase in _UNGUARDED,
        item.seal if phase is SEAL else "",
    )


_UNGUARDED = frozenset({Phase.ACTION, Phase.COMPENSATION})
"""What a participant without a barrier must not be sent before the log knows."""


def _notice(record: RunRecord, now: int, sends: list[Send], moments: list[int]) -> None:
    tries = record.notice
    if tries is None or tries.due is None or record.notice_delivered:
        return
    if tries.due > now:
        moments.append(tries.due)
        return
    sends.append(
        Send(
            step=NOTICE,
            item="",
            phase=Phase.ACTION,
            participant=tries.participant,
            operation=tries.operation,
            guard=tries.guard,
            kind=Kind.RETRIABLE,
            body=tries.body,
            attempt=tries.sends + 1,
            since=tries.since,
            timeout=NOTICE_TIMEOUT,
            starts=False,
        )
    )


def withdrawable(definition: Definition, record: RunRecord, step: str, item: str) -> bool:
    """Whether an action that hasn't left yet must not leave any more: the run turned back, or is about to."""
    known = record.item(step, item)
    if known is None or known.state is not StepState.ACTING or known.action is None or known.action.tainted:
        return False
    return record.backward or (record.abort_requested is not None and step == definition.pivot)


NOTICE_TIMEOUT = 5 * MICROSECONDS


def deadline_of(record: RunRecord) -> datetime | None:
    """The run's deadline as a moment, for the header that tells the participant."""
    return None if record.deadline is None else datetime.fromtimestamp(record.deadline / MICROSECONDS, tz=UTC)
