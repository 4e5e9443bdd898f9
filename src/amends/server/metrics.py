"""Numbers for Prometheus, worked out when it asks: the log knows what is going on, so nothing has to be counted twice
and nothing is lost at a restart.

Each scrape is a handful of indexed queries. Labels are names from settings and definitions, never ids of runs. While
the log can't be asked there are still the numbers of this process: it is then that somebody is to be woken by them.
"""

import asyncio
from collections import Counter as Counted
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import Response

from amends.core.errors import LogUnavailable
from amends.core.retry import MICROSECONDS
from amends.core.state import RunState
from amends.engine.needs import unclaimable
from amends.ports.log import Find, LiveRuns
from amends.server.access import Caller
from amends.server.context import Context
from amends.server.stuck import CauseView, causes
from amends.server.views import is_past_pivot
from amends.server.where import Where, find_rows

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LOG_SECONDS: Final = 5.0
"""How long the log may take to answer a scrape: half of what Prometheus waits by default."""

LATE_MAX: Final = 1_000
"""Late runs that are counted one by one at a scrape; more are shown as so many."""


async def gather(context: Context) -> list[Metric]:
    """What the log and this process have to say now."""
    up = GaugeMetricFamily("amends_log_up", "1 while the log answers this process, and takes what it writes.")
    try:
        async with asyncio.timeout(LOG_SECONDS):
            found = await _asked(context)
    except (LogUnavailable, TimeoutError):
        found = []
    up.add_metric([], bool(found) and context.engine.trouble is None)
    return [*found, up, *_here(context)]


async def _asked(context: Context) -> list[Metric]:
    """What only the log knows."""
    log, now = context.engine.log, context.clock.now()
    live = await log.live(now)
    ended = await log.count()
    by_cause = await causes(log, Where(), context.graphs)
    due = GaugeMetricFamily("amends_due_runs", "Runs that are due while no worker has them.")
    due.add_metric([], sum(each.due for each in live))
    return [
        *_runs(ended, live, now),
        *_stuck(by_cause.causes),
        *await _unclaimable(context),
        await _late(context, now),
        due,
    ]


def _runs(ended: Mapping[str, int], live: Iterable[LiveRuns], now: int) -> list[Metric]:
    runs = GaugeMetricFamily("amends_runs", "Runs by state, those that ended too.", labels=["state"])
    for state in RunState:
        runs.add_metric([state.value], ended.get(state.value, 0))
    oldest = GaugeMetricFamily(
        "amends_oldest_seconds", "Age of the oldest run that hasn't ended, by saga and state.", labels=["saga", "state"]
    )
    since: dict[tuple[str, str], int] = {}
    for each in live:
        key = (each.saga.name, each.state)
        since[key] = min(each.oldest, since.get(key, each.oldest))
    for labels, began in since.items():
        oldest.add_metric(labels, max(0, now - began) / MICROSECONDS)
    return [runs, oldest]


def _stuck(found: Iterable[CauseView]) -> list[Metric]:
    stuck = GaugeMetricFamily(
        "amends_stuck_runs", "Runs that only a person can move, by cause.", labels=["saga", "step", "phase", "reason"]
    )
    counts: Counted[tuple[str, str, str, str]] = Counted()
    for each in found:  # the participant's own code is left out: it is for a service to make up as many as it likes
        counts[each.saga, each.step or "", each.phase or "", each.reason] += each.count
    for labels, count in counts.items():
        stuck.add_metric(labels, count)
    return [stuck]


async def _unclaimable(context: Context) -> list[Metric]:
    found = GaugeMetricFamily(
        "amends_unclaimable_runs",
        "Live runs whose saga and version no live worker has loaded.",
        labels=["saga", "version"],
    )
    counts: Counted[tuple[str, str]] = Counted()
    for saga, count in (await unclaimable(context.engine.log, context.engine.definitions)).items():
        counts[saga.name, str(saga.version)] += count
    for labels, count in counts.items():
        found.add_metric(labels, count)
    return [found]


async def _late(context: Context, now: int) -> Metric:
    late = GaugeMetricFamily(
        "amends_late_past_pivot_runs", "Runs past their pivot and past their deadline.", labels=["saga"]
    )
    counts: Counted[str] = Counted()
    looked = 0
    async for row in find_rows(context.engine.log, Where(Find(late_by=now))):
        counts[row.saga] += is_past_pivot(row)
        looked += 1
        if looked == LATE_MAX:
            break
    for saga, count in counts.items():
        late.add_metric([saga], count)
    return late


def _here(context: Context) -> list[Metric]:
    engine = context.engine
    memory = GaugeMetricFamily("amends_runs_in_memory", "Runs that this process drives.")
    memory.add_metric([], len(engine.worker.runs))
    waiting = GaugeMetricFamily("amends_appends_waiting", "Appends that wait for the log in this process.")
    waiting.add_metric([], engine.appends_waiting)
    written = GaugeMetricFamily("amends_last_append_timestamp_seconds", "When this process last wrote to the log.")
    written.add_metric([], engine.last_append / MICROSECONDS)
    flying = GaugeMetricFamily("amends_calls_in_flight", "Calls that are being answered.", labels=["participant"])
    queued = GaugeMetricFamily("amends_calls_waiting", "Calls that wait for a slot.", labels=["participant"])
    down = GaugeMetricFamily("amends_circuit_open", "1 while a participant counts as down.", labels=["participant"])
    for each in engine.participants():
        flying.add_metric([each.participant], each.in_flight)
        queued.add_metric([each.participant], each.waiting)
        down.add_metric([each.participant], each.down_since is not None)
    return [memory, waiting, written, flying, queued, down]


async def metrics(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /metrics`: numbers for Prometheus: runs by state and cause, ages, calls in flight, requests."""
    return Response(context.metrics.text(await gather(context)), 200, {"Content-Type": MEDIA_TYPE})
