"""Idempotency keys: what is put together can be taken apart, and nothing else can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amends.core.words.keys import BadKey, Key, Phase, decode_item, encode_item, make_key, parse_key, unit_name

RUNS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", fullmatch=True)
STEPS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,63}", fullmatch=True)


@given(RUNS, STEPS, st.text(max_size=20), st.sampled_from(Phase))
def test_a_key_can_be_taken_apart_again(run: str, step: str, name: str, phase: Phase) -> None:
    item = encode_item(name)
    key = make_key(run, step, item, phase)
    assert key.count(":") == 2
    assert key.isascii()
    assert key.isprintable()
    assert parse_key(key) == Key(run, step, item, phase)
    assert str(parse_key(key)) == key
    assert decode_item(item) == name


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no idempotency key"),
        ("run:step", "no idempotency key"),
        ("run:a:b:action", "no idempotency key"),
        ("-run:step:action", "no run id"),
        ("r" * 129 + ":step:action", "no run id"),
        ("rün:step:action", "no run id"),
        ("run:1st:action", "no step"),
        ("run:stép:action", "no step"),
        ("run:" + "s" * 65 + ":action", "no step"),
        ("run:step/:action", "no step"),
        ("run:step/a b:action", "no step"),
        ("run:step/a/b:action", "no step"),
        ("run:step/%7E:action", "no step"),
        ("run:step:act", "no phase"),
        ("run:step:action\n", "no phase"),
        ("run\n:step:action", "no run id"),
    ],
)
def test_what_is_no_key_is_refused_with_the_part_that_is_wrong(text: str, what: str) -> None:
    with pytest.raises(BadKey, match=what):
        parse_key(text)


def test_unreserved_characters_of_an_item_stay_readable() -> None:
    assert encode_item("SKU-1.a_b~c") == "SKU-1.a_b~c"
    assert encode_item("a/b:c%") == "a%2Fb%3Ac%25"
    assert unit_name("reserve", "a%2Fb") == "reserve/a%2Fb"
    assert unit_name("reserve", "") == "reserve"
