"""Real processes around a real file, for the tests beside it. Each tells on its standard output what it does."""

import asyncio
import contextlib
import json
import os
import resource
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from amends.core.words.errors import AmendsError, LogUnavailable
from amends.logs.sqlite.log import SqliteLog
from amends.ports.log import Find, TransactionLog, Written
from amends.testing.contracts.log_entries import append, start

NOBODY = 65534


@asynccontextmanager
async def started(task: str, *arguments: object) -> AsyncGenerator[asyncio.subprocess.Process]:
    """One of the tasks below in a process of its own; killed at the latest when the test is done with it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fast.logs.processes", task, *map(str, arguments)),
        cwd=Path(__file__).parents[3],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def say(line: str) -> None:
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


async def hold(path: str) -> None:
    """Have the log open until killed."""
    log = SqliteLog(path)
    await log.open()
    await log.append([start("held")])
    say("open")
    await asyncio.Event().wait()


async def write_on(path: str) -> None:
    """Append to eight runs at once, for ever, and say what was acknowledged."""
    log = SqliteLog(path)
    await log.open()

    async def one(run: str) -> None:
        assert await log.append([start(run)]) == [Written.ACCEPTED]
        say(f"{run} 1")
        version = 1
        while True:
            kinds = ("One", "Two")[: 1 + version % 2]
            assert await log.append([append(run, version, kinds=kinds, number=version + 1)]) == [Written.ACCEPTED]
            version += len(kinds)
            say(f"{run} {version}")

    await asyncio.gather(*(one(f"r{number}") for number in range(8)))


async def fail_to_write(path: str) -> None:
    """Have the system refuse the file's growth in the middle of an append, and say what each call after it came to."""
    log = SqliteLog(path)
    await log.open()
    assert await log.append([start("before")]) == [Written.ACCEPTED]
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = size_of(f"{path}-wal") + 10_000  # in the middle of a page
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
    big = start("big", tags={"much": "x" * 100_000})
    said = {"big": await outcome(lambda: log.append([big]))}
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    said["after"] = await outcome(lambda: log.append([start("after")]))
    said["claim"] = await outcome(lambda: log.claim([], 0, 1))
    said["read"] = await outcome(lambda: log.read("before"))
    await log.close()
    await log.open()
    said["reopened"] = await outcome(lambda: log.append([start("again")]))
    said["runs"] = ",".join(sorted(run.run for run in await log.find(Find())))
    await log.close()
    say(json.dumps(said))


def size_of(path: str) -> int:
    return Path(path).stat().st_size


async def outcome(call: Callable[[], Awaitable[object]]) -> str:
    try:
        return f"fine: {await call()}"
    except LogUnavailable as error:
        return f"unavailable: {error}"


async def open_as_nobody(path: str) -> None:
    """Try to open it as a user who owns nothing (root may do everything)."""
    if os.geteuid() == 0:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    log: TransactionLog = SqliteLog(path)
    try:
        await log.open()
    except AmendsError as error:
        say(f"{type(error).__name__}: {error}")
    else:
        say("opened")


if __name__ == "__main__":
    tasks = {task.__name__: task for task in (hold, write_on, fail_to_write, open_as_nobody)}
    asyncio.run(tasks[sys.argv[1]](sys.argv[2]))
