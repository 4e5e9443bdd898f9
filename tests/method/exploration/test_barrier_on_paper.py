"""The explorer runs the barrier that ships: every row of it is met, and what the search leaves out changes nothing."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from amends.core.run.answers import NULL, SaidNo
from amends.core.words.errors import Rejected
from amends.core.words.keys import Key, Phase
from amends.core.words.retry import Kind
from amends.participant import barrier
from amends.participant import effects as steps
from amends.participant.effects import Asking
from amends.participant.response import Answer
from amends.ports.inbox import Row as RealRow
from amends.ports.inbox import RowState
from amends.testing.explore.given import Given
from amends.testing.explore.moment import WorldSetup
from amends.testing.explore.moves import Budget, FaultKind
from amends.testing.explore.participants import (
    PENDING_PHASES,
    Answers,
    Barrier,
    Called,
    PaperAnswer,
    PaperRow,
    State,
    Wants,
)
from amends.testing.explore.search import search
from amends.testing.explore.small import with_little_patience
from tests.method.exploration.planting import plant_in_the_barrier
from tests.method.exploration.sagas import INPUT, definition_of

ANSWERS = Answers(b'{"id":"1"}', SaidNo("sold-out", "sold out"))
RIGHT = barrier.answer_pending
KINDS = (Kind.COMPENSABLE, Kind.PIVOT, Kind.RETRIABLE)


def calls(kind: Kind) -> Iterator[Called]:
    for phase, seal, epoch, body in itertools.product(Phase, ("", "undone", "rejected"), (1, 2), (b"1", b"2")):
        if seal and phase is not Phase.SEAL:
            continue
        if (phase is Phase.SEAL and kind is Kind.RETRIABLE) or (
            phase is Phase.COMPENSATION and kind is not Kind.COMPENSABLE
        ):
            continue  # never sent
        yield Called("s", "", phase, kind, (b"u" if phase is Phase.COMPENSATION else b"a") + body, epoch, seal)


def after(row: PaperRow | None, kind: Kind) -> Iterator[PaperAnswer]:
    for call, wants in itertools.product(calls(kind), Wants):
        yield Barrier.answer(row, call, wants, ANSWERS)
    if row is not None:
        for phase, wants in itertools.product(PENDING_PHASES, (Wants.YES, Wants.NO)):
            said = Barrier.finish(row, phase, wants, ANSWERS)
            if said is not None:
                yield said


def every_row(kind: Kind) -> set[PaperRow | None]:
    """Every row that any calls and completions lead to."""
    found: set[PaperRow | None] = {None}
    todo: list[PaperRow | None] = [None]
    while todo:
        for said in after(todo.pop(), kind):
            if said.row not in found:
                found.add(said.row)
                todo.append(said.row)
    return found


ROWS = {kind: every_row(kind) for kind in KINDS}


def test_every_state_is_met() -> None:
    met = {row.state for rows in ROWS.values() for row in rows if row is not None}
    assert met == set(State) - {State.ACTING}


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_search_takes_for_settled_changes_nothing_at_any_time(kind: Kind) -> None:
    settled = 0
    for row, call in itertools.product(ROWS[kind], calls(kind)):
        if not Barrier.is_settled(row, call):
            continue
        settled += 1
        reached, todo = {row}, [row]
        while todo:
            here = todo.pop()
            for wants in Wants:
                assert Barrier.answer(here, call, wants, ANSWERS).row == here, (row, here, call)
                assert not Barrier.runs_code(here, call) or call.phase is Phase.PROBE
            for said in after(here, kind):
                if said.row not in reached:
                    reached.add(said.row)
                    todo.append(said.row)
    assert settled > 40


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_call_that_asks_the_service_depends_on_what_it_wants(kind: Kind) -> None:
    for row, call in itertools.product(ROWS[kind], calls(kind)):
        said = {Barrier.answer(row, call, wants, ANSWERS) for wants in Wants}
        assert (len(said) > 1) == Barrier.runs_code(row, call), (row, call, said)


def test_an_undo_of_pending_work_may_be_taken_on_too() -> None:
    (pending,) = (
        row for row in ROWS[Kind.COMPENSABLE] if row == PaperRow(State.PENDING, Kind.COMPENSABLE, 1, request=b"a1")
    )
    undo = Called("s", "", Phase.COMPENSATION, Kind.COMPENSABLE, b"u1", 1)
    said = Barrier.answer(pending, undo, Wants.LATER, ANSWERS)
    assert said.row is not None
    assert said.row.state is State.COMPENSATING
    assert Barrier.finish(said.row, Phase.ACTION, Wants.YES, ANSWERS) is None, "the action's own completion is refused"
    done = Barrier.finish(said.row, Phase.COMPENSATION, Wants.YES, ANSWERS)
    assert done is not None
    assert (done.row and done.row.state, done.did) == (State.COMPENSATED, "")


def settles_whatever_is_pending(key: Key, said: Callable[[RealRow], bytes] | Rejected) -> Asking[Answer]:
    """As it was: the completion of an action settled its compensation."""
    row = yield from steps.lock(key.run, key.vertex)
    of = Phase.COMPENSATION if row is not None and row.state is RowState.COMPENSATING else key.phase
    return (yield from RIGHT(replace(key, phase=of), said))


def test_a_completion_that_settles_another_phase_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Given(with_little_patience(definition_of("chain")), INPUT, cancelled_after=("a",))
    setting = WorldSetup(given, Budget(2, 0), frozenset({FaultKind.LATER}))
    right = search(setting, worlds_max=100_000)
    assert right.complete
    assert right.broken is None
    plant_in_the_barrier(monkeypatch, "answer_pending", settles_whatever_is_pending)
    wrong = search(WorldSetup(given, Budget(2, 0), frozenset({FaultKind.LATER})), worlds_max=100_000)
    assert wrong.broken is not None
    assert wrong.broken.sentence.startswith(("P3", "P4"))


def test_replies_are_what_the_service_said() -> None:
    do = Called("s", "", Phase.ACTION, Kind.COMPENSABLE, b"a1", 1)
    undo = Called("s", "", Phase.COMPENSATION, Kind.COMPENSABLE, b"u1", 1)
    made = Barrier.answer(None, do, Wants.YES, ANSWERS)
    assert (made.did, made.row and made.row.reply) == ("acted", ANSWERS.reply)
    assert Barrier.answer(made.row, do, Wants.NO, ANSWERS).outcome == made.outcome
    refused = Barrier.answer(None, do, Wants.NO, ANSWERS)
    assert refused.outcome == SaidNo("sold-out", "sold out", "rejected")
    assert Barrier.answer(refused.row, do, Wants.YES, ANSWERS).outcome == refused.outcome
    undone = Barrier.answer(made.row, undo, Wants.YES, ANSWERS)
    assert (undone.did, undone.outcome) == ("undone", Barrier.answer(undone.row, undo, Wants.YES, ANSWERS).outcome)
    assert NULL == b"null"
