"""What several rounds say together: medians, with the smallest and largest beside them, and ratios to the bare client.

A ratio is taken within a round, of two measurements made one after the other, and only then the median over the
rounds: when the machine gets slower it gets slower for both.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.measure import BARE, Case, Measured

MICRO = 1e6
MILLI = 1e3


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and what it lies between."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Summary:
    """A case over all rounds. Ratios are to the bare client doing the same work, as many at a time; `None` without one.

    `rate_ratio`: runs per second, more is better. `cpu_ratio`: CPU of the calling process per run, less is better.
    """

    runs_per_second: Spread
    rate_ratio: Spread | None
    p50_ms: Spread
    p99_ms: Spread
    cpu_us_per_run: Spread
    cpu_ratio: Spread | None


Results = Mapping[Case, Sequence[Measured]]


def rate(measured: Measured) -> float:
    """Runs per second."""
    return measured.runs / measured.seconds


def cpu_us(measured: Measured) -> float:
    """CPU of the calling process per run, in microseconds."""
    return measured.cpu_seconds / measured.runs * MICRO


def bare_of(case: Case, cases: Results) -> Case | None:
    """The bare client's case that this one is held against."""
    bare = Case(case.work, BARE, case.in_flight)
    return bare if bare in cases and bare != case else None


def summarize(case: Case, results: Results) -> Summary:
    """What the rounds of a case say."""
    rounds = results[case]
    bare = bare_of(case, results)

    def ratio(of: Callable[[Measured], float]) -> Spread | None:
        if bare is None:
            return None
        return spread([of(ours) / of(theirs) for ours, theirs in zip(rounds, results[bare], strict=True)])

    return Summary(
        runs_per_second=spread([rate(each) for each in rounds]),
        rate_ratio=ratio(rate),
        p50_ms=spread([each.p50_seconds * MILLI for each in rounds]),
        p99_ms=spread([each.p99_seconds * MILLI for each in rounds]),
        cpu_us_per_run=spread([cpu_us(each) for each in rounds]),
        cpu_ratio=ratio(cpu_us),
    )


def as_json(results: Results, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured, and what it says."""
    return {
        "machine": dict(machine),
        "cases": [
            {
                "name": case.name,
                "work": case.work.name,
                "by": case.by,
                "in_flight": case.in_flight,
                "must_end": case.work.state,
                "calls_per_run": list(case.work.calls),
                **asdict(summarize(case, results)),
                "rounds": [asdict(each) for each in rounds],
            }
            for case, rounds in results.items()
        ],
    }


COLUMNS = (
    f"{'':<22}{'to bare':>20}{'runs/s':>24}{'p50 ms':>9}{'p99 ms':>9}{'CPU us/run':>12}{'CPU to bare':>13}",
    f"{'':<22}{'runs/s, more is +':>20}{'':>24}{'':>9}{'':>9}{'':>12}{'less is +':>13}",
)


def as_table(results: Results, machine: Mapping[str, Any]) -> Iterator[str]:
    """The same for people, line by line."""
    yield "  ".join(f"{name}: {value}" for name, value in machine.items())
    yield ""
    yield from COLUMNS
    before = None
    for case in results:
        group = (case.work, case.in_flight)
        if before not in {None, group}:
            yield ""
        before = group
        yield _line(case, summarize(case, results))


def _line(case: Case, summary: Summary) -> str:
    rates, ratio, cpu = summary.runs_per_second, summary.rate_ratio, summary.cpu_ratio
    shown = f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})" if ratio else "-"
    return (
        f"{case.name:<22}{shown:>20}{f'{rates.median:,.0f} ({rates.low:,.0f}-{rates.high:,.0f})':>24}"
        f"{summary.p50_ms.median:>9.2f}{summary.p99_ms.median:>9.2f}{summary.cpu_us_per_run.median:>12,.0f}"
        f"{f'{cpu.median:.2f}' if cpu else '-':>13}"
    )
