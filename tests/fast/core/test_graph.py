"""The graph: edges that kinds imply, and closures over them."""

import pytest

from amends.core.saga.graph import Vertex, arrange, closure
from tests.support.stories import Spec, c, n, p, r, saga_of


def graph(*specs: Spec) -> dict[str, Vertex]:
    return arrange(saga_of(specs).steps)


def test_the_pivot_waits_for_every_step_that_isnt_after_it() -> None:
    found = graph(c("a"), c("b"), n("n"), p("p", reads="b"), n("m", after="p"))
    assert set(found["p"].requires) == {"a", "b", "n"}
    assert found["p"].requires[0] == "b"  # what it reads comes first
    assert found["m"].requires == ("p",)


def test_a_retriable_waits_for_the_pivot_and_every_compensable() -> None:
    found = graph(c("a"), n("n"), p("p"), r("r"), r("q", after="r"))
    assert set(found["r"].requires) == {"a", "n", "p"}
    assert set(found["q"].requires) == {"a", "n", "p", "r"}


def test_without_a_pivot_a_retriable_waits_for_all_that_could_turn_the_run_back() -> None:
    found = graph(c("a"), n("n"), r("r"), n("m", after="r"))
    assert set(found["r"].requires) == {"a", "n"}
    assert [name for name, each in found.items() if each.forward_only] == ["r", "m"]


def test_a_retriable_written_above_the_pivot_still_comes_after_it() -> None:
    found = graph(r("r"), c("a"), p("p"))
    assert found["r"].ancestors == {"a", "p"}
    assert found["a"].descendants == {"p", "r"}


def test_closures_reach_through_every_edge() -> None:
    assert closure({"a": [], "b": ["a"], "c": ["b"], "d": ["a", "c"]}) == {
        "a": frozenset(),
        "b": {"a"},
        "c": {"a", "b"},
        "d": {"a", "b", "c"},
    }


def test_steps_that_wait_for_each_other_are_named() -> None:
    # A neutral step below a retriable, which the pivot reads: no check let it through, so nothing may loop on it.
    with pytest.raises(ValueError, match="wait for each other"):
        graph(r("r"), p("p", after="r"))
