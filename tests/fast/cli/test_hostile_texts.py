"""Whatever stands in a view, no screen writes it raw: every text of every answer is a hostile one."""

import io
import json
import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest

from amends.cli.main import run
from amends.cli.output import as_json, say
from amends.cli.texts.bodies import body_lines, curl_lines
from amends.cli.texts.causes import causes_lines
from amends.cli.texts.facts import Fact, FactHistory, event_lines
from amends.cli.texts.listing import Listed, listing
from amends.cli.texts.story import Around, story
from amends.cli.top import Snapshot, top_lines
from amends.core.run.events import Event
from amends.server.participants import ParticipantView
from amends.server.stuck import CauseView
from amends.views.run import RowView, RunView

NASTY: Final = "x\x1b]0;pwned\x07\x1b[2J\x9b31m\u202egnp\u200b\r\n\tforged\x08\x7f\u0301"
STEERING: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
NOW: Final = "2026-03-02T10:00:00Z"

CALL: Final[Mapping[str, Any]] = {
    "key": "r:reserve:action",
    "participant": NASTY,
    "operation": NASTY,
    "attempts": 2,
    "in_flight": False,
    "pending": False,
    "next_at": NOW,
    "answer_due": None,
    "since": NOW,
    "cause": "timeout",
    "error": NASTY,
    "attempts_max": 8,
    "gives_up_at": NOW,
}
MARK: Final = {
    "step": f"reserve/{NASTY}",
    "phase": "action",
    "reason": NASTY,
    "code": NASTY,
    "detail": NASTY,
    "attempts": 2,
    "since": NOW,
}


def a_run(state: str, step: str) -> RunView:
    item = {"name": NASTY, "state": step, "attempts": 1, "error": NASTY, "action": CALL, "undo": CALL, "settle": None}
    steps = [
        {"name": "reserve", "kind": "compensable", "state": step, "attempts": 1, "error": NASTY, "items": [item, item]},
        {"name": "pay", "kind": "pivot", "state": step, "attempts": 1, "error": NASTY, "items": None}
        | {"action": CALL, "undo": CALL, "settle": None},
    ]
    outcome = {
        "state": state,
        "by_hand": True,
        "step": "pay",
        "code": NASTY,
        "reason": NASTY,
        "by": NASTY,
        "undone": [NASTY],
        "replies": {"reserve": NASTY},
    }
    told = {
        "id": "r",
        "saga": "s",
        "version": 1,
        "state": state,
        "by_hand": True,
        "current": ["reserve"],
        "steps": steps,
        "input": {NASTY: NASTY},
        "outcome": outcome if state in {"completed", "compensated", "abandoned"} else None,
        "stuck": [MARK] if state == "stuck" else [],
        "created_at": NOW,
        "updated_at": NOW,
        "deadline": NOW,
        "tags": {NASTY: NASTY},
        "ended_at": NOW if state in {"completed", "compensated", "abandoned"} else None,
        "turned": {"step": "pay", "code": NASTY, "reason": NASTY, "at": NOW},
        "abort_requested": NASTY,
        "effects": [NASTY],
        "owner": {"worker": NASTY, "epoch": 1},
    }
    return msgspec.json.decode(msgspec.json.encode(told), type=RunView)


FIELDS: Final = {
    "step": "reserve",
    "item": "x%1B",
    "participant": NASTY,
    "operation": NASTY,
    "input": NASTY,
    "reply": {NASTY: NASTY},
    "body": {NASTY: NASTY},
    "code": NASTY,
    "detail": NASTY,
    "reason": NASTY,
    "error": NASTY,
    "where": NASTY,
    "by": NASTY,
    "who": {"by": NASTY, "claimed_by": NASTY, "reason": NASTY},
    "saga": NASTY,
    "digest": NASTY,
    "effects": [NASTY],
    "cause": "timeout",
    "state": "stuck",
    "outcome": NASTY,
    "phase": "action",
    "attempt": 1,
    "requests": [
        {"item": "x%1B", "participant": NASTY, "operation": NASTY, "guard": "barrier", "body": NASTY, "undo": NASTY}
    ],
}
KINDS: Final = [*(each.__name__ for each in get_args(Event)), "SomethingNew"]


def a_history() -> FactHistory:
    at = datetime(2026, 3, 2, 10, tzinfo=UTC)
    facts = [{"version": i, "at": at, "epoch": 1, "kind": kind, "data": FIELDS} for i, kind in enumerate(KINDS, 1)]
    return FactHistory(msgspec.convert(facts, list[Fact], strict=False))


DOWN: Final = msgspec.convert(
    {
        "name": NASTY,
        "where": NASTY,
        "runs": 1,
        "in_flight": 0,
        "waiting": 1,
        "at_once": 1,
        "down_since": NOW,
        "detail": NASTY,
        "probe_seconds": 5.0,
    },
    ParticipantView,
    strict=False,
)
CAUSE: Final = msgspec.convert(
    {
        "saga": NASTY,
        "step": NASTY,
        "phase": "action",
        "reason": NASTY,
        "code": NASTY,
        "detail": NASTY,
        "count": 2,
        "oldest": NOW,
        "first": NASTY,
    },
    CauseView,
    strict=False,
)
ROW: Final = msgspec.convert(
    {
        "id": NASTY,
        "saga": NASTY,
        "version": 1,
        "digest": "d",
        "state": "stuck",
        "by_hand": False,
        "current": [NASTY],
        "stuck": [MARK],
        "created_at": NOW,
        "updated_at": NOW,
        "deadline": None,
        "tags": {NASTY: NASTY},
        "past_pivot": False,
        "due_at": NOW,
        "ended_at": None,
        "owner": None,
    },
    RowView,
    strict=False,
)


def said(lines: list[str], *, table: bool = False) -> str:
    with redirect_stdout(io.StringIO()) as out:
        say(lines, table=table)
    return out.getvalue()


STATES: Final = ["running", "compensating", "stuck", "completed", "compensated", "abandoned"]
STEPS: Final = ["waiting", "acting", "unknown", "done", "rejected", "compensating", "compensated", "skipped"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("step", STEPS)
def test_no_screen_of_a_run_writes_a_hostile_text_raw(state: str, step: str) -> None:
    view, history = a_run(state, step), a_history()
    around = Around(datetime.now(UTC), {NASTY: DOWN}, 3, NASTY)
    screens = {
        "show": story(view, history, around),
        "bodies": body_lines(view, history),
        "curl": curl_lines(view, history, {NASTY: DOWN}),
        "ls": listing([Listed(msgspec.structs.replace(ROW, state=state, stuck=[]), view), Listed(ROW, None)], around),
        "top": top_lines(Snapshot(NASTY, around, {}, [CAUSE], [Listed(ROW, view)])),
    }
    for name, lines in screens.items():
        told = said(list(lines))
        assert not STEERING.search(told), f"{name}: {told!r}"
        assert told.count("\n") == len(lines), f"{name}: a text forged a line"
    assert "\\x1b" in said(screens["show"]), "the hostile texts are there"


def test_neither_the_history_nor_the_causes_write_a_hostile_text_raw() -> None:
    now = datetime.now(UTC)
    for lines in (event_lines("r", a_history().facts, now), causes_lines([CAUSE], [DOWN], now)):
        told = said(list(lines), table=True)
        assert not STEERING.search(told), repr(told)
        assert told.count("\n") == len(lines)
        assert "\\x1b" in told


def test_json_holds_the_same_value_and_nothing_that_steers() -> None:
    with redirect_stdout(io.StringIO()) as out:
        as_json({"a": NASTY})
    assert not STEERING.search(out.getvalue())
    assert json.loads(out.getvalue()) == {"a": NASTY}


def test_messages_on_the_standard_error_are_visible(capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--json"]):
        assert run(["show", "r", "--server", "ftp://h\x9b\u202e", *more]) == 2
        told = capsys.readouterr().err
        assert told
        assert not STEERING.search(told)


def test_commands_write_through_the_one_place() -> None:
    """`print` of a text that comes from outside would pass by it; what is printed elsewhere are constants of ours."""
    own = {"main.py", "app.py", "new.py", "token.py", "output.py", "simulate.py", "explore.py", "rekey.py"}
    writes = re.compile(r"\b(print|typer\.echo|sys\.std(out|err)\.write)\(")
    found = {
        each.name for each in Path(run.__code__.co_filename).parent.rglob("*.py") if writes.search(each.read_text())
    }
    assert found <= own | {"top.py"}  # which enters and leaves the screen
