"""`amends ls`, `stuck`, `show`, `export`: what there is, and how it stands. Only reads, also while a server works."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from amends.cli.errors import BadUsage
from amends.cli.no_match import why_nothing
from amends.cli.options import spread
from amends.cli.output import Json, as_json, json_text, say, tell
from amends.cli.source import Load, LogUrl, ServerOptions, Source, get, pages, reach
from amends.cli.watch import Over, watch_lines

if TYPE_CHECKING:
    from amends.cli.texts.facts import FactHistory
    from amends.cli.texts.listing import Listed
    from amends.cli.texts.story import Around
    from amends.server.participants import ParticipantView
    from amends.server.stuck import CauseView
    from amends.views.run import RunView

LIMIT_DEFAULT: Final = 100
LIVE: Final = ("running", "compensating", "stuck")
ENDED: Final = ("completed", "compensated", "abandoned")
NOTICE: Final = "notice"
AT_ONCE: Final = 16
"""Runs that are looked at closer at a time."""

Watch = Annotated[bool, typer.Option("--watch", help="Go on showing it as it changes; Ctrl-C ends it.")]
Where = Annotated[
    str | None, typer.Option(metavar="CONDITIONS", help="As 'saga=place-order step=ship phase=action reason=spent'.")
]


@spread
def ls(
    *,
    server: ServerOptions,
    log: LogUrl = None,
    live: Annotated[bool, typer.Option("--live", help="Only what hasn't ended.")] = False,
    state: Annotated[list[str] | None, typer.Option(help="Only runs in this state; repeat.")] = None,
    saga: Annotated[str | None, typer.Option(help="Only runs of this one.")] = None,
    version: Annotated[int | None, typer.Option(help="Only runs of this version of their saga.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only runs with this tag; repeat.")
    ] = None,
    where: Where = None,
    waiting_for: Annotated[
        str | None, typer.Option(metavar="PARTICIPANT", help="Only runs that wait for an answer of this one.")
    ] = None,
    unclaimable: Annotated[
        bool, typer.Option("--unclaimable", help="Only runs that no live worker could drive.")
    ] = False,
    undelivered: Annotated[
        bool, typer.Option("--undelivered", help="Only runs whose notice wasn't delivered.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = LIMIT_DEFAULT,
    watch: Watch = False,
    json: Json = False,
) -> None:
    """List runs, newest first."""
    from amends.cli.texts.listing import listing

    if unclaimable:
        live = True
    states = [*(state or ()), *(ENDED if undelivered else ())]
    step = NOTICE if undelivered else None
    conditions = _conditions(live=live, state=states, saga=saga, version=version, tag=tag or (), step=step, where=where)
    query = {"where": conditions} if conditions else {}

    async def look(source: Source) -> Sequence[str]:
        around = await around_of(source)
        found = await listed(source, query, limit)
        if waiting_for is not None:
            found = _waiting(found, waiting_for, around)
        if unclaimable:
            found = await _without_code(source, found)
        if json:
            as_json({"runs": [each.row for each in found]})
            return ()
        return listing(found, around) if found else [f"no runs{await why_nothing(source, conditions, waiting_for)}"]

    asyncio.run(_shown(server, log, look, watch=watch, table=True))


@spread
def stuck(
    *,
    server: ServerOptions,
    log: LogUrl = None,
    watch: Watch = False,
    json: Json = False,
) -> None:
    """What only a person can move, by cause. Exit code 1 if there is something."""
    from amends.cli.texts.causes import causes_lines
    from amends.server.stuck import CausesView

    count = 0

    async def look(source: Source) -> Sequence[str]:
        nonlocal count
        seen, participants = await get(source, "/v1/stuck", CausesView), await participants_of(source)
        count = len(seen.causes)
        if json:
            as_json(
                {"causes": seen.causes, "participants": participants}
                | ({"unlisted": seen.unlisted} if seen.unlisted else {})
            )
            return ()
        lines = causes_lines(seen.causes, participants, datetime.now(UTC))
        if seen.unlisted:
            more = f"{seen.unlisted:,} more runs have causes that aren't listed; find them by saga:"
            lines.append(f"{more} amends ls --where 'state=stuck saga=NAME'")
        return lines

    asyncio.run(_shown(server, log, look, watch=watch, table=True))
    if count:
        raise typer.Exit(1)


@spread
def show(
    run: Annotated[str, typer.Argument(metavar="ID")],
    *,
    server: ServerOptions,
    log: LogUrl = None,
    events: Annotated[bool, typer.Option("--events", help="Its history, fact by fact.")] = False,
    bodies: Annotated[bool, typer.Option("--bodies", help="Requests and replies; what is redacted stays ***.")] = False,
    curl: Annotated[bool, typer.Option("--curl", help="The next request as a curl line, without secrets.")] = False,
    load: Load = None,
    watch: Watch = False,
    json: Json = False,
) -> None:
    """The story of one run: where it stands and why, what is known, what can be done."""
    from amends.cli.texts.bodies import body_lines, curl_lines
    from amends.cli.texts.facts import event_lines
    from amends.cli.texts.story import story

    over = False
    if [events, bodies, curl].count(True) > 1:
        msg = "--events, --bodies and --curl are one at a time."
        raise BadUsage(msg)

    async def look(source: Source) -> Sequence[str]:
        nonlocal over
        view = await run_of(source, run)
        over = view.state in ENDED
        if json and not events:
            as_json(view)
            return ()
        history = await history_of(source, run)
        if json:
            as_json({"run": run, "events": history.facts})
            return ()
        now = datetime.now(UTC)
        if events:
            return event_lines(run, history.facts, now)
        around = await around_of(source, view)
        if bodies:
            return body_lines(view, history)
        return curl_lines(view, history, around.participants) if curl else story(view, history, around)

    asyncio.run(_shown(server, log, look, watch=watch, table=False, over=lambda: over, load=load))


@spread
def export(
    run: Annotated[str, typer.Argument(metavar="ID")],
    *,
    server: ServerOptions,
    log: LogUrl = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to; else it is printed.")] = None,
    json: Json = False,
) -> None:
    """One run as JSON: how it stands, and its whole history. What is redacted stays ***."""
    import msgspec

    async def look(source: Source) -> bytes:
        view, history = await run_of(source, run), await history_of(source, run)
        return msgspec.json.encode({"format": 1, "run": view, "events": history.facts})

    async def exported() -> bytes:
        async with reach(server, log) as source:
            return await look(source)

    body = asyncio.run(exported())
    if out is None:
        json_text((body if json else msgspec.json.format(body, indent=2)).decode())
        return
    try:
        out.write_bytes(body + b"\n")
    except OSError as error:
        msg = f"{out} can't be written: {error.strerror}."
        raise BadUsage(msg) from error
    if json:
        as_json({"written": str(out), "bytes": len(body) + 1})
    else:
        tell(f"written: {out}")


# -- what several commands ask


async def run_of(source: Source, run: str) -> "RunView":
    """One run."""
    from amends.client.requests import place
    from amends.views.run import RunView

    return await get(source, f"/v1/runs/{place(run)}", RunView, {"redacted": "true"})


async def history_of(source: Source, run: str) -> "FactHistory":
    """Its facts, all of them."""
    import msgspec

    from amends.cli.texts.facts import Fact, FactHistory
    from amends.client.requests import place

    facts: list[Fact] = []
    after: int | None = 0
    while after is not None:
        query = {"limit": "1000", **({"after": str(after)} if after else {})}
        page = await get(source, f"/v1/runs/{place(run)}/events", dict[str, Any], query)
        facts += msgspec.convert(page["events"], list[Fact], strict=False)
        after = page.get("next")
    return FactHistory(facts)


async def participants_of(source: Source) -> "list[ParticipantView]":
    """State of the called participants; nothing where only a log is known."""
    from amends.server.participants import ParticipantsView

    return (await get(source, "/v1/participants", ParticipantsView)).participants


async def stuck_causes(source: Source) -> "list[CauseView]":
    """Why runs are stuck."""
    from amends.server.stuck import CausesView

    return (await get(source, "/v1/stuck", CausesView)).causes


async def around_of(source: Source, run: "RunView | None" = None) -> "Around":
    """What is known beside one run."""
    from amends.cli.texts.story import Around

    participants = {each.name: each for each in await participants_of(source)}
    if run is None:
        return Around(datetime.now(UTC), participants)
    if not run.stuck:
        loaded = await _loaded(source) if run.state in LIVE else None
        left = loaded is not None and f"{run.saga} v{run.version}" not in {title for title, _ in loaded}
        return Around(datetime.now(UTC), participants, left=left)
    return Around(datetime.now(UTC), participants, await _same(source, run), await _runbook(source, run))


async def _runbook(source: Source, run: "RunView") -> str | None:
    """Where people read what to do, if the settings of the server say so."""
    from amends.server.sagas import SagasView

    loaded = (await get(source, "/v1/sagas", SagasView)).sagas
    return next((each.runbook for each in loaded if each.name == run.saga and each.runbook is not None), None)


async def _same(source: Source, run: "RunView") -> int:
    """How many other runs are stuck for the same reason."""
    oldest = min(run.stuck, key=lambda mark: mark.since)
    step = oldest.step.partition("/")[0]
    return (
        sum(
            each.count
            for each in await stuck_causes(source)
            if (each.saga, each.step.partition("/")[0], each.phase, each.reason, each.code)
            == (run.saga, step, oldest.phase, oldest.reason, oldest.code)
        )
        - 1
    )


def _conditions(
    *,
    live: bool,
    state: Sequence[str],
    saga: str | None,
    version: int | None,
    tag: Sequence[str],
    step: str | None,
    where: str | None,
) -> str:
    """Everything as conditions of one text, which may say each name once."""
    import shlex

    words = [] if where is None else [where]
    if live and state:
        msg = "--live and --state are one or the other."
        raise BadUsage(msg)
    states = LIVE if live else state
    words += [f"state={','.join(states)}"] if states else []
    words += [] if saga is None else [f"saga={shlex.quote(saga)}"]
    words += [] if version is None else [f"version={version}"]
    words += [] if step is None else [f"step={step}"]
    words += [f"tag.{shlex.quote(each)}" for each in tag]
    return " ".join(words)


async def listed(source: Source, query: dict[str, str], limit: int) -> "list[Listed]":
    """Rows, with the run itself where something goes on with it: what it waits for is only there."""
    import msgspec

    from amends.cli.texts.listing import Listed
    from amends.views.run import RowView

    rows: list[RowView] = [msgspec.json.decode(each, type=RowView) async for each in pages(source, query, limit)]
    slots = asyncio.Semaphore(AT_ONCE)

    async def closer(row: RowView) -> "RunView | None":
        if row.state not in LIVE or row.stuck:
            return None
        async with slots:
            return await run_of(source, row.id)

    return [Listed(*each) for each in zip(rows, await asyncio.gather(*map(closer, rows)), strict=True)]


def _waiting(found: "list[Listed]", participant: str, around: "Around") -> "list[Listed]":
    from amends.cli.texts.listing import waits_for

    return [each for each in found if waits_for(each, participant, around)]


async def _without_code(source: Source, found: "list[Listed]") -> "list[Listed]":
    """Runs of sagas, versions or graphs of them that neither the asked server nor any live worker has loaded."""
    loaded = await _loaded(source)
    if loaded is None:
        msg = "whether a run can be claimed depends on the code that workers have: --server URL, or --load MODULE."
        raise BadUsage(msg)
    return [each for each in found if (f"{each.row.saga} v{each.row.version}", each.row.digest) not in loaded]


async def _loaded(source: Source) -> set[tuple[str, str]] | None:
    """Titles and digests of what the asked server and all live workers have loaded. `None` if that isn't known: what
    the one process has that works on a file isn't in the file.
    """
    from amends.server.sagas import SagasView
    from amends.views.run import WorkersView

    sagas = (await get(source, "/v1/sagas", SagasView)).sagas
    loaded = {(f"{each.name} v{each.version}", each.digest) for each in sagas}
    for worker in (await get(source, "/v1/workers", WorkersView)).workers:
        if worker.state == "live":
            loaded.update(zip(worker.sagas, worker.digests, strict=True))
    workers_are_known = source.name.partition(":")[0] in {"postgresql", "postgres"}
    return loaded if loaded or workers_are_known else None


async def _shown(
    server: ServerOptions,
    log: str | None,
    look: Callable[[Source], Awaitable[Sequence[str]]],
    *,
    watch: bool,
    table: bool,
    over: Over = lambda: False,
    load: Sequence[str] | None = None,
) -> None:
    async with reach(server, log, load) as source:
        if watch:
            await watch_lines(lambda: look(source), table=table, over=over)
        else:
            say(await look(source), table=table)
