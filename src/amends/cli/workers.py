"""`amends workers`: the workers that drive the runs of a log, and those that are gone and still have some."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from amends.cli.inspect import Watch
from amends.cli.options import spread
from amends.cli.output import Json, as_json, say
from amends.cli.source import LogUrl, ServerOptions, Source, get, reach
from amends.cli.watch import watch_lines

if TYPE_CHECKING:
    from amends.views.run import WorkerView


@spread
def workers(
    *,
    server: ServerOptions,
    log: LogUrl = None,
    watch: Watch = False,
    json: Json = False,
) -> None:
    """List the processes that drive runs, with their leases and what they have loaded."""

    async def look(source: Source) -> Sequence[str]:
        from amends.views.run import WorkersView

        found = (await get(source, "/v1/workers", WorkersView)).workers
        if json:
            as_json({"workers": found})
            return ()
        return worker_lines(found, datetime.now(UTC))

    async def shown() -> None:
        async with reach(server, log) as source:
            if watch:
                await watch_lines(lambda: look(source), table=True, over=lambda: False)
            else:
                say(await look(source), table=True)

    asyncio.run(shown())


def worker_lines(workers: "Sequence[WorkerView]", now: datetime) -> list[str]:
    """A line each; the lease is that of the log's clock, seen by ours."""
    from amends.cli.texts.tables import aligned

    if not workers:
        return ["no workers: nobody drives runs of this log"]
    rows = [("worker", "state", "host", "runs", "lease", "sagas")]
    rows += [
        (
            each.id,
            each.state,
            each.host,
            "-" if each.runs is None else str(each.runs),
            _lease(each.expires_at, now),
            ", ".join(each.sagas) or "-",
        )
        for each in workers
    ]
    return list(aligned(rows))


def _lease(expires_at: datetime | None, now: datetime) -> str:
    """`4 s left`, `over for 2 min`; `the lock` where a lock on the file is the lease."""
    from amends.cli.texts.times import age

    if expires_at is None:
        return "the lock"
    return f"{age(expires_at - now)} left" if expires_at > now else f"over for {age(now - expires_at)}"
