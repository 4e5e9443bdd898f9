"""A server whose secret of callback tokens is rotated while an answer is outstanding."""

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp

from tests.fast.server.processes import SECONDS, Serving, free_port, until

SAGAS = """\
from amends import Call, Participant, Saga, operation


class Carrier(Participant):
    book = operation(str, str, compensation="call-back")


parcel = Saga("parcel", str)


@parcel.compensable()
def book(address: str) -> Call[str]:
    return Carrier.book(address)
"""

CARRIER = """\
import sys
from pathlib import Path

import uvicorn


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    headers = dict(scope["headers"])
    Path("callback").write_bytes(headers[b"saga-callback"])
    await send({"type": "http.response.start", "status": 202, "headers": [(b"saga-outcome", b"pending")]})
    await send({"type": "http.response.body", "body": b""})


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
"""


async def reloaded(server: Serving) -> str:
    """Send SIGHUP; the log lines up to the one that says that it was done."""
    assert server.process is not None
    assert server.process.stderr is not None
    server.process.send_signal(signal.SIGHUP)
    lines: list[str] = []
    async with asyncio.timeout(SECONDS):
        while not lines or "read again" not in lines[-1]:
            lines.append((await server.process.stderr.readline()).decode())
    return "".join(lines)


async def test_an_outstanding_answer_is_taken_under_the_old_secret_until_that_is_taken_out(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SAGAS)
    (tmp_path / "carrier.py").write_text(CARRIER)
    old, new = "old-secret-" * 4, "new-secret-" * 4
    port, carrier_port = free_port(), free_port()

    def configure(*secrets: str) -> None:
        listed = ", ".join(f'"${{file:{name}}}"' for name in secrets)
        (tmp_path / "amends.toml").write_text(
            f"""\
[server]
public_url = "http://127.0.0.1:{port}"
callback_secrets = [{listed}]
callback_secret_of_log = false

[participants.carrier]
url = "http://127.0.0.1:{carrier_port}"
"""
        )

    (tmp_path / "old").write_text(old)
    (tmp_path / "new").write_text(new)
    configure("old")
    carrier = await asyncio.create_subprocess_exec(sys.executable, "carrier.py", str(carrier_port), cwd=tmp_path)
    try:
        async with Serving(tmp_path, ["mine:parcel"], listen=f"127.0.0.1:{port}") as server:
            status, _ = await server.post("parcel", "1 Elm Street", "p-1")
            assert status == 201
            await until((tmp_path / "callback").exists)
            await server.until("p-1", lambda body: body["steps"][0].get("action", {}).get("pending", False))
            callback = (tmp_path / "callback").read_text()

            (tmp_path / "new").write_text("short")
            configure("new", "old")
            said = await reloaded(server)
            assert "server.callback_secrets[0] has 5 characters" in said
            (tmp_path / "new").write_text(new)
            assert "not read again" not in await reloaded(server)

            async with aiohttp.ClientSession() as http:

                async def answer() -> int:
                    headers = {"Saga-Outcome": "succeeded", "Content-Type": "application/json"}
                    async with http.post(callback, data=b'"T-1"', headers=headers) as answered:
                        return answered.status

                configure("new")
                await reloaded(server)
                assert await answer() == 404, "the old secret was taken out"
                configure("new", "old")
                await reloaded(server)
                assert await answer() == 200
            body = await server.until("p-1", lambda body: body["outcome"] is not None)
            assert body["state"] == "completed"
            _, said = await server.stop()
            assert old not in said
            assert new not in said
    finally:
        carrier.kill()
        await carrier.wait()
