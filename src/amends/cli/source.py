"""Where a command asks: a server, or a log that is looked into directly. One question and answer for both.

A log is asked through the server's own application, in this process and without a socket: what a command shows of a
file is what a server would show of it, and there is one place that decides both.
"""

import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol, TypeVar

import msgspec
import typer

from amends.cli.errors import BadUsage
from amends.cli.source_log import Purpose, open_source, settings_here
from amends.client.protocol import Address, Again, Ask, ServerResponse, foreign, succeeded
from amends.core.saga.operation import Tls
from amends.core.words.errors import AmendsError, Refused
from amends.core.words.urls import shown_url

T = TypeVar("T")

LOG_DEFAULT: Final = "sqlite:///amends.db"

LogUrl = Annotated[
    str | None,
    typer.Option("--log", metavar="URL", envvar="AMENDS_LOG", help="The log to look into, as sqlite:///amends.db."),
]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Which server a command asks, and the certificates towards it."""

    url: Annotated[
        str | None,
        typer.Option("--server", metavar="URL", envvar="AMENDS_SERVER", help="The server to ask, as http://host:8700."),
    ] = None
    ca: Annotated[
        str | None,
        typer.Option(metavar="FILE", envvar="AMENDS_CA", help="Authority of the server's certificate, a PEM file."),
    ] = None
    cert: Annotated[
        str | None,
        typer.Option(metavar="FILE", envvar="AMENDS_CERT", help="Client certificate for the server, a PEM file."),
    ] = None
    key: Annotated[
        str | None, typer.Option(metavar="FILE", envvar="AMENDS_KEY", help="Private key of --cert, a PEM file.")
    ] = None


Load = Annotated[
    list[str] | None,
    typer.Option("--load", metavar="MODULE[:NAME]", help="With --log: the sagas whose runs are meant; repeat."),
]

TOKEN: Final = "AMENDS_TOKEN"  # noqa: S105 - the name of a variable
"""A token on a command line would be seen by every user of the machine, so it comes by the environment."""


class Source(Protocol):
    """Answers what the HTTP API answers."""

    @property
    def name(self) -> str:
        """The URL it was given by."""
        ...

    async def ask(self, ask: Ask) -> ServerResponse:
        """One request and its answer."""
        ...


@asynccontextmanager
async def reach(
    server: ServerOptions, log: str | None, load: Sequence[str] | None = None, purpose: Purpose = Purpose.LOOK
) -> AsyncGenerator[Source]:
    """The server that is named, else the log, else `amends.db` where it lies in this folder.

    A log named in the command itself is meant, whatever server the environment names.
    """
    url = server.url
    server_is_typed = url is not None and url != os.environ.get("AMENDS_SERVER")
    log_is_typed = log is not None and log != os.environ.get("AMENDS_LOG")
    if server_is_typed and log_is_typed:
        msg = "--server and --log are one or the other: a server looks into the log that it has."
        raise BadUsage(msg)
    if url is not None and (server_is_typed or not log_is_typed):
        from amends.client.session import Session

        session = Session(_address(url, _tls(server)))
        try:
            yield _ConnectedServer(shown_url(url), session)
        finally:
            await session.close()
        return
    async with open_source(log or _log_here(), load or (), purpose) as source:
        yield source


def _address(server: str, tls: ssl.SSLContext | None) -> Address:
    try:
        return Address(server, os.environ.get(TOKEN), tls)
    except AmendsError as error:
        msg = f"--server {error}"
        raise BadUsage(msg) from error


def _tls(server: ServerOptions) -> ssl.SSLContext | None:
    """What checks the server's certificate and shows ours. Certificates of the environment are for https:// alone."""
    if server.key is not None and server.cert is None:
        msg = "--key (AMENDS_KEY) is the key of a certificate: --cert FILE (AMENDS_CERT) names it."
        raise BadUsage(msg)
    if (server.ca is None and server.cert is None) or not (server.url or "").startswith("https:"):
        return None
    from amends.transports.http import tls_context

    try:
        return tls_context(Tls(server.ca, server.cert, server.key))
    except AmendsError as error:
        msg = f"--ca, --cert, --key: {error}"
        raise BadUsage(msg) from error


def _log_here() -> str:
    """The log of the settings in this folder, or the one that lies here."""
    if Path("amends.toml").exists():
        from amends.config.values import looked_up

        return looked_up(settings_here().log)
    if not Path("amends.db").exists():
        msg = (
            "there is no amends.db in this folder. Say what to look into: --server http://127.0.0.1:8700 or "
            "--log sqlite:///file.db; AMENDS_SERVER and AMENDS_LOG say the same."
        )
        raise BadUsage(msg)
    return LOG_DEFAULT


class _ConnectedServer:
    def __init__(self, name: str, session: "_Session") -> None:
        self.name = name
        self._session = session

    async def ask(self, ask: Ask) -> ServerResponse:
        return await self._session.ask(ask)


class _Session(Protocol):
    async def ask(self, ask: Ask) -> ServerResponse: ...


# -- asking


async def get(source: Source, path: str, type_: type[T], query: Mapping[str, str] | None = None) -> T:
    """What is at a path, as its type."""
    ask = Ask("GET", path, query or {}, again=Again.FINE)
    return decoded(checked(await source.ask(ask)), type_)


async def post(
    source: Source, path: str, body: Mapping[str, object], query: Mapping[str, str] | None = None, wait: float = 0.0
) -> ServerResponse:
    """What comes of a request; a refusal is raised."""
    sent = msgspec.json.encode({name: value for name, value in body.items() if value is not None})
    return checked(await source.ask(Ask("POST", path, query or {}, sent, waits=wait)))


def checked(said: ServerResponse) -> ServerResponse:
    """The answer; a request that isn't one is a mistake in what was typed."""
    try:
        return succeeded(said)
    except Refused as error:
        if error.status == 400:
            raise BadUsage(error.detail) from error
        raise


def decoded(said: ServerResponse, type_: type[T]) -> T:
    """The body as its type."""
    try:
        return msgspec.json.decode(said.body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"{foreign(said)} Or it is of another version than this command: {error}."
        raise AmendsError(msg) from error


async def pages(source: Source, query: Mapping[str, str], limit: int | None) -> AsyncIterator[bytes]:
    """Rows of `GET /v1/runs`, as JSON, page by page, up to `limit`."""
    cursor, left = "", limit
    while left is None or left > 0:
        size = PAGE_MAX if left is None else min(left, PAGE_MAX)
        asked = {**query, "limit": str(size), **({"cursor": cursor} if cursor else {})}
        page = await get(source, "/v1/runs", _Page, asked)
        for row in page.runs:
            yield bytes(row)
        if page.next is None:
            return
        cursor = page.next
        left = None if left is None else left - len(page.runs)


PAGE_MAX: Final = 500


class _Page(msgspec.Struct, frozen=True):
    runs: list[msgspec.Raw]
    next: str | None
