"""What can happen next in a world: what must happen in the end for free, everything else for a price.

Only what is possible is listed; whether it changes anything is for `World.apply` to find out. The order is that of the
things themselves, so that a search that takes the first of the shortest stories tells the same one every time.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from amends.core.run.answers import Cause
from amends.core.run.record import ASK, StepState
from amends.core.words.keys import Phase
from amends.core.words.retry import MICROSECONDS, Guard
from amends.testing.explore.moment import Moment
from amends.testing.explore.moves import AnswerOnWay, FaultKind, Flying, Move, PaperProcess, RequestOnWay, is_of
from amends.testing.explore.participants import PENDING_PHASES, Barrier, Naive, Wants
from amends.testing.explore.people import CANCEL, Does, deeds
from amends.testing.explore.rows import UNFINISHED

IN_FLIGHT_MAX: Final = 10 * MICROSECONDS
"""While a call is in flight time jumps no further than this: it would have timed out."""

JUMP: Final = Move("jump")
POLL: Final = Move("poll")
ADOPT: Final = Move("adopt")
CRASH: Final = Move("crash", ends_process=True)
TAKE_OVER: Final = Move("adopt", ends_process=True)
DEADLINE: Final = Move("deadline", costs=FaultKind.DEADLINE)

NO_KINDS: Final = frozenset[FaultKind]()

_CAUSES: Final[Mapping[FaultKind, Cause]] = {
    FaultKind.NOT_SENT: Cause.NOT_SENT,
    FaultKind.MISROUTED: Cause.MISROUTED,
}

_DEEDS: Final[Mapping[str, FaultKind]] = {
    "cancel": FaultKind.CANCEL,
    "compensate": FaultKind.CANCEL,
    "decline": FaultKind.NO,
    "retry": FaultKind.REPAIR,
    "resolve": FaultKind.REPAIR,
    "skip": FaultKind.GIVE_UP,
    "abandon": FaultKind.GIVE_UP,
}


def moves(world: Moment) -> list[Move]:
    """Everything that can happen next, what is free first."""
    found = [*requests(world), *_answers(world), *_time(world), *_owners(world), *pending(world), *_given(world)]
    if world.budget.faults:
        found += [*_faults(world), *_people(world)]
        if _may_pass(world):
            found.append(DEADLINE)
    if world.budget.crashes and world.owner is not None:
        deadly = [each for each in found if each.kind in _APPENDS and _is_owners(world, each)]
        marks = world.setup.marks
        found += [marks.deadly(each) for each in deadly if world.budget.faults or each.free]
        found += (CRASH, TAKE_OVER)
    return found


_APPENDS: Final = frozenset({"receive", "jump", "poll", "lose", "halt", "deadline"})
"""What the owner appends something about, and may not live to act on."""


def _is_owners(world: Moment, move: Move) -> bool:
    epoch = move.message.epoch if isinstance(move.message, AnswerOnWay) else move.epoch or world.epoch
    return epoch == world.epoch


# -- messages


def requests(world: Moment) -> Iterator[Move]:
    """Requests that arrive."""
    for message in world.wire.requests:
        yield from arrivals(world, message)


def arrivals(world: Moment, message: RequestOnWay) -> Iterator[Move]:
    """How a request may arrive."""
    setup, budget, call = world.setup, world.budget, message.call
    kinds = setup.kinds if budget.faults else NO_KINDS
    repeated = FaultKind.REPEATED in kinds and message.guard is Guard.BARRIER
    barrier, arrival = setup.keeps_contract(message.guard), setup.marks.arrival
    if not (Barrier if barrier else Naive).runs_code(world.rows.get((call.step, call.item)), call):
        yield arrival(message)
        if repeated:
            yield arrival(message, again=True, costs=FaultKind.REPEATED)
        return
    action = call.phase is Phase.ACTION
    if call.step in (setup.given.noes if action else setup.given.undo_noes):
        yield arrival(message, Wants.NO)
        return
    yield arrival(message)
    if FaultKind.NO in kinds:
        yield arrival(message, Wants.NO, costs=FaultKind.NO)
    if FaultKind.LATER in kinds and (barrier or action):
        yield arrival(message, Wants.LATER, costs=FaultKind.LATER)
    if FaultKind.BROKE in kinds:
        yield arrival(message, Wants.FAILS, costs=FaultKind.BROKE)
    if repeated:
        yield arrival(message, again=True, costs=FaultKind.REPEATED)


def _answers(world: Moment) -> Iterator[Move]:
    repeats = world.budget.faults and FaultKind.REPEATED in world.setup.kinds
    for message in world.wire.answers:
        yield world.setup.marks.hearing(message)
        if repeats:
            yield world.setup.marks.hearing(message, again=True, costs=FaultKind.REPEATED)


def _faults(world: Moment) -> Iterator[Move]:
    for process in world.processes:
        if process.epoch == world.epoch and process.seen is not None:
            for flying in process.flying:
                yield from _ends(world, process, flying)


def _ends(world: Moment, process: PaperProcess, flying: Flying) -> Iterator[Move]:
    """How a call may end before its answer is there."""
    kinds, epoch, end = world.setup.kinds, process.epoch, world.setup.marks.end
    messages = [each for each in world.wire if is_of(each, epoch, flying)]
    if not messages:
        return
    if FaultKind.LOST in kinds:
        yield end(epoch, flying, Cause.TIMED_OUT, FaultKind.LOST)
    if any(isinstance(each, AnswerOnWay) for each in messages):
        if FaultKind.UNREADABLE in kinds:
            yield end(epoch, flying, Cause.UNREADABLE, FaultKind.UNREADABLE)
        return
    for kind, cause in _CAUSES.items():
        if kind in kinds:
            yield end(epoch, flying, cause, kind)
    if FaultKind.HALTED in kinds:
        yield end(epoch, flying, Cause.PROTOCOL, FaultKind.HALTED, "halt")


def pending(world: Moment) -> Iterator[Move]:
    """Work that was taken on and is over."""
    if not world.rows.unfinished:
        return
    may_refuse = world.budget.faults and FaultKind.NO in world.setup.kinds
    for vertex, row in world.rows.items():
        if row.state not in UNFINISHED:
            continue
        participant = Barrier if world.setup.keeps_contract(world.guard_of(vertex)) else Naive
        for phase in PENDING_PHASES:
            # Each completion comes under its own key, whatever the row says by then.
            if participant.can_finish(row, phase):
                yield Move("finish", vertex=vertex, phase=phase)
                if may_refuse:
                    yield Move("finish", vertex=vertex, phase=phase, wants=Wants.NO, costs=FaultKind.NO)


# -- time and owners


def _time(world: Moment) -> Iterator[Move]:
    owner = world.owner
    if owner is None or owner.seen is None:
        return
    wake = owner.seen.owed(world.now, owner.epoch).wake
    if wake is not None and (not owner.flying or wake - world.now <= IN_FLIGHT_MAX):
        yield JUMP


def _may_pass(world: Moment) -> bool:
    record = world.record
    forward = record.turned is None and record.ended is None and record.deadline is None
    return forward and FaultKind.DEADLINE in world.setup.kinds


def _owners(world: Moment) -> Iterator[Move]:
    owner = world.owner
    if owner is None:
        if world.record.ended is None or world.owes_notice():
            yield ADOPT
    elif owner.seen is not world.history:
        yield POLL
    last = world.processes[-1] if world.processes else None
    if last is not None and last.epoch == world.epoch:
        for flying in last.flying:
            if not world.under_way(last, flying):
                yield world.setup.marks.end(last.epoch, flying, Cause.TIMED_OUT, None)


# -- people


def _given(world: Moment) -> Iterator[Move]:
    """What people do as a matter of course: they answer what they are asked, and cancel where that is the story."""
    given, record = world.setup.given, world.record
    if record.ended is None and record.turned is None:
        for item in record.items():
            asked = item.request is not None and item.request.participant == ASK
            if not asked or item.state is not StepState.ACTING or item.step in given.silent:
                continue
            if item.step in given.noes:
                yield Move("person", does=Does("decline", item.step, item.item))
            else:
                yield Move("person", does=Does("answer", item.step, item.item, reply=given.reply(record, item)))
    if world.to_cancel():
        yield Move("person", does=CANCEL)


def _people(world: Moment) -> Iterator[Move]:
    kinds = world.setup.kinds
    for does in deeds(world.sight()):
        cost = _DEEDS.get(does.word)
        if cost in kinds:
            yield Move("person", does=does, costs=cost)
