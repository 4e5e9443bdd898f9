"""Who may ask for what: every endpoint's role, tokens that are not right, and sagas that aren't theirs."""

from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

from amends.core.words.errors import AmendsError
from amends.server.access import Access, BadToken, Role, Token, new_token
from amends.server.context import ServerLimits
from amends.server.paths import ENDPOINTS
from amends.server.rate_limit import CALLERS_MAX, FAILURES_MAX, Buckets
from tests.fast.server.asgi import JSON, Caller
from tests.fast.server.opened import api, problem
from tests.fast.server.sagas import quick, waits

TOKENS = {name: new_token() for name in ("viewer", "client", "operator", "other")}
ACCESS = Access(
    [
        *(Token(role.value, role, TOKENS[role.value][1]) for role in Role),
        Token("other", Role.OPERATOR, TOKENS["other"][1], ["waits"]),
    ]
)


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[name][0]}", **JSON}


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with api(quick, waits, access=ACCESS) as (caller, _):
        yield caller


ENDPOINT_ROLES = [
    (method, path, endpoint.role) for path, methods in ENDPOINTS.items() for method, endpoint in methods.items()
]


@pytest.mark.parametrize(("method", "path", "role"), ENDPOINT_ROLES)
async def test_each_endpoint_asks_for_its_role(caller: Caller, method: str, path: str, role: Role | None) -> None:
    where = path.replace("{id}", "nope").replace("{step}", "first").replace("{name}", "quick").replace("{token}", "x")

    async def status(headers: dict[str, str]) -> int:
        return (await caller.call(method, where, [b"{}"], {**JSON, **headers})).status

    if role is None:
        assert await status({}) not in {401, 403}
        return
    answer = await caller.call(method, where, [b"{}"], JSON)
    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    for each in Role:
        assert (await status(bearer(each.value)) == 403) == (not each.includes(role)), each


async def test_who_asks_stands_in_the_log(caller: Caller) -> None:
    body = b'{"saga":"waits","input":1,"id":"w-1"}'
    assert (await caller.call("POST", "/v1/runs", [body], bearer("client"))).status == 201
    reason = b'{"reason":"no more","by":"ann"}'
    assert (await caller.call("POST", "/v1/runs/w-1/cancel", [reason], bearer("operator"))).status == 200
    events = (await caller.get("/v1/runs/w-1/events", bearer("viewer"))).json()["events"]
    assert events[0]["data"]["by"] == "token client"
    (asked,) = [each for each in events if each["kind"] == "CancelAsked"]
    assert asked["data"]["who"] == {"by": "token operator", "claimed_by": "ann", "reason": "no more"}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic dXNlcjpwYXNz",
        f"bearer {TOKENS['viewer'][0]}x",
        f"Bearer {TOKENS['viewer'][0][:-1]}",
        f"Bearer {TOKENS['viewer'][1]}",
        f"Bearer {TOKENS['viewer'][0]} {TOKENS['viewer'][0]}",
        "Bearer " + "x" * 600,
        "Bearer \xff\xfe",
    ],
    ids=lambda header: f"{len(header)} characters",  # tokens are made anew in each process of the test run
)
async def test_what_is_no_token_of_ours_is_refused(caller: Caller, header: str) -> None:
    problem(await caller.get("/v1/runs", {"authorization": header}), 401, "unauthorized")


async def test_a_scheme_is_written_as_one_likes(caller: Caller) -> None:
    header = {"authorization": f"bEaReR  {TOKENS['viewer'][0]} "}
    assert (await caller.get("/v1/runs", header)).status == 200


async def test_a_token_for_one_saga_sees_no_other(caller: Caller) -> None:
    for saga, run in (("waits", "w-1"), ("quick", "q-1")):
        body = b'{"saga":"%s","input":%s,"id":"%s"}' % (
            saga.encode(),
            b"1" if saga == "waits" else b'"keep"',
            run.encode(),
        )
        assert (await caller.call("POST", "/v1/runs?wait=0.1", [body], bearer("operator"))).status == 201
    mine = bearer("other")
    runs = (await caller.get("/v1/runs", mine)).json()["runs"]
    assert [each["id"] for each in runs] == ["w-1"]
    assert (await caller.get("/v1/stuck", mine)).json()["runs"] == 0
    assert [each["name"] for each in (await caller.get("/v1/sagas", mine)).json()["sagas"]] == ["waits"]
    problem(await caller.get("/v1/sagas/quick", mine), 404, "no-such-saga")
    problem(await caller.get("/v1/runs/q-1", mine), 404, "no-such-run")
    problem(await caller.get("/v1/runs/q-1/events", mine), 404, "no-such-run")
    why = [b'{"reason":"x"}']
    for path in ("cancel", "retry?dry_run=1", "steps/first/retry", "steps/first/probe"):
        problem(await caller.call("POST", f"/v1/runs/q-1/{path}", why, mine), 404, "no-such-run")
    start = [b'{"saga":"quick","input":"yes"}']
    told = problem(await caller.call("POST", "/v1/runs", start, mine), 404, "no-such-saga")
    assert "quick v1" not in told["detail"]
    bulk = [b'{"where":"state=stuck","reason":"x","dry_run":true}']
    assert (await caller.call("POST", "/v1/runs:retry", bulk, mine)).json()["matched"] == 0


async def test_many_wrong_tokens_have_to_wait_and_right_ones_do_not(caller: Caller) -> None:
    for _ in range(FAILURES_MAX):
        problem(await caller.get("/v1/runs", {"authorization": "Bearer wrong"}), 401, "unauthorized")
    answer = await caller.get("/v1/runs", {"authorization": "Bearer wrong"})
    problem(answer, 429, "too-many-requests")
    assert int(answer.headers["retry-after"]) >= 1
    assert (await caller.get("/v1/runs", bearer("viewer"))).status == 200


async def test_a_token_that_asks_too_often_has_to_wait_and_others_do_not() -> None:
    async with api(quick, access=ACCESS, limits=ServerLimits(per_second=2)) as (caller, _):
        statuses = [(await caller.get("/v1/runs", bearer("viewer"))).status for _ in range(5)]
        assert statuses[:2] == [200, 200]
        assert 429 in statuses
        assert (await caller.get("/v1/runs", bearer("client"))).status == 200
        assert (await caller.get("/healthz")).status == 200


async def test_more_than_can_be_answered_are_told_to_come_again() -> None:
    async with api(quick, limits=ServerLimits(requests=1)) as (caller, context):
        context.requests = 1
        answer = await caller.get("/v1/runs")
        problem(answer, 503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        assert (await caller.get("/healthz")).status == 200, "or a busy server would be killed for being busy"
        context.requests = 0
        assert (await caller.get("/v1/runs")).status == 200


async def test_one_token_leaves_requests_for_the_others() -> None:
    async with api(quick, access=ACCESS, limits=ServerLimits(requests=4)) as (caller, context):
        with ExitStack() as held:
            for _ in range(3):
                held.enter_context(context.requests_of.held("token viewer"))
            problem(await caller.get("/v1/runs", bearer("viewer")), 503, "overloaded")
            assert (await caller.get("/v1/runs", bearer("client"))).status == 200
            assert (await caller.get("/healthz", bearer("viewer"))).status == 200
        assert (await caller.get("/v1/runs", bearer("viewer"))).status == 200


async def test_names_do_not_matter_once_there_are_tokens(caller: Caller) -> None:
    assert (await caller.get("/v1/runs", {**bearer("viewer"), "host": "amends.example"})).status == 200


@pytest.mark.parametrize("hashed", ["", "sha256:", "sha256:xyz", "md5:" + "0" * 32, "0" * 64, "sha256:" + "0" * 63])
def test_a_hash_that_is_none_is_refused_at_the_start(hashed: str) -> None:
    with pytest.raises(BadToken, match="token web: its hash is not"):
        Access([Token("web", Role.CLIENT, hashed)])


def test_two_tokens_of_one_name_are_refused() -> None:
    with pytest.raises(AmendsError, match="two tokens are called web"):
        Access([Token("web", Role.CLIENT, new_token()[1]), Token("web", Role.VIEWER, new_token()[1])])


def test_a_bucket_fills_evenly_and_forgets_the_oldest() -> None:
    now = 0.0
    buckets = Buckets(per_second=2, burst=3, clock=lambda: now)
    for _ in range(3):
        assert buckets.wait("a") == 0
        buckets.take("a")
    assert buckets.wait("a") == 0.5
    assert buckets.wait("b") == 0
    now = 0.5
    assert buckets.wait("a") == 0
    for number in range(CALLERS_MAX + 1):
        buckets.take(f"caller {number}")
    assert len(buckets) == CALLERS_MAX


async def test_a_token_for_some_sagas_is_told_no_sums_over_all(caller: Caller) -> None:
    """How many runs the others have, and how they go, is not for a token that sees one saga."""
    body = b'{"saga":"quick","input":"yes","id":"q-1"}'
    assert (await caller.call("POST", "/v1/runs?wait=10", [body], bearer("operator"))).status == 201
    told = (await caller.call("GET", "/metrics", [b""], bearer("operator"))).body.decode()
    assert 'amends_runs{state="completed"} 1.0' in told
    limited = (await caller.call("GET", "/metrics", [b""], bearer("other"))).body.decode()
    assert "amends_log_up 1.0" in limited
    series = [line for line in limited.splitlines() if not line.startswith("#")]
    assert not [line for line in series if line.startswith(("amends_runs", "amends_due_runs")) or "quick" in line]
