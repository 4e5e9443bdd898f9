"""Runs as people and programs see them: the same body for the API, the command line and the dashboard.

Pure: what the log has (row, graph, record) goes in, a value that encodes as JSON comes out. A saga's own code isn't
needed: its graph is in the log, so a process that can read the log can show every run in it. Inputs and error texts are
shown redacted. Replies of a run that has ended are redacted too, but for a client that decodes them as their types.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from amends.core.run.offers import Offer
from amends.core.run.record import SETTLED, ItemRecord, RunRecord, RunState, StepRecord, StepState, Tries
from amends.core.run.summary import PURGED, left_by, undone_steps
from amends.core.words.keys import NOTICE, Phase, decode_item, make_key, unit_name
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import Kind, Patience
from amends.engine.projection import attempts_of, error_of
from amends.ports.log import StoredRun
from amends.ports.rows import RUN_PHASE, WHOLE_RUN, RowFacts, facts_of
from amends.views.graph import Graph
from amends.views.masking import Mask

_EPOCH_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = int((datetime.max.replace(tzinfo=UTC) - _EPOCH_START) / timedelta(microseconds=1))

_CURRENT: Final = frozenset({StepState.ACTING, StepState.UNKNOWN, StepState.COMPENSATING})
_NULL: Final = msgspec.Raw(b"null")
CANT_BE_READ: Final = "its history can't be read"


class CallView(msgspec.Struct, frozen=True, omit_defaults=True):
    """The life of one key. `next_at`: when it goes out next; `answer_due`: until when an answer is waited for.

    `attempts_max` and `gives_up_at`: how hard it is tried, where the saga is loaded and its policy bounds that.
    """

    key: str
    participant: str
    operation: str
    attempts: int
    in_flight: bool = False
    pending: bool = False
    next_at: datetime | None = None
    answer_due: datetime | None = None
    since: datetime | None = None
    cause: str | None = None
    error: str | None = None
    attempts_max: int | None = None
    gives_up_at: datetime | None = None


class ItemView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call of a step that makes many; `action`, `undo` and `settle` are its keys as far as they were used."""

    name: str
    state: str
    attempts: int
    error: str | None
    action: CallView | None = None
    undo: CallView | None = None
    settle: CallView | None = None


class StepView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step. `items` is there only where it makes many calls; else `action`, `undo` and `settle`."""

    name: str
    kind: str
    state: str
    attempts: int
    error: str | None
    items: list[ItemView] | None = None
    action: CallView | None = None
    undo: CallView | None = None
    settle: CallView | None = None


class StuckView(msgspec.Struct, frozen=True):
    """What only a person can move. `code` is the service's word. Where the run as a whole is meant `step` is empty and
    `phase` is `run`.
    """

    step: str
    phase: str
    reason: str
    code: str | None
    detail: str | None
    attempts: int
    since: datetime


class TurnedView(msgspec.Struct, frozen=True):
    """Why a run goes backward: what rejected it (`step`, `code`), or what else turned it."""

    step: str | None
    code: str | None
    reason: str
    at: datetime


class OwnerView(msgspec.Struct, frozen=True):
    """The worker that has a run in memory, and the run's epoch under it."""

    worker: str
    epoch: int


class OutcomeView(msgspec.Struct, frozen=True):
    """How a run ended. `step` and `code` say what rejected it, `by` names the operator that abandoned it; `replies` are
    of done steps.
    """

    state: str
    by_hand: bool
    step: str | None
    code: str | None
    reason: str | None
    by: str | None
    undone: tuple[str, ...]
    replies: dict[str, Any]


class WarningView(msgspec.Struct, frozen=True):
    """What is probably wrong with a start that was accepted: `path` is where in the input (`$.stay.nigths`)."""

    path: str
    text: str


class OfferView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A verb that would be accepted of a stuck run. `step` (`reserve/sku-1` for one call of many) is left out for a
    verb on the whole run; `outcome` is what `resolve` and `answer` take.

    `needs_reply`: only with a reply of the step's type. `possible_from`: it is refused until then.
    """

    verb: str
    step: str = ""
    outcome: str | None = None
    needs_reply: bool = False
    possible_from: datetime | None = None


class RunView(msgspec.Struct, frozen=True):
    """One run, whole. `version` is the saga's. Times are UTC.

    `history` is said where the run's events aren't there to be shown: `purged` (its retention is over) or `unreadable`
    (damaged, or written by a newer version, or its key isn't here; a mark has the cause). Then the view is of the row
    alone: how the run stands or ended, without input, replies and errors.

    Left out where there is none: `turned` (why it goes backward), `abort_requested` (it is wanted, the pivot
    decides), `notice` (its delivery), `effects` (what may remain of an abandoned run), `owner`, `warnings` (in the
    answer to a start only: fields of the input that its type doesn't have; they are ignored), `offers` (the verbs that
    would be accepted of a stuck run: left out where this process hasn't loaded its saga, and can't know).
    """

    id: str
    saga: str
    version: int
    state: str
    by_hand: bool
    current: list[str]
    steps: list[StepView]
    input: msgspec.Raw
    outcome: OutcomeView | None
    stuck: list[StuckView]
    created_at: datetime
    updated_at: datetime
    deadline: datetime | None
    tags: Mapping[str, str]
    ended_at: datetime | None = None
    history: Literal["purged", "unreadable"] | msgspec.UnsetType = msgspec.UNSET
    turned: TurnedView | msgspec.UnsetType = msgspec.UNSET
    abort_requested: str | msgspec.UnsetType = msgspec.UNSET
    notice: CallView | msgspec.UnsetType = msgspec.UNSET
    notice_delivered: bool | msgspec.UnsetType = msgspec.UNSET
    effects: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    owner: OwnerView | msgspec.UnsetType = msgspec.UNSET
    warnings: Sequence[WarningView] | msgspec.UnsetType = msgspec.UNSET
    offers: Sequence[OfferView] | msgspec.UnsetType = msgspec.UNSET


class StuckRow(msgspec.Struct, frozen=True):
    """What only a person can move, as the row of a run has it. Of the run as a whole: step is empty, phase is `run`."""

    step: str
    phase: str
    reason: str
    attempts: int
    since: datetime
    code: str | None = None


class RowView(msgspec.Struct, frozen=True):
    """One run as a list shows it. `due_at` is when it needs a worker next; `past_pivot`: it can only go forward;
    `digest`: of the graph it began with.
    """

    id: str
    saga: str
    version: int
    digest: str
    state: str
    by_hand: bool
    current: list[str]
    stuck: list[StuckRow]
    created_at: datetime
    updated_at: datetime
    deadline: datetime | None
    tags: Mapping[str, str]
    past_pivot: bool
    due_at: datetime | None
    ended_at: datetime | None
    owner: OwnerView | None


class RunsView(msgspec.Struct, frozen=True):
    """A page of runs, newest first; `next` is the `cursor` of the page that follows, if there is one."""

    runs: list[RowView]
    next: str | None


class WorkerView(msgspec.Struct, frozen=True):
    """A process that drives runs. `expires_at`: when its lease is over; `null` where a lock on the log is the lease.

    `here`: it is the one that answers. `sagas`: what it has loaded, as `place-order v2`; `digests`: of the graphs of
    these, in the same order.
    """

    id: str
    state: str
    host: str
    here: bool
    runs: int | None
    expires_at: datetime | None
    sagas: list[str]
    digests: list[str]


class WorkersView(msgspec.Struct, frozen=True):
    """Every worker on this log."""

    workers: list[WorkerView]


def run_view(
    graph: Graph, record: RunRecord, tags: Mapping[str, str], owner: OwnerView | None = None, *, whole: bool = False
) -> RunView:
    """A run from its record. `whole`: its replies as they are, for the program that decodes them."""
    mask = graph.mask(record)
    notice, turned = record.notice, record.turned
    return RunView(
        id=record.run,
        saga=record.saga,
        version=record.version,
        state=record.state.value,
        by_hand=record.by_hand,
        current=[name for name in graph.kinds if record.step_state(name) in _CURRENT],
        steps=[_step(record, name, kind, mask, graph) for name, kind in graph.kinds.items()],
        input=msgspec.Raw(graph.input.shown(record.input)),
        outcome=None if record.ended is None else _outcome(graph, record, mask, whole=whole),
        stuck=_stuck(record, mask),
        created_at=moment(record.created_at),
        updated_at=moment(record.at),
        deadline=None if record.deadline is None else moment(record.deadline),
        tags=tags,
        ended_at=None if record.ended_at is None else moment(record.ended_at),
        turned=msgspec.UNSET
        if turned is None
        else TurnedView(turned.step, mask.maybe(turned.code), mask.text(turned.reason), moment(turned.at)),
        abort_requested=mask.text(record.abort_requested)
        if record.abort_requested is not None and record.hurries_pivot
        else msgspec.UNSET,
        notice=msgspec.UNSET
        if notice is None
        else _call(f"{record.run}:{NOTICE}:{Phase.ACTION.value}", notice, mask, due=notice.due),
        notice_delivered=msgspec.UNSET if notice is None else record.notice_delivered,
        effects=record.effects or msgspec.UNSET,
        owner=msgspec.UNSET if owner is None else owner,
    )


def offer_views(offers: Iterable[Offer]) -> list[OfferView]:
    """What can be done about a stuck run, as it is shown."""
    return [
        OfferView(
            each.verb,
            unit_name(each.step, decode_item(each.item)),
            each.outcome,
            each.needs_reply,
            None if each.possible_from is None else moment(each.possible_from),
        )
        for each in offers
    ]


def row_only_view(row: StoredRun, unreadable: str | None = None) -> RunView:
    """A run of which only the row can be shown: its history was purged, or is `unreadable` for this reason.

    Errors of steps aren't shown: what they must not show is known from the input, which isn't there.
    """
    shown, facts = row_view(row), facts_of(row)
    stuck = [
        StuckView(each.step, each.phase, each.reason, each.code, None, each.attempts, each.since)
        for each in shown.stuck
    ]
    if unreadable is not None:
        stuck = [each for each in stuck if each.reason != StuckReason.UNREADABLE]
        stuck.append(StuckView(WHOLE_RUN, RUN_PHASE, StuckReason.UNREADABLE, None, unreadable, 0, shown.updated_at))
    return RunView(
        id=row.run,
        saga=row.saga,
        version=row.saga_version,
        state=row.state,
        by_hand=row.by_hand,
        current=shown.current,
        steps=[StepView(each.name, each.kind, each.state, each.attempts, None) for each in facts.steps],
        input=_NULL,
        outcome=None if row.ended_at is None else _bare_outcome(row, PURGED if unreadable is None else CANT_BE_READ),
        stuck=stuck,
        created_at=shown.created_at,
        updated_at=shown.updated_at,
        deadline=shown.deadline,
        tags=row.tags,
        ended_at=shown.ended_at,
        history="purged" if unreadable is None else "unreadable",
        owner=msgspec.UNSET if shown.owner is None else shown.owner,
    )


def _bare_outcome(row: StoredRun, why: str) -> OutcomeView:
    """How a run ended, of which nothing else is known for this reason."""
    reason = None if row.state == RunState.COMPLETED else why
    by = "" if row.state == RunState.ABANDONED else None
    return OutcomeView(row.state, row.by_hand, None, None, reason, by, (), {})


def row_view(row: StoredRun) -> RowView:
    """A run from its row alone. A row that can't be read is shown with a mark that says so."""
    facts = facts_of(row)
    return RowView(
        id=row.run,
        saga=row.saga,
        version=row.saga_version,
        digest=row.digest,
        state=row.state,
        by_hand=row.by_hand,
        current=list(facts.current),
        stuck=_stuck_rows(facts),
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
        deadline=None if row.deadline is None else moment(row.deadline),
        tags=row.tags,
        past_pivot=facts.past_pivot,
        due_at=None if row.due_at is None else moment(row.due_at),
        ended_at=None if row.ended_at is None else moment(row.ended_at),
        owner=owner_of(row),
    )


def marks_of(row: StoredRun) -> list[StuckRow]:
    """Why a run is stuck, as its row says."""
    return _stuck_rows(facts_of(row))


def is_past_pivot(row: StoredRun) -> bool:
    """Whether a run can only go forward, as its row says: its pivot is done, or a step after it was begun."""
    return facts_of(row).past_pivot


def _stuck_rows(facts: RowFacts) -> list[StuckRow]:
    return [
        StuckRow(each.step, each.phase, each.reason, each.attempts, moment(each.since), each.code)
        for each in facts.marks
    ]


def owner_of(row: StoredRun) -> OwnerView | None:
    """The worker that has a run in memory."""
    return None if row.owner is None else OwnerView(row.owner, row.epoch)


def moment(micros: int) -> datetime:
    """Microseconds since 1970 as a time, which JSON shows as RFC 3339; what is beyond the calendar is its end."""
    return _EPOCH_START + timedelta(microseconds=max(0, min(micros, _LATEST)))


def _step(record: RunRecord, name: str, kind: Kind, mask: Mask, graph: Graph) -> StepView:
    step = record.steps.get(name)
    if step is None:
        return StepView(name, kind.value, StepState.WAITING.value, 0, None)
    items = list(step.items.values())
    error = next((told for each in items if (told := error_of(each))), None)
    if step.shape != "one":
        views = [_item(record.run, each, mask, graph) for each in items]
        attempts = sum(each.attempts for each in views)
        return StepView(name, kind.value, step.state.value, attempts, mask.said(error), views)
    return StepView(
        name,
        kind.value,
        step.state.value,
        sum(attempts_of(each) for each in items),
        mask.said(error),
        None,
        *(_calls(record.run, items[0], mask, graph) if items else ()),
    )


def _item(run: str, item: ItemRecord, mask: Mask, graph: Graph) -> ItemView:
    calls = _calls(run, item, mask, graph)
    return ItemView(decode_item(item.item), item.state.value, attempts_of(item), mask.said(error_of(item)), *calls)


def _calls(
    run: str, item: ItemRecord, mask: Mask, graph: Graph
) -> tuple[CallView | None, CallView | None, CallView | None]:
    """What was sent of an item, phase by phase; when one goes out next only of the one that is at work."""
    found: list[CallView | None] = []
    active = _active(item)
    settling = item.settling or Phase.SEAL
    for phase, tries in ((Phase.ACTION, item.action), (Phase.COMPENSATION, item.undo), (settling, item.settle)):
        if tries is None:
            found.append(None)
            continue
        key = make_key(run, item.step, item.item, phase)
        patience = graph.patience(item.step, phase) if tries is active else None
        found.append(_call(key, tries, mask, due=tries.due if tries is active else None, patience=patience))
    action, undo, settle = found
    return action, undo, settle


def _active(item: ItemRecord) -> Tries | None:
    if item.settling is not None:
        return item.settle
    return item.undo if item.state is StepState.COMPENSATING else item.action if item.state not in SETTLED else None


def _call(key: str, tries: Tries, mask: Mask, *, due: int | None, patience: Patience | None = None) -> CallView:
    return CallView(
        key=key,
        participant=tries.participant,
        operation=tries.operation,
        attempts=tries.sends + tries.is_open,
        in_flight=tries.is_open,
        pending=tries.pending,
        next_at=None if due is None or tries.is_open else moment(due),
        answer_due=moment(tries.answer_due) if tries.pending and tries.answer_due is not None else None,
        since=moment(tries.since),
        cause=None if tries.cause is None else tries.cause.value,
        error=mask.said(tries.detail),
        attempts_max=None if patience is None else patience.attempts_max,
        gives_up_at=None if patience is None else moment(tries.budget_from + patience.give_up_after),
    )


def _stuck(record: RunRecord, mask: Mask) -> list[StuckView]:
    found = [
        StuckView(
            mark.name,
            mark.phase.value,
            mark.reason,
            mask.maybe(mark.code),
            mask.said(mark.detail),
            mark.attempts,
            moment(mark.since),
        )
        for mark in record.marks.values()
    ]
    if record.quarantined is not None and record.ended is None:
        found.append(StuckView(WHOLE_RUN, RUN_PHASE, record.quarantined, None, None, 0, moment(record.at)))
    return found


def _outcome(graph: Graph, record: RunRecord, mask: Mask, *, whole: bool) -> OutcomeView:
    turned, state = record.turned, record.state
    by = None
    reason = None if turned is None else turned.reason
    if state is RunState.ABANDONED:
        by, reason = left_by(record)
    return OutcomeView(
        state=state.value,
        by_hand=record.by_hand,
        step=None if turned is None else turned.step,
        code=None if turned is None else mask.maybe(turned.code),
        reason=mask.maybe(reason),
        by=by,
        undone=undone_steps(graph.kinds, record),
        replies={
            step.name: _replies(step, graph, whole=whole)
            for step in record.steps.values()
            if step.state is StepState.DONE and step.items
        },
    )


def _replies(step: StepRecord, graph: Graph, *, whole: bool) -> object:
    known = {
        decode_item(each.item): msgspec.Raw(each.reply if whole else _reply(each, each.reply, graph))
        if each.reply is not None
        else None
        for each in step.items.values()
        if each.state is StepState.DONE
    }
    match step.shape:
        case "one":
            return known.get("")
        case "dict":
            return known
        case "list":
            return list(known.values())


def _reply(item: ItemRecord, reply: bytes, graph: Graph) -> bytes:
    asked = item.request
    return reply if asked is None else graph.reply(item.step, asked.participant, asked.operation).shown(reply)
