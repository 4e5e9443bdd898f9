# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
"""The checks can fail: each bug that is planted in the core is found, and called by its name."""

import re
from dataclasses import replace

import pytest

from amends.core.run import consequences as follow
from amends.core.run import events as e
from amends.core.run import owed, replies
from amends.core.run.answers import Succeeded
from amends.core.run.commands import Reply
from amends.core.run.decision import Draft
from amends.core.run.definition import Definition
from amends.core.run.owed import Send
from amends.core.run.record import ItemRecord, RunRecord, RunState, StepState, Tries
from amends.core.words.keys import Phase
from amends.testing import BrokenPromise, Scenario
from amends.testing.explore.moves import EVERY_FAULT, Budget, FaultKind
from amends.testing.explore.replaying import shrunk
from amends.testing.explore.search import search
from tests.fast.testing.scenario_shop import simple
from tests.method.exploration.sagas import setup

CANCEL = frozenset({FaultKind.CANCEL})


def found(name: str, budget: Budget, kinds: frozenset[FaultKind] = EVERY_FAULT) -> str:
    setting = setup(name, budget, kinds)
    search_of_it = search(setting, worlds_max=20_000)
    assert search_of_it.broken is not None, f"{search_of_it.worlds} worlds, and nobody noticed"
    story = shrunk(setting, search_of_it.broken)
    assert len(story.moves) <= 25, "the story isn't short"
    return story.sentence


def test_an_undo_before_its_dependents_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_is_eligible", lambda draft, item: True)
    assert found("chain", Budget(faults=1), CANCEL).startswith("P4")


def test_a_late_success_that_is_dropped_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = replies._action

    def dropping(draft: Draft, item: ItemRecord, reply: Reply) -> None:
        if draft.record.backward and isinstance(reply.outcome, Succeeded) and item.state is StepState.ACTING:
            draft.emit(e.ActionRejected(draft.at, draft.epoch, item.step, item.item, None, "too late"))
            return
        real(draft, item, reply)

    monkeypatch.setattr(replies, "_action", dropping)
    assert found("chain", Budget(faults=1), CANCEL).startswith("P3")


def test_undoing_what_said_no_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = follow._retreat

    def overdoing(draft: Draft) -> None:
        for item in list(draft.record.items()):
            if item.state is StepState.REJECTED and item.request is not None and item.undo is None:
                follow._request_undo(draft, item)
        real(draft)

    monkeypatch.setattr(follow, "_retreat", overdoing)
    assert found("chain", Budget(faults=1)).startswith("a definite no owes nothing")


def test_a_retry_with_other_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = owed._send

    def altering(definition: Definition, item: ItemRecord, phase: Phase, tries: Tries, epoch: int) -> Send:
        send = real(definition, item, phase, tries, epoch)
        return send if send.attempt == 1 else replace(send, body=send.body + b" ")

    monkeypatch.setattr(owed, "_send", altering)
    assert found("chain", Budget(faults=1)).startswith("P6")


def test_going_forward_after_turning_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = follow._retreat

    def going_on(draft: Draft) -> None:
        follow._advance(draft)
        real(draft)

    monkeypatch.setattr(follow, "_retreat", going_on)
    assert found("chain", Budget(faults=1), CANCEL).startswith("one direction")


def test_turning_back_past_the_pivot_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Draft, "past_pivot", property(lambda draft: False))
    assert found("whole", Budget(faults=1), CANCEL).startswith("P5")


def test_rewriting_an_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def rewriting(draft: Draft, item: ItemRecord, reply: Reply) -> None:
        if isinstance(reply.outcome, Succeeded):
            draft.emit(e.ActionSucceeded(draft.at, draft.epoch, item.step, item.item, reply.outcome.reply))

    monkeypatch.setattr(replies, "_late", rewriting)
    assert found("chain", Budget(faults=1)).startswith(("an end is final", "no fact twice"))


def test_guessing_that_nothing_was_sent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Draft, "never_left", lambda draft, tries: True)
    assert found("chain", Budget(faults=2, crashes=1)).startswith("P3")


def test_events_under_a_former_epoch_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Draft.__init__

    def backdating(draft: Draft, definition: Definition, record: RunRecord, at: int, epoch: int) -> None:
        real(draft, definition, record, at, epoch)
        draft.epoch = min(draft.epoch, 1) if len(draft.record.steps) > 1 else draft.epoch

    monkeypatch.setattr(Draft, "__init__", backdating)
    sentence = found("old-post-probed", Budget(crashes=1))
    assert sentence.startswith("P7")


def test_a_clean_name_for_a_dirty_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_was_left", lambda draft, item: False)
    assert found(
        "chain", Budget(faults=3), frozenset({FaultKind.HALTED, FaultKind.CANCEL, FaultKind.GIVE_UP})
    ).startswith(("P9", "P3"))


def test_work_that_is_never_sent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = owed._active

    def no_undo(record: RunRecord, item: ItemRecord) -> tuple[Phase, Tries | None]:
        phase, tries = real(record, item)
        return phase, None if phase is Phase.COMPENSATION else tries

    monkeypatch.setattr(owed, "_active", no_undo)
    assert found("chain", Budget(faults=1), CANCEL).startswith("P1")


def test_an_early_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "CLEAR", frozenset(StepState) - {StepState.DONE})
    assert found("chain", Budget(faults=1), CANCEL).startswith(("P3", "P4"))


def test_taking_a_doubtful_no_for_a_no_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "_is_definite", lambda draft, item, reply: True)
    assert found("old-put-probed", Budget(faults=2), frozenset({FaultKind.LOST, FaultKind.NO})).startswith("P3")


def test_a_broken_promise_is_told_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_is_eligible", lambda draft, item: False)  # nothing is ever undone
    real = follow._end

    def ending(draft: Draft) -> None:
        if draft.record.turned is not None and draft.record.ended is None:
            follow._ended(draft, RunState.COMPENSATED, ())
        real(draft)

    monkeypatch.setattr(follow, "_end", ending)
    with pytest.raises(BrokenPromise) as broken:
        Scenario(simple, "x").explore(faults_max=1, crashes_max=0)
    told = str(broken.value).split("\n")
    assert re.fullmatch(r"P3 compensated means nothing is left \(simple v1, 1 fault, world [\d,]+ of [\d,]+\)", told[0])
    assert told[1] == "  1  start"
    assert any(line.endswith("effect: first") for line in told)
    assert any("undo first: not sent" in line for line in told)
    assert told[-3] == "  it is compensated, but first is left behind"
    assert told[-2] == "  left behind: first"
    assert re.fullmatch(r"  again: Scenario\(simple, 'x'\)\.story\(\"[^\"]+\"\)", told[-1])
    assert broken.value.mermaid.startswith("sequenceDiagram\n")
    with pytest.raises(BrokenPromise, match="P3 compensated means nothing is left"):
        eval(told[-1].removeprefix("  again: "))  # noqa: S307 - the line is Python on purpose
