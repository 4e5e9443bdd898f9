"""The API, asked directly: every answer that a caller can get, and what is stored then."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from amends import LogUnavailable
from amends.core.words.limits import REQUEST_BYTES_MAX
from amends.engine import engine as engine_module
from amends.logs.memory import MemoryLog
from amends.ports.log import Append, Start, StoredRun, Written
from amends.server.context import BODY_BYTES_MAX, Context
from tests.fast.server.asgi import JSON, Caller
from tests.fast.server.opened import api, problem
from tests.fast.server.processes import until
from tests.fast.server.sagas import versioned

ORDER = {"lines": [{"sku": "a", "quantity": 1}, {"sku": "b c", "quantity": 2}], "card": "4000-0000"}
DEADLINE_SECONDS = 20.0


@pytest.fixture
async def opened() -> AsyncIterator[tuple[Caller, Context]]:
    async with api() as opened:
        yield opened


@pytest.fixture
def caller(opened: tuple[Caller, Context]) -> Caller:
    return opened[0]


@pytest.fixture
def context(opened: tuple[Caller, Context]) -> Context:
    return opened[1]


def plain(step: dict[str, Any]) -> dict[str, Any]:
    """A step without the lives of its keys."""
    return {name: value for name, value in step.items() if name not in {"action", "undo", "settle"}}


# -- starting


async def test_a_field_that_the_input_does_not_have_is_a_warning_or_refused(caller: Caller) -> None:
    asked = {"saga": "orders", "id": "o-1", "input": {"lines": [{"sku": "a", "quantity": 1}], "cent": 3}}
    told = {"path": "$.cent", "text": "There is no field cent here. Did you mean cents?"}
    refused = problem(await caller.start(asked, "?strict=true"), 422, "input-invalid")
    assert (refused["detail"], refused["where"]) == (told["text"], told["path"])
    assert (await caller.get("/v1/runs/o-1")).status == 404
    for status in (201, 200):
        answer = await caller.start(asked)
        assert answer.status == status
        assert answer.json()["warnings"] == [told]
    assert "warnings" not in (await caller.get("/v1/runs/o-1")).json()
    fine = {**asked, "id": "o-2", "input": ORDER}
    answer = await caller.start(fine, "?strict=true")
    assert answer.status == 201
    assert "warnings" not in answer.json()


async def test_a_missing_field_is_told_with_the_one_that_was_written_instead(caller: Caller) -> None:
    asked = {"saga": "orders", "input": {"lines": [{"sku": "a", "quantitiy": 1}]}}
    told = problem(await caller.start(asked), 422, "input-invalid")
    assert told["where"] == "$.lines[0]"
    assert told["detail"].endswith("There is no field quantitiy here. Did you mean quantity?")


async def test_a_new_run_is_created_and_says_where_it_is(caller: Caller) -> None:
    answer = await caller.start({"saga": "quick", "input": "yes", "id": "q-1", "tags": {"customer": "ann"}})
    assert answer.status == 201
    assert answer.headers["location"] == "/v1/runs/q-1"
    body = answer.json()
    assert set(body) == {
        *("id", "saga", "version", "state", "by_hand", "current", "steps", "input", "outcome", "stuck"),
        *("created_at", "updated_at", "deadline", "tags", "ended_at"),
    }
    assert (body["id"], body["saga"], body["version"], body["state"]) == ("q-1", "quick", 1, "running")
    assert body["current"] == ["first"]
    assert body["tags"] == {"customer": "ann"}
    assert body["outcome"] is None
    assert datetime.fromisoformat(body["created_at"]).tzinfo == UTC


async def test_a_run_without_an_id_gets_one(caller: Caller) -> None:
    one, two = [await caller.start({"saga": "quick", "input": "yes"}) for _ in range(2)]
    assert one.json()["id"] != two.json()["id"]
    assert (await caller.get(one.headers["location"])).json()["id"] == one.json()["id"]


async def test_a_completed_run_shows_steps_and_replies(caller: Caller) -> None:
    answer = await caller.start({"saga": "quick", "input": "yes", "id": "q-1"}, "?wait=20")
    body = answer.json()
    assert body["state"] == "completed"
    assert [plain(each) for each in body["steps"]] == [
        {"name": "first", "kind": "compensable", "state": "done", "attempts": 1, "error": None},
        {"name": "decide", "kind": "pivot", "state": "done", "attempts": 1, "error": None},
    ]
    assert body["outcome"]["replies"] == {"first": "yes was done", "decide": "yes was done"}
    shown = await caller.get("/v1/runs/q-1")
    assert shown.body == answer.body
    assert shown.headers["etag"] == answer.headers["etag"]


async def test_a_run_that_turned_back_says_who_said_no(caller: Caller) -> None:
    body = (await caller.start({"saga": "quick", "input": "no"}, "?wait=20")).json()
    outcome = body["outcome"]
    assert body["state"] == outcome["state"] == "compensated"
    assert (outcome["step"], outcome["code"], outcome["undone"]) == ("decide", "closed", ["first"])
    assert outcome["reason"] == "decide said no: closed"
    assert outcome["replies"] == {}


async def test_a_stuck_run_says_why(caller: Caller) -> None:
    body = (await caller.start({"saga": "quick", "input": "keep"}, "?wait=20")).json()
    assert body["state"] == "stuck"
    assert body["outcome"] is None
    (stuck,) = body["stuck"]
    assert (stuck["step"], stuck["phase"]) == ("first", "compensation")
    assert "cannot-compensate" in stuck["reason"]


async def test_the_same_start_again_is_the_same_run_however_it_is_written(caller: Caller) -> None:
    first = b'{"saga":"orders","id":"o-1","input":{"lines":[{"sku":"a","quantity":1}],"cents":1.5}}'
    again = b'{"id": "o-1", "input": {"cents": 1.50, "lines": [{"quantity": 1, "sku": "a"}]}, "saga": "orders"}'
    assert (await caller.post(first)).status == 201
    answer = await caller.post(again)
    assert answer.status == 200
    assert "location" not in answer.headers
    assert answer.json()["id"] == "o-1"


async def test_tags_and_deadline_are_no_part_of_what_a_start_is(caller: Caller) -> None:
    assert (await caller.start({"saga": "waits", "input": 1, "id": "w-1", "tags": {"a": "1"}})).status == 201
    again = await caller.start({"saga": "waits", "input": 1, "id": "w-1", "tags": {"a": "2"}, "deadline": 60})
    assert again.status == 200
    assert again.json()["tags"] == {"a": "1"}
    assert again.json()["deadline"] is None


@pytest.mark.parametrize(("saga", "value"), [("quick", "other"), ("other", "yes")])
async def test_the_same_id_for_another_run_is_refused(caller: Caller, saga: str, value: str) -> None:
    assert (await caller.start({"saga": "quick", "input": "yes", "id": "q-1"})).status == 201
    told = problem(await caller.start({"saga": saga, "input": value, "id": "q-1"}), 409, "run-exists")
    assert told["where"] == "id"
    assert (await caller.get("/v1/runs/q-1")).json()["saga"] == "quick"


async def test_the_input_is_stored_as_the_bytes_that_came(caller: Caller, context: Context) -> None:
    sent = b'{ "lines" : [],  "cents": 1.10, "unknown": "\\u00e4\xc3\xa4" }'
    assert (await caller.post(b'{"saga":"orders","id":"o-1","input":' + sent + b"}")).status == 201
    _, _, record = await context.engine.read("o-1")
    assert record.input == sent


async def test_an_input_of_another_shape_is_refused_with_its_place(caller: Caller) -> None:
    lines = [{"sku": "a", "quantity": 1}, {"sku": "a", "quantity": 1}, {"sku": "a", "quantity": "1"}]
    answer = await caller.start({"saga": "orders", "id": "o-1", "input": {"lines": lines}})
    told = problem(answer, 422, "input-invalid")
    assert told["where"] == "$.lines[2].quantity"
    problem(await caller.get("/v1/runs/o-1"), 404, "no-such-run")


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"id": "a:b"}, "id"),
        ({"id": ""}, "id"),
        ({"tags": {f"t{n}": "x" for n in range(17)}}, "tags"),
        ({"tags": {"t": "x" * 129}}, "tags.t"),
        ({"tags": {"t": "x\0"}}, "tags"),
        ({"tags": {"t\0": "x"}}, "tags"),
        ({"deadline": "tomorrow"}, "deadline"),
        ({"deadline": "2099-01-01T00:00:00"}, "deadline"),
        ({"deadline": "2001-01-01T00:00:00Z"}, "deadline"),
        ({"deadline": 0}, "deadline"),
        ({"deadline": 1e300}, "deadline"),
    ],
)
async def test_what_a_start_says_about_its_run_is_checked(caller: Caller, more: dict[str, object], where: str) -> None:
    told = problem(await caller.start({"saga": "quick", "input": "yes", **more}), 422, "input-invalid")
    assert told["where"] == where


async def test_a_deadline_is_a_moment_or_seconds_from_now(caller: Caller) -> None:
    body = (await caller.start({"saga": "waits", "input": 1, "deadline": "2099-01-02T03:04:05+01:00"})).json()
    assert body["deadline"] == "2099-01-02T02:04:05Z"
    body = (await caller.start({"saga": "waits", "input": 1, "deadline": 90.5})).json()
    created, deadline = (datetime.fromisoformat(body[each]) for each in ("created_at", "deadline"))
    assert timedelta(seconds=90) < deadline - created < timedelta(seconds=91)


@pytest.mark.parametrize("more", [{"saga": "nope"}, {"saga": "quick", "version": 2}])
async def test_a_saga_that_is_not_loaded_is_named_beside_those_that_are(
    caller: Caller, more: dict[str, object]
) -> None:
    told = problem(await caller.start({"input": "yes", **more}), 404, "no-such-saga")
    assert "quick v1" in told["detail"]


async def test_the_version_asked_for_is_started_else_the_highest() -> None:
    async with api(versioned(1), versioned(3), versioned(2)) as (caller, _):
        assert (await caller.start({"saga": "versioned", "input": "a"})).json()["version"] == 3
        assert (await caller.start({"saga": "versioned", "input": "a", "version": 2})).json()["version"] == 2


# -- what isn't a request of this API


@pytest.mark.parametrize(
    ("body", "where", "word"),
    [
        (b"", None, "truncated"),
        (b"not json", None, "malformed"),
        (b'{"saga":"quick","input":\xff}', None, "malformed"),
        (b"[]", "$", "object"),
        (b'{"saga":"quick"}', "$", "`input`"),
        (b'{"saga":"quick","input":"a","inptu":1}', "$", "`inptu`"),
        (b'{"saga":1,"input":"a"}', "$.saga", "str"),
        (b'{"saga":"quick","input":"a","tags":{"a":1}}', "$.tags", "str"),
        (b'{"saga":"quick","input":"a","deadline":true}', "$.deadline", "bool"),
        (b'{"saga":"quick","input":' + b"[" * 50_000, None, "deep"),
    ],
)
async def test_a_body_that_is_no_start_is_refused_and_told_why(
    caller: Caller, body: bytes, where: str | None, word: str
) -> None:
    told = problem(await caller.post(body), 400, "bad-request")
    assert word in told["detail"]
    place = told.get("where")
    assert place is None if where is None else place is not None and place.startswith(where)


async def test_an_input_that_is_not_utf_8_is_refused(caller: Caller) -> None:
    problem(await caller.post(b'{"saga":"quick","input":"\xff"}'), 422, "input-invalid")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_what_a_web_page_may_send_unasked_starts_nothing(caller: Caller, kind: str) -> None:
    body = b'{"saga":"quick","input":"yes","id":"q-1"}'
    problem(await caller.post(body, {"content-type": kind} if kind else {}), 415, "unsupported-media-type")
    problem(await caller.get("/v1/runs/q-1"), 404, "no-such-run")


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("127.0.0.1:8700", True),
        ("LOCALHOST", True),
        ("[::1]:8700", True),
        ("127.9.9.9", True),
        ("evil.example:8700", False),
        ("127.0.0.1.evil.example", False),
        ("[::2]:8700", False),
        ("10.0.0.1:8700", False),
    ],
)
async def test_requests_for_other_names_are_refused(caller: Caller, host: str, served: bool) -> None:
    answer = await caller.get("/healthz", {"host": host})
    if served:
        assert answer.status == 200
    else:
        problem(answer, 421, "misdirected")


async def test_a_body_beyond_the_limit_is_refused_before_it_is_read(caller: Caller) -> None:
    read: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            read.append(1 << 16)
            yield b" " * (1 << 16)

    announced = await caller.call("POST", "/v1/runs", endless(), {**JSON, "content-length": str(BODY_BYTES_MAX + 1)})
    problem(announced, 413, "too-large")
    assert not read
    problem(await caller.call("POST", "/v1/runs", endless(), JSON), 413, "too-large")
    assert BODY_BYTES_MAX < sum(read) <= BODY_BYTES_MAX + (1 << 16)


async def test_an_input_beyond_its_limit_is_refused(caller: Caller) -> None:
    body = b'{"saga":"quick","input":"' + b"x" * REQUEST_BYTES_MAX + b'"}'
    assert len(body) < BODY_BYTES_MAX
    problem(await caller.post(body), 413, "too-large")


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "soon"])
async def test_a_wait_is_seconds_within_its_limit(caller: Caller, wait: str) -> None:
    told = problem(
        await caller.start({"saga": "quick", "input": "yes", "id": "q-1"}, f"?wait={wait}"), 400, "bad-request"
    )
    assert told["where"] == "wait"
    problem(await caller.get("/v1/runs/q-1"), 404, "no-such-run")


async def test_a_parameter_that_is_not_known_is_named(caller: Caller) -> None:
    assert problem(await caller.get("/v1/runs/a?wiat=2"), 400, "bad-request")["where"] == "wiat"


@pytest.mark.parametrize("path", ["/", "/v1/runs/", "/v1/run", "/v1/runs/a/b"])
async def test_a_path_that_is_not_served_is_a_problem_too(caller: Caller, path: str) -> None:
    problem(await caller.get(path), 404, "not-found")


async def test_another_method_is_told_which_there_are(caller: Caller) -> None:
    answer = await caller.call("DELETE", "/v1/runs")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"


async def test_an_unknown_run_is_a_problem(caller: Caller) -> None:
    problem(await caller.get("/v1/runs/nobody"), 404, "no-such-run")
    problem(await caller.get("/v1/runs/nobody?wait=5"), 404, "no-such-run")


# -- the saga's own code


@pytest.mark.parametrize("word", ["bug", "type"])
async def test_a_builders_bug_is_told_without_its_data_and_stores_nothing(caller: Caller, word: str) -> None:
    answer = await caller.start({"saga": "broken", "input": word, "id": "b-1"})
    told = problem(answer, 422, "author-error")
    assert "broken v1, step careless" in told["detail"]
    assert "secret" not in answer.body.decode()
    problem(await caller.get("/v1/runs/b-1"), 404, "no-such-run")


async def test_a_builders_no_is_a_run_that_ended(caller: Caller) -> None:
    answer = await caller.start({"saga": "broken", "input": "no", "id": "b-1"})
    assert answer.status == 201
    assert answer.json()["outcome"]["code"] == "never"
    assert (await caller.get("/v1/runs/b-1")).body == answer.body


# -- pressure and faults


async def test_too_much_waiting_is_told_with_a_time_to_come_back(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "STARTS_WAITING_MAX", -1)
    answer = await caller.start({"saga": "quick", "input": "yes", "id": "q-1"})
    problem(answer, 503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    problem(await caller.get("/v1/runs/q-1"), 404, "no-such-run")


class FailingLog(MemoryLog):
    """Refuses to write starts, and to read, for as long as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: Exception | None = None
        self.failed = 0

    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        if self.failing is not None and any(isinstance(each, Start) for each in batch):
            self.failed += 1
            raise self.failing
        return await super().append(batch)

    async def read(self, run: str) -> StoredRun | None:
        if self.failing is not None:
            self.failed += 1
            raise self.failing
        return await super().read(run)


async def test_a_log_that_cannot_be_written_acknowledges_nothing() -> None:
    log = FailingLog()
    async with api(log=log) as (caller, _):
        log.failing = LogUnavailable("the disk is full")
        for answer in (
            await caller.start({"saga": "quick", "input": "yes", "id": "q-1"}),
            await caller.get("/v1/runs/q-1"),
        ):
            problem(answer, 503, "log-unavailable")
            assert answer.headers["retry-after"] == "1"
        assert log.failed == 2
        log.failing = None
        assert (await caller.start({"saga": "quick", "input": "yes", "id": "q-1"})).status == 201


async def test_a_bug_of_ours_is_told_to_the_log_and_not_to_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    log = FailingLog()
    async with api(log=log) as (caller, _):
        log.failing = ZeroDivisionError("inner secret")
        answer = await caller.get("/v1/runs/q-1")
        assert log.failed == 1
        log.failing = None
    problem(answer, 500, "internal")
    assert b"secret" not in answer.body
    assert "inner secret" in caplog.text


async def test_health_says_when_the_log_broke(caller: Caller, context: Context) -> None:
    assert (await caller.get("/healthz")).json() == {"status": "ok"}
    context.engine.broken.set()
    assert (await caller.get("/healthz")).status == 503


# -- waiting


async def test_a_wait_that_is_over_shows_the_run_as_it_stands(caller: Caller) -> None:
    answer = await caller.start({"saga": "waits", "input": 1, "id": "w-1"}, "?wait=0.01")
    assert (answer.status, answer.json()["state"]) == (201, "running")
    answer = await caller.get("/v1/runs/w-1?wait=0.01")
    assert (answer.status, answer.json()["current"]) == (200, ["cooling_off"])


async def test_whoever_waits_is_answered_when_the_server_stops(caller: Caller, context: Context) -> None:
    await caller.start({"saga": "waits", "input": 1, "id": "w-1"})
    waiting = asyncio.create_task(caller.get("/v1/runs/w-1?wait=60"))
    await until(lambda: is_waited_for(context, "w-1"))
    context.stopping.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await waiting).json()["state"] == "running"


async def test_nothing_waits_for_a_caller_that_is_gone(caller: Caller, context: Context) -> None:
    await caller.start({"saga": "waits", "input": 1, "id": "w-1"})
    waiting = asyncio.create_task(caller.get("/v1/runs/w-1?wait=60"))
    await until(lambda: is_waited_for(context, "w-1"))
    caller.hang_up.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await waiting
    assert not is_waited_for(context, "w-1")


def is_waited_for(context: Context, run: str) -> bool:
    return run in context.engine.audience.awaited


# -- what is shown


async def test_items_are_shown_by_their_own_names_and_secrets_are_not(caller: Caller) -> None:
    answer = await caller.start({"saga": "orders", "input": ORDER}, "?wait=20")
    body = answer.json()
    assert body["state"] == "completed"
    (step,) = body["steps"]
    assert [plain(each) for each in step["items"]] == [
        {"name": "a", "state": "done", "attempts": 1, "error": None},
        {"name": "b c", "state": "done", "attempts": 1, "error": None},
    ]
    assert step["attempts"] == 2
    assert body["input"] == {**ORDER, "card": "***"}
    assert b"4000" not in answer.body
    assert body["outcome"]["replies"]["reserve"]["b c"] == {"id": "r-b c", "pin": "1234"}


async def test_a_run_whose_version_is_not_loaded_is_shown_all_the_same(tmp_path: Path) -> None:
    log = f"sqlite:///{tmp_path}/runs.db"
    start = {"saga": "versioned", "input": "a", "id": "v-1"}
    async with api(versioned(1), log=log) as (caller, _):
        await caller.start(start)
        await caller.ask("/v1/runs/v-1/cancel", {"reason": "no longer wanted"})
        before = await caller.get("/v1/runs/v-1?wait=20")
    assert before.json()["state"] == "compensated"  # while it lived, no process without its version would start
    async with api(versioned(2), log=log) as (caller, _):
        for answer in (
            await caller.get("/v1/runs/v-1"),
            await caller.get("/v1/runs/v-1?wait=1"),
            await caller.start(start),
        ):
            assert answer.status == 200
            assert without_policy(answer.json()) == without_policy(before.json())


def without_policy(run: dict[str, Any]) -> dict[str, Any]:
    """A run without how hard its calls are tried: only who has loaded its saga knows that."""
    for step in run["steps"]:
        for name in ("attempts_max", "gives_up_at"):
            step["action"].pop(name, None)
    return run


async def test_a_purged_run_still_says_how_it_ended() -> None:
    log = MemoryLog()
    async with api(log=log) as (caller, _):
        await caller.start({"saga": "quick", "input": "yes", "id": "q-1"}, "?wait=20")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                if await log.purge(2**62, 10):
                    break
                await asyncio.sleep(0)
        body = (await caller.get("/v1/runs/q-1")).json()
    assert (body["state"], body["input"], body["steps"]) == ("completed", None, [])
