"""Webhooks: signed so that nobody else can make one, tried until taken, bounded."""

import asyncio
import base64
import hmac
import logging
import time
from collections.abc import Coroutine
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from amends.config.loading import load
from amends.config.values import BadSetting
from amends.config.webhooks import webhooks_of
from amends.observers.deliveries import CAP_SECONDS, GIVE_UP_SECONDS, Deliveries, Webhook, body_of
from amends.observers.posting import Poster
from amends.observers.signing import is_genuine, new_secret, signature, signed_headers
from amends.server.listen import listen_on, url_of
from tests.fast.engine.support import Clock, seconds, virtually

KEY = b"a key of twenty-four byte"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
FIRST, SECOND = new_secret(), new_secret()


def test_the_signature_is_over_id_time_and_body() -> None:
    signed = b'msg_1.1614265330.{"test": 2432232314}'
    expected = base64.b64encode(hmac.new(KEY, signed, "sha256").digest()).decode()
    assert signature("msg_1", 1_614_265_330, b'{"test": 2432232314}', SECRET) == expected


@pytest.mark.parametrize("size", [24, 32, 64])
def test_the_library_of_the_standard_verifies_every_secret_that_is_accepted(size: int) -> None:
    library: Any = pytest.importorskip("standardwebhooks", reason="the group `dev` isn't installed")
    body = body_of({"type": "run.stuck", "detail": "Größe ✓"})
    for secret in (new_secret(), f"whsec_{base64.b64encode(bytes(range(190, 190 + size))).decode()}"):
        headers = signed_headers("order-42:stuck:1", int(time.time()), body, secret)
        assert library.Webhook(secret).verify(body, headers)["type"] == "run.stuck"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "a secret in words, which the library would read as base64",
        "whsec_",
        "whsec_no base64, though it is long enough for a key",
        f"whsec_{base64.b64encode(bytes(23)).decode()}",
        f"whsec_{base64.b64encode(bytes(65)).decode()}",
        f"whsec_{base64.b64encode(bytes(32)).decode()[:-1]}",
        f"whsec_{base64.urlsafe_b64encode(bytes([251]) * 32).decode()}",
        f"WHSEC_{base64.b64encode(bytes(32)).decode()}",
        base64.b64encode(bytes(32)).decode(),
    ],
)
def test_a_secret_that_the_standard_does_not_know_is_refused_and_not_shown(secret: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(secret)
    text = f'[[webhooks]]\nurl = "https://a"\non = ["stuck"]\nsecret = "${{file:{file}}}"\n'
    (tmp_path / "amends.toml").write_text(text)
    settings = load(file=tmp_path / "amends.toml", environment={}).settings
    with pytest.raises(BadSetting, match="token webhook") as found:
        webhooks_of(settings)
    assert "webhooks[0].secret" in str(found.value)
    assert len(secret) < 10 or secret not in str(found.value)


def test_a_receiver_knows_what_was_signed_with_its_secret() -> None:
    body = body_of({"type": "run.stuck"})
    headers = signed_headers("order-42:stuck:1", 1_000, body, SECRET)
    assert is_genuine(headers, body, SECRET, now=1_100)
    assert not is_genuine(headers, body + b" ", SECRET, now=1_100)
    assert not is_genuine(headers, body, FIRST, now=1_100)
    assert not is_genuine({**headers, "webhook-id": "order-43"}, body, SECRET, now=1_100)
    assert not is_genuine({**headers, "webhook-timestamp": "1001"}, body, SECRET, now=1_100)
    assert not is_genuine(headers, body, SECRET, now=1_301), "an old one sent again"
    assert not is_genuine({}, body, SECRET, now=1_100)
    rotated = {**headers, "webhook-signature": f"v1,bm90IGl0 {headers['webhook-signature']}"}
    assert is_genuine(rotated, body, SECRET, now=1_100), "signed with two secrets while one is replaced"
    assert "webhook-signature" not in signed_headers("x", 1, body, None)


class Receiver:
    """Answers one after the other, the last for ever."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.got: list[tuple[str, float, dict[str, str], bytes]] = []

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> int:
        self.got.append((url, seconds(), headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def delivering(receiver: Receiver, *hooks: Webhook) -> Deliveries:
    return Deliveries(hooks, receiver.post, Clock())


async def done(deliveries: Deliveries) -> None:
    while deliveries.waiting:  # noqa: ASYNC110 - nobody says so, and on virtual time waiting costs nothing
        await asyncio.sleep(1)


def on_virtual_time(test: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        await test

    virtually(run)


def test_what_is_not_taken_is_sent_again_under_one_id_with_growing_waits() -> None:
    receiver = Receiver(500, ConnectionError("nobody there"), TimeoutError(), 302, 204)

    async def test() -> None:
        deliveries = delivering(receiver, Webhook("https://hooks", ("stuck",), SECRET))
        deliveries.put("stuck", "order", "order-42:stuck:1", lambda: b"{}")
        await done(deliveries)

    on_virtual_time(test())
    assert len(receiver.got) == 5
    at = [each[1] for each in receiver.got]
    assert [round(b - a) for a, b in pairwise(at)] == [1, 2, 4, 8]
    assert {each[2]["webhook-id"] for each in receiver.got} == {"order-42:stuck:1"}
    for _, _, headers, body in receiver.got:
        assert is_genuine(headers, body, SECRET, now=int(headers["webhook-timestamp"]))


def test_what_is_on_its_way_is_signed_with_the_secret_of_now_and_not_sent_where_nobody_is_named_any_more() -> None:
    receiver = Receiver(500)

    async def test() -> None:
        hook, other = Webhook("https://hooks", ("stuck",), FIRST), Webhook("https://hooks", ("alert",), SECRET)
        deliveries = delivering(receiver, hook, other)
        deliveries.put("stuck", "order", "order-42", lambda: b"{}")
        await asyncio.sleep(2)
        before = len(receiver.got)
        deliveries.renew([other, replace(hook, secret=SECOND)])
        await asyncio.sleep(8)
        (*early, last), sent = receiver.got, len(receiver.got)
        assert before < sent, "it was tried again"
        assert is_genuine(early[0][2], b"{}", FIRST, now=int(early[0][2]["webhook-timestamp"]))
        assert is_genuine(last[2], b"{}", SECOND, now=int(last[2]["webhook-timestamp"]))
        deliveries.renew([])
        await done(deliveries)
        assert len(receiver.got) == sent, "its address was taken out of the settings"

    on_virtual_time(test())


def test_it_is_given_up_after_a_day_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver(503)

    async def test() -> None:
        deliveries = delivering(receiver, Webhook("https://hooks", ("stuck",)))
        deliveries.put("stuck", "order", "order-42", lambda: b"{}")
        await done(deliveries)
        assert seconds() <= GIVE_UP_SECONDS + 10

    with caplog.at_level(logging.WARNING):
        on_virtual_time(test())
    assert len(receiver.got) > GIVE_UP_SECONDS / CAP_SECONDS
    assert "was not delivered to https://hooks: answered 503" in caplog.text


def test_who_does_not_want_it_any_more_is_not_asked_again() -> None:
    receiver = Receiver(410)

    async def test() -> None:
        deliveries = delivering(receiver, Webhook("https://hooks", ("stuck",)))
        deliveries.put("stuck", "order", "order-42", lambda: b"{}")
        await done(deliveries)

    on_virtual_time(test())
    assert len(receiver.got) == 1


def test_everybody_is_told_what_they_asked_for_and_nothing_else() -> None:
    receiver, made = Receiver(200), list[str]()

    def body() -> bytes:
        made.append("body")
        return b"{}"

    async def test() -> None:
        deliveries = delivering(
            receiver,
            Webhook("https://all", ("completed", "stuck")),
            Webhook("https://orders", ("stuck",), sagas=("order",)),
        )
        for event, saga in (("stuck", "order"), ("stuck", "basket"), ("completed", "order"), ("abandoned", "order")):
            deliveries.put(event, saga, f"{event} {saga}", body)
        await done(deliveries)

    on_virtual_time(test())
    assert sorted((url, headers["webhook-id"]) for url, _, headers, _ in receiver.got) == [
        ("https://all", "completed order"),
        ("https://all", "stuck basket"),
        ("https://all", "stuck order"),
        ("https://orders", "stuck order"),
    ]
    assert len(made) == 3, "a body is made once, and only if somebody wants it"


def test_a_slow_receiver_holds_up_no_other() -> None:
    got: list[str] = []

    async def post(url: str, headers: dict[str, str], body: bytes) -> int:
        if url == "https://slow":
            await asyncio.sleep(3_600)
        got.append(url)
        return 200

    async def test() -> None:
        deliveries = Deliveries(
            [Webhook("https://slow", ("stuck",)), Webhook("https://quick", ("stuck",))], post, Clock()
        )
        for number in range(20):
            deliveries.put("stuck", None, str(number), lambda: b"{}")
        await asyncio.sleep(1)
        assert got == ["https://quick"] * 20
        await deliveries.close()
        assert not deliveries.waiting

    on_virtual_time(test())


def test_what_is_lost_at_the_end_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        deliveries = delivering(Receiver(503), Webhook("https://hooks", ("stuck",)))
        deliveries.put("stuck", None, "order-42", lambda: b"{}")
        await asyncio.sleep(10)  # between two attempts
        await deliveries.close()

    with caplog.at_level(logging.ERROR):
        on_virtual_time(test())
    assert "1 webhooks were not delivered: the process ends" in caplog.text


async def test_a_real_receiver_gets_it_and_is_not_followed_elsewhere() -> None:
    got: list[tuple[str, bytes]] = []

    async def handle(request: web.Request) -> web.Response:
        got.append((request.path, await request.read()))
        return web.Response(status=302, headers={"Location": "/elsewhere"}) if len(got) == 1 else web.Response()

    app = web.Application()
    app.router.add_post("/{rest:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    listening = listen_on("127.0.0.1", 0)
    await web.SockSite(runner, listening).start()
    try:
        async with Poster() as poster:
            assert await poster.post(f"{url_of(listening)}/a", {"content-type": "application/json"}, b"{}") == 302
            assert await poster.post(f"{url_of(listening)}/a", {"content-type": "application/json"}, b"{}") == 200
    finally:
        await runner.cleanup()
    assert got == [("/a", b"{}"), ("/a", b"{}")]
    async with Poster() as poster:
        with pytest.raises(ConnectionError):
            await poster.post("http://127.0.0.1:9/", {}, b"{}")
