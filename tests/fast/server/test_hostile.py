"""A real server, and whatever one can throw at it: always a problem or a closed connection, alive, and nothing told.

One process for all of it: that it still answers after everything is the point.
"""

import json
import re
import signal
import socket
import subprocess
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from amends.server.access import new_token
from tests.fast.server.processes import SECONDS, command

SECRET = "hidden-4711"
TOKEN, HASH = new_token()
SETTINGS = f"""
log = "memory:"
modules = ["mine:quick"]
[server]
listen = "127.0.0.1:0"
head_max = "8 KiB"
head_timeout = "0.3s"
body_timeout = "0.3s"
body_max = "64 KiB"
grace = "0.2s"
connections_max = 48
[[tokens]]
name = "web"
role = "operator"
hash = "{HASH}"
"""
SAGA = """\
import asyncio
from dataclasses import dataclass
from typing import Annotated

from amends import Redacted, Rejected, Saga


@dataclass
class Order:
    card: Annotated[str, Redacted]
    fails: str = ""


quick = Saga("quick", Order)


@quick.compensable()
async def pay(order: Order) -> str:
    if order.fails == "wait":
        await asyncio.Event().wait()
    if order.fails == "raise":
        raise ValueError(f"bad card {order.card}")
    raise Rejected(f"the card {order.card} is declined")


@pay.compensation
async def undo(order: Order, made: str | None) -> None:
    return None
"""
MEMORY_GROWTH_KIB = 96 << 10


class Server:
    """The process, and what it said so far."""

    def __init__(self, folder: Path) -> None:
        (folder / "mine.py").write_text(SAGA)
        (folder / "amends.toml").write_text(SETTINGS)
        self.errors = (folder / "errors").open("w+")
        self.process = subprocess.Popen(
            command("serve", "--json"), cwd=folder, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.said()
        host, _, port = json.loads(line)["url"].removeprefix("http://").partition(":")
        self.address = (host, int(port))

    def said(self) -> str:
        self.errors.flush()
        return (Path(self.errors.name)).read_text()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=SECONDS)

    def raw(self, *parts: bytes) -> bytes:
        """Send bytes as they are; what comes back until the server closes, or a whole answer is there."""
        with self.connect() as made:
            try:
                for part in parts:
                    made.sendall(part)
                return answer_from(made)
            except ConnectionError:
                return b""

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        given = {
            "Host": "localhost",
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        return self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=SECONDS)
        self.errors.close()

    def memory_kib(self) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0])


def answer_from(made: socket.socket) -> bytes:
    came = b""
    while True:
        chunk = made.recv(1 << 16)
        if not chunk:
            return came
        came += chunk


def problem_in(answer: bytes) -> dict[str, Any]:
    """The problem that an answer is: what a server says to whatever it can't do."""
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1.1 (\d{3}) ", head)
    assert found is not None, answer[:200]
    assert b"application/problem+json" in head, answer[:400]
    told: dict[str, Any] = json.loads(body)
    assert told["status"] == int(found[1])
    assert 400 <= told["status"] < 600
    assert told["status"] != 500, told
    assert SECRET not in answer.decode("latin-1")
    return told


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    made = Server(tmp_path_factory.mktemp("hostile"))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def still_alive(server: Server) -> Generator[None]:
    """After each test it answers, and said nothing of what was hidden, and no traceback."""
    yield
    assert b" 200 " in server.ask("GET", "/healthz").partition(b"\r\n")[0]
    said = server.said()
    assert SECRET not in said
    assert TOKEN not in said
    assert "Traceback" not in said


MALFORMED = [
    b"\r\n\r\n\r\n\r\nnonsense\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    bytes(range(256)) * 8,
]


@pytest.mark.parametrize("sent", MALFORMED)
def test_what_is_no_http_is_a_problem_or_a_closed_connection(server: Server, sent: bytes) -> None:
    answer = server.raw(sent)
    if answer:
        assert problem_in(answer)["status"] in {400, 401, 404, 408, 413}


def test_a_head_that_does_not_come_is_not_waited_for(server: Server) -> None:
    assert server.raw() == b"", "nothing was sent, so there is nobody to answer"
    assert problem_in(server.raw(b"GET /healthz HTTP/1.1\r\nHost: loc"))["status"] == 408
    assert problem_in(server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"))["status"] == 408


def test_a_body_that_does_not_come_is_not_waited_for(server: Server) -> None:
    body = b'{"saga": "quick", '
    answer = server.ask("POST", "/v1/runs", body, {"Content-Length": "4000", "Connection": "keep-alive"})
    assert problem_in(answer)["status"] == 408


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 4_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 400_000,
    ],
)
def test_a_head_without_end_is_refused(server: Server, head: bytes) -> None:
    answer = server.raw(head)
    if answer:  # else the connection was reset while it was still being sent
        assert problem_in(answer)["status"] == 431


def test_a_body_without_end_is_refused(server: Server) -> None:
    told = problem_in(server.ask("POST", "/v1/runs", b"", {"Content-Length": str(1 << 40), "Connection": "keep-alive"}))
    assert told["status"] == 413
    head = (
        f"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    chunk = b"8000\r\n" + b"a" * 0x8000 + b"\r\n"
    answer = server.raw(head, *([chunk] * 3))
    if answer:
        assert problem_in(answer)["status"] == 413


POSTS = [
    "/v1/runs",
    "/v1/runs:retry",
    "/v1/runs:cancel",
    "/v1/runs/a/cancel",
    "/v1/runs/a/steps/pay/resolve",
    "/v1/runs/a/steps/pay/answer",
    "/v1/runs/a/steps/pay/probe",
    "/v1/callbacks/x.y",
]
BODIES = [
    b"",
    b"null",
    b"[]",
    b"1",
    b'"text"',
    b"{",
    b'{"saga": }',
    b'{"saga":"quick","saga":"quick"}',
    b"\xff\xfe\x00",
    b'{"reason": "\xed\xa0\x80"}',
    b"[" * 20_000,
    b'{"a":' * 10_000,
    b'{"reason": ' + b"9" * 20_000 + b"}",
    b'{"reason": 1e999}',
    json.dumps({"saga": "<script>alert(1)</script>", "input": 1}).encode(),
    json.dumps({"saga": "quick", "id": "../../etc/passwd", "input": {"card": SECRET}}).encode(),
    json.dumps({"saga": "quick", "id": "a\x00b", "input": {"card": SECRET}}).encode(),
    json.dumps({"saga": "quick", "input": {"card": 4711}}).encode(),
    json.dumps({"saga": "quick", "input": {"card": SECRET}, "deadline": "9999-99-99"}).encode(),
    json.dumps({"where": "saga=" + "x" * 1_000, "reason": "", "dry_run": True}).encode(),
]


@pytest.mark.parametrize("path", POSTS)
def test_bodies_that_mean_nothing_are_problems(server: Server, path: str) -> None:
    for body in BODIES:
        problem_in(server.ask("POST", path, body))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/runs/../../../etc/passwd",
        "/v1/runs/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/docs/../app.py",
        "/docs/%2e%2e/app.py",
        "/docs/docs.js%00.css",
        "//v1/runs",
        "/v1//runs",
        "/v1/runs/",
        "/v1/runs/%00",
        "/v1/runs/%ff%fe",
        "/v1/runs/a%0d%0aSet-Cookie:%20x=1",
        "/v1/runs/" + "a" * 4_000,
        "/v1/sagas/%3Cscript%3E",
        "/v1/runs?cursor=%00",
        "/v1/runs?tag=%00=%00",
        "/v1/runs?state=%3Cscript%3E",
        "/v1/runs?limit=" + "9" * 1_000,
        "/v1/runs?" + "&".join(f"a{n}=1" for n in range(500)),
        "/v1/runs/nope/events?after=1e9",
        "/v1/runs:nope",
        "/V1/RUNS",
    ],
)
def test_paths_that_lead_nowhere_are_problems(server: Server, path: str) -> None:
    answer = server.ask("GET", path)
    if b" 200 " in answer[:15]:
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"runs": [], "next": None}
        return
    assert problem_in(answer)["status"] in {400, 404}
    assert b"Set-Cookie" not in answer.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_other_methods_are_problems(server: Server, method: str) -> None:
    answer = server.ask(method, "/v1/runs")
    assert problem_in(answer)["status"] in {400, 405}


def test_guessing_tokens_gets_nobody_in(server: Server) -> None:
    statuses = {
        problem_in(server.ask("GET", "/v1/runs", headers={"Authorization": f"Bearer amends_{number}"}))["status"]
        for number in range(40)
    }
    assert statuses == {401, 429}


def test_an_upgrade_is_not_made(server: Server) -> None:
    for protocol in ("websocket", "h2c"):
        answer = server.ask("GET", "/v1/runs", headers={"Connection": "Upgrade, close", "Upgrade": protocol})
        assert b" 101 " not in answer[:15]


def test_idle_connections_keep_nobody_out(server: Server) -> None:
    """A new connection takes the place of the one that has been idle longest, whatever that one is waiting for."""
    heads = (b"", b"GET /healthz HTTP/1.1\r\n", b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
    with ExitStack() as stack:
        for number in range(130):
            stack.enter_context(server.connect()).sendall(heads[number % len(heads)])
        assert b" 200 " in server.ask("GET", "/healthz")[:15]


def test_a_body_that_does_not_come_holds_no_connection(server: Server) -> None:
    """Also where the answer didn't wait for it, and with a byte now and then."""
    for line in ("GET /healthz", "POST /nothing-here", "GET /v1/runs"):
        with server.connect() as held:
            held.sendall(f"{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n".encode())
            assert held.recv(1 << 16).startswith(b"HTTP/1.1 ")
            held.sendall(b"x")
            answer_from(held)  # until it is closed


def test_more_requests_than_it_takes_at_a_time_are_told_so(server: Server) -> None:
    body = json.dumps({"saga": "quick", "id": "waits", "input": {"card": "1", "fails": "wait"}}).encode()
    assert b" 201 " in server.ask("POST", "/v1/runs", body)[:15]
    head = f"GET /v1/runs/waits?wait=50 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(48):
            stack.enter_context(server.connect()).sendall(head.encode())
        answer = b""
        for _ in range(200):  # until all of them are being answered: nothing is idle then
            answer = server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if b" 503 " in answer[:15]:
                break
        told = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert (told["status"], told["type"]) == (503, "urn:amends:overloaded")
    assert any(b" 200 " in server.ask("GET", "/healthz")[:15] for _ in range(200)), "once they are gone"


def test_what_is_hidden_is_in_no_answer_and_no_line_of_the_log(server: Server) -> None:
    """Also where the service repeats it in its refusal, and where a step's code raises it."""
    body = json.dumps({"saga": "quick", "id": "r-1", "input": {"card": SECRET}}).encode()
    started = server.ask("POST", "/v1/runs?wait=10", body)
    assert b" 201 " in started[:15]
    for answer in (
        started,
        server.ask("GET", "/v1/runs/r-1"),
        server.ask("GET", "/v1/runs/r-1/events?limit=1000"),
        server.ask("GET", "/v1/runs/r-1/events", headers={"Accept": "text/event-stream"}),
        server.ask("POST", "/v1/runs/r-1/cancel?dry_run=1", b'{"reason":"x"}'),
        server.ask("GET", "/v1/runs"),
        server.ask("GET", "/metrics"),
    ):
        assert b" 20" in answer[:15]
        assert SECRET.encode() not in answer
    raising = json.dumps({"saga": "quick", "id": "r-2", "input": {"card": SECRET, "fails": "raise"}}).encode()
    assert b" 201 " in server.ask("POST", "/v1/runs", raising)[:15]
    shown = server.ask("GET", "/v1/runs/r-2?wait=1")
    assert b"bad card" in shown, "the fault wasn't there"
    assert SECRET.encode() not in shown


def test_memory_stays_bounded(server: Server) -> None:
    """After everything above, and two hundred large requests more."""
    before = server.memory_kib()
    body = b'{"saga":"quick","input":{"card":"' + b"x" * 60_000 + b'","more":1}, "nope": 1}'
    for _ in range(200):
        problem_in(server.ask("POST", "/v1/runs", body))
    assert server.memory_kib() - before < MEMORY_GROWTH_KIB
