"""`amends start`: begin a run from a shell."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from amends.cli.errors import BadUsage
from amends.cli.options import spread
from amends.cli.output import Json, as_json, say
from amends.cli.source import Load, LogUrl, ServerOptions, post, reach
from amends.cli.source_log import Purpose

FINE: Final = frozenset({"completed", "running", "compensating"})


@spread
def start(
    saga: Annotated[str, typer.Argument(metavar="SAGA", help="Its name.")],
    input: Annotated[str, typer.Argument(metavar="INPUT", help="JSON, @FILE, or - for standard input.")],
    *,
    id: Annotated[str | None, typer.Option(help="The run's id: starting twice is starting once.")] = None,
    deadline: Annotated[str | None, typer.Option(metavar="DURATION|TIME", help="90s, 5m, 2h; or RFC 3339.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="To find it by; repeat.")] = None,
    ignore_unknown: Annotated[
        bool, typer.Option("--ignore-unknown", help="Ignore fields of INPUT that the saga's input doesn't have.")
    ] = False,
    wait: Annotated[float, typer.Option(min=0, max=60, help="Seconds to wait for its end.")] = 0.0,
    server: ServerOptions,
    log: LogUrl = None,
    load: Load = None,
    json: Json = False,
) -> None:
    """Begin a run. With --wait, exit code 1 unless it completed or goes on."""
    import msgspec

    from amends.client.outcome import SEEN, outcome_of
    from amends.client.requests import new_id
    from amends.codecs.json import JsonCodec

    body: dict[str, object] = {"saga": saga, "input": msgspec.Raw(_input(input)), "id": id or new_id()}
    if deadline is not None:
        body["deadline"] = _deadline(deadline)
    if tag:
        body["tags"] = dict(_tag(each) for each in tag)

    async def started() -> tuple[bytes, bool]:
        async with reach(server, log, load, Purpose.ACT) as source:
            query = {"redacted": "true", **({"wait": f"{wait:g}"} if wait else {})}
            if not ignore_unknown:
                query["strict"] = "true"
            said = await post(source, "/v1/runs", body, query, wait)
            return said.body, said.status == 201

    answer, is_new = asyncio.run(started())
    run = SEEN.decode(answer)
    if json:
        as_json(msgspec.Raw(answer))
    else:
        before = "" if is_new else "   (had been started before)"
        say([f"{run.id}   {outcome_of(run, JsonCodec())}{before}"])
    if run.state not in FINE:
        raise typer.Exit(1)


def _input(text: str) -> bytes:
    import msgspec

    try:
        if text == "-":
            body = sys.stdin.buffer.read()
        elif text.startswith("@"):
            body = Path(text[1:]).read_bytes()
        else:
            body = text.encode()
    except OSError as error:
        msg = f"{text[1:]} can't be read: {error.strerror}."
        raise BadUsage(msg) from error
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"the input is no JSON: {error}. Text stands in double quotes, within single ones: '\"Lisbon\"'."
        raise BadUsage(msg) from error
    return body


def _deadline(text: str) -> float | str:
    """Seconds from now, or a moment as it was written."""
    from amends.config.values import Seconds

    if ":" in text:
        return text
    try:
        return float(Seconds.parse(text))
    except ValueError as error:
        msg = f"--deadline {error}; or a moment, as 2026-12-24T18:00:00Z."
        raise BadUsage(msg) from error


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        msg = f"--tag {text}: expected NAME=VALUE, as customer=ann."
        raise BadUsage(msg)
    return name, value
