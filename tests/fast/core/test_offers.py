"""The verbs offered of a stuck run are those that `decide` accepts, wherever the written decisions get stuck."""

from collections.abc import Iterator

import pytest

from amends.core.run.commands import Abandon, AnswerQuestion, Cancel, Refusal, Resolve, RetryStep, Skip, Verb
from amends.core.run.decide import decide
from amends.core.run.definition import Definition
from amends.core.run.offers import OFFERED_MARKS_MAX, Offer, offers
from amends.core.run.record import RunRecord, RunState
from tests.method.decided.language import ANN, Moment
from tests.method.decided.sagas import SAGAS
from tests.method.decided.stories import FOLDER, read


def stuck_moments(name: str) -> Iterator[Moment]:
    definition = SAGAS[name].definition()
    for story in read(FOLDER / f"{name}.txt"):
        moment = Moment(definition)
        for turn in story:
            moment, _ = moment.after(turn.asked)
            if moment.record is not None and moment.record.state is RunState.STUCK:
                yield moment


def verb_of(offer: Offer, at: int, reply: bytes | None = None) -> Verb:
    step, item = offer.step, offer.item or None
    match offer.verb, offer.outcome:
        case "retry", None:
            return RetryStep(at, 0, ANN, step or None, item)
        case "skip", None:
            return Skip(at, 0, ANN, step, item)
        case "resolve", "succeeded" | "rejected" | "undone" as outcome:
            return Resolve(at, 0, ANN, step, outcome, reply, item)
        case "answer", "succeeded":
            return AnswerQuestion(at, 0, ANN, step, reply or b"null", item)
        case "answer", "rejected":
            return AnswerQuestion(at, 0, ANN, step, None, item)
        case "cancel" | "compensate" as verb, None:
            return Cancel(at, 0, ANN, verb)
        case "abandon", None:
            return Abandon(at, 0, ANN)
        case _:
            raise AssertionError(offer)


def conceivable(definition: Definition, record: RunRecord) -> Iterator[Offer]:
    """Every verb that can be typed about a marked step, and about the run."""
    yield from (Offer(verb) for verb in ("retry", "cancel", "compensate", "abandon"))
    for mark in record.marks.values():
        yield Offer("retry", mark.step, mark.item)
        yield Offer("skip", mark.step, mark.item)
        yield from (Offer("resolve", mark.step, mark.item, each) for each in ("succeeded", "rejected", "undone"))
        yield from (Offer("answer", mark.step, mark.item, each) for each in ("succeeded", "rejected"))


def accepted(definition: Definition, record: RunRecord, at: int, offer: Offer) -> bool:
    """`decide` does something: with a reply of the step's type, where it needs one."""
    for reply in (None, b'"ok"', b"7", b"{}"):
        decided = decide(definition, record, verb_of(offer, at, reply))
        if not isinstance(decided, Refusal):
            plain = decide(definition, record, verb_of(offer, at))
            changes_nothing = not isinstance(plain, Refusal) and not plain.events
            return bool(decided.events) and not changes_nothing
    return False


@pytest.mark.parametrize("name", SAGAS)
def test_what_is_offered_is_what_is_accepted(name: str) -> None:
    for moment in stuck_moments(name):
        record, definition = moment.record, moment.definition
        assert record is not None
        assert len(record.marks) <= OFFERED_MARKS_MAX
        given = [each for each in offers(definition, record, moment.now, 0) if each.verb != "probe"]
        now = {(each.verb, each.step, each.item, each.outcome) for each in given if each.possible_from is None}
        may = {
            (each.verb, each.step, each.item, each.outcome)
            for each in conceivable(definition, record)
            if accepted(definition, record, moment.now, each)
        }
        assert now == may, [*record.marks.values()]
        for each in given:
            if each.possible_from is None:
                continue
            assert each.possible_from > moment.now
            assert isinstance(decide(definition, record, verb_of(each, each.possible_from - 1)), Refusal)
            assert not isinstance(decide(definition, record, verb_of(each, each.possible_from)), Refusal)


def test_a_stuck_pivot_without_a_barrier_says_from_when_the_rest_is_possible() -> None:
    moments = list(stuck_moments("pivot-plain"))
    assert moments
    later = 0
    for moment in moments:
        assert moment.record is not None
        (mark,) = moment.record.marks.values()
        given = offers(moment.definition, moment.record, moment.now, 0)
        assert Offer("abandon") in given
        assert not any(each.verb == "probe" for each in given), "nobody could be asked"
        later += any(each.outcome == "rejected" and each.possible_from is not None for each in given)
        refused = decide(moment.definition, moment.record, Resolve(moment.now, 0, ANN, mark.step, "rejected"))
        if isinstance(refused, Refusal) and refused.possible_from is not None:
            assert "rejected is possible from 2023-11-14 " in refused.detail
    assert later
