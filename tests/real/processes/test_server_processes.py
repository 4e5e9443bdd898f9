"""Real processes: what was acknowledged survives them, and they come and go without losing or doubling anything."""

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import uvicorn
from typing_extensions import override

from amends.config.settings import ServerSettings, Settings
from amends.core.words.errors import LogBroken
from amends.inboxes.memory import MemoryInbox
from amends.logs.memory import MemoryLog
from amends.participant.service import Service
from amends.ports.log import Append, Start, Written
from amends.server import process
from amends.server.context import BODY_BYTES_MAX
from amends.server.setup import set_up
from tests.fast.server.asgi import JSON
from tests.fast.server.processes import SECONDS, Serving, free_port, until
from tests.fast.server.sagas import Inventory, Line, Reservation, quick

SAGAS = """\
import asyncio
from pathlib import Path

from amends import Call, Participant, Saga, operation, this_call

slow = Saga("slow", str)


@slow.compensable()
async def book(city: str) -> str:
    with Path("attempts").open("a") as file:
        file.write(this_call().key + "\\n")
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return f"room in {city}"


@book.compensation
async def give_back(city: str, room: str | None) -> None:
    Path("undone").touch()


class Inventory(Participant):
    reserve = operation(dict, dict, compensation="release")


order = Saga("order", str)


@order.compensable()
def reserve(sku: str) -> Call[dict]:
    return Inventory.reserve({"sku": sku, "quantity": 1})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SAGAS)
    return tmp_path


async def test_a_run_survives_kill_9_right_after_it_was_acknowledged(folder: Path) -> None:
    async with Serving(folder, ["mine:slow"]) as server:
        status, body = await server.post("slow", "Lisbon", "trip-1")
        assert (status, body["state"]) == (201, "running")
        await until((folder / "attempts").exists)
        await server.kill()
        assert server.process is not None
        assert server.process.returncode == -signal.SIGKILL
        (folder / "go").touch()
        await server.start()
        body = await server.until("trip-1", lambda body: body["outcome"] is not None)
        assert body["state"] == "completed"
        assert body["outcome"]["replies"] == {"book": "room in Lisbon"}
        assert (await server.post("slow", "Lisbon", "trip-1"))[0] == 200
        assert (await server.post("slow", "Rome", "trip-1"))[0] == 409
    attempts = (folder / "attempts").read_text().split()
    assert attempts == ["trip-1:book:action"] * 2, "the fault didn't hit a call in flight"


async def test_sigterm_answers_those_who_wait_and_lets_calls_in_flight_finish(folder: Path) -> None:
    async with Serving(folder, ["mine:slow"]) as server:
        await server.post("slow", "Lisbon", "trip-1")
        await until((folder / "attempts").exists)
        waiting = asyncio.create_task(server.get("trip-1", wait=60))
        starting = asyncio.create_task(server.post("slow", "Rome", "trip-2", wait=60))
        await until(lambda: len((folder / "attempts").read_text().split()) == 2)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(SECONDS):
            assert (await waiting)["state"] == "running"
            status, body = await starting
        assert (status, body["state"]) == (201, "running")
        (folder / "go").touch()
        async with asyncio.timeout(SECONDS):
            assert await server.process.wait() == 0
        await server.start()
        for run in ("trip-1", "trip-2"):
            assert (await server.get(run, wait=20))["state"] == "completed"
    attempts = (folder / "attempts").read_text().split()
    assert sorted(attempts) == ["trip-1:book:action", "trip-2:book:action"], "what had finished was done again"


async def test_sigterm_ends_streams_and_they_are_resumed_at_the_next_process(folder: Path) -> None:
    async with Serving(folder, ["mine:slow"]) as server:
        await server.post("slow", "Lisbon", "trip-1")
        await until((folder / "attempts").exists)
        live = {"Accept": "text/event-stream"}
        async with server.http.get(f"{server.url}/v1/runs/trip-1/events", headers=live) as stream:
            seen = b""
            async with asyncio.timeout(SECONDS):
                while b"ActionRequested" not in seen:
                    seen += await stream.content.readany()
                assert server.process is not None
                server.process.send_signal(signal.SIGTERM)
                seen += await stream.read()
        (folder / "go").touch()
        async with asyncio.timeout(SECONDS):
            assert await server.process.wait() == 0
        await server.start()
        last = seen.decode().rpartition("id: ")[2].partition("\n")[0]
        again = {**live, "Last-Event-ID": last}
        async with server.http.get(f"{server.url}/v1/runs/trip-1/events", headers=again) as stream:
            async with asyncio.timeout(SECONDS):
                rest = await stream.read()
    versions = [
        int(line.removeprefix("id: ")) for line in (seen + rest).decode().splitlines() if line.startswith("id:")
    ]
    assert versions == list(range(1, len(versions) + 1)), "a gap, or a repeat"
    assert b"RunEnded" in rest


async def test_one_process_per_log_and_the_second_says_so(folder: Path) -> None:
    async with Serving(folder, ["mine:slow"]) as server:
        assert server.process is not None
        with pytest.raises(AssertionError, match=f"amends.db is in use by process {server.process.pid}"):
            await Serving(folder, ["mine:slow"], http=server.http).start()
        assert (await server.get("nobody"))["type"] == "urn:amends:no-such-run"


async def test_runs_wait_for_a_service_that_is_down_and_go_on_when_it_is_up(folder: Path) -> None:
    port = free_port()
    options = ["--route", f"inventory=http://127.0.0.1:{port}"]
    async with Serving(folder, ["mine:order"], options) as server:
        assert (await server.post("order", "sku-1", "order-1"))[0] == 201
        waiting = await server.until("order-1", lambda body: body["steps"][0]["error"] is not None)
        assert waiting["state"] == "running", "the outage didn't happen"
        async with inventory(port):
            body = await server.get("order-1", wait=20)
            assert body["state"] == "completed"
            assert body["outcome"]["replies"] == {"reserve": {"id": "sku-1", "pin": "1234"}}


@asynccontextmanager
async def inventory(port: int) -> AsyncGenerator[None]:
    service = Service(Inventory, MemoryInbox())

    @service.action(Inventory.reserve)
    async def reserve(request: Line, transaction: object) -> Reservation:
        return Reservation(request.sku)

    @service.compensation(Inventory.reserve)
    async def release(undo: object, transaction: object) -> None:
        return None

    del reserve, release  # the service has them
    server = _Quiet(
        uvicorn.Config(service.asgi(), port=port, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    )
    serving = asyncio.create_task(server.serve())
    try:
        yield
    finally:
        server.should_exit = True
        await serving


class _Quiet(uvicorn.Server):
    """Leaves the signals of the process that runs the tests alone."""

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def test_a_body_that_is_too_large_is_refused_over_a_real_connection(folder: Path) -> None:
    async with Serving(folder, ["mine:slow"]) as server:

        async def endless() -> AsyncIterator[bytes]:
            yield b" " * (BODY_BYTES_MAX + 1)
            await asyncio.Event().wait()  # nothing is on its way any more that the closing of the connection could meet

        async with server.http.post(f"{server.url}/v1/runs", data=endless(), headers=JSON) as answer:
            assert answer.status == 413
        assert (await server.get("nobody"))["status"] == 404


class BreakingLog(MemoryLog):
    """Breaks for good at the first start."""

    broke = 0

    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        if any(isinstance(each, Start) for each in batch):
            self.broke += 1
            raise LogBroken("the file is gone")
        return await super().append(batch)


ANY_PORT = Settings(server=ServerSettings(listen="127.0.0.1:0"))


async def test_a_log_that_broke_ends_the_process() -> None:
    log, url = BreakingLog(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(process.serve_until_stopped([quick], set_up(ANY_PORT), log, url.set_result))
    async with asyncio.timeout(SECONDS):
        host, port = (await url).removeprefix("http://").split(":")
        body = b'{"saga":"quick","input":"a"}'
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        assert b" 503 " in await reader.readline()
        with pytest.raises(LogBroken, match="start amends again"):
            await serving
        writer.close()
        await writer.wait_closed()
    assert log.broke == 1
    with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port)), timeout=1):
        pass
