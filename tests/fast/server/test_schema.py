"""Requests made up from the OpenAPI document, sent to a real server: every answer is one that the document promises.

Drawn from a fixed seed, so that a failure is the same everywhere; the campaign draws more, and others each time.
"""

import json
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from amends.server.openapi import document
from amends.server.paths import ENDPOINTS
from tests.fast.server.test_hostile import TOKEN, Server

schemathesis: Any = pytest.importorskip("schemathesis", reason="the group `fuzz` isn't installed")

EXAMPLES = 6
CAMPAIGN_EXAMPLES = 300
OPERATIONS = [(method, path) for path, methods in ENDPOINTS.items() for method in methods]
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    made = Server(tmp_path_factory.mktemp("schema"))
    try:
        started = made.ask("POST", "/v1/runs?wait=5", b'{"saga":"quick","id":"0","input":{"card":"x"}}')
        assert b" 201 " in started[:15]
        yield made
    finally:
        made.stop()


def check(server: Server, method: str, path: str, examples: int, *, drawn_anew: bool = False) -> None:
    host, port = server.address
    schema = schemathesis.openapi.from_dict(described())
    operation = schema[path][method]
    checks = [
        schemathesis.checks.not_a_server_error,
        *(
            schemathesis.checks.CHECKS.get_one(name)
            for name in ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
        ),
    ]
    sent: list[int] = []

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=not drawn_anew,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:  # noqa: ANN401 - schemathesis's own, which has no stubs
        answer = case.call(base_url=f"http://{host}:{port}", headers=HEADERS, timeout=30)
        sent.append(answer.status_code)
        case.validate_response(answer, checks=checks)

    ask()
    assert len(sent) >= 1
    assert b" 200 " in server.ask("GET", "/healthz")[:15]


def described() -> dict[str, Any]:

    told: dict[str, Any] = json.loads(document(ENDPOINTS))
    return told


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_one_that_the_document_promises(server: Server, method: str, path: str) -> None:
    check(server, method, path, EXAMPLES)


@pytest.mark.campaign
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_so_is_every_answer_to_many_more(server: Server, method: str, path: str) -> None:
    check(server, method, path, CAMPAIGN_EXAMPLES, drawn_anew=True)
