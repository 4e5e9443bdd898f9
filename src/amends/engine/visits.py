"""Visits: what is asked or told of a run by a process that may not own it (a visitor). The log decides which of them
comes first.

A visit reads the run, decides on it and appends under the version it read; refused, because another process wrote
meanwhile, it reads and decides again. The process that has the run in memory is told and reads what was written. A
preview is the same without the append; a probe asks the participant and writes nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from amends.core.run import commands as c
from amends.core.run import events as e
from amends.core.run.answers import CallResponse, Came, Outcome, Unknown, read_answer
from amends.core.run.callback import Heard, heard
from amends.core.run.decide import decide
from amends.core.run.definition import Definition
from amends.core.run.offers import Offer, offers
from amends.core.run.owed import Owed, Send, deadline_of, owed
from amends.core.run.record import ItemRecord, RunRecord, RunState
from amends.core.run.summary import PURGED
from amends.core.run.verbs import ENDED, cannot_probe, find_item
from amends.core.words.errors import AmendsError, Changed, LogUnavailable, Overloaded, PastPivot, Refused
from amends.core.words.keys import CallKey, Key, Phase, make_key
from amends.core.words.retry import MICROSECONDS, Kind
from amends.core.words.values import value
from amends.engine.active_run import changed
from amends.engine.appends import is_progress, stored
from amends.engine.calls import LaneOf
from amends.engine.projection import Projector
from amends.ports.clock import TimeSource
from amends.ports.events import EventCodec
from amends.ports.log import Append, StoredRun, Written
from amends.ports.transport import Outgoing
from amends.system.interrupts import contained

VISITS_MAX: Final = 5
"""How often a visit is decided anew when another process was quicker."""

Read = Callable[[str], Awaitable[tuple[StoredRun, Definition, RunRecord]]]
Write = Callable[[Append, Callable[[Written | LogUnavailable], None]], Awaitable[Written]]
Tell = Callable[[Definition, RunRecord], None]
"""Told of a run that a visit changed, once that is durable."""

Ask = Callable[[int, int], c.Verb]
"""Makes a verb of the time and the epoch."""


@value
class Preview:
    """What would follow from a verb, and the version of the history for which that holds."""

    version: int
    definition: Definition
    before: RunRecord
    after: RunRecord
    events: tuple[e.Event, ...]
    sends: tuple[Send, ...]


@value
class Probed:
    """What a participant said when it was asked about a call, as it came and as it is read."""

    definition: Definition
    record: RunRecord
    key: str
    participant: str
    operation: str
    came: Came
    outcome: Outcome


class Visits:
    """Makes visits to the runs of one log."""

    def __init__(  # noqa: PLR0917 - what it takes to visit
        self,
        read: Read,
        write: Write,
        lane_of: LaneOf,
        events: EventCodec,
        clock: TimeSource,
        append_ids: Callable[[], bytes],
        tell: Tell,
    ) -> None:
        self._read = read
        self._write = write
        self._lane_of = lane_of
        self._events = events
        self._clock = clock
        self._append_ids = append_ids
        self._tell = tell
        self._projector = Projector(events)

    async def steer(self, run: str, verb: Ask, expected: int | None = None) -> RunRecord | None:
        """Do what a person asks; `None` if another process wrote first. `Changed` if it isn't at the `expected` version
        (any more).
        """
        row, definition, record = await self._read(run)
        if expected is not None and row.version != expected:
            raise refused(changed(run, expected, row.version))
        at = self._clock.now()
        held = _held(row, owed(definition, record, at, row.epoch))
        decided = decide(definition, record, verb(at, 0), held)
        if isinstance(decided, c.Refusal):
            raise refused(_of(record, decided))
        if not decided.events:
            return record
        if await self._append(row, definition, decided.record, decided.events):
            return decided.record
        if expected is not None:
            raise refused(changed(run, expected, None))
        return None

    async def hear(self, key: Key, came: CallResponse) -> Heard | None:
        """Take in an answer that was posted; `None` if there is no such call.

        `Refused` if it can't be read, or if it names another call: posted to the wrong callback, the completion of an
        action would settle its compensation.
        """
        named = came.headers.get("idempotency-key")
        if named is not None and named.strip('"') != str(key):
            raise Refused("other-call", f"this is the answer of {named[:300]}, but the callback is of {key}.")
        for _ in range(VISITS_MAX):
            row, definition, record = await self._read(key.run)
            if record.purged:
                return Heard.OVER
            item = record.item(key.step, key.item)
            if item is None or item.request is None or item.tries(key.phase) is None:
                return None
            outcome = self._understood(definition, item, key.phase, came)
            if isinstance(outcome, Unknown):
                raise Refused("reply-invalid", f"this is no answer of {item.name}: {outcome.detail}", status=422)
            reply = _reply_of(item, key, outcome, self._clock.now())
            decided = decide(definition, record, reply)
            assert not isinstance(decided, c.Refusal), "only verbs are refused"
            said = heard(record, item, key.phase, outcome, decided.events)
            if not decided.events or await self._append(row, definition, decided.record, decided.events):
                return said
        raise keeps_changing(key.run)

    async def offer(self, run: str, reply: c.Reply) -> None:
        """Take in what a call of a former owner was answered, if that changes anything."""
        for _ in range(VISITS_MAX):
            row, definition, record = await self._read(run)
            decided = decide(definition, record, replace(reply, at=self._clock.now(), epoch=0))
            assert not isinstance(decided, c.Refusal), "only verbs are refused"
            if not decided.events or await self._append(row, definition, decided.record, decided.events):
                return
        raise keeps_changing(run)

    async def preview(
        self, run: str, verb: Ask, expected: int | None = None, held: frozenset[CallKey] | None = None
    ) -> Preview:
        """What would follow from a verb, without doing it; `Refused` says why it would be refused. `held`: the calls
        that haven't left, where the run is driven here.
        """
        row, definition, record = await self._read(run)
        if expected is not None and row.version != expected:
            raise refused(changed(run, expected, row.version))
        at = self._clock.now()
        if held is None:
            held = _held(row, owed(definition, record, at, row.epoch))
        decided = decide(definition, record, verb(at, row.epoch), held)
        if isinstance(decided, c.Refusal):
            raise refused(_of(record, decided))
        after = decided.record
        now = max(at, after.at)
        before = {_name(each) for each in owed(definition, record, record.at, row.epoch).sends}
        sends = tuple(each for each in owed(definition, after, now, row.epoch).sends if _name(each) not in before)
        return Preview(row.version, definition, record, after, decided.events, sends)

    def offers(
        self, row: StoredRun, definition: Definition, record: RunRecord, held: frozenset[CallKey] | None = None
    ) -> tuple[Offer, ...]:
        """The verbs that `steer` would accept now, and those that it will accept later."""
        if record.state is not RunState.STUCK:
            return ()
        at = self._clock.now()
        if held is None:
            held = _held(row, owed(definition, record, at, row.epoch))
        return offers(definition, record, at, row.epoch, held)

    async def probe(self, run: str, step: str, name: str | None) -> Probed:
        """Ask the participant what it knows of a step's action; changes nothing, here or there."""
        row, definition, record = await self._read(run)
        if record.purged:
            raise refused(_of(record, ENDED))
        item = find_item(definition, record, step, name)
        if isinstance(item, c.Refusal):
            raise refused(item)
        impossible = cannot_probe(item)
        if impossible is not None:
            raise refused(impossible)
        request, tries = item.request, item.action
        assert request is not None, "looked at by cannot_probe"
        assert tries is not None, "looked at by cannot_probe"
        outgoing = Outgoing(
            key=make_key(run, item.step, item.item, Phase.PROBE),
            run=run,
            step=item.step,
            item=item.item,
            phase=Phase.PROBE,
            participant=request.participant,
            operation=request.operation,
            guard=request.guard,
            kind=_kind(definition, item),
            body=request.body,
            attempt=1,
            epoch=row.epoch,
            since=tries.since,
            timeout_seconds=definition.steps[item.step].policy.timeout / MICROSECONDS,
            deadline=deadline_of(record),
        )
        with contained():
            came = await self._lane_of(definition, request.participant).transport.send(outgoing)
        outcome = self._understood(definition, item, Phase.PROBE, came)
        return Probed(definition, record, outgoing.key, request.participant, request.operation, came, outcome)

    async def _append(
        self, row: StoredRun, definition: Definition, after: RunRecord, events: tuple[e.Event, ...]
    ) -> bool:
        owing = owed(definition, after, after.at, 0)
        idle = after.ended is not None and not owing.sends
        entry = Append(
            run=row.run,
            expected=row.version,
            epoch=None,
            append_id=self._append_ids(),
            at=after.at,
            events=stored(self._events, row.run, row.version, events),
            row=self._projector.row(definition, after, None if idle else after.at),
            progress=is_progress(events),
        )

        def follow(verdict: Written | LogUnavailable) -> None:
            if verdict is Written.ACCEPTED:
                self._tell(definition, after)

        return await self._write(entry, follow) is Written.ACCEPTED

    def _understood(self, definition: Definition, item: ItemRecord, phase: Phase, came: Came) -> Outcome:
        request, decode = item.request, None
        assert request is not None, "an answer is to a call"
        if phase is not Phase.COMPENSATION:
            decode = definition.reply_decoder(request.participant, request.operation, item.step)
        retriable = _kind(definition, item) is Kind.RETRIABLE
        return read_answer(came, phase=phase, retriable=retriable, decode=decode, now=self._clock.now())


def refused(refusal: c.Refusal) -> AmendsError:
    """A refusal as the exception that the caller gets."""
    if refusal.problem == "past-pivot":
        return PastPivot(refusal.detail)
    if refusal.problem == "changed":
        return Changed(refusal.detail)
    return Refused(refusal.problem, refusal.detail, status=refusal.status)


def _of(record: RunRecord, refusal: c.Refusal) -> c.Refusal:
    """What a purged run refuses says how it ended, for nothing else of it can be shown."""
    if not record.purged:
        return refusal
    return replace(refusal, detail=f"{refusal.detail}: {record.run} is {record.state.value}, and {PURGED}")


def keeps_changing(run: str) -> Overloaded:
    """Others were quicker again and again."""
    return Overloaded(f"{run} keeps changing; ask again", retry_after=timedelta(seconds=1))


def _reply_of(item: ItemRecord, key: Key, outcome: Outcome, at: int) -> c.Reply:
    tries = item.tries(key.phase)
    assert tries is not None, "looked at by who calls"
    return c.Reply(at, 0, key.step, key.item, key.phase, tries.sends + 1, outcome)


def _kind(definition: Definition, item: ItemRecord) -> Kind:
    """How its step behaves, which is what participants are told."""
    step = definition.steps[item.step]
    if step.forward_only:
        return Kind.RETRIABLE
    return Kind.PIVOT if step.kind is Kind.PIVOT else Kind.COMPENSABLE


def _held(row: StoredRun, owing: Owed) -> frozenset[CallKey]:
    """The calls of a run that no worker drives: its last owner let go of it before any of them left."""
    if row.owner is not None:
        return frozenset()
    return frozenset((each.step, each.item, each.phase) for each in owing.sends if not each.starts)


def _name(send: Send) -> tuple[str, str, Phase, int]:
    return send.step, send.item, send.phase, send.attempt
