"""When two worlds count as the same: a number for all that can still make a difference.

What can't is left out, and every such thing is named here, since a search is as good as this list:

* **Time** is an order: what is over, and what comes after what. Worlds that differ only in how long something has been
  waiting are one, so a search ends; how much patience is left is then not told apart, except by the attempts made.
* **A key whose phase is over** (an action that is done, refused or undone) is never sent again, so how often it was
  tried doesn't matter any more; nor does it matter which attempt an answer to it answers.
* **An action behind a barrier** isn't sent again once the run has turned back: how often it was tried doesn't matter.
* **A former owner** that doesn't know it yet, and has nothing more to send by itself, only brings answers: what it had
  read is over.
* **Misrouted answers** are counted by attempts as well, of which fewer are made than misrouted ones are allowed.
* **Epochs** are an order too, and of those without an owner only "older" is left: it is asked whether an
  epoch is the owner's own, and whether a row has seen a later one than an undo brings. So of a row's epoch it counts
  only which undos, of those that are on their way or that a former owner may still send, are older (`Rows.mark`).
* **An end** is final: of a run that has ended, what it was and what is owed to its notice.

A history says which of its phases are still open (`Shape.open`), since the wire needs to know it.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from amends.core.run.record import ItemRecord, RunRecord, StepState, Tries
from amends.core.words.keys import Phase
from amends.core.words.retry import MICROSECONDS, Guard

LATE_AFTER: Final = 3_600 * MICROSECONDS

OpenPhase: TypeAlias = tuple[str, str, Phase]

_BUDGET: Final = 1
"""The first part of what matters of a key: how much of its budget is used up."""

_MAY_ACT: Final = frozenset({StepState.ACTING, StepState.UNKNOWN, StepState.SKIPPED})


class Shape(NamedTuple):
    """What matters of a record to an owner of some epoch; `moments` are the times in it, `open` the phases whose
    attempts still count.
    """

    mark: int
    moments: tuple[int, ...]
    open: frozenset[OpenPhase]


def shape_of(record: RunRecord, epoch: int) -> Shape:
    """What matters of a record to its driver under this epoch."""
    notice = record.notice
    if record.ended is not None:
        moments: list[int] = []
        tries = None if notice is None or record.notice_delivered else _of_tries(notice, epoch, moments)
        ends = tuple([(item.step, item.item, item.state, item.undo_word) for item in record.items()])
        return Shape(hash((record.ended, record.by_hand, ends, tries)), tuple(moments), frozenset())
    moments = []
    found: list[OpenPhase] = []
    backward = record.turned is not None
    items = tuple([_of_item(item, epoch, moments, found, backward=backward) for item in record.items()])
    if record.deadline is not None and not record.deadline_passed:
        moments.append(record.deadline)
    mark = hash(
        (
            items,
            tuple([(key, mark.reason) for key, mark in record.marks.items()]),
            backward,
            record.abort_requested is not None,
            record.abort_void,
            record.by_hand,
        )
    )
    return Shape(mark, tuple(moments), frozenset(found))


def _of_item(
    item: ItemRecord, epoch: int, moments: list[int], found: list[OpenPhase], *, backward: bool
) -> tuple[object, ...]:
    parts: list[object] = [item.step, item.item, item.state, item.settling, item.seal, item.found, item.reply]
    parts += [item.undo_word, item.left, item.undo is not None]
    if item.action is not None and item.state in _MAY_ACT:
        tries = _of_tries(item.action, epoch, moments)
        parts.append(tries[_BUDGET:] if backward and item.behind_barrier else tries)
        found.append((item.step, item.item, Phase.ACTION))
    if item.undo is not None and item.state is StepState.COMPENSATING:
        parts.append(_of_tries(item.undo, epoch, moments))
        found.append((item.step, item.item, Phase.COMPENSATION))
    if item.settle is not None and item.settling is not None:
        parts += [item.asked, _of_tries(item.settle, epoch, moments)]
        found.append((item.step, item.item, item.settling))
    return tuple(parts)


def _of_tries(tries: Tries, epoch: int, moments: list[int]) -> tuple[object, ...]:
    if tries.due is not None:
        moments.append(tries.due)
    if tries.answer_due is not None:
        moments.append(tries.answer_due)
    if tries.last_end is not None and tries.guard is not Guard.BARRIER and tries.tainted:
        moments.append(tries.last_end + LATE_AFTER)
    return (
        tries.attempts,
        tries.body,
        tries.first_epoch == epoch,
        tries.open_epoch if tries.open_epoch is None else tries.open_epoch == epoch,
        tries.sends,
        tries.tainted,
        tries.pending,
        tries.due is None,
        tries.answer_due is None,
    )


def ranks(moments: Sequence[int], now: int) -> tuple[int, ...]:
    """Moments by their order: 0 for what is over, then 1, 2, ... by their order."""
    later = {each for each in moments if each > now}
    if not later:
        return (0,) * len(moments)
    if len(later) == 1:
        return tuple([1 if each > now else 0 for each in moments])
    ahead = {moment: n for n, moment in enumerate(sorted(later), 1)}
    return tuple([ahead.get(each, 0) for each in moments])


def of_counts(counts: Mapping[tuple[str, str], int]) -> tuple[object, ...]:
    """Counts in an order of their own."""
    return tuple(sorted(counts.items(), key=itemgetter(0)))
