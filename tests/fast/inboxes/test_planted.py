# ruff: noqa: ANN401 - what is planted takes what the real function takes
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
"""The inbox contract can fail: each bug that is planted in the barrier or its driver fails the test that is named for
what it breaks.
"""

import asyncio
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import pytest

from amends.inboxes.memory import MemoryData
from amends.participant import barrier, driver
from amends.participant import effects as steps
from amends.participant.effects import Program, Verdict
from amends.participant.response import plain
from amends.testing.contracts.bench import Shop
from amends.testing.contracts.inbox import InboxContract
from tests.fast.inboxes.test_contract import MemoryBench

Patch = pytest.MonkeyPatch


class Contract(InboxContract[MemoryData]):
    __test__ = False


def holds(test: str, *more: object) -> bool:
    """Whether a test of the contract passes."""
    try:
        asyncio.run(getattr(Contract(), test)(Shop(MemoryBench(blocks=False)), *more))
    except AssertionError:
        return False
    return True


def judged(program: Callable[..., Program], change: Callable[[Verdict], Verdict]) -> Callable[..., Program]:
    """The same steps, another verdict."""

    def judging(*given: Any) -> Generator[Any, Any, Verdict]:
        return change((yield from program(*given)))

    return judging


def nothing_asked(answer: object) -> Callable[..., Generator[Any, Any, Any]]:
    """A step that isn't done."""

    def asking(*_: object) -> Generator[Any, Any, Any]:
        yield from ()
        return answer

    return asking


async def not_committed(*_: object) -> None:
    return


Planted = tuple[Callable[[Patch], None], tuple[str, ...]]

BARRIER: dict[str, Planted] = {
    "an undo of nothing leaves no trace": (
        lambda patch: patch.setattr(
            barrier,
            "compensation",
            judged(barrier.compensation, lambda said: replace(said, commit=said.commit and said.outcome != "noop")),
        ),
        ("test_an_empty_compensation_is_a_noop_and_blocks_the_late_action",),
    ),
    "a late action is answered with what it did before": (
        lambda patch: patch.setattr(
            barrier, "_blocked", lambda call, row: Verdict(barrier._stored(row), "succeeded", commit=False)
        ),
        ("test_an_action_after_its_undo_is_blocked_and_never_gets_the_stored_success",),
    ),
    "other bytes are taken for a repeat": (
        lambda patch: patch.setattr(barrier, "_acted_before", barrier._what_happened),
        ("test_the_same_key_with_other_bytes_is_refused",),
    ),
    "what was purged is taken for new": (
        lambda patch: patch.setattr(barrier, "_may_have_been_purged", nothing_asked(answer=False)),
        ("test_what_may_have_been_purged_is_never_taken_for_new", "action"),
    ),
    "a seal changes nothing": (
        lambda patch: patch.setattr(barrier, "seal", judged(barrier.seal, lambda said: replace(said, commit=False))),
        ("test_a_seal_on_nothing_makes_a_late_action_impossible",),
    ),
}

DRIVER: dict[str, Planted] = {
    "what was done isn't committed": (
        lambda patch: patch.setattr(driver, "_commit_async", not_committed),
        ("test_an_action_acts_once_and_its_answer_is_replayed_byte_for_byte",),
    ),
    "an error is answered as if all was well": (
        lambda patch: patch.setattr(driver, "_meaning", lambda error, name: plain(200).with_outcome("succeeded")),
        ("test_an_error_rolls_everything_back_and_the_next_attempt_acts",),
    ),
    "a step isn't rolled back": (
        lambda patch: patch.setattr(steps, "roll_back", nothing_asked(answer=True)),
        ("test_a_rejection_leaves_no_effect_and_is_replayed",),
    ),
    "rows aren't looked at": (
        lambda patch: patch.setattr(barrier, "_insert_or_lock", nothing_asked(answer=None)),
        ("test_an_action_acts_once_and_its_answer_is_replayed_byte_for_byte",),
    ),
}

PLANTED = {**BARRIER, **DRIVER}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_fails_the_test_that_is_named_for_it(bug: str, monkeypatch: Patch) -> None:
    plant, test = PLANTED[bug]
    assert holds(*test)
    plant(monkeypatch)
    assert not holds(*test)
