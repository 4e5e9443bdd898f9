"""Certificates and secrets, with real connections: who isn't known gets nowhere, and what is renewed is picked up."""

import asyncio
import json
import signal
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from amends import AsyncClient, Client
from amends.cli.main import run
from amends.core.run.answers import CallResponse, NotSent
from amends.core.saga.operation import Tls
from amends.core.words.errors import AmendsError, NoRoute, NoSuchRun, ServerUnavailable
from amends.server.access import new_token
from amends.testing.contracts.transport import CALL as SAMPLE
from amends.transports.http import HttpTransport
from tests.fast.server.certificates import Authority
from tests.fast.server.processes import SECONDS, Serving

TOKEN, HASH = new_token()
OTHER, OTHER_HASH = new_token()

CALL = replace(SAMPLE, timeout_seconds=SECONDS)


async def yes(request: web.Request) -> web.Response:
    return web.json_response({}, headers={"Saga-Outcome": "succeeded"})


@asynccontextmanager
async def participant(
    answer: Callable[[web.Request], Awaitable[web.Response]], context: ssl.SSLContext | None = None
) -> AsyncGenerator[str]:
    app = web.Application()
    app.router.add_post("/{operation}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    await web.SockSite(runner, listening, ssl_context=context).start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def knows_only(authority: Authority, cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_a_participant_and_we_know_each_other_by_certificate(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    cert, key = ours.sign("inventory")
    client, client_key = ours.sign("amends")
    stranger, stranger_key = theirs.sign("stranger")

    async def sent(url: str, tls: Tls | None) -> object:
        transport = HttpTransport(url, tls=tls)
        try:
            return await transport.send(CALL)
        finally:
            await transport.close()

    async with participant(yes, knows_only(ours, cert, key)) as url:
        known = await sent(url, Tls(str(ours.ca), str(client), str(client_key)))
        assert isinstance(known, CallResponse), known
        assert known.status == 200
        unknown_server = await sent(url, Tls(str(theirs.ca), str(client), str(client_key)))
        assert isinstance(unknown_server, NotSent), "its certificate is of an authority that we don't know"
        assert isinstance(await sent(url, None), NotSent), "nor does the system"
        for tls in (Tls(str(ours.ca)), Tls(str(ours.ca), str(stranger), str(stranger_key))):
            assert not isinstance(await sent(url, tls), CallResponse), "we are nobody to it"


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(NoRoute, match=r"nowhere\.pem"):
        HttpTransport("https://inventory", tls=Tls(str(tmp_path / "nowhere.pem")))


async def test_a_renewed_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    cert, key = ours.sign("inventory")
    client, client_key = theirs.sign("amends")
    async with participant(yes, knows_only(ours, cert, key)) as url:
        transport = HttpTransport(url, tls=Tls(str(ours.ca), str(client), str(client_key)))
        assert not isinstance(await transport.send(CALL), CallResponse)
        broken = client.read_bytes()
        client.write_text("no certificate")
        with pytest.raises(NoRoute):
            transport.reload()
        client.write_bytes(broken)
        assert ours.sign("amends") == (client, client_key)
        transport.reload()
        assert isinstance(await transport.send(CALL), CallResponse)
        await transport.close()


async def test_an_authority_that_was_taken_away_is_not_trusted_any_more(tmp_path: Path) -> None:
    """Neither for new connections nor by those that are kept, or are busy meanwhile."""
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    cert, key = ours.sign("inventory")
    client, client_key = ours.sign("amends")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(ours.ca.read_bytes())
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        reached.set()
        await go_on.wait()
        return await yes(request)

    async with participant(slow, knows_only(ours, cert, key)) as url:
        transport = HttpTransport(url, tls=Tls(str(trusted), str(client), str(client_key)))
        busy = asyncio.create_task(transport.send(CALL))
        await reached.wait()
        trusted.write_bytes(theirs.ca.read_bytes())
        transport.reload()
        go_on.set()
        assert isinstance(await busy, CallResponse), "what is under way is finished"
        assert isinstance(await transport.send(CALL), NotSent), "its connection isn't used again"
        trusted.write_bytes(ours.ca.read_bytes())
        transport.reload()
        assert isinstance(await transport.send(CALL), CallResponse)
        trusted.write_bytes(theirs.ca.read_bytes())
        transport.reload()
        assert isinstance(await transport.send(CALL), NotSent), "nor is one that is idle"
        await transport.close()


SAGA = """\
from amends import Call, Participant, Saga, operation


class Inventory(Participant):
    reserve = operation(dict, dict, compensation="release")


order = Saga("order", str)


@order.compensable()
def reserve(sku: str) -> Call[dict]:
    return Inventory.reserve({"sku": sku})
"""


async def our_clients_show_a_certificate(
    url: str,
    known: ssl.SSLContext,
    nobody: ssl.SSLContext,
    files: tuple[Path, Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Client(url, token=TOKEN, tls=known) as blocking, pytest.raises(NoSuchRun):
        await asyncio.to_thread(blocking.outcome, "nowhere")
    async with AsyncClient(url, token=TOKEN, tls=known) as runs:
        with pytest.raises(NoSuchRun):
            await runs.outcome("nowhere")
    async with AsyncClient(url, token=TOKEN, tls=nobody) as runs:
        with pytest.raises(ServerUnavailable):
            await runs.outcome("nowhere")
    async with AsyncClient(url, token=TOKEN) as runs:
        with pytest.raises(ServerUnavailable, match="--ca"):
            await runs.outcome("nowhere")
    await asyncio.to_thread(the_command_shows_a_certificate, url, files, capsys)


def the_command_shows_a_certificate(
    url: str, files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ca, cert, key = map(str, files)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AMENDS_TOKEN", TOKEN)
        capsys.readouterr()
        assert run(["ls", "--server", url, "--json", "--ca", ca, "--cert", cert, "--key", key]) == 0
        assert "runs" in json.loads(capsys.readouterr().out)
        assert run(["ls", "--server", url, "--ca", ca, "--key", key]) == 2
        assert "--cert" in capsys.readouterr().err
        assert run(["ls", "--server", url, "--ca", f"{ca}.not"]) == 2
        assert f"{ca}.not" in capsys.readouterr().err
        for name, value in (("AMENDS_SERVER", url), ("AMENDS_CA", ca), ("AMENDS_CERT", cert), ("AMENDS_KEY", key)):
            environment.setenv(name, value)
        assert run(["show", "nowhere"]) == 1
        assert "nowhere" in capsys.readouterr().err


def test_certificates_are_refused_where_there_is_no_tls() -> None:
    with pytest.raises(AmendsError, match="no TLS"):
        Client("http://amends:8700", tls=ssl.create_default_context())


async def test_a_server_with_certificates_tokens_and_secrets_renews_them_without_a_pause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    cert, key = ours.sign("server")
    client, client_key = ours.sign("web")
    (tmp_path / "mine.py").write_text(SAGA)
    (tmp_path / "secret").write_text("first")
    clients = tmp_path / "clients.pem"
    clients.write_bytes(ours.ca.read_bytes())
    seen: list[str] = []

    async def inventory(request: web.Request) -> web.Response:
        seen.append(request.headers.get("authorization", ""))
        return web.json_response({}, headers={"Saga-Outcome": "succeeded"})

    def presented(authority: Authority) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(authority.ca))
        context.load_cert_chain(client, client_key)
        return context

    async with participant(inventory) as url:
        (tmp_path / "amends.toml").write_text(f"""
log = "memory:"
modules = ["mine:order"]
[server]
tls = {{ cert = "{cert}", key = "{key}", client_ca = "{clients}" }}
[[tokens]]
name = "web"
role = "client"
hash = "{HASH}"
[participants.inventory]
url = "{url}"
auth = {{ bearer = "${{file:{tmp_path / "secret"}}}" }}
""")
        async with Serving(tmp_path, []) as server:
            assert server.url.startswith("https://127.0.0.1:")
            headers = {"Authorization": f"Bearer {TOKEN}"}
            port = int(server.url.rpartition(":")[2])
            kept = await asyncio.open_connection("127.0.0.1", port, ssl=presented(ours))
            kept[1].write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" in await kept[0].readline()

            async def start(context: ssl.SSLContext) -> int:
                # A connector of its own, so that nothing is left of earlier handshakes.
                async with (
                    aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http,
                    http.post(
                        f"{server.url}/v1/runs?wait=10", json={"saga": "order", "input": "lamp"}, headers=headers
                    ) as answer,
                ):
                    return answer.status

            assert await start(presented(ours)) == 201
            assert seen == ["Bearer first"]
            nobody = ssl.create_default_context(cafile=str(ours.ca))
            await our_clients_show_a_certificate(
                server.url, presented(ours), nobody, (ours.ca, client, client_key), capsys
            )
            with pytest.raises(aiohttp.ClientError):
                await start(nobody)
            with pytest.raises(aiohttp.ClientError):
                await start(presented(theirs))
            (tmp_path / "secret").write_text("second")
            file = tmp_path / "amends.toml"
            file.write_text(file.read_text().replace(HASH, OTHER_HASH))
            assert theirs.sign("server") == (cert, key)
            old = ssl.create_default_context(cafile=str(theirs.ca))
            old.load_cert_chain(client, client_key)
            clients.write_bytes(theirs.ca.read_bytes())
            assert server.process is not None
            server.process.send_signal(signal.SIGHUP)
            assert server.process.stderr is not None
            async with asyncio.timeout(SECONDS):
                while b"read again" not in await server.process.stderr.readline():
                    pass
            async with asyncio.timeout(SECONDS):
                await kept[0].read()  # to its end: a connection from before, under the authority that was replaced
            kept[1].close()
            with pytest.raises(aiohttp.ClientError):
                await start(old)
            assert theirs.sign("web") == (client, client_key)
            both = ssl.create_default_context(cafile=str(theirs.ca))
            both.load_cert_chain(client, client_key)
            assert await start(both) == 401
            headers["Authorization"] = f"Bearer {OTHER}"
            assert await start(both) == 201
            assert seen == ["Bearer first", "Bearer second"]
            code, said = await server.stop()
            assert code == 0
            assert "second" not in said
