"""What the demo is asked to do, and whether it can be done here: everything is checked before anything is started."""

import os
import socket
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SERVICES: Final = ("inventory", "payment", "shipping")
ORCHESTRATOR: Final = "orchestrator"
HOST: Final = "127.0.0.1"
LOG_DATABASE: Final = "orders"
LEASE_SECONDS: Final = 2


class Impossible(Exception):
    """The demo can't be given here; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What was asked for. `work_ms`: how long a service works on a call, more or less. `ports` by name; 0 is any.

    `postgres`: the log and the services' databases are on a PostgreSQL server that is started for the demo, at `server`
    once it is. `workers`: so many orchestrator processes share the log.
    """

    folder: Path
    orders: int = 200
    concurrency: int = 32
    faults: str = "some"
    seed: int = 0
    work_ms: int = 10
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    postgres: bool = False
    server: str = ""
    workers: int = 1

    def database(self, service: str) -> str:
        """The URL of a service's database."""
        if self.postgres:
            return f"{self.server}/{service}"
        return f"sqlite:///{self.folder / service}.db"

    @property
    def log(self) -> str:
        """The URL of the orchestrator's log."""
        return f"{self.server}/{LOG_DATABASE}" if self.postgres else log_in(self.folder)

    @property
    def log_for_workers(self) -> str:
        """The same for those that work on it, with a lease short enough for a demonstration."""
        return f"{self.log}?lease_seconds={LEASE_SECONDS}" if self.postgres else self.log


def log_in(folder: Path) -> str:
    """The URL of the log that a demo left in a folder."""
    return f"sqlite:///{folder / 'log.db'}"


def usable_folder(told: Path | None) -> Path:
    """A folder that is empty and can be written: the one told, made if it is missing, or a fresh temporary one."""
    if told is None:
        return Path(tempfile.mkdtemp(prefix="amends-demo-"))
    folder = told.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        used = sorted(each.name for each in folder.iterdir())
    except OSError as error:
        raise Impossible(f"{folder} can't be used: {error.strerror}. Give another --dir.") from error
    if used:
        there = f"{', '.join(used[:3])}{', ...' if len(used) > 3 else ''}"
        raise Impossible(f"{folder} is not empty (it holds {there}). Give a new or empty --dir.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Impossible(f"{folder} can't be written to: {error.strerror}. Give another --dir.") from error
    return folder


def usable_ports(told: Mapping[str, int]) -> dict[str, int]:
    """A port for each of the four processes, all different and free; those told are tried, not replaced."""
    ports: dict[str, int] = {}
    with ExitStack() as held:  # all at once, or the same free port would be found twice
        for name in sorted((ORCHESTRATOR, *SERVICES), key=lambda each: not told.get(each)):
            port = told.get(name, 0)
            probe = held.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closed connection is no use
            try:
                probe.bind((HOST, port))
                probe.listen()  # only then is the port free
            except (OSError, OverflowError) as error:
                why = os.strerror(error.errno or 0) if isinstance(error, OSError) else "there is no such port"
                raise Impossible(
                    f"port {port} for the {name} can't be had: {why}. Give another one, or none."
                ) from error
            ports[name] = probe.getsockname()[1]
    return ports
