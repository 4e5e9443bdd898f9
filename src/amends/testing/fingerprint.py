"""When two worlds count as the same: a number for all that can still make a difference.

Moments are counted by their order, not by the clock: what is due already, and what comes after what. Two worlds that
differ only in how long something has been waiting are one, so a search ends; how much patience is left is then not
told apart, except by the attempts made.
"""

from collections.abc import Iterable, Mapping
from operator import itemgetter

from amends.core.retry import MICROSECONDS, Guard
from amends.core.state import ItemRecord, RunRecord, Tries

LATE_AFTER = 3_600 * MICROSECONDS


def of_record(record: RunRecord, moments: list[int]) -> tuple[object, ...]:
    """What matters of a record; its moments are added to `moments`, in order."""
    items = tuple([_of_item(item, moments) for item in record.items()])
    if record.deadline is not None and not record.deadline_passed:
        moments.append(record.deadline)
    notice = None if record.notice is None else _of_tries(record.notice, moments)
    return (
        items,
        tuple([(key, mark.reason) for key, mark in record.marks.items()]),
        record.turned is not None,
        record.abort_requested is not None,
        record.abort_void,
        record.by_hand,
        record.ended,
        record.notice_delivered,
        notice,
    )


def _of_item(item: ItemRecord, moments: list[int]) -> tuple[object, ...]:
    return (
        item.step,
        item.item,
        item.state,
        item.settling,
        item.seal,
        item.found,
        item.reply,
        item.undo_word,
        item.asked,
        item.left,
        None if item.action is None else _of_tries(item.action, moments),
        None if item.undo is None else _of_tries(item.undo, moments),
        None if item.settle is None else _of_tries(item.settle, moments),
    )


def _of_tries(tries: Tries, moments: list[int]) -> tuple[object, ...]:
    if tries.due is not None:
        moments.append(tries.due)
    if tries.answer_due is not None:
        moments.append(tries.answer_due)
    if tries.last_end is not None and tries.guard is not Guard.BARRIER and tries.tainted:
        moments.append(tries.last_end + LATE_AFTER)
    return (
        tries.body,
        tries.first_epoch,
        tries.open_epoch,
        tries.attempts,
        tries.sends,
        tries.misrouted,
        tries.tainted,
        tries.pending,
        tries.due is None,
        tries.answer_due is None,
    )


def ranks(moments: Iterable[int], now: int) -> tuple[int, ...]:
    """Moments by their order: 0 for what is over, then 1, 2, ... by who comes first."""
    listed = list(moments)
    ahead = {moment: n for n, moment in enumerate(sorted({each for each in listed if each > now}), 1)}
    return tuple([ahead.get(each, 0) for each in listed])


def of_counts(counts: Mapping[tuple[str, str], int]) -> tuple[object, ...]:
    """Counts in an order of their own."""
    return tuple(sorted(counts.items(), key=itemgetter(0)))
