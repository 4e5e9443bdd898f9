"""The log of a server process: one format for its own lines, the HTTP server's, and Python's warnings."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

from starlette.requests import Request
from typing_extensions import override

from amends.core.words.visible import visible, visible_json
from amends.observers.alerts import ALERT_FIELD, propagate_lines, write_lines

Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]

REQUEST_FIELD: Final = "request_fields"
PATH_CHARACTERS_MAX: Final = 300

_ACCESS = logging.getLogger("amends.access")


def write_log(
    style: Format, level: Level, *, access: bool = False, names_process: bool = False, stream: TextIO | None = None
) -> None:
    """Write this process's log to the standard error (or `stream`) from now on.

    `level` is that of amends and of the HTTP server; libraries are heard from WARNING on, since their finer lines may
    quote what must not be logged. Alerts and, if `access`, requests are written whatever the level is. `names_process`:
    each line of text has the process's id, as there are several.
    """
    to = stream or sys.stderr
    handler = logging.StreamHandler(to)
    who = " [%(process)d]" if names_process else ""
    text = VisibleText(f"%(asctime)s{who} %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if style == "json" else text)
    root = logging.getLogger()
    root.handlers = [handler]
    number = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(number, logging.WARNING))
    for name in ("amends", "uvicorn"):
        logging.getLogger(name).setLevel(number)
    _ACCESS.setLevel(logging.INFO if access else logging.CRITICAL)
    logging.captureWarnings(capture=True)
    if style == "json":
        propagate_lines()
    else:
        write_lines(to)


class VisibleText(logging.Formatter):
    """Lines for people. Messages quote callers and services, so they are made visible."""

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        return visible(super().formatMessage(record))  # one line: a message can't forge the next one

    @override
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), lines=True)  # with the lines of a traceback


class JsonLines(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `process`, `message`, and `exception` where there is one.

    An alert has its fields as `alert`, a request as `request`.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        for attribute, name in ((ALERT_FIELD, "alert"), (REQUEST_FIELD, "request")):
            told: object = getattr(record, attribute, None)
            if told is not None:
                line[name] = told
        return visible_json(json.dumps(line, ensure_ascii=False, default=str))


def log_request(request: Request, template: str, status: int, seconds: float, caller: str | None) -> None:
    """One line of the access log. Without the query, and without a callback's token, which opens a door."""
    if not _ACCESS.isEnabledFor(logging.INFO):
        return
    path = template if "{token}" in template else request.url.path[:PATH_CHARACTERS_MAX]
    client = request.client.host if request.client is not None else "-"
    fields = {
        "client": client,
        "caller": caller,
        "method": request.method,
        "path": path,
        "status": status,
        "ms": round(seconds * 1_000, 1),
    }
    _ACCESS.info(
        "%s %s %s %s %d %.1f ms",
        client,
        caller or "-",
        request.method,
        path,
        status,
        seconds * 1_000,
        extra={REQUEST_FIELD: fields},
    )
