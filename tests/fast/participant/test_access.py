"""Who may call a service over the network, and where it may be told to post."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amends.core.words.errors import DefinitionInvalid
from amends.inboxes.memory import MemoryData, MemoryInbox
from amends.participant.access import TokenFile, Tokens
from amends.participant.asgi import Message
from amends.participant.service import Service
from amends.wire.this_call import this_call
from tests.fast.participant.payments import BODY, Held, Hold, Payments, Untouched, headers

GOOD, OTHER = "correct-horse-battery", "staple-correct-horse-2"
ORIGIN = "https://amends.internal:8700"

Door = Callable[[Service[MemoryData], dict[str, str]], Any]


async def over_asgi(service: Service[MemoryData], given: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY}

    async def send(message: Message) -> None:
        sent.append(dict(message))

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()]
    await service.asgi()({"type": "http", "method": "POST", "path": "/hold", "headers": raw}, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


async def over_wsgi(service: Service[MemoryData], given: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    started: list[tuple[str, list[tuple[str, str]]]] = []
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/hold",
        "CONTENT_LENGTH": str(len(BODY)),
        "wsgi.input": io.BytesIO(BODY),
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in given.items()},
    }

    def start_response(status: str, found: list[tuple[str, str]]) -> None:
        started.append((status, found))

    body = b"".join(service.wsgi()(environ, start_response))
    status, found = started[0]
    return int(status[:3]), dict(found), body


@pytest.fixture(params=[over_asgi, over_wsgi])
def door(request: pytest.FixtureRequest) -> Door:
    found: Door = request.param
    return found


def service_with(
    inbox: MemoryInbox | None = None, *, tokens: Tokens | None = None, origins: tuple[str, ...] = ()
) -> tuple[Service[MemoryData], list[str | None]]:
    """A service, and the callbacks that its handler was given."""
    service: Service[MemoryData] = Service(Payments, inbox or MemoryInbox(), tokens=tokens, callback_origins=origins)
    callbacks: list[str | None] = []

    def hold(request: Hold, tx: MemoryData) -> Held:
        callbacks.append(this_call().callback)
        return Held("1")

    service.action(Payments.hold)(hold)
    return service, callbacks


def bearing(token: str, **more: str) -> dict[str, str]:
    return {**headers(**more), "Authorization": f"Bearer {token}"}


# -- tokens


async def test_a_call_with_any_of_the_tokens_is_served(door: Door) -> None:
    service, callbacks = service_with(tokens=[OTHER, GOOD])
    for run, token in (("order-1", GOOD), ("order-2", OTHER)):
        status, found, _ = await door(service, bearing(token, run=run))
        assert (status, found["saga-outcome"]) == (200, "succeeded")
    assert (await door(service, {**headers(run="order-3"), "authorization": f"bearer   {GOOD} "}))[0] == 200
    assert len(callbacks) == 3
    service.close()


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        GOOD,
        f"Basic {GOOD}",
        f"Bearer {GOOD[:-1]}",
        f"Bearer {GOOD}x",
        f"Bearer {GOOD.upper()}",
        f"Bearer {GOOD} {GOOD}",
        "Bearer \xfc\xe9",
        "Bearer " + "x" * 100_000,
    ],
)
async def test_a_call_without_a_known_token_is_refused_before_the_database(
    door: Door, authorization: str | None
) -> None:
    service, _ = service_with(Untouched(), tokens=[GOOD, OTHER])
    given = headers() if authorization is None else {**headers(), "Authorization": authorization}
    status, found, body = await door(service, given)
    assert (status, found["www-authenticate"], "saga-outcome" in found) == (401, "Bearer", False)
    assert json.loads(body)["type"] == "urn:amends:unauthorized"
    assert GOOD.encode() not in body


async def test_no_tokens_at_all_refuse_everything_and_none_serves_everybody(door: Door) -> None:
    service, _ = service_with(Untouched(), tokens=[])
    assert (await door(service, bearing(GOOD)))[0] == 401
    service, _ = service_with()
    assert (await door(service, headers()))[0] == 200
    service.close()


async def test_an_unknown_path_says_nothing_without_a_token() -> None:
    service, _ = service_with(Untouched(), tokens=[GOOD])
    assert getattr(service.admit_remote(headers(), "nothing"), "status", None) == 401


async def test_tokens_are_rotated_without_a_restart(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# of 2026\n\n  {GOOD}\n")
    service, _ = service_with(tokens=TokenFile(path))
    assert (await door(service, bearing(GOOD)))[0] == 200
    assert (await door(service, bearing(OTHER)))[0] == 401
    path.write_text(f"{GOOD}\n{OTHER}\n")
    assert [(await door(service, bearing(each)))[0] for each in (GOOD, OTHER)] == [200, 200]
    path.write_text(f"{OTHER}\n")
    assert [(await door(service, bearing(each)))[0] for each in (GOOD, OTHER)] == [401, 200]
    service.close()


async def test_tokens_that_can_not_be_read_refuse_every_call(door: Door, tmp_path: Path) -> None:
    service, _ = service_with(Untouched(), tokens=TokenFile(tmp_path / "gone"))
    status, found, body = await door(service, bearing(GOOD))
    assert (status, "saga-outcome" in found) == (503, False)
    assert json.loads(body)["type"] == "urn:amends:tokens-unavailable"
    assert b"gone" not in body, "where tokens are is told to the log alone"


async def test_a_function_that_gives_one_text_refuses_every_call(door: Door) -> None:
    service, _ = service_with(Untouched(), tokens=lambda: GOOD)
    assert (await door(service, bearing(GOOD)))[0] == 503


async def test_a_short_token_from_a_file_is_never_accepted(door: Door, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("short\n")
    service, _ = service_with(Untouched(), tokens=TokenFile(tmp_path / "tokens"))
    assert (await door(service, bearing("short")))[0] == 401


@pytest.mark.parametrize("tokens", [GOOD, [""], ["short"], [GOOD, "with space in the middle"], ["ünïcode" * 5]])
def test_tokens_that_can_not_be_meant_are_refused_at_once(tokens: list[str]) -> None:
    with pytest.raises(DefinitionInvalid, match="token") as refused:
        service_with(tokens=tokens)
    assert GOOD not in str(refused.value)


async def test_a_call_within_the_process_needs_no_token() -> None:
    service, callbacks = service_with(tokens=[GOOD], origins=())
    answer = await service.handle(headers(Saga_Callback="http://anywhere/c"), "hold", BODY)
    assert (answer.status, callbacks) == (200, ["http://anywhere/c"])
    service.close()


# -- callbacks


@pytest.mark.parametrize(
    "url",
    [
        f"{ORIGIN}/v1/callbacks/t",
        "https://AMENDS.internal:8700/v1/callbacks/t",
        "https://second.internal/v1/callbacks/t",
        "https://second.internal:443/v1/callbacks/t",
    ],
)
async def test_a_callback_to_a_known_origin_reaches_the_handler(door: Door, url: str) -> None:
    service, callbacks = service_with(origins=(ORIGIN, "https://second.internal/"))
    assert (await door(service, headers(Saga_Callback=url)))[0] == 200
    assert callbacks == [url]
    service.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://amends.internal:8700/c",
        "https://amends.internal/c",
        "https://amends.internal:8701/c",
        "https://amends.internal.evil.example:8700/c",
        "https://amends.internal:8700@evil.example/c",
        "https://evil.example\\@amends.internal:8700/c",
        "https://evil.example#@amends.internal:8700/c",
        "https://user:password@amends.internal:8700/c",
        "https://amends.internal:8700 .evil.example/c",
        "https://[amends.internal:8700/c",
        "https://amends.internal:port/c",
        "file:///etc/passwd",
        "//amends.internal:8700/c",
        "",
    ],
)
async def test_a_callback_to_another_origin_is_dropped_and_the_call_is_served(
    door: Door, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    service, callbacks = service_with(origins=(ORIGIN,))
    assert (await door(service, headers(Saga_Callback=url)))[0] == 200
    assert (await door(service, headers(Saga_Callback=url, run="order-43")))[0] == 200
    assert callbacks == [None, None]
    assert caplog.text.count("callback_origins") == 1, "said once, not at each call"
    service.close()


@pytest.mark.parametrize("origins", [ORIGIN, ["amends.internal"], ["ftp://a"], [f"{ORIGIN}/v1"], ["https://a@b"], [""]])
def test_origins_that_can_not_be_meant_are_refused_at_once(origins: list[str]) -> None:
    with pytest.raises(DefinitionInvalid, match="origin"):
        Service(Payments, MemoryInbox(), callback_origins=origins)
