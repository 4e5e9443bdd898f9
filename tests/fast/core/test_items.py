"""A step of many items: the work for each answer is the same, however many items the step has."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from amends.core.run.answers import Cause, Halt, SaidNo, Succeeded, Unknown
from amends.core.run.commands import Adopted, Begin, Cancel, Command, Reply, StartRun
from amends.core.run.decide import Decision, decide, start
from amends.core.run.definition import Definition
from amends.core.run.record import RunRecord, RunState
from amends.core.saga.operation import Operation
from amends.core.words.keys import Phase
from amends.core.words.reasons import StuckReason
from tests.support.stories import BEGIN, ME, Barrier, Plain, c, definition_of, many

FEW, MANY = 50, 200
LINEAR = 1.5
"""The work for four times the items is at most six times as much; if each answer looked at all items, it would be
sixteen times.
"""

YES = Succeeded(b'"ok"')


class Run:
    """A run of one step and two steps of many items that follow, each decision taken on the last one."""

    def __init__(self, size: int, does: Operation[..., Any, Any]) -> None:
        self.items = [str(each) for each in range(size)]
        first, then = c("m", many(*self.items, does=does)), c("k", many(*self.items, does=does), reads="m")
        self.definition: Definition = definition_of(c("a"), first, then)
        self.epoch = 1
        self.record: RunRecord = start(self.definition, StartRun(BEGIN, 1, "run-1", b'"x"')).record

    def do(self, command: Command) -> None:
        decided = decide(self.definition, self.record, command)
        assert isinstance(decided, Decision)
        self.record = decided.record

    def sends(self, step: str, phase: Phase = Phase.ACTION) -> None:
        for item in self.items:
            self.do(Begin(BEGIN, self.epoch, step, item, phase))

    def hears(self, step: str, came: Any = YES, phase: Phase = Phase.ACTION, but: str = "", attempt: int = 1) -> None:  # noqa: ANN401 - any outcome
        for item in self.items:
            if item != but:
                self.do(Reply(BEGIN, self.epoch, step, item, phase, attempt, came))

    def hears_of(self, step: str, item: str, came: Any, phase: Phase = Phase.ACTION) -> None:  # noqa: ANN401 - any outcome
        self.do(Reply(BEGIN, self.epoch, step, item, phase, 1, came))

    def acted(self) -> None:
        """All but one item of the last step have their answers."""
        self.hears_of("a", "", YES)
        for step in ("m", "k"):
            self.sends(step)
            self.hears(step, but="0" if step == "k" else "")

    def undone(self) -> None:
        for step in ("k", "m"):
            self.sends(step, Phase.COMPENSATION)
            self.hears(step, Succeeded(b"null"), Phase.COMPENSATION)
        self.hears_of("a", "", Succeeded(b"null"), Phase.COMPENSATION)


def _completes(run: Run) -> None:
    run.acted()
    run.hears_of("k", "0", YES)
    assert run.record.ended is RunState.COMPLETED


def _turns_back_at_the_last_answer(run: Run) -> None:
    run.acted()
    run.hears_of("k", "0", SaidNo("no", "said no"))
    run.undone()
    assert run.record.ended is RunState.COMPENSATED


def _turns_back_at_the_first_answer(run: Run) -> None:
    run.hears_of("a", "", YES)
    run.sends("m")
    run.hears_of("m", "0", SaidNo("no", "said no"))
    run.hears("m", but="0")
    run.undone()
    assert run.record.ended is RunState.COMPENSATED


def _has_nothing_sent_when_it_turns_back(run: Run) -> None:
    run.hears_of("a", "", YES)
    run.do(Cancel(BEGIN, run.epoch, ME, "cancel"))
    run.hears("m", Unknown(Cause.WITHDRAWN, "taken back", counted=False))
    run.undone()
    assert run.record.ended is RunState.COMPENSATED


def _gets_another_owner_on_its_way_back(run: Run) -> None:
    run.acted()
    run.hears_of("k", "0", SaidNo("no", "said no"))
    run.epoch += 1
    run.do(Adopted(BEGIN, run.epoch))
    run.undone()
    assert run.record.ended is RunState.COMPENSATED


def _is_stuck_with_one_item(run: Run) -> None:
    run.acted()
    run.hears_of("k", "0", SaidNo("no", "said no"))
    run.sends("k", Phase.COMPENSATION)
    run.hears_of("k", "1", Halt(StuckReason.KEY_REUSED, "?"), Phase.COMPENSATION)
    run.hears("k", Succeeded(b"null"), Phase.COMPENSATION, but="1")
    assert run.record.state is RunState.STUCK


def _work(tells: Callable[[Run], None], size: int, does: Operation[..., Any, Any]) -> int:
    """How many functions are called, and generators taken up again: the same each time."""
    run, called = Run(size, does), 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal called
        called += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        tells(run)
    finally:
        sys.setprofile(before)
    return called


@pytest.mark.parametrize("does", [Barrier.act, Plain.act], ids=["barrier", "plain"])
@pytest.mark.parametrize(
    "tells",
    [
        _completes,
        _turns_back_at_the_last_answer,
        _turns_back_at_the_first_answer,
        _has_nothing_sent_when_it_turns_back,
        _gets_another_owner_on_its_way_back,
        _is_stuck_with_one_item,
    ],
)
def test_a_run_of_four_times_the_items_takes_four_times_the_work(
    tells: Callable[[Run], None], does: Operation[..., Any, Any]
) -> None:
    few, many_ = _work(tells, FEW, does), _work(tells, MANY, does)
    assert few > FEW, "nothing was counted"
    assert many_ <= LINEAR * (MANY // FEW) * few, f"{few:,} calls for {FEW} items, {many_:,} for {MANY}"
