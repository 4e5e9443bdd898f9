"""What came of the demo: the audit and the numbers, read from the files in its folder when everything has stopped."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amends.demo.settings import SERVICES, DemoSettings
from amends.demo.story import OrderStory, choose_story
from amends.demo.times import RunTime, Spread, Times, read_run_times, read_worked, times_of
from amends.shop.audit import audit

ENDED = frozenset({"completed", "compensated", "abandoned"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFindings:
    """What the four files say. `violations` are sentences; without any the audit holds."""

    completed: int
    compensated: int
    stuck: int
    unfinished: int
    held_orders: int
    effects: Mapping[str, int]
    undone: Mapping[str, int]
    faults: Mapping[str, int]
    times: Times
    story: OrderStory | None
    violations: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kills:
    """What the orchestrator's death hit, by the log as it lay there. `acknowledged`: the orders taken on before it."""

    count: int
    unfinished: int
    acknowledged: Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Findings, and what only the demo itself knows."""

    folder: Path
    seed: int
    faults: str
    orders: int
    asked_again: int
    kills: Kills
    seconds: float
    findings: AuditFindings
    postgres: bool = False
    workers: int = 1

    @property
    def _whom(self) -> str:
        return "the orchestrator" if self.workers == 1 else f"one of {self.workers} workers"

    @property
    def audit_ok(self) -> bool:
        """Nothing is wrong."""
        return not self.findings.violations

    def as_json(self) -> dict[str, Any]:
        """The same for programs. Milliseconds are rounded to tenths."""
        found = self.findings
        return {
            "orders": self.orders,
            "completed": found.completed,
            "compensated": found.compensated,
            "stuck": found.stuck,
            "unfinished": found.unfinished,
            "hold_orders": found.held_orders,
            "audit_ok": self.audit_ok,
            "violations": list(found.violations),
            "kills": self.kills.count,
            "acknowledged_at_kill": len(self.kills.acknowledged),
            "unfinished_at_kill": self.kills.unfinished,
            "asked_again": self.asked_again,
            "faults": self.faults,
            "faults_fired": sum(found.faults.values()),
            "faults_by_kind": dict(sorted(found.faults.items())),
            "effects": dict(sorted(found.effects.items())),
            "undone": dict(sorted(found.undone.items())),
            "seed": self.seed,
            "seconds": round(self.seconds, 2),
            "p50_ms": found.times.ended.p50,
            "p99_ms": found.times.ended.p99,
            **{f"{name}_ms": spread for name, spread in asdict(found.times).items() if name != "ended"},
            "story": None if found.story is None else asdict(found.story),
            "dir": str(self.folder),
        }

    def __str__(self) -> str:
        found, times = self.findings, self.findings.times
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.faults.items()))
        undone = ", ".join(f"{count} {kind}s" for kind, count in sorted(found.undone.items()))
        lines = [
            f"orders        {self.orders}: {found.completed} completed, {found.compensated} compensated, "
            f"{found.stuck} stuck" + (f", {found.unfinished} unfinished" if found.unfinished else ""),
            f"undone        {undone or 'nothing'}",
            f"faults        {sum(found.faults.values())} fired" + (f": {kinds}" if kinds else ""),
            f"kill          {self._whom} was killed {_times(self.kills.count)}: {_lost(self.kills)}",
            f"customers     asked again {_times(self.asked_again)}, when nobody was there or an answer got lost",
            f"took          {self.seconds:.1f} s",
            "",
            f"{'time per order':<38}{'p50':>9}{'p99':>12}",
            _row("all, from their start to their end", times.ended),
            _row("completed ones", times.completed),
            _row("  their calls one after the other", times.service_sum),
            _row("  at best, side by side where possible", times.critical_path),
            "",
        ]
        if self.audit_ok:
            lines.append(
                "audit         holds: every order is in all three services or in none, stock and money are conserved, "
                "nothing happened twice"
            )
        else:
            lines.append(f"audit         VIOLATED, {len(found.violations)} times:")
            lines += [f"              {violation}" for violation in found.violations]
        return "\n".join(lines)


async def examine(
    folder: Path,
    placed: Collection[str] = (),
    *,
    acknowledged: Collection[str] = (),
    refusals: Sequence[str] = (),
    kills: Kills | None = None,
    settings: DemoSettings | None = None,
) -> AuditFindings:
    """Read what a demo left in its folder and judge it.

    `placed`: ids of all orders; each must have ended. What its customers know is judged too, where it is given: that
    what was `acknowledged` is in the log, that nothing was refused, that the kill hit work in progress.
    """
    settings = settings or DemoSettings(folder=folder)
    databases = {service: settings.database(service) for service in SERVICES}
    report = await audit(log=settings.log, **databases)
    runs = await read_run_times(settings.log)
    violations = [*report.violations, *refusals, *_not_ended(runs, placed, acknowledged)]
    if kills is not None and kills.count and not kills.unfinished:
        violations.append("The kill found no order in progress, so it proved nothing.")
    return AuditFindings(
        completed=report.runs.get("completed", 0),
        compensated=report.runs.get("compensated", 0),
        stuck=report.runs.get("stuck", 0),
        unfinished=sum(each.state not in ENDED for each in runs) - report.runs.get("stuck", 0),
        held_orders=sum(each.saga == "hold-order" for each in runs),
        effects=report.effects,
        undone={kind: count for kind, count in report.undone.items() if count},
        faults=report.faults_fired,
        times=times_of(runs, await read_worked(databases)),
        story=await choose_story(settings.log, workers=settings.workers),
        violations=tuple(violations),
    )


def _not_ended(runs: Sequence[RunTime], placed: Collection[str], acknowledged: Collection[str]) -> list[str]:
    states = {each.run: each.state for each in runs}
    promised = set(acknowledged)
    said: list[str] = []
    for run in placed:
        state = states.get(run)
        if state is None:
            what = "was acknowledged, but the log doesn't know it" if run in promised else "was never taken on"
            said.append(f"{run} {what}.")
        elif state not in ENDED:
            said.append(f"{run} hasn't ended: it is {state}.")
    return said


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _lost(kills: Kills) -> str:
    return f"{len(kills.acknowledged)} orders were acknowledged, {kills.unfinished} in the log were unfinished"


def _row(name: str, spread: Spread) -> str:
    return f"{name:<38}{spread.p50:>6,.0f} ms{spread.p99:>9,.0f} ms"
