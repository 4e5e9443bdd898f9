"""One order instead of many: a call arrives only when it is time for something to make a difference to its arrival.

A call that arrives at a participant with a barrier changes that participant's row, puts an answer on its way, and
perhaps has an effect. All of that can be noticed by few of the moves that may come next: that the answer is heard (or
turns out to be unreadable, or it is not waited for any longer), that another call reaches the same row or its work is
over, that a person looks at the step, and, as to the order of effects, that something is undone. Any other move leads
to the same world before the arrival as after it. So of all stories that differ in nothing but such orders one is told:
the one in which each arrival comes last, right before the first move that can notice it.

Nothing here relies on what an orchestrator does with an answer: what may follow is read off the move alone. So a
mistake in the core, which is what a search looks for, can't make an order count as told that wasn't.

Left as they were, in any order: calls that no barrier protects (they are gone after a while, so time notices them),
calls whose answer is not heard, those of a step whose answers never come, and those of a former owner that is forgotten
when yet another takes over.
"""

from typing import Literal, NamedTuple

from amends.core.run.answers import Cause
from amends.core.words.keys import Phase
from amends.core.words.retry import Guard
from amends.testing.explore.moment import Moment
from amends.testing.explore.moves import AnswerOnWay, Move, RequestOnWay, is_of
from amends.testing.explore.participants import Barrier
from amends.testing.explore.possible import arrivals, moves, pending

Did = Literal["", "acted", "undone"]


class Arrived(NamedTuple):
    """A call that has just arrived: its answer, and what it did."""

    answer: AnswerOnWay
    did: Did


def arrived(before: Moment, move: Move, after: Moment) -> Arrived | None:
    """What has just arrived, if only few moves can notice it; `None`: anything may come next."""
    request = move.message
    if not isinstance(request, RequestOnWay) or request.guard is not Guard.BARRIER:
        return None
    setup = before.setup
    if not setup.keeps_contract(request.guard) or request.call.step in setup.given.silent:
        return None
    if _may_be_forgotten(before, request):
        return None
    call = request.call
    answers = before.drive.history.answers((call.step, call.item), setup.given)
    answer = before.rows.told(request, move.wants, answers, Guard.BARRIER).answer
    if not any(each is answer for each in after.wire.answers):
        return None
    did: Did = after.ledger[-1].did if after.ledger is not before.ledger else ""
    return Arrived(answer, did)


def noticing(world: Moment, what: Arrived) -> list[Move]:
    """What may come next. `world`: right after the arrival."""
    if any(world.budget):
        return [move for move in moves(world) if _notices(world, what, move)]
    found = [world.setup.marks.hearing(what.answer)]
    for each in world.wire.requests:
        if _is_noticed_by(world, what, each):
            found += arrivals(world, each)
    if world.rows.unfinished:
        found += [move for move in pending(world) if _notices(world, what, move)]
    return found


def _notices(world: Moment, what: Arrived, move: Move) -> bool:
    """Whether a move may lead elsewhere after the arrival than before it."""
    answer, did = what
    match move.kind:
        case "receive":
            return move.message == answer
        case "deliver":
            assert isinstance(move.message, RequestOnWay)
            return _is_noticed_by(world, what, move.message)
        case "finish":
            return bool(did) or move.vertex == (answer.step, answer.item)
        case "lose" | "halt":
            in_time = move.cause is Cause.TIMED_OUT and move.kind == "lose"
            return not in_time and move.flying is not None and is_of(answer, move.epoch, move.flying)
        case "person":
            does = move.does
            return bool(did) and does is not None and (does.step == answer.step or does.undoes is not None)
        case _:
            return False


def _is_noticed_by(world: Moment, what: Arrived, request: RequestOnWay) -> bool:
    """Whether another call may be answered differently after the arrival, or its effect comes in another order."""
    (answer, did), call = what, request.call
    if call.step == answer.step and call.item == answer.item:
        return True
    order_counts = did == "undone" or (did == "acted" and call.phase is Phase.COMPENSATION)
    return order_counts and _has_effects(world, request)


def _has_effects(world: Moment, request: RequestOnWay) -> bool:
    call = request.call
    if not world.setup.keeps_contract(request.guard):
        return True
    return Barrier.runs_code(world.rows.get((call.step, call.item)), call)


def _may_be_forgotten(world: Moment, request: RequestOnWay) -> bool:
    """Whether an owner more would make this call's process an unknown one."""
    former = world.processes[:-1]
    return bool(world.budget.crashes) and any(each.epoch == request.epoch for each in former)
