"""What the server says about itself: the OpenAPI document, the page that shows it, health, numbers."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from typing_extensions import override

from amends.core.words.errors import LogUnavailable
from amends.core.words.retry import MICROSECONDS
from amends.engine.engine import Engine
from amends.logs.memory import MemoryLog
from amends.ports.clock import SystemClock
from amends.ports.log import Find, LiveRuns, RunRow, SagaKey, StoredRun
from amends.server import metrics
from amends.server.app import SECURITY_HEADERS
from amends.server.context import Context
from amends.server.openapi import document
from amends.server.paths import ENDPOINTS
from amends.testing.contracts.log_entries import start, write
from tests.fast.server.asgi import Caller
from tests.fast.server.opened import api
from tests.fast.server.sagas import quick, versioned, waits
from tests.fast.server.stages import GATES, bring, let_go, staged


@pytest.fixture
async def opened() -> AsyncIterator[tuple[Caller, Context]]:
    GATES.clear()
    async with api(quick, waits, staged) as opened:
        yield opened


@pytest.fixture
def caller(opened: tuple[Caller, Context]) -> Caller:
    return opened[0]


def described() -> dict[str, Any]:
    return msgspec.json.decode(document(ENDPOINTS), type=dict[str, Any])


def test_every_endpoint_is_described_with_a_summary_of_its_own() -> None:
    told = described()
    assert told["openapi"] == "3.1.0"
    assert set(told["paths"]) == set(ENDPOINTS)
    operations = [each for methods in told["paths"].values() for each in methods.values()]
    assert all(each["summary"] for each in operations)
    ids = [each["operationId"] for each in operations]
    assert len(set(ids)) == len(ids)


def test_the_document_passes_the_rules_of_common_linters() -> None:
    """Rules that Redocly and Spectral hold documents to: servers, contact, descriptions, tags that are declared."""
    told = described()
    assert [each["url"] for each in told["servers"]] == ["/"], "an empty list is an error of Redocly's"
    for field in ("title", "version", "description", "contact", "license"):
        assert told["info"][field], field
    operations = [each for methods in told["paths"].values() for each in methods.values()]
    assert [each["operationId"] for each in operations if not each["description"]] == []
    declared = [each["name"] for each in told["tags"]]
    assert all(each["description"] for each in told["tags"])
    assert declared == sorted({name for each in operations for name in each["tags"]})


def test_every_type_that_is_referred_to_is_there() -> None:
    told = described()
    known = {f"#/components/schemas/{name}" for name in told["components"]["schemas"]}
    used = set(re.findall(r'"\$ref":"([^"]+)"', document(ENDPOINTS).decode()))
    assert used <= known
    assert "#/components/schemas/RunView" in used


def test_every_handler_names_its_own_path() -> None:
    """The first words of its docstring are what the pages print; they must not speak of another path."""
    for path, methods in ENDPOINTS.items():
        for method, endpoint in methods.items():
            assert (endpoint.handler.__doc__ or "").startswith(f"`{method} {path}`: ")


async def test_the_document_is_served_and_needs_no_token(caller: Caller) -> None:
    answer = await caller.get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.body == document(ENDPOINTS)


async def test_the_page_loads_nothing_but_itself(caller: Caller) -> None:
    page = await caller.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = page.body.decode()
    assert not re.findall(r"https?://|\bon\w+=|<style|style=", text)
    assert "<script>" not in text
    for name, kind in (("docs.js", "text/javascript"), ("docs.css", "text/css")):
        answer = await caller.get(f"/docs/{name}")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(kind)
        assert b"http://" not in answer.body
        assert b"https://" not in answer.body
        assert f'"/docs/{name}"' in text
    script = (await caller.get("/docs/docs.js")).body
    assert b"innerHTML" not in script


@pytest.mark.parametrize("path", ["/healthz", "/v1/runs", "/v1/runs/nope", "/nowhere", "/docs", "/metrics"])
async def test_every_answer_tells_browsers_what_they_may_not(caller: Caller, path: str) -> None:
    headers = (await caller.get(path)).headers
    for name, value in SECURITY_HEADERS:
        assert headers[name.decode()] == value.decode()
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


async def test_sagas_are_described_with_their_types() -> None:
    async with api(quick, versioned(1), versioned(3)) as (caller, _):
        listed = (await caller.get("/v1/sagas")).json()["sagas"]
        assert [(each["name"], each["version"]) for each in listed] == [
            ("quick", 1),
            ("versioned", 3),
            ("versioned", 1),
        ]
        one = (await caller.get("/v1/sagas/quick")).json()
        assert [(each["name"], each["kind"], each["reads"]) for each in one["steps"]] == [
            ("first", "compensable", []),
            ("decide", "pivot", ["first"]),
        ]
        assert one["input"] == {"type": "string"}
        assert (await caller.get("/v1/sagas/versioned")).json()["versions"] == [1, 3]
        assert (await caller.get("/v1/sagas/versioned?version=1")).json()["version"] == 1
        assert (await caller.get("/v1/sagas/versioned?version=2")).status == 404
        assert (await caller.get("/v1/sagas/nope")).status == 404


# -- health


async def test_ready_means_that_the_log_answers_and_nobody_stops_us(caplog: pytest.LogCaptureFixture) -> None:
    """Why it isn't ready is for this process's log: anybody may ask, and an error of a database names it."""
    log = Unreachable()
    async with api(quick, log=log) as (caller, context):
        assert (await caller.get("/readyz")).json() == {"status": "ready", "reasons": []}
        log.gone = True
        answer = await caller.get("/readyz")
        assert (answer.status, answer.json()["status"]) == (503, "not ready")
        assert "nobody there" not in answer.body.decode()
        await caller.get("/readyz")
        assert caplog.text.count("nobody there") == 1, "once, however often it is asked"
        assert (await caller.get("/healthz")).status == 200, "a new process wouldn't help"
        log.gone = False
        context.stopping.set()
        assert (await caller.get("/readyz")).json()["reasons"] == ["this process is stopping"]


async def test_to_ask_whether_it_is_ready_costs_one_look_however_many_runs_wait() -> None:
    """Asked about certain sagas, a database looks through every run that waits until it has found one of them."""
    log = Unreachable()
    async with api(quick, log=log) as (caller, _):
        log.asked.clear()
        assert (await caller.get("/readyz")).status == 200
        assert None in log.asked
        assert [] not in log.asked


class Unreachable(MemoryLog):
    gone = False

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Sequence[SagaKey] | None] = []

    @override
    async def next_due(self, known: Sequence[SagaKey] | None = None) -> int | None:
        self.asked.append(known)
        if self.gone:
            raise LogUnavailable("nobody there")
        return await super().next_due(known)


async def test_the_workers_of_a_log_are_listed(caller: Caller) -> None:
    (worker,) = (await caller.get("/v1/workers")).json()["workers"]
    assert (worker["state"], worker["here"], worker["expires_at"]) == ("live", True, None)


# -- numbers


def numbers(body: bytes) -> dict[str, float]:
    lines = [line for line in body.decode().splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_the_numbers_say_what_is_going_on(opened: tuple[Caller, Context]) -> None:
    caller, context = opened
    await bring(caller, "stuck undoing", "s-1")
    await bring(caller, "past the pivot", "p-1")
    await caller.start({"saga": "quick", "input": "yes"}, "?wait=20")
    found = numbers((await caller.get("/metrics")).body)
    assert found['amends_runs{state="stuck"}'] == 1
    assert found['amends_runs{state="completed"}'] == 1
    cause = 'amends_stuck_runs{phase="compensation",reason="cannot-compensate",saga="staged",step="reserve"}'
    assert found[cause] == 1
    assert found['amends_oldest_seconds{saga="staged",state="running"}'] >= 0
    assert found["amends_runs_in_memory"] == 1
    assert found["amends_log_up"] == 1
    assert found["amends_last_append_timestamp_seconds"] > 0
    assert found['amends_http_requests_total{method="POST",path="/v1/runs",status="201"}'] == 3
    again = numbers((await caller.get("/metrics")).body)
    assert again['amends_http_requests_total{method="GET",path="/metrics",status="200"}'] == 1
    assert again['amends_http_requests_total{method="POST",path="/v1/runs",status="201"}'] == 3
    assert context.requests == 0
    let_go("p-1")


class Summing(MemoryLog):
    """Can be asked for sums alone."""

    sums_only = False

    @override
    async def find(self, question: Find) -> Sequence[StoredRun]:
        assert not self.sums_only, "a scrape reads no rows"
        return await super().find(question)

    @override
    async def read(self, run: str) -> StoredRun | None:
        assert not self.sums_only, "a scrape reads no histories"
        return await super().read(run)


async def test_a_scrape_asks_for_sums_and_reads_no_run() -> None:
    async with api(staged, log=Summing()) as (caller, context):
        await bring(caller, "stuck undoing", "s-1")
        assert isinstance(context.engine.log, Summing)
        context.engine.log.sums_only = True
        assert numbers((await caller.get("/metrics")).body)["amends_log_up"] == 1
        context.engine.log.sums_only = False


async def test_many_causes_are_summed_up_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest have series of their own; what they all add up to is right."""
    monkeypatch.setattr(metrics, "SERIES_MAX", 5)
    log = MemoryLog()
    async with api(quick, log=log) as (caller, _):
        for number in range(12):
            stuck = f'[{{"step":"s{number}","phase":"action","reason":"spent","attempts":1,"since":1}}]'.encode()
            saga = SagaKey(f"saga-{number}", 1, "d")
            row = RunRow("stuck", False, None, b"[]", b"[]", stuck, None)
            for copy in range(2 if number == 7 else 1):
                await write(log, replace(start(f"r-{number}-{copy}", saga=saga, deadline=1, owned=False), row=row))
        found = numbers((await caller.get("/metrics")).body)
    for name, labels in (("stuck_runs", 4), ("unclaimable_runs", 2)):
        series = {each: count for each, count in found.items() if each.startswith(f"amends_{name}{{")}
        assert (len(series), sum(series.values())) == (6, 13)
        (others,) = (count for each, count in series.items() if each.count('"other"') == labels)
        assert others == 7
    assert found['amends_stuck_runs{phase="action",reason="spent",saga="saga-7",step="s7"}'] == 2


async def test_runs_whose_saga_is_not_loaded_are_counted() -> None:
    log = MemoryLog()
    async with api(waits, log=log) as (caller, _):
        assert (await caller.start({"saga": "waits", "input": 1, "id": "w-1"})).status == 201
        assert "unclaimable_runs{" not in (await caller.get("/metrics")).body.decode()
    async with api(quick, log=MemoryLog(log.store), leave=["waits"]) as (caller, _):
        found = numbers((await caller.get("/metrics")).body)
        assert found['amends_unclaimable_runs{saga="waits",version="1"}'] == 1


class Gone(MemoryLog):
    now = False

    async def answer(self) -> None:
        raise LogUnavailable("nobody there")

    @override
    async def live(self) -> Sequence[LiveRuns]:
        if self.now:
            await self.answer()
        return await super().live()


class Hanging(Gone):
    @override
    async def answer(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("kind", [Gone, Hanging])
async def test_while_the_log_does_not_answer_there_are_the_numbers_of_the_process(
    kind: type[Gone], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "LOG_SECONDS", 0.01)
    log = kind()
    async with api(quick, log=log) as (caller, _):
        log.now = True
        answer = await caller.get("/metrics")
        found = numbers(answer.body)
        assert answer.status == 200
        assert found["amends_log_up"] == 0
        assert found["amends_appends_waiting"] == 0
        assert not any(name.startswith(("amends_runs{", "amends_due_runs")) for name in found)


async def test_a_log_that_can_be_read_and_not_written_is_not_up(
    opened: tuple[Caller, Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, _ = opened
    assert numbers((await caller.get("/metrics")).body)["amends_log_up"] == 1
    monkeypatch.setattr(Engine, "trouble", "it is read-only")
    found = numbers((await caller.get("/metrics")).body)
    assert found["amends_log_up"] == 0
    assert found["amends_due_runs"] == 0, "what can be known is told all the same"


class AnHourOn(SystemClock):
    @override
    def now(self) -> int:
        return super().now() + 3_600 * MICROSECONDS


async def test_runs_past_their_pivot_and_their_deadline_are_counted(opened: tuple[Caller, Context]) -> None:
    caller, context = opened
    await bring(caller, "past the pivot", "late", deadline=1_800)
    await bring(caller, "running", "early", deadline=1_800)
    await bring(caller, "past the pivot", "in-time", deadline=36_000)
    context.clock = AnHourOn()
    found = numbers((await caller.get("/metrics")).body)
    assert found['amends_late_past_pivot_runs{saga="staged"}'] == 1
    for run in ("late", "early", "in-time"):
        let_go(run)
