"""The doors of a service, ASGI and WSGI, and the headers that come through them."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from wsgiref.validate import validator

import pytest

from amends.core.words.keys import Phase, encode_item, make_key
from amends.core.words.limits import REQUEST_BYTES_MAX
from amends.core.words.retry import Guard, Kind
from amends.inboxes.memory import MemoryData, MemoryInbox
from amends.participant.asgi import Message
from amends.participant.request import read_headers
from amends.participant.service import Service
from amends.ports.transport import Outgoing
from amends.wire.call import call_headers
from tests.fast.participant.payments import BODY, UNDO, Held, Hold, Payments, Untouched, headers, paying, word

Sent = list[dict[str, Any]]


async def post(
    service: Service[MemoryData],
    path: str,
    body: list[dict[str, Any]],
    *,
    given: list[tuple[bytes, bytes]] | None = None,
    method: str = "POST",
) -> Sent:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers().items()]
    scope = {"type": "http", "method": method, "path": path, "root_path": "/saga", "headers": given or raw}
    sent: Sent = []
    parts = iter(body)

    async def receive() -> dict[str, Any]:
        return next(parts)

    async def send(message: Message) -> None:
        sent.append(dict(message))

    await service.asgi()(scope, receive, send)
    return sent


def chunk(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_call_over_asgi_under_any_prefix_and_in_pieces() -> None:
    service = paying()
    start, body = await post(service, "/saga/hold", [chunk(BODY[:5], more=True), chunk(BODY[5:])])
    assert start["status"] == 200
    found = dict(start["headers"])
    assert found[b"saga-outcome"] == b"succeeded"
    assert found[b"content-length"] == str(len(body["body"])).encode()
    assert json.loads(body["body"]) == {"id": "order-42:hold:action"}
    again = await post(service, "/hold", [chunk(BODY)])
    assert again == [start, body]


async def test_a_body_over_the_limit_is_not_read_to_its_end() -> None:
    megabyte = chunk(b" " * REQUEST_BYTES_MAX, more=True)
    endless = [megabyte, megabyte]
    start, body = await post(paying(Untouched()), "/hold", endless)
    assert start["status"] == 413
    assert b"saga-outcome" not in dict(start["headers"])
    assert json.loads(body["body"])["type"] == "urn:amends:too-large"


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/nothing", "POST", 404), ("/hold/", "POST", 404), ("/hold", "GET", 405)]
)
async def test_what_is_not_served_has_no_outcome(path: str, method: str, status: int) -> None:
    start, _ = await post(paying(Untouched()), path, [], method=method)
    assert start["status"] == status
    assert b"saga-outcome" not in dict(start["headers"])


async def test_a_header_of_the_contract_that_comes_twice_is_refused() -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers().items()]
    start, _ = await post(
        paying(Untouched()), "/hold", [chunk(BODY)], given=[*raw, (b"Saga-Epoch", b"1"), (b"saga-epoch", b"2")]
    )
    assert start["status"] == 400


async def test_a_client_that_leaves_gets_no_answer_and_no_effect() -> None:
    inbox = MemoryInbox()
    assert await post(paying(inbox), "/hold", [chunk(BODY[:3], more=True), {"type": "http.disconnect"}]) == []
    assert inbox.data == {}


async def test_lifespan_and_websockets_are_answered() -> None:
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, {"type": "websocket.connect"}])
    sent: Sent = []

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Message) -> None:
        sent.append(dict(message))

    app = paying().asgi()
    await app({"type": "lifespan"}, receive, send)
    await app({"type": "websocket"}, receive, send)
    assert [each["type"] for each in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
        "websocket.close",
    ]
    with pytest.raises(NotImplementedError):
        await app({"type": "carrier-pigeon"}, receive, send)


def test_a_call_over_wsgi() -> None:
    service: Service[MemoryData] = Service(Payments, MemoryInbox())

    @service.action(Payments.hold)
    def hold(request: Hold, tx: MemoryData) -> Held:
        return Held("1")

    assert callable(hold)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def ignored(_data: bytes) -> None: ...

    def start_response(status: str, found: list[tuple[str, str]], *_: object) -> Callable[[bytes], None]:
        started.append((status, found))
        return ignored

    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "/saga",
        "PATH_INFO": "/hold",
        "QUERY_STRING": "",
        "SERVER_NAME": "test",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(BODY)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(BODY),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers().items()},
    }
    answer = validator(service.wsgi())(environ, start_response)
    assert b"".join(answer) == b'{"id":"1"}'
    answer.close()  # type: ignore[attr-defined] # the validator's own iterable
    ((status, found),) = started
    assert status == "200 OK"
    assert ("saga-outcome", "succeeded") in found


@pytest.mark.parametrize("phase", list(Phase))
async def test_what_transports_write_is_what_the_barrier_reads(phase: Phase) -> None:
    call = Outgoing(
        key=make_key("order-42", "hold", encode_item("caf\N{LATIN SMALL LETTER E WITH ACUTE}/1"), phase),
        run="order-42",
        step="hold",
        item=encode_item("caf\N{LATIN SMALL LETTER E WITH ACUTE}/1"),
        phase=phase,
        participant="payments",
        operation="unhold" if phase is Phase.COMPENSATION else "hold",
        guard=Guard.BARRIER,
        kind=Kind.PIVOT,
        body=UNDO if phase is Phase.COMPENSATION else BODY,
        attempt=2,
        epoch=3,
        since=1_790_000_000_000_250,
        timeout_seconds=5,
        deadline=datetime(2030, 1, 1, tzinfo=UTC),
        callback="http://x/v1/callbacks/t",
        seal="undone" if phase is Phase.SEAL else None,
    )
    incoming = read_headers(call_headers(call), call.operation)
    assert (str(incoming.key), incoming.since, incoming.epoch) == (call.key, call.since, 3)
    assert (incoming.kind, incoming.seal, incoming.callback) == (call.kind, call.seal, call.callback)
    assert (incoming.attempt, incoming.deadline) == (2, call.deadline)
    answer = await paying().handle(call_headers(call), call.operation, call.body)
    assert word(answer) == ("succeeded" if phase is Phase.ACTION else "noop")
