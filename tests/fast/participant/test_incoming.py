"""What is read from a call's headers, to the letter, and what is said where something is missing."""

from datetime import UTC, datetime
from hashlib import sha256

import pytest

from amends.participant.request import EPOCH_MAX, BadHeaders, read_headers
from tests.fast.participant.payments import headers


def given(**more: str) -> dict[str, str]:
    return {name.lower(): value for name, value in headers(**more).items()}


def without(name: str) -> dict[str, str]:
    return {each: value for each, value in given().items() if each != name}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("idempotency-key", "there is no Idempotency-Key: this is no call of a saga."),
        ("saga-kind", "Saga-Kind is '': expected compensable, pivot or retriable."),
        ("saga-since", "Saga-Since is '': expected a time as in RFC 3339, with its zone."),
    ],
)
def test_what_is_missing_is_named(name: str, said: str) -> None:
    with pytest.raises(BadHeaders) as refused:
        read_headers(without(name), "hold")
    assert str(refused.value) == said


@pytest.mark.parametrize("key", ['"', '""'])
def test_quotes_alone_are_no_key(key: str) -> None:
    with pytest.raises(BadHeaders):
        read_headers({**given(), "idempotency-key": key}, "hold")


def test_what_may_be_left_out_has_a_meaning() -> None:
    incoming = read_headers(given(), "hold")
    assert (incoming.attempt, incoming.epoch, incoming.seal) == (1, 0, None)
    assert (incoming.deadline, incoming.callback) == (None, None)
    assert read_headers(given(Saga_Attempt="0"), "hold").attempt == 1


def test_the_largest_epoch_is_the_largest_that_a_database_keeps() -> None:
    assert EPOCH_MAX == 2**63 - 1
    assert read_headers(given(Saga_Epoch=str(EPOCH_MAX)), "hold").epoch == EPOCH_MAX
    for text in (str(EPOCH_MAX + 1), "0" * 20):
        with pytest.raises(BadHeaders, match="expected a whole number"):
            read_headers(given(Saga_Epoch=text), "hold")


def test_the_moment_is_counted_in_microseconds() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    since = read_headers(given(Saga_Since=moment.isoformat()), "hold").since
    assert since == int(moment.timestamp()) * 1_000_000 + 678_901


def test_the_print_is_of_the_operation_a_zero_byte_and_the_body() -> None:
    incoming = read_headers(given(), "hold")
    assert incoming.print_of(b"body") == sha256(b"hold\x00body").digest()
    assert incoming.print_of(b"body") != read_headers(given(), "holdb").print_of(b"ody")
