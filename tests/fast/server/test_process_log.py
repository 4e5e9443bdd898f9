"""A server process's log: one format for everything, and requests only where they are asked for."""

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
from starlette.requests import Request

from amends.observers.alerts import back_alert, log_line
from amends.server.process_log import Format, log_request, write_log

NAMES = ("", "amends", "uvicorn", "amends.access", "amends.alerts")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(each, each.handlers, each.level, each.propagate) for each in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)
        yield
        logging.captureWarnings(capture=False)
    for each, handlers, level, propagate in before:
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)


def written(style: Format, *, access: bool) -> list[str]:
    stream = io.StringIO()
    write_log(style, "warning", access=access, stream=stream)
    logging.getLogger("amends.engine").info("too fine")
    logging.getLogger("uvicorn.error").error("forged\nline \x1b[31m")
    warnings.warn("mind this", RuntimeWarning, stacklevel=1)
    log_line(back_alert("inventory", 1))
    scope: dict[str, object] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/runs",
        "query_string": b"token=x",
        "headers": [],
    }
    log_request(Request({**scope, "client": ("10.0.0.1", 1)}), "/v1/runs", 201, 0.0123, "ann")
    callback = Request({**scope, "path": "/v1/callbacks/secret", "client": None})
    log_request(callback, "/v1/callbacks/{token}", 200, 0.001, None)
    return stream.getvalue().splitlines()


def test_as_json_every_line_is_an_object_with_the_same_fields() -> None:
    lines = [json.loads(each) for each in written("json", access=True)]
    assert all({"time", "level", "logger", "process", "message"} <= set(each) for each in lines)
    loggers = [each["logger"] for each in lines]
    assert loggers == ["uvicorn.error", "py.warnings", "amends.alerts", "amends.access", "amends.access"]
    assert lines[2]["alert"]["alert"] == "participant-back"
    assert lines[3]["request"] == {
        "client": "10.0.0.1",
        "caller": "ann",
        "method": "POST",
        "path": "/v1/runs",
        "status": 201,
        "ms": 12.3,
    }
    assert lines[4]["request"]["path"] == "/v1/callbacks/{token}", "a token opens a door"


def test_as_text_a_message_is_one_line_and_requests_are_left_out() -> None:
    lines = written("text", access=False)
    assert lines[0].endswith(r" ERROR uvicorn.error: forged\nline \x1b[31m")
    assert " WARNING py.warnings: " in lines[1]
    assert json.loads(lines[-1])["alert"] == "participant-back"
    assert not any("amends.access" in each for each in lines)
