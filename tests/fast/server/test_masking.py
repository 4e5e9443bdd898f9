"""Hidden values are taken out of every text, however a service quotes them; and nothing says which guess is right."""

import json
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from amends.server.access import Access, Role, Token, new_token
from amends.server.rate_limit import GUESSES_MAX
from amends.views.masking import LETTERS_MIN, Mask
from tests.fast.server.asgi import JSON, Caller
from tests.fast.server.opened import api, problem
from tests.fast.server.sagas import orders, quick, waits

SECRETS = ["4111222233334444", 'a "quoted" pin', "two\nlines", "Ümlaut", "a/b c", "12.5"]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_value_is_found_however_it_is_quoted(secret: str) -> None:
    mask = Mask([secret])
    forms = [secret, json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret), quote(secret)]
    for form in (*forms, secret.upper(), secret.replace("\n", " ")):
        told = mask.text(f"no: {form}, sorry")
        assert told.startswith("no: ")
        assert told.endswith(", sorry")
        assert "***" in told
        for part in (secret, json.dumps(secret)[1:-1], quote(secret)):
            assert part not in told


def test_a_short_value_is_taken_out_where_it_stands_alone() -> None:
    mask = Mask(["987", "x", ""])
    assert mask.text("cvv 987, cvv=987. 1987 stays, x goes") == "cvv ***, cvv=***. 1987 stays, *** goes"
    assert Mask(["0"]).text("500 from http://127.0.0.1:80: 0.") == "500 from http://127.0.0.1:80: ***."
    assert len("987") < LETTERS_MIN


def test_the_longest_value_wins_and_one_that_was_cut_is_taken_out_too() -> None:
    mask = Mask(["4111", "41112222"])
    assert mask.text("41112222 4111") == "*** ***"
    assert Mask(["4111222233334444"]).text("card 41112222…") == "card ***…"


def test_values_that_begin_alike_are_told_apart() -> None:
    mask = Mask(f"4111-{number:05}" for number in range(5_000))
    assert mask.text("4111-00042, 4111-05000, 4111-04999…") == "***, 4111-05000, ***…"


def test_words_of_a_service_wait_for_the_reply_that_they_may_quote() -> None:
    mask = Mask(knows_all=False)
    assert mask.said("503 from http://bank:1/charge: made pin 7351") == "503 from http://bank:1/charge: ***"
    assert mask.said("pin 7351 can't be undone") == "***"
    assert mask.text("pay said no: pin 7351") == "pay said no: ***"
    assert mask.text("pay failed: ValueError: pin 7351 (pay.py:3)") == "pay failed: ***"
    assert mask.text("pay failed: 503 from http://pay/do: pin 7351") == "pay failed: 503 from http://pay/do: ***"
    unreached = "pay could not be reached: no connection to http://pay/do: Connection refused"
    assert mask.text(unreached) == unreached
    assert mask.text("cancelled: by the customer") == "cancelled: by the customer"
    for ours in ("no answer from http://bank:1/charge: reset", "503 from http://bank:1/charge", "404"):
        assert mask.said(ours) == ours
    for words in ("503 from http://bank:1/charge: made", "pin 7351", None):
        assert Mask().said(words) == words


TOKENS = {name: new_token() for name in ("viewer", "client", "quick")}
ACCESS = Access(
    [
        Token("viewer", Role.VIEWER, TOKENS["viewer"][1]),
        Token("client", Role.CLIENT, TOKENS["client"][1]),
        Token("quick", Role.OPERATOR, TOKENS["quick"][1], ["quick"]),
    ]
)


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[name][0]}", **JSON}


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with api(orders, quick, waits, access=ACCESS) as (caller, _):
        yield caller


def order(card: str) -> dict[str, object]:
    lines = [{"sku": "lamp", "quantity": 1}]
    return {"saga": "orders", "id": "o-1", "input": {"lines": lines, "card": card, "cents": 5}}


async def test_replies_are_whole_for_the_program_that_decodes_them_and_for_no_eyes(caller: Caller) -> None:
    started = await caller.ask("/v1/runs?wait=20", order("987"), bearer("client"))
    whole, hidden = {"lamp": {"id": "r-lamp", "pin": "1234"}}, {"lamp": {"id": "r-lamp", "pin": "***"}}
    assert started.json()["outcome"]["replies"]["reserve"] == whole, started
    for name, query, expected in (
        ("client", "", whole),
        ("client", "?redacted=true", hidden),
        ("viewer", "", hidden),
        ("viewer", "?redacted=false", hidden),
    ):
        answer = await caller.get(f"/v1/runs/o-1{query}", bearer(name))
        assert answer.json()["outcome"]["replies"]["reserve"] == expected, (name, query)


async def test_a_taken_id_says_nothing_that_lets_a_hidden_value_be_guessed(caller: Caller) -> None:
    assert (await caller.ask("/v1/runs", order("987"), bearer("client"))).status == 201
    said: set[str] = set()
    for guess in range(GUESSES_MAX):
        answer = await caller.ask("/v1/runs", order(str(guess)), bearer("client"))
        said.add(problem(answer, 409, "run-exists")["detail"])
    assert len(said) == 1
    (detail,) = said
    assert "differs" not in detail
    assert "card" not in detail
    for card in ("5", "987"):  # the right one too: else this would say which one it is
        problem(await caller.ask("/v1/runs", order(card), bearer("client")), 429, "too-many-requests")
    another = {**order("987"), "id": "o-2"}
    assert (await caller.ask("/v1/runs", another, bearer("client"))).status == 201


async def test_a_token_for_one_saga_learns_of_no_other(caller: Caller) -> None:
    assert (await caller.ask("/v1/runs", order("987"), bearer("client"))).status == 201
    taken = {"saga": "quick", "id": "o-1", "input": "yes"}
    detail = problem(await caller.ask("/v1/runs", taken, bearer("quick")), 409, "run-exists")["detail"]
    assert "orders" not in detail
    for path in ("/v1/workers", "/v1/participants", "/metrics", "/v1/sagas"):
        answer = await caller.get(path, bearer("quick"))
        assert answer.status == 200
        for other in (b"orders", b"waits", b"inventory"):
            assert other not in answer.body, (path, other)
        everything = await caller.get(path, bearer("viewer"))
        assert b"orders" in everything.body or b"inventory" in everything.body, path
