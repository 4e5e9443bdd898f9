"""One service of the shop as a process: `python -m amends.shop.serve inventory --database sqlite:///inventory.db
--port 8001`.

It prints one line with its address once it answers, and stops on SIGTERM, on Ctrl-C, or, with `--while-stdin`, when
its parent process is gone.
"""

import asyncio
import socket
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import fields
from typing import Final

import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from amends.shop.app import KINDS, application, prepare
from amends.shop.catalogue import Catalogue
from amends.shop.connections import OpenConnections
from amends.shop.database import Database
from amends.shop.faults import PROFILES, CallFault, Plan

GRACE_SECONDS: Final = 5
"""How long calls in flight may take to finish when the process is asked to stop."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until told to stop."""
    told = parser().parse_args(arguments)
    try:
        asyncio.run(serve(told))
    except SQLAlchemyError as error:
        sys.exit(f"{told.service} can't use its database: {getattr(error, 'orig', None) or error}")


def parser() -> ArgumentParser:
    """What can be said on the command line."""
    made = ArgumentParser(prog="python -m amends.shop.serve", description=__doc__)
    made.add_argument("service", choices=sorted(KINDS))
    made.add_argument("--database", help="sqlite:///PATH or postgresql://... (default: sqlite:///SERVICE.db)")
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--port", type=int, default=0, help="default: any that is free")
    made.add_argument("--while-stdin", action="store_true", help="stop when standard input ends")
    made.add_argument("--work-ms", type=int, default=0, help="how long a call takes, more or less")
    broken = made.add_argument_group("faults, a function of seed, key and attempt")
    broken.add_argument("--faults", choices=sorted(PROFILES), default="none")
    broken.add_argument("--fault-rate", type=float, help="instead of a profile: 0 to 1")
    broken.add_argument("--fault-kinds", nargs="+", choices=[kind.value for kind in CallFault], help="only these")
    broken.add_argument("--seed", type=int, default=0)
    broken.add_argument("--hang-ms", type=int, default=3000)
    start = made.add_argument_group("what a new database holds")
    for each in fields(Catalogue):
        start.add_argument(f"--{each.name}", type=int, default=each.default)
    return made


async def serve(told: Namespace) -> None:
    """Serve one service as told on the command line."""
    connections = OpenConnections()
    catalogue = Catalogue(**{each.name: getattr(told, each.name) for each in fields(Catalogue)})
    database = Database(told.database or f"sqlite:///{told.service}.db")
    await prepare(told.service, database, catalogue)  # a server that can't start would only log why
    app = application(
        told.service,
        database,
        catalogue,
        plan=Plan(
            seed=told.seed,
            rate=PROFILES[told.faults] if told.fault_rate is None else told.fault_rate,
            hang_seconds=told.hang_ms / 1000,
            kinds=tuple(map(CallFault, told.fault_kinds)) if told.fault_kinds else tuple(CallFault),
        ),
        work_ms=told.work_ms,
        break_connection=connections.break_off,
    )
    server = _Announced(
        told.service,
        uvicorn.Config(
            app,
            host=told.host,
            port=told.port,
            http=connections.protocol(),
            lifespan="on",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=GRACE_SECONDS,
        ),
    )
    company = asyncio.create_task(_stop_with_stdin(server)) if told.while_stdin else None
    try:
        await server.serve()
    finally:
        if company is not None:
            company.cancel()


class _Announced(uvicorn.Server):
    """Says where it is once it listens."""

    def __init__(self, name: str, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.name = name

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        print(f"{self.name} http://{host}:{port}", flush=True)


async def _stop_with_stdin(server: uvicorn.Server) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass
    server.should_exit = True


if __name__ == "__main__":
    main()
