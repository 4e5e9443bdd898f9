"""What somebody who posts an answer later is told of it: every state the item may be in, every answer."""

import pytest

from amends.core.run import events as e
from amends.core.run.answers import Outcome, SaidNo, Succeeded
from amends.core.run.callback import Heard, heard
from amends.core.words.keys import Phase
from tests.support.stories import Story, c, p, policy, r

YES, NO = Succeeded(b'"ok"'), SaidNo("no-stock", "said no")


def hear(story: Story, step: str, outcome: Outcome, phase: Phase = Phase.ACTION) -> Heard:
    """As the engine asks: what was decided of the answer, and how the run stood before."""
    before = story.record
    item = before.item(step, "")
    assert item is not None
    story.reply(step, outcome, phase=phase)
    return heard(before, item, phase, outcome, story.last)


def acting() -> Story:
    return Story(c("a"), p())


def test_an_answer_that_is_waited_for_is_recorded() -> None:
    assert hear(acting().takes_on("a"), "a", YES) is Heard.RECORDED
    assert hear(acting().takes_on("a"), "a", NO) is Heard.RECORDED


def test_an_answer_to_an_unknown_action_is_recorded() -> None:
    assert hear(Story(c("a", policy=policy("stuck")), p()).spends("a"), "a", YES) is Heard.RECORDED


def test_an_answer_that_the_log_does_not_wait_for_yet_is_to_be_posted_again() -> None:
    story = Story(p(), r()).yes("p")
    before = story.record
    item = before.item("r", "")
    assert item is not None
    story.reply("r", NO, attempt=3)
    assert story.last == ()
    assert heard(before, item, Phase.ACTION, NO, story.last) is Heard.TOO_EARLY


@pytest.mark.parametrize(
    ("said", "told"),
    [(YES, Heard.RECORDED), (Succeeded(b'"other"'), Heard.SETTLED), (NO, Heard.SETTLED)],
)
def test_a_done_action_was_heard_if_it_said_the_same(said: Outcome, told: Heard) -> None:
    assert hear(acting().yes("a"), "a", said) is told


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (NO, Heard.RECORDED),
        (SaidNo("other", "said no"), Heard.SETTLED),
        (YES, Heard.RECORDED),  # it did act after all, so it is done, and undone
    ],
)
def test_a_rejected_action_was_heard_if_it_said_the_same_or_acted_after_all(said: Outcome, told: Heard) -> None:
    story = Story(c("a"), c("b")).no("a").then(a="rejected", run="compensating")
    assert hear(story, "a", said) is told


def test_a_yes_after_a_pivots_no_is_settled_otherwise() -> None:
    story = Story(c("a"), p()).yes("a").no("p").then(p="rejected", run="compensating")
    assert hear(story, "p", YES) is Heard.SETTLED


@pytest.mark.parametrize("undone", [False, True])
def test_an_answer_to_what_is_undone_comes_too_late(undone: bool) -> None:
    story = Story(c("a"), c("b", after="a"), c("x")).yes("a").no("b").then(a="compensating")
    if undone:
        story.undoes("a").then(a="compensated", run="compensating")
    assert hear(story, "a", YES) is Heard.OVER


def test_an_answer_to_what_was_left_out_is_settled_otherwise() -> None:
    story = Story(c("a", policy=policy("stuck")), c("b")).spends("a").skip("a").then(a="skipped")
    assert hear(story, "a", NO) is Heard.SETTLED


def test_an_answer_after_the_end_comes_too_late() -> None:
    story = Story(c("a")).yes("a").then(run="completed")
    assert hear(story, "a", YES) is Heard.OVER
    assert hear(story, "a", YES, Phase.COMPENSATION) is Heard.OVER


def test_the_answer_to_an_undo_is_recorded_once_and_known_after() -> None:
    story = Story(c("a"), c("b", after="a"), c("x")).yes("a").no("b").takes_on("a", phase=Phase.COMPENSATION)
    done = Succeeded(b"null")
    assert hear(story, "a", done, Phase.COMPENSATION) is Heard.RECORDED
    story.then(a="compensated", run="compensating")
    assert hear(story, "a", done, Phase.COMPENSATION) is Heard.RECORDED
    assert hear(story, "a", NO, Phase.COMPENSATION) is Heard.SETTLED


def test_the_answer_to_an_undo_that_a_person_has_is_settled_otherwise() -> None:
    story = Story(c("a"), p()).yes("a").no("p").spends("a", phase=Phase.COMPENSATION).resolve("a", "undone")
    story.yes("a", phase=Phase.SEAL).then("Sealed Marked")
    assert isinstance(story.last[0], e.Sealed)
    assert hear(story, "a", Succeeded(b"null"), Phase.COMPENSATION) is Heard.SETTLED
