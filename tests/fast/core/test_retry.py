"""Delays and defaults of trying again."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amends.core.words.retry import Guard, Kind, OnUnknown, Patience, Policy, Retry, delay, micros, resolve

SECOND = 1_000_000
PATIENCE = resolve(None, Kind.COMPENSABLE).action


@given(st.text(max_size=30), st.integers(1, 10_000))
def test_a_delay_doubles_up_to_its_cap_and_is_shortened_by_up_to_a_half(key: str, sends: int) -> None:
    base = min(60 * SECOND, SECOND * 2 ** (sends - 1))
    waited = delay(PATIENCE, key, sends)
    assert base // 2 <= waited < base
    assert waited == delay(PATIENCE, key, sends)


def test_no_two_runs_come_back_in_step() -> None:
    assert len({delay(PATIENCE, f"run-{n}:a:action", 7) for n in range(1_000)}) > 990


@pytest.mark.parametrize(("asked", "waited"), [(120, 120), (3_600, 3_600), (7_200, 3_600)])
def test_a_participants_wish_is_a_floor_of_an_hour_at_the_most(asked: int, waited: int) -> None:
    assert delay(PATIENCE, "k", 1, asked * SECOND) == waited * SECOND
    assert delay(PATIENCE, "k", 1, 1) > 1


@pytest.mark.parametrize(
    ("kind", "attempts"), [(Kind.COMPENSABLE, 8), (Kind.PIVOT, 8), (Kind.NEUTRAL, 8), (Kind.RETRIABLE, None)]
)
def test_what_isnt_said_is_as_the_kind_says(kind: Kind, attempts: int | None) -> None:
    day = 24 * 3_600 * SECOND
    for policy in (None, Policy()):
        found = resolve(policy, kind)
        assert found.timeout == 5 * SECOND
        assert found.action == Patience(attempts, day, SECOND, 60 * SECOND)
        assert found.compensation == Patience(None, day, SECOND, 60 * SECOND)
        assert found.on_unknown is None


def test_what_is_said_counts_for_every_kind() -> None:
    given_retry = Retry(3, timedelta(minutes=1), timedelta(milliseconds=10), timedelta(seconds=2))
    found = resolve(Policy(timedelta(seconds=9), given_retry, given_retry, "stuck"), Kind.RETRIABLE)
    assert found.timeout == 9 * SECOND
    assert found.action == found.compensation == Patience(3, 60 * SECOND, 10_000, 2 * SECOND)
    assert found.on_unknown_of(Guard.BARRIER, can_settle=True) is OnUnknown.STUCK


@pytest.mark.parametrize(
    ("guard", "can_settle", "follows"),
    [
        (Guard.BARRIER, True, OnUnknown.COMPENSATE),
        (Guard.IDEMPOTENT, True, OnUnknown.SETTLE),
        (Guard.IDEMPOTENT, False, OnUnknown.STUCK),
        (Guard.ONCE, True, OnUnknown.SETTLE),
        (Guard.ONCE, False, OnUnknown.STUCK),
    ],
)
def test_what_follows_an_unknown_outcome_is_as_the_guard_allows(
    guard: Guard, can_settle: bool, follows: OnUnknown
) -> None:
    assert resolve(None, Kind.COMPENSABLE).on_unknown_of(guard, can_settle=can_settle) is follows


def test_durations_are_counted_in_whole_microseconds() -> None:
    assert micros(timedelta(days=1, microseconds=1)) == 86_400 * SECOND + 1
