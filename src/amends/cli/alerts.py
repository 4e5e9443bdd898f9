"""`amends alerts`: the rules that we ship for Prometheus, ready to be loaded."""

from typing import Final

from amends.cli.output import Json, as_json, tell

RULES: Final = (
    {
        "alert": "AmendsStuck",
        "expr": "sum by (saga, step, phase, reason) (amends_stuck_runs) > 0",
        "for": "1m",
        "severity": "page",
        "summary": (
            "{{ $value }} {{ $labels.saga }} runs are stuck at {{ $labels.step }} ({{ $labels.phase }}): "
            "{{ $labels.reason }}"
        ),
        "look": "amends stuck",
    },
    {
        "alert": "AmendsParticipantDown",
        "expr": "max by (participant) (amends_circuit_open) == 1",
        "for": "2m",
        "severity": "ticket",
        "summary": "{{ $labels.participant }} is down: its runs wait, and go on by themselves when it is back",
        "look": "amends ls --waiting-for {{ $labels.participant }}",
    },
    {
        "alert": "AmendsCompensatingTooLong",
        "expr": 'max by (saga) (amends_oldest_seconds{state="compensating"}) > 900',
        "for": "1m",
        "severity": "ticket",
        "summary": "a {{ $labels.saga }} run has been undoing for more than 15 minutes",
        "look": "amends ls --live --saga {{ $labels.saga }}",
    },
    {
        "alert": "AmendsPastPivotLate",
        "expr": "sum by (saga) (amends_late_past_pivot_runs) > 0",
        "for": "1m",
        "severity": "ticket",
        "summary": "{{ $value }} {{ $labels.saga }} runs are past their pivot and past their deadline",
        "look": "amends ls --live --saga {{ $labels.saga }}",
    },
    {
        "alert": "AmendsUnclaimable",
        "expr": "min by (saga, version) (amends_unclaimable_runs) > 0",
        "for": "1m",
        "severity": "page",
        "summary": "{{ $value }} {{ $labels.saga }} v{{ $labels.version }} runs have no worker that could drive them",
        "look": "amends ls --unclaimable",
    },
    {
        "alert": "AmendsNotDriving",
        "expr": (
            "max(amends_due_runs) > 0 and time() - max(amends_last_append_timestamp_seconds) > 30 "
            "or max(amends_log_up) == 0"
        ),
        "for": "30s",
        "severity": "page",
        "summary": "the log doesn't answer, or runs are due and nothing is written: database gone, or leases lost?",
        "look": "amends ls --live",
    },
)
"""One alert per cause, never one per run."""


def alerts(*, json: Json = False) -> None:
    """Print the alert rules for Prometheus: amends alerts > amends.rules.yml."""
    if json:
        as_json({"rules": RULES})
        return
    tell("\n".join(rules_text()))


def rules_text() -> list[str]:
    """A rules file, as Prometheus reads it."""
    lines = ["groups:", "  - name: amends", "    rules:"]
    for rule in RULES:
        lines += [
            f"      - alert: {rule['alert']}",
            f"        expr: {rule['expr']}",
            f"        for: {rule['for']}",
            "        labels:",
            f"          severity: {rule['severity']}",
            "        annotations:",
            f"          summary: {_quoted(rule['summary'])}",
            f"          look: {_quoted(rule['look'])}",
        ]
    return lines


def _quoted(text: str) -> str:
    """As YAML takes any text."""
    return "'" + text.replace("'", "''") + "'"
