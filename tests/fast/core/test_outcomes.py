"""How an outcome reads on one line."""

import pytest

from amends.core.saga.outcomes import Abandoned, Compensated, Completed, Outcome, Stuck, Unfinished
from amends.core.words.errors import NoSuchReply
from tests.support.stories import Barrier, Story, c, calls, gives, many, p, policy, saga_of


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Completed("r", False, ("reserve", "pay")), "completed    reserve, pay"),
        (Completed("r", True, ("reserve",)), "completed    reserve, by hand"),
        (Completed("r", False), "completed"),
        (Completed("r", True), "completed    by hand"),
        (
            Compensated("r", False, "pay", "no", "pay said no: no", ("reserve",)),
            "compensated  pay said no: no; undone: reserve",
        ),
        (Compensated("r", True, None, None, "cancelled: x"), "compensated  cancelled: x, by hand"),
        (Abandoned("r", "ann", "gone"), "abandoned    by ann: gone"),
        (Stuck("r", "pay", "action", "spent: 503"), "stuck        pay, action: spent: 503"),
        (Stuck("r", "", "action", "crash-loop"), "stuck        crash-loop"),
        (Unfinished("r", "running", ("a", "b")), "running      a, b"),
        (Unfinished("r", "compensating", ("a",)), "compensating a"),
    ],
)
def test_an_outcome_reads_on_one_line(outcome: Outcome, line: str) -> None:
    assert str(outcome) == line


def test_outcomes_of_real_runs() -> None:
    assert str(Story(c("a"), p()).yes("a").outcome) == "running      p"
    assert str(Story(c("a"), p()).yes("a", "p").outcome) == "completed    a, p"
    assert str(Story(c("a"), c("b"), p()).yes("b", "a").no("p").outcome) == "compensating a, b"
    done = Story(c("b"), c("a"), c("gone", gives(None)), p()).yes("a", "b").no("p").undoes("a", "b")
    assert str(done.outcome) == "compensated  p said no: no-stock; undone: b, a"
    empty = Story(c("a")).spends("a").undoes("a", word="noop")
    assert str(empty.outcome) == "compensated  a did not answer: ?"
    stuck = Story(c("a", policy=policy("stuck"))).spends("a")
    assert str(stuck.outcome) == "stuck        a, action: outcome-unknown: ?"
    left = stuck.resolve("a", "rejected").no("a", word="noop", phase=stuck.record.steps["a"].items[""].settling)
    assert str(left.outcome).endswith("by hand")


def test_replies_are_decoded_when_they_are_asked_for() -> None:
    specs = [c("a"), c("gone", gives(None)), c("m", many("x", "y")), p()]
    story = Story(*specs).yes("a").yes("m", item="x").yes("m", item="y").yes("p")
    outcome = story.outcome
    assert isinstance(outcome, Completed)
    steps = {step.name: step for step in saga_of(specs).steps}
    assert outcome.reply(steps["a"]) == "ok"
    assert outcome.reply(steps["gone"]) is None
    assert outcome.reply(steps["m"]) == {"x": "ok", "y": "ok"}
    other = saga_of([c("elsewhere", calls(Barrier.act, "elsewhere"))]).steps[0]
    with pytest.raises(NoSuchReply, match="run-1 is s v1, which has no step elsewhere"):
        outcome.reply(other)
    with pytest.raises(NoSuchReply, match="carries no replies"):
        Completed("r", False).reply(steps["a"])


def test_a_stuck_run_tells_the_oldest_of_its_reasons() -> None:
    story = Story(c("a", policy=policy("stuck")), c("b", policy=policy("stuck"))).spends("b").wait(60).spends("a")
    outcome = story.outcome
    assert isinstance(outcome, Stuck)
    assert outcome.step == "b"
