"""Numbers for Prometheus, worked out when it asks: the log knows what is going on, so nothing has to be counted twice
and nothing is lost at a restart.

Each scrape is a handful of indexed queries. Labels are names from settings and definitions, never ids of runs. While
the log can't be asked there are still the numbers of this process: it is then that they must wake an operator.
"""

import asyncio
from collections import Counter as Counted
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import Response

from amends.core.run.record import RunState
from amends.core.words.errors import LogUnavailable
from amends.core.words.retry import MICROSECONDS
from amends.engine.loaded_graphs import by_graph, loaded_by_workers, without_worker
from amends.ports.log import LiveRuns, SagaKey, StuckRuns
from amends.server.access import Caller
from amends.server.context import Context
from amends.server.participants import called_by

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LOG_SECONDS: Final = 5.0
"""How long the log may take to answer a scrape: half of what Prometheus waits by default."""

SERIES_MAX: Final = 1_000
"""Series of one metric; what is beyond them is summed up under the label `other`."""

OTHER: Final = "other"


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
    """What only the log knows: a handful of sums, each of them the log's own, so that none is cut off."""
    log, now = context.engine.log, context.clock.now()
    live = await log.live()
    due = GaugeMetricFamily("amends_due_runs", "Runs that are due while no worker has them.")
    due.add_metric([], await log.due(now))
    return [
        *_runs(await log.count(), live, now),
        _stuck(await log.stuck()),
        _unclaimable(by_graph(live), await loaded_by_workers(log), context.engine.definitions),
        _late(await log.late(now)),
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


def _stuck(found: Iterable[StuckRuns]) -> Metric:
    # The participant's own code is no label: a service may make up as many as it likes.
    counts: dict[tuple[str, ...], int] = {(each.saga, each.step, each.phase, each.reason): each.count for each in found}
    return _bounded(
        GaugeMetricFamily(
            "amends_stuck_runs",
            "Runs that only a person can move, by cause.",
            labels=["saga", "step", "phase", "reason"],
        ),
        counts,
    )


def _unclaimable(needed: Mapping[SagaKey, int], loaded: Collection[SagaKey], here: Collection[SagaKey]) -> Metric:
    counts: Counted[tuple[str, ...]] = Counted()
    for saga, count in without_worker(needed, loaded, here).items():
        counts[saga.name, str(saga.version)] += count
    return _bounded(
        GaugeMetricFamily(
            "amends_unclaimable_runs",
            "Live runs whose saga and version no live worker has loaded.",
            labels=["saga", "version"],
        ),
        counts,
    )


def _late(found: Mapping[str, int]) -> Metric:
    return _bounded(
        GaugeMetricFamily(
            "amends_late_past_pivot_runs", "Runs past their pivot and past their deadline.", labels=["saga"]
        ),
        {(saga,): count for saga, count in found.items()},
    )


def _bounded(metric: GaugeMetricFamily, counts: Mapping[tuple[str, ...], int]) -> Metric:
    """The largest counts by their labels, and the sum of the others as one series: what they add up to stays right."""
    largest = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    for labels, count in largest[:SERIES_MAX]:
        metric.add_metric(labels, count)
    others = largest[SERIES_MAX:]
    if others:
        metric.add_metric([OTHER] * len(others[0][0]), sum(count for _, count in others))
    return metric


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


ACROSS_SAGAS: Final = frozenset({"amends_runs", "amends_due_runs", "amends_runs_in_memory"})
"""Sums over the runs of all sagas: a token for some of them isn't told how many runs the others have."""


def _sees(context: Context, caller: Caller, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a series is about nothing but sagas that the caller sees, and participants that these call."""
    if name in ACROSS_SAGAS and caller.sagas is not None:
        return False
    saga, participant = labels.get("saga"), labels.get("participant")
    meant = called_by(context.engine, caller)
    return (saga is None or caller.sees(saga)) and (meant is None or participant is None or participant in meant)


async def metrics(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /metrics`: numbers for Prometheus: runs by state and cause, ages, calls in flight, requests."""
    found = await gather(context)
    for each in found:
        each.samples = [sample for sample in each.samples if _sees(context, caller, sample.name, sample.labels)]
    return Response(context.metrics.text(found), 200, {"Content-Type": MEDIA_TYPE})
