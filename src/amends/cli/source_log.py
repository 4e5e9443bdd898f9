"""A log as a source: the server's application over an engine that drives nothing, asked in this process."""

from collections.abc import AsyncGenerator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer

from amends.cli.errors import BadUsage
from amends.client.protocol import Ask, ServerResponse
from amends.core.words.errors import AmendsError, DefinitionNotHere, LogInUse, NoSuchSaga
from amends.core.words.urls import shown_url

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from amends.config.settings import Settings
    from amends.core.run.definition import Definition
    from amends.engine.engine import Engine
    from amends.ports.log import TransactionLog

_HOST: Final = "127.0.0.1"

LogToOpen = Annotated[
    str | None,
    typer.Option("--log", metavar="URL", envvar="AMENDS_LOG", help="The log; that of the settings unless named."),
]


class Purpose(Enum):
    """What a log is opened for."""

    LOOK = "look"
    """Read it, also while a server works on it."""

    ACT = "act"
    """Write what a person asks into it; one process at a time on SQLite."""


@asynccontextmanager
async def open_source(url: str, load: Sequence[str], purpose: Purpose) -> "AsyncGenerator[_LogSource]":
    """The log at a URL. To act on a run its saga must be loaded: what follows from a verb is worked out here."""
    from amends.cli.modules import find_sagas
    from amends.orchestrator import load_definitions
    from amends.server.app import application
    from amends.server.context import Context

    definitions = load_definitions(find_sagas(load)) if load else []
    async with _opened(url, definitions, purpose) as engine:
        yield _LogSource(url, application(Context(engine)))


@asynccontextmanager
async def _opened(url: str, definitions: "Sequence[Definition]", purpose: Purpose) -> "AsyncGenerator[Engine]":
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        msg = "a memory: log is in the process that runs it, and nowhere else. Ask its server: --server URL"
        raise BadUsage(msg)
    from amends.orchestrator import open_log, open_reader

    readable = scheme in {"postgresql", "postgres"} or (rest.startswith("///") and rest.removeprefix("///"))
    if purpose is Purpose.LOOK and readable:
        async with open_reader(url) as reader:
            yield _engine(cast("TransactionLog", reader), definitions)
        return
    try:
        log = open_log(url)
    except AmendsError as error:
        msg = f"--log {error}"
        raise BadUsage(msg) from error
    engine = _engine(log, definitions)
    try:
        await engine.open_for_visits()
    except LogInUse as error:
        msg = f"{error}\nAsk the server that has it: --server http://127.0.0.1:8700 (or AMENDS_SERVER)."
        raise LogInUse(msg) from error
    try:
        yield engine
    finally:
        await engine.close(grace_seconds=0)


def settings_here() -> "Settings":
    """The settings of this folder and of the environment: the log's key may stand in them."""
    from amends.config.loading import load
    from amends.config.values import BadSetting

    try:
        return load([]).settings
    except BadSetting as error:
        raise BadUsage(str(error)) from error


def log_meant(given: str | None) -> str:
    """The log that a command works on: the one that is named, else that of the settings. A SQLite file must be there:
    a wrong name must be reported, not make an empty log.
    """
    from amends.config.values import BadSetting, looked_up

    try:
        url = given if given is not None else looked_up(settings_here().log)
    except BadSetting as error:
        raise BadUsage(str(error)) from error
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest.startswith("///") and not Path(rest.removeprefix("///")).is_file():
        msg = f"{shown_url(url)}: there is no such file. Name the log: --log sqlite:///FILE (or AMENDS_LOG)."
        raise BadUsage(msg)
    return url


def _engine(log: "TransactionLog", definitions: "Sequence[Definition]") -> "Engine":
    from amends.adapters import Nowhere
    from amends.codecs.json import canonical
    from amends.engine.engine import Engine
    from amends.engine.lanes import Lane
    from amends.orchestrator import open_events
    from amends.ports.clock import SystemClock

    return Engine(
        definitions,
        log=log,
        lane_of=lambda _, participant: Lane(participant, Nowhere(participant), 1),
        events=open_events(settings_here()),
        canonical=canonical,
        clock=SystemClock(),
        runs_max=0,  # nothing is driven here: what is started waits for a worker
    )


class _LogSource:
    """Asks the application as a server's socket would."""

    def __init__(self, url: str, app: "Starlette") -> None:
        self.name = shown_url(url)
        self._app = app

    async def ask(self, ask: Ask) -> ServerResponse:
        said = _Answer()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": ask.body or b"", "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                said.status = message["status"]
                said.headers.update((name.decode(), value.decode()) for name, value in message["headers"])
            else:
                said.body += message.get("body", b"")

        await self._app(_scope(ask), receive, send)
        whole = ServerResponse(said.status, said.headers, bytes(said.body))
        if whole.status >= 400:
            for name, error in _MISSING.items():
                if name in whole.body:
                    raise _not_loaded(whole, error)
        return whole


@dataclass(slots=True)
class _Answer:
    """An answer while it comes."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytearray = field(default_factory=bytearray)


def _scope(ask: Ask) -> MutableMapping[str, Any]:
    from urllib.parse import unquote

    path, _, query = ask.target.partition("?")
    typed = {} if ask.body is None else {"content-type": "application/json"}
    given = {"host": _HOST, **typed, **ask.headers}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": ask.method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": (_HOST, 1),
        "server": (_HOST, 1),
    }


_MISSING: Final[Mapping[bytes, type[AmendsError]]] = {
    b"urn:amends:definition-not-here": DefinitionNotHere,
    b"urn:amends:no-such-saga": NoSuchSaga,
}
"""Problems that are over once the right module is loaded."""


def _not_loaded(said: ServerResponse, error: type[AmendsError]) -> AmendsError:
    import msgspec

    problem: dict[str, object] = msgspec.json.decode(said.body)
    detail = problem.get("detail", "")
    return error(f"{detail}\nOn the command line: --load MODULE[:NAME], or ask the server that runs it: --server URL.")
