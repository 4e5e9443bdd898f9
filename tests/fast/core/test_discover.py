"""Operations are found in a builder's code, without calling it."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from amends.core.saga.operation import Call, blocking
from amends.core.saga.signatures import operations_in
from tests.support import stories
from tests.support.stories import Barrier, Plain, calls


def direct(_input: str) -> Call[str]:
    return Barrier.act("x")


def in_a_comprehension(_input: str) -> object:
    return {each: Barrier.act(each) for each in "ab"}


def in_a_branch(which: str) -> object:
    return Barrier.act("x") if which else Plain.act("x")


def in_a_lambda(_input: str) -> object:
    return sorted("ab", key=lambda each: str(Barrier.bare(each)))


def through_a_module(_input: str) -> object:
    return stories.Plain.undo("x")


def helper(name: str) -> Call[str]:
    return Barrier.act(name)


def through_a_helper(_input: str) -> object:
    return helper("x")


def loop_one(_input: str) -> object:
    return loop_two(_input)


def loop_two(_input: str) -> object:
    return loop_one(_input) if _input else Plain.act("x")


def none(_input: str) -> None:
    raise NotImplementedError


FOUND: list[tuple[Callable[..., Any], set[str]]] = [
    (direct, {"barrier.act"}),
    (in_a_comprehension, {"barrier.act"}),
    (in_a_branch, {"barrier.act", "plain.act"}),
    (in_a_lambda, {"barrier.bare"}),
    (through_a_module, {"plain.undo"}),
    (through_a_helper, {"barrier.act"}),
    (loop_one, {"plain.act"}),
    (none, set()),
    (calls(Barrier.act, "x"), {"barrier.act"}),
    (blocking(direct), {"barrier.act"}),
    (sys.exit, set()),
]


@pytest.mark.parametrize(("function", "found"), FOUND)
def test_operations_are_found_without_calling_the_builder(function: Callable[..., Any], found: set[str]) -> None:
    assert {f"{each.participant}.{each.name}" for each in operations_in(function)} == found


def test_a_name_not_assigned_yet_is_no_operation() -> None:
    def build(_input: str) -> object:
        return later("x")

    assert operations_in(build) == ()
    later = Barrier.act
    assert operations_in(build) == (later,)


def test_a_module_inside_of_a_module_is_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def through_two_modules(_input: str) -> object:
        return stories.inside.Plain.undo("x")  # type: ignore[attr-defined] # put there below

    monkeypatch.setattr(stories, "inside", stories, raising=False)
    assert {each.name for each in operations_in(through_two_modules)} == {"undo"}
