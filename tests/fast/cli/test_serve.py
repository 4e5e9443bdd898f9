"""`amends serve` and the commands that look into its log: what is refused, how it is said, what is shown."""

import asyncio
import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from amends import Call, Orchestrator, Saga, sleep
from amends.logs.sqlite.log import SqliteLog
from tests.fast.cli.commands import Told, amends
from tests.fast.server.processes import Serving

MINE = """\
from amends import Call, Participant, Saga, operation

class Inventory(Participant):
    reserve = operation(dict, dict, compensation="release")

order = Saga("order", str)

@order.compensable()
def reserve(sku: str) -> Call[dict]:
    return Inventory.reserve({"sku": sku})

quick = Saga("quick", str)

@quick.neutral()
async def look(_: str) -> None:
    return None

bad = Saga("bad", str)

@bad.compensable()
async def never_undone(_: str) -> None:
    return None

again = Saga("quick", str)

@again.neutral()
async def look_again(_: str) -> None:
    return None
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield f"127.0.0.1:{made.getsockname()[1]}"


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:8700", "[::]:8700", "192.168.1.2:8700", "example.com:8700", "127.0.0.1.x:8700"]
)
def test_nothing_but_loopback_is_listened_on(folder: Path, listen: str) -> None:
    told = amends(folder, "serve", "mine:quick", "--listen", listen)
    assert told.code == 1
    assert told.err == (
        f"error   refusing to listen on {listen} without tokens: anyone who reaches it could move money.\n"
        "        amends token new --name web --role client      prints a token once and the lines for amends.toml\n"
        "        or --listen 127.0.0.1:8700\n"
    )
    assert not (folder / "amends.db").exists()


def test_an_address_in_use_is_refused_before_anything_is_begun(folder: Path, taken: str) -> None:
    told = amends(folder, "serve", "mine:quick", "--listen", taken)
    assert told.code == 1
    assert told.err.startswith(f"error   {taken} is in use already.")
    assert not (folder / "amends.db").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 2, "there is no module nowhere"),
        (["mine:order"], 1, "no route for Inventory, which order v1 needs"),
        (["mine:order"], 1, "--route PARTICIPANT=http://..."),
        (["mine:order", "--route", "inventory"], 2, "expected PARTICIPANT=URL"),
        (["mine:order", "--route", "inventory=http://a", "--route", "inventory=http://b"], 2, "is said twice"),
        (["mine:order", "--route", "inventory=carrier-pigeon:a"], 1, "no way to carrier-pigeon:a"),
        (["mine:bad"], 1, "bad v1, step never_undone: compensable, but nothing undoes it"),
        (["mine:quick", "mine:again"], 1, "quick v1 is defined twice"),
        (["mine:quick", "--log", "oracle://x"], 2, "no log is known by oracle:"),
        (["mine:quick", "--log", "sqlite://relative.db"], 2, "expected sqlite:///file.db"),
        (["mine:quick", "--log", "sqlite:///missing/amends.db"], 1, "there is no directory"),
        (["mine:quick", "--log", "sqlite:///mine.py"], 1, "isn't an SQLite database"),
        (["mine:quick", "--listen", "8700"], 2, "expected HOST:PORT"),
        (["mine:quick", "--listen", "127.0.0.1:70000"], 2, "expected HOST:PORT"),
        (["mine:quick", "--workers", "2"], 2, "--workers"),
        ([], 2, "no sagas"),
    ],
)
def test_what_cannot_be_served_is_one_clear_message(folder: Path, arguments: list[str], code: int, said: str) -> None:
    listen = [] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
    told = amends(folder, "serve", *arguments, *listen)
    assert said in told.err
    assert (told.code, told.out) == (code, "")


def test_a_participant_that_no_saga_calls_is_an_error_with_the_nearest_name(folder: Path) -> None:
    routes = ("--route", "inventory=http://127.0.0.1:9", "--route", "inventry=http://127.0.0.1:9")
    told = amends(folder, "serve", "mine:order", "--listen", "127.0.0.1:0", *routes)
    assert (told.code, told.out) == (2, "")
    assert "--route inventry: no loaded saga calls a participant inventry. Did you mean inventory?" in told.err
    (folder / "amends.toml").write_text('[participants.inventry]\nurl = "http://127.0.0.1:9"\n')
    told = amends(folder, "serve", "mine:order", "--listen", "127.0.0.1:0", *routes[:2])
    assert (told.code, told.out) == (2, "")
    assert "[participants.inventry]: no loaded saga calls" in told.err


def test_a_place_that_cannot_be_written_is_said_plainly(folder: Path) -> None:
    told = amends(folder, "serve", "mine:quick", "--listen", "127.0.0.1:0", "--log", "sqlite:////proc/self/amends.db")
    assert (told.code, told.out) == (1, "")
    assert told.err.startswith("error   /proc/self/amends.db: ")
    assert "can't be written by this user" in told.err


def test_a_changed_saga_of_the_same_version_is_refused(folder: Path) -> None:
    before = Saga("quick", str)

    @before.neutral()
    def wait(_word: str) -> Call[None]:
        return sleep(timedelta(hours=1))

    async def begin() -> None:
        async with Orchestrator([before], log=SqliteLog(folder / "amends.db")) as runs:
            await runs.start(before, "yes")

    asyncio.run(begin())
    told = amends(folder, "serve", "mine:quick", "--listen", "127.0.0.1:0")
    assert told.code == 1
    assert "quick v1 is not the quick v1 that 1 live run began with" in told.err


async def test_a_log_is_looked_into_while_a_server_works_on_it(folder: Path) -> None:
    async def said(*arguments: str) -> Told:
        return await asyncio.to_thread(amends, folder, *arguments)

    async with Serving(folder, ["mine:quick"]) as server:
        status, body = await server.post("quick", "yes", "q-1", wait=20)
        assert (status, body["state"]) == (201, "completed")
        listed = await said("ls")
        assert (listed.code, listed.err) == (0, "")
        assert [line.split()[:4] for line in listed.out.splitlines()[1:]] == [["q-1", "quick", "v1", "completed"]]
        assert json.loads((await said("ls", "--json")).out)["runs"][0]["id"] == "q-1"
        assert (await said("ls", "--live")).out == "no runs\n"
        shown = await said("show", "q-1")
        assert shown.out.splitlines()[0].startswith("q-1   quick v1   completed   ")
        assert shown.out.splitlines()[1].split()[:5] == ["look", "neutral", "done", "1", "attempt"]
        assert json.loads((await said("show", "q-1", "--json")).out) == await server.get("q-1")
        assert (await server.stop())[0] == 0
    missing = await said("show", "q-2")
    assert (missing.code, missing.err) == (1, "error   there is no run q-2\n")


def test_a_log_that_is_not_there_is_not_made_by_looking(folder: Path) -> None:
    for command in (["ls"], ["show", "q-1"]):
        told = amends(folder, *command)
        assert told.code == 2
        assert told.err.startswith("error   there is no amends.db in this folder. Say what to look into: --server http")
        told = amends(folder, *command, "--log", "sqlite:///gone.db")
        assert (told.code, told.err) == (1, "error   There is no log at gone.db.\n")
        assert amends(folder, *command, "--log", "memory:").code == 2
    assert not (folder / "amends.db").exists()
