"""The benchmark measures what it says: every case is there, and runs that did less than claimed are no number."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amends import Orchestrator
from amends.testing.postgres_server import ask
from bench import adoption, ended, processes, starts
from bench.__main__ import IN_FLIGHT, chosen
from bench.measure import (
    ACCEPTED,
    LOCAL,
    REFUSED,
    Case,
    DidNothingLikeIt,
    Measured,
    Once,
    Work,
    all_cases,
    check,
    measure,
    percentile,
)
from bench.participant import ANSWERS, ParticipantProcess
from bench.report import as_table, bare_of, spread, summarize
from tests.support.postgres import Databases

ROOT = Path(__file__).parents[3]
TIMEOUT_SECONDS = 110

WORK = {
    "accepted": ["book-flight", "book-hotel", "book-car"],
    "refused": ["book-flight", "book-hotel", "book-last-car", "undo-hotel", "undo-flight"],
    "local": [],
}
ENDS = {"accepted": "completed", "refused": "compensated", "local": "completed"}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def test_one_command_measures_every_case_and_every_run_did_what_it_claims() -> None:
    done = bench("--quick", "--rounds", "1", "--runs", "8", "--in-flight", "1", "8", "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    cases = {case["name"]: case for case in said["cases"]}
    expected = {
        f"{work}/{by}/{in_flight}"
        for work, calls in WORK.items()
        for by in (["bare", "memory", "sqlite"] if calls else ["memory", "sqlite"])
        for in_flight in (1, 8)
    }
    assert set(cases) == expected
    for name, case in cases.items():
        work, by, in_flight = name.split("/")
        assert len(case["rounds"]) == said["machine"]["rounds"] == 1
        assert case["runs_per_second"]["low"] > 0
        assert (case["rate_ratio"] is None) == (by == "bare" or work == "local")
        for each in case["rounds"]:
            runs = each["runs"] + each["warm_runs"]
            assert each["runs"] >= int(in_flight), "fewer runs than workers would not be so many in flight"
            assert each["ended"] == ({} if by == "bare" else {ENDS[work]: runs}), "the log's own count"
            assert each["called"] == dict.fromkeys(WORK[work], runs), "the participant's own count"
            assert 0 < each["p50_seconds"] <= each["p99_seconds"] <= each["seconds"]


def test_only_brings_the_bare_client_along_and_the_table_shows_the_ratio() -> None:
    done = bench("--quick", "--runs", "4", "--only", "refused/memory/1", "--in-flight", "1")
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines() if line.startswith(("accepted", "refused", "local"))]
    assert names == ["refused/bare/1", "refused/memory/1"]
    assert bench("--only", "nonsense").returncode != 0


def test_unless_told_it_measures_one_a_few_and_many_at_a_time() -> None:
    assert IN_FLIGHT == (1, 32, 256)
    assert len(all_cases(IN_FLIGHT)) == 3 * (3 + 3 + 2)


def test_only_takes_patterns() -> None:
    cases = all_cases((1, 32))
    assert [case.name for case in chosen(cases, ["local/*/32"])] == ["local/memory/32", "local/sqlite/32"]
    assert {case.by for case in chosen(cases, ["accepted/sqlite"])} == {"bare", "sqlite"}
    assert chosen(cases, []) == cases


# -- what would be no measurement is an error

MEASURED = Measured(
    runs=4,
    warm_runs=1,
    seconds=2.0,
    cpu_seconds=0.4,
    p50_seconds=0.5,
    p99_seconds=0.6,
    load=0.0,
    ended={"compensated": 5},
    called=dict.fromkeys(WORK["refused"], 5),
)
CASE = Case(REFUSED, "memory", 1)
CASE_BARE = Case(REFUSED, "bare", 1)


def test_runs_that_are_missing_were_made_twice_or_ended_otherwise_void_the_measurement() -> None:
    check(CASE, MEASURED)
    for wrong in (
        replace(MEASURED, ended={"compensated": 4}),
        replace(MEASURED, ended={"compensated": 4, "stuck": 1}),
        replace(MEASURED, ended={"completed": 5}),
        replace(MEASURED, called={**MEASURED.called, "undo-hotel": 4}),
        replace(MEASURED, called={**MEASURED.called, "book-flight": 6}),
        replace(MEASURED, called={**MEASURED.called, "unreadable": 1}),
        replace(MEASURED, called={}),
    ):
        with pytest.raises(DidNothingLikeIt):
            check(CASE, wrong)


@pytest.fixture(scope="module")
def participant() -> Iterator[ParticipantProcess]:
    with ParticipantProcess() as started:
        yield started


def test_runs_that_were_only_claimed_are_noticed(
    participant: ParticipantProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = 0

    async def claim() -> None:
        nonlocal claimed
        claimed += 1

    def claims(_runs: Orchestrator, _work: Work) -> Once:
        return claim

    monkeypatch.setattr("bench.measure._once", claims)
    with pytest.raises(DidNothingLikeIt, match=r"the log has \{\}"):
        measure(Case(ACCEPTED, "memory", 1), 2, participant)
    assert claimed == 3


def test_a_bare_client_that_makes_fewer_calls_is_noticed(
    participant: ParticipantProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.measure.REFUSED", LOCAL)  # so it books three times and undoes nothing
    with pytest.raises(DidNothingLikeIt, match="'book-car': 3"):
        measure(CASE_BARE, 2, participant)


def test_the_participant_is_another_process_and_ends_with_its_input() -> None:
    with ParticipantProcess() as started:
        measured = measure(Case(ACCEPTED, "bare", 2), 3, started)
        assert measured.called == dict.fromkeys(WORK["accepted"], 5)
        assert started.counted() == {}, "each count is given once"
    assert started.ended == 0


def test_every_operation_that_a_case_calls_is_answered() -> None:
    called = {f"/{each}".encode() for calls in WORK.values() for each in calls}
    assert called == set(ANSWERS)


# -- numbers


def test_ratios_are_taken_round_by_round() -> None:
    bare, ours = Case(ACCEPTED, "bare", 1), Case(ACCEPTED, "sqlite", 1)
    results = {
        bare: [replace(MEASURED, seconds=1.0), replace(MEASURED, seconds=4.0), replace(MEASURED, seconds=1.0)],
        ours: [replace(MEASURED, seconds=2.0), replace(MEASURED, seconds=8.0), replace(MEASURED, seconds=4.0)],
    }
    ratio = summarize(ours, results).rate_ratio
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == (0.5, 0.25, 0.5), "a slow round was slow for both"
    assert bare_of(bare, results) is None
    assert summarize(bare, results).rate_ratio is None
    assert sum("0.50 (0.25-0.50)" in line for line in as_table(results, {})) == 1


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(each) for each in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50, 99, 100)
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7
    assert spread([3.0, 1.0, 2.0]).median == 2


def test_starts_over_http_are_counted_against_the_log() -> None:
    name, per_second, *_ = starts.measure("taken", "memory", connections=4, starts=40).split()
    assert (name, float(per_second) > 0) == ("taken", True)


# -- PostgreSQL: each of its own tools claims nothing that the log doesn't have


def test_a_killed_workers_runs_are_all_taken_over_and_done() -> None:
    adopted = adoption.measure(runs=12, left=1, lease=1.0)
    assert adopted.runs == 12
    assert 0 < adopted.over < 1.1, "the lease was over when it should have been"
    assert adopted.over < adopted.first <= adopted.last


def test_processes_on_one_database_are_counted_against_the_log() -> None:
    measured = asyncio.run(processes.measure(processes=2, in_flight=4, wait=0.02, seconds=0.3, warm=0.1))
    assert measured.runs_per_second > 0
    assert measured.of_allowed > 0
    assert measured.runs_per_commit > 0
    assert measured.server_cpu_us > 0


def test_ended_runs_are_as_the_engine_leaves_them(databases: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    empty, full = (databases.new() for _ in range(2))
    asyncio.run(ended.measure(empty, full, ended=40, runs=4))
    said = capsys.readouterr().out
    assert "40 ended runs written by the database" in said
    assert "20 purged in" in said
    kept = (
        "select count(*) from amends.runs where id like 'old-%' and format = {} and exists (select from amends.{} {})"
    )
    for format_, with_history in ((1, 20), (0, 0)):
        events = kept.format(format_, "events as e", "where e.run = runs.id")
        tags = kept.format(format_, "run_tags as t", "where t.run = runs.id")
        assert (ask(full, events), ask(full, tags)) == (str(with_history), str(with_history))
