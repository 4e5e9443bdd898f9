"""A server that is told to stop ends, whatever code of steps does; the runs go on at the next start.

The module of the saga shortens the server's own times: it is loaded into its process.
"""

import asyncio
import logging
from pathlib import Path
from threading import Event

import pytest
from aiohttp import ClientError

from amends.server.shutdown import Ending
from tests.fast.server.processes import Serving, until

MINE = """
import asyncio, sys, time
from datetime import timedelta
from pathlib import Path

from amends import Policy, Saga, blocking
from amends.server import process

process.GRACE_SECONDS = 1
process.BEYOND_SECONDS = 0.5 if Path("blocks").exists() else 8
FIRST = not Path("again").exists()

job = Saga("job", str)
patient = Policy(timeout=timedelta(seconds=600))


@job.retriable(policy=patient)
@blocking
def thread(what: str) -> None:
    if FIRST and what == "thread":
        time.sleep(600)


@job.retriable(policy=patient)
async def work(what: str) -> None:
    if not FIRST:
        return
    if what == "blocked":
        Path("at-work").touch()
        time.sleep(600)
    if what == "executor":
        await asyncio.to_thread(time.sleep, 600)
    if what == "exits":
        await asyncio.gather(asyncio.create_task(leave()))
    while what == "deaf":
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass


async def leave() -> None:
    sys.exit(7)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "amends.toml").write_text('[server]\ngrace = "100ms"\n')
    return tmp_path


async def completed(folder: Path, *runs: str) -> None:
    (folder / "again").touch()
    async with Serving(folder, ["mine:job"]) as server:
        for run in runs:
            assert (await server.get(run, wait=30))["state"] == "completed"
        assert (await server.stop())[0] == 0


async def test_no_step_and_no_unfinished_request_keeps_the_process(folder: Path) -> None:
    runs = ("thread", "executor", "deaf")
    async with Serving(folder, ["mine:job"]) as server:
        for run in runs:
            assert (await server.post("job", run, run))[0] == 201
        host, _, port = server.listen.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        await writer.drain()
        assert (await server.get("thread"))["state"] == "running"
        code, told = await server.stop()
        assert code == 0
        assert "thread:thread:action" in told
        assert "deaf:work:action" in told
        assert "Traceback" not in told
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"urn:amends:stopping" in answer
        writer.close()
    await completed(folder, *runs)


async def test_a_step_that_blocks_the_event_loop_keeps_the_process_no_longer(folder: Path) -> None:
    (folder / "blocks").touch()
    async with Serving(folder, ["mine:job"]) as server:
        starting = asyncio.create_task(server.post("job", "blocked", "blocked"))
        await until((folder / "at-work").exists)
        code, told = await server.stop()
        assert code == 0
        assert "the process is ended" in told
        with pytest.raises(ClientError):
            await starting


async def test_a_task_of_a_step_that_exits_ends_the_process_as_a_crash_does(folder: Path) -> None:
    """Handed over in good order, nobody would count how often its owners died of it."""
    async with Serving(folder, ["mine:job"]) as server:
        with pytest.raises(ClientError):
            await server.post("job", "exits", "exits", wait=30)
        assert server.process is not None
        _, told = await server.process.communicate()
        assert server.process.returncode == 7
        assert b"SystemExit (7)" in told


def test_the_end_says_what_is_at_work_and_how_the_process_fared(caplog: pytest.LogCaptureFixture) -> None:
    left, codes = Event(), list[int]()

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    ending = Ending(leave)
    ending.at_work = lambda: ["r1:work:action"]
    ending.failed = True
    with caplog.at_level(logging.ERROR):
        ending.within(0)
        assert left.wait(30)
    assert codes == [1]
    assert "r1:work:action" in caplog.text
