"""The tables of docs/reference that are read off the code: `uv run python -m tests.docs.tables` writes them anew.

A page holds each between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; a test fails when one is stale.
"""

import ast
import dataclasses
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import msgspec
from typer.models import ArgumentInfo, OptionInfo

from amends.cli.app import COMMANDS
from amends.config import settings
from amends.config.showing import text_of as text_of_value
from amends.core.run import events
from amends.core.run.answers import (
    CONTRACT,
    CallResponse,
    Halt,
    Outcome,
    Pending,
    SaidNo,
    Succeeded,
    Unknown,
    read_answer,
)
from amends.core.saga import outcomes
from amends.core.words.codec import TypeForm
from amends.core.words.keys import Phase
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import MICROSECONDS, Guard, Kind, Patience, Policy, resolve
from amends.demo.command import demo_command
from amends.server.paths import ENDPOINTS
from amends.testing import invariants
from amends.testing.contracts.transport import CALL
from amends.testing.simulation.weather import WHAT, WeatherFault
from amends.wire.call import call_headers
from tests.docs.collect import PROJECT, pages

SECTION = re.compile(r"<!-- begin: (?P<name>[\w-]+) -->\n(?P<body>.*?)<!-- end: (?P=name) -->", re.DOTALL)
COMMAND = "uv run python -m tests.docs.tables"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[each.replace("|", r"\|").replace("\n", " ") for each in row] for row in rows]
    lines = [head, ["---"] * len(head), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def told(what: object) -> str:
    """The first paragraph of a docstring."""
    text = inspect.cleandoc(getattr(what, "__doc__", "") or "").partition("\n\n")[0]
    return " ".join(text.split())


# -- what the log holds


def event_table() -> str:
    rows = [
        (f"`{kind.__name__}`", ", ".join(f"`{name}`" for name in fields_of(kind, without=("at", "epoch"))), told(kind))
        for kind in events.EVENT_TYPES
    ]
    return table(("event", "holds", "means"), rows)


def fields_of(kind: type[Any], without: Sequence[str] = ()) -> list[str]:
    return [each.name for each in dataclasses.fields(kind) if each.name not in without]


def schema() -> str:
    text = (PROJECT / "src/amends/logs/sqlite/schema.sql").read_text("utf-8")
    return f"<!-- check: excerpt of src/amends/logs/sqlite/schema.sql -->\n```sql\n{text.rstrip()}\n```\n"


# -- how runs end, how answers are read


def outcome_table() -> str:
    rows = [
        (f"`{kind.__name__}`", ", ".join(f"`{each}`" for each in fields_of(kind, without=("read",))), told(kind))
        for kind in get_args(outcomes.Outcome)
    ]
    return table(("outcome", "holds", "means"), rows)


def answered(status: int, word: str = "", problem: str = "", body: bytes = b'"yes"') -> CallResponse:
    headers = {"saga-outcome": word} if word else {}
    said = json.dumps({"type": f"urn:amends:{problem}", "detail": "..."}).encode() if problem else body
    return CallResponse(status, headers, said)


SAMPLES: Mapping[str, tuple[str, CallResponse]] = {
    "no status": ("a status outside 100 to 599", answered(0)),
    "interim": ("100, 102, 103 and nothing after it", answered(103)),
    "redirect": ("101, any other 1xx, any 3xx", answered(302, "succeeded")),
    "server error": ("5xx, with `Saga-Outcome` or without", answered(503, "succeeded")),
    "in-progress": ("problem `in-progress`", answered(409, problem="in-progress")),
    "key-reused": ("problem `key-reused`", answered(422, problem="key-reused")),
    "barrier-expired": ("problem `barrier-expired`", answered(409, problem="barrier-expired")),
    "stale-epoch": ("412, or problem `stale-epoch`", answered(412)),
    "succeeded": ("`Saga-Outcome: succeeded`", answered(200, "succeeded")),
    "own code": (
        "problem `request-invalid` or `reply-invalid` of a service in this process",
        replace(answered(422, problem="reply-invalid"), own=True),
    ),
    "rejected": ("`Saga-Outcome: rejected`", answered(409, "rejected")),
    "pending": ("`Saga-Outcome: pending`", answered(202, "pending")),
    "noop": ("`Saga-Outcome: noop`", answered(200, "noop")),
    "blocked": ("`Saga-Outcome: blocked`", answered(410, "blocked")),
    "cannot-compensate": ("`Saga-Outcome: cannot-compensate`", answered(409, "cannot-compensate")),
    "other word": ("any other word, or the header twice", answered(200, "done")),
    "busy": ("408, 425, 429 without the header", answered(429)),
    "not from the barrier": ("anything else without the header, 2xx included", answered(200)),
}
"""An answer for each row of the contract's table."""


def answer_table() -> str:
    assert [row.name for row in CONTRACT] == list(SAMPLES), "a row of the contract's table has no sample here"
    rows = [(what, *(shown(read(came, phase)) for phase in Phase)) for what, came in SAMPLES.values()]
    return table(("what came back", *(phase.value for phase in Phase)), rows)


def read(came: CallResponse, phase: Phase) -> Outcome:
    return read_answer(came, phase=phase, retriable=False, decode=lambda body: body, now=0)


def shown(outcome: Outcome) -> str:
    match outcome:
        case Succeeded():
            return "yes"
        case SaidNo(word=word):
            return "no" if word == "rejected" else f"no (`{word}`)"
        case Pending():
            return "later"
        case Unknown(cause=cause, counted=counted):
            return f"unknown (`{cause.value}`), again{'' if counted else ', no attempt used'}"
        case Halt(reason=reason):
            return f"stuck (`{reason}`)"


def header_table() -> str:
    headers = call_headers(CALL)
    return table(("header", "for example"), [(f"`{name}`", f"`{text}`") for name, text in headers.items()])


# -- limits and policies

LIMITS = (
    "core.words.limits",
    "core.saga.operation",
    "core.run.replies",
    "engine.deploys",
    "engine.engine",
    "engine.worker",
    "engine.group_commit",
    "engine.claims",
    "orchestrator",
    "adapters",
    "logs.sqlite.opening",
    "participant.service",
    "ports.inbox",
    "server.connections",
    "server.context",
    "server.protocol",
    "server.requests",
    "server.rate_limit",
    "server.bulk",
    "server.events",
    "server.endpoints",
    "views.run_filter",
    "server.process",
)
MACHINE = "THREADS_DEFAULT"
"""Depends on the machine that reads it."""
SIZE = ("_MAX", "_DEFAULT", "_SECONDS", "_KEPT", "_AT_ONCE", "_PAGES", "_KIBIBYTES", "_AFTER", "_BATCH")


def limit_table() -> str:
    rows = [row for name in LIMITS for row in constants(f"amends.{name}")]
    return table(("name", "value", "for"), rows)


def constants(module: str) -> Iterator[tuple[str, str, str]]:
    """A module's limits with the text below each, which Python itself forgets."""
    loaded = import_module(module)
    source = ast.parse(Path(str(loaded.__file__)).read_text("utf-8")).body
    for statement, following in zip(source, [*source[1:], None], strict=True):
        name = assigned(statement)
        value: object = getattr(loaded, name, None)
        if (
            not name.endswith(SIZE)
            or name == MACHINE
            or name.startswith("_")
            or not isinstance(value, int | float | timedelta)
        ):
            continue
        yield f"`{module}.{name}`".replace("`amends.", "`"), amount(name, value), text_of(following)


def assigned(statement: ast.stmt) -> str:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
        case _:
            return ""


def text_of(statement: ast.stmt | None) -> str:
    match statement:
        case ast.Expr(value=ast.Constant(value=str() as text)):
            return " ".join(text.split())
        case _:
            return ""


def amount(name: str, value: float | timedelta) -> str:
    if isinstance(value, timedelta):
        return span(value // timedelta(microseconds=1))
    if name.endswith("_DUE_DEFAULT") or name.startswith(("EVICT_AFTER", "HELD_MAX")):
        return span(int(value))
    if name.endswith("KIBIBYTES") and isinstance(value, int):
        return f"{value // 1024} MiB"
    if "BYTES" in name and isinstance(value, int) and value % 1024 == 0:
        return f"{value // 1024:,} KiB" if value < 1 << 20 or value % (1 << 20) else f"{value >> 20} MiB"
    if "SECONDS" in name:
        return span(round(value * MICROSECONDS))
    return f"{value:,}"


def span(micros: int) -> str:
    """A duration in the largest unit that it is a whole number of."""
    for unit, size in (("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if micros % (size * MICROSECONDS) == 0:
            number = micros // (size * MICROSECONDS)
            return f"{number} {unit}{'s' if unit == 'day' and number != 1 else ''}"
    return f"{micros / MICROSECONDS:g} s"


def policy_table() -> str:
    rows: list[tuple[str, ...]] = []
    for kind in Kind:
        policy = resolve(None, kind)
        undo = patience(policy.compensation) if kind is Kind.COMPENSABLE else "never undone"
        rows.append((kind.value, span(policy.timeout), patience(policy.action), undo))
    return table(("kind", "time-out of one attempt", "action", "compensation"), rows)


def patience(given: Patience) -> str:
    attempts = "any number of attempts" if given.attempts_max is None else f"{given.attempts_max} attempts"
    return f"{attempts} within {span(given.give_up_after)}, waits from {span(given.first)} up to {span(given.cap)}"


def unknown_table() -> str:
    policy = resolve(Policy(), Kind.COMPENSABLE)
    rows = [
        (guard.value, policy.on_unknown_of(guard, can_settle=True), policy.on_unknown_of(guard, can_settle=False))
        for guard in Guard
    ]
    return table(("guard", "where it can be asked", "where it can't"), [(a, f"`{b}`", f"`{c}`") for a, b, c in rows])


# -- commands and paths


def command_table() -> str:
    commands = {"demo": demo_command, **{command.__name__: command for _, command in COMMANDS}}
    return "\n".join(command_text(name, command) for name, command in commands.items())


def command_text(name: str, command: Callable[..., Any]) -> str:
    usage: list[str] = []
    rows: list[tuple[str, str, str]] = []
    for each in inspect.signature(command, eval_str=True).parameters.values():
        takes, *said = get_args(each.annotation) or (each.annotation,)
        info = next((found for found in said if isinstance(found, OptionInfo | ArgumentInfo)), OptionInfo(default=...))
        if isinstance(info, ArgumentInfo):
            usage.append(info.metavar or each.name.upper())
        else:
            rows.append((f"`{option(each.name, takes, info)}`", default(each.default), info.help or ""))
    head = f"### amends {' '.join([name, *usage])}\n\n{told(command)}\n"
    return f"{head}\n{table(('option', 'default', 'for'), rows)}" if rows else head


def option(name: str, takes: object, info: OptionInfo) -> str:
    # Written in an annotation, the option's name stands where a default would.
    told_name = info.default if isinstance(info.default, str) else ""
    names = told_name if told_name.startswith("--") else f"--{name.replace('_', '-')}"
    return names if takes is bool else f"{names} {info.metavar or kind_of(takes)}"


def kind_of(takes: TypeForm) -> str:
    members: Mapping[str, Enum] | None = getattr(takes, "__members__", None)
    if members is not None:
        return "|".join(str(each.value) for each in members.values())
    named = next((each for each in get_args(takes) if each is not type(None)), takes)
    return str(named.__name__).upper()


def default(value: object) -> str:
    if value is None or value is False or value is inspect.Parameter.empty:
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"


def path_table() -> str:
    rows = [
        (f"`{method} {path}`", "" if endpoint.role is None else endpoint.role.value, said(endpoint.handler))
        for path, endpoints in ENDPOINTS.items()
        for method, endpoint in endpoints.items()
    ]
    return table(("request", "role", "answer"), rows)


def said(handler: Callable[..., Any]) -> str:
    return told(handler).partition(": ")[2].partition("\n\n")[0]


# -- settings

SECTIONS = {
    "Settings": "At the top",
    "ServerSettings": "[server]",
    "ServerTlsSettings": "[server] tls",
    "TokenSettings": "[[tokens]]",
    "ParticipantSettings": "[participants.NAME]",
    "AuthSettings": "[participants.NAME] auth",
    "ClientTlsSettings": "[participants.NAME] tls",
    "CircuitSettings": "[participants.NAME] circuit",
    "RetrySettings": "[participants.NAME] retry",
    "SagaSettings": "[sagas.NAME]",
    "EngineSettings": "[engine]",
    "PrivacySettings": "[privacy]",
    "WebhookSettings": "[[webhooks]]",
}
"""Which class is which section, in the order of the page."""


def setting_tables() -> str:
    source = ast.parse(Path(str(settings.__file__)).read_text("utf-8")).body
    classes = {each.name: each for each in source if isinstance(each, ast.ClassDef) and each.name != "Section"}
    assert set(classes) == set(SECTIONS), "a section of the settings has no place on the page"
    return "\n".join(f"### {title}\n\n{section_table(classes[name])}" for name, title in SECTIONS.items())


def section_table(section: ast.ClassDef) -> str:
    fields = {each.name: each for each in msgspec.structs.fields(getattr(settings, section.name))}
    rows: list[tuple[str, ...]] = []
    for statement, following in zip(section.body, [*section.body[1:], None], strict=True):
        field = fields.get(assigned(statement))
        about = text_of(following)
        if field is not None and about:
            rows.append((f"`{field.encode_name}`", default_of(field), about))
    return table(("setting", "default", "for"), rows)


def default_of(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "needed"
    given: object = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return f"`{text_of_value(given)}`" if isinstance(given, int | float | str) else ""


def fault_table() -> str:
    return table(("fault", "what happens"), [(f"`{kind.value}`", WHAT[kind]) for kind in WeatherFault])


# -- what is checked of every run


def promise_table() -> str:
    return table(("promise", "says"), list(invariants.WORDING.items()))


def invariant_table() -> str:
    asked = {**invariants.PROMISES, invariants.ENDS_OR_IS_STUCK: invariants.p1_ends_or_is_stuck}
    rows = [(f"`{name}`", told(promise), promised(name), f"`{promise.__name__}`") for name, promise in asked.items()]
    return table(("name", "what must hold", "promise", "function"), sorted(rows, key=lambda row: (row[2], row[0])))


def moment_table() -> str:
    rows = [(f"`{name}`", says, promised(name)) for name, says in invariants.ON_THE_WAY.items()]
    return table(("name", "what must hold", "promise"), rows)


def promised(name: str) -> str:
    """The promise that a check belongs to, by its name."""
    first = name.partition(" ")[0]
    return first if first in invariants.WORDING else "beside them"


def room_picture() -> str:
    """The layers of the import contracts, the top one first; inside the core, those of its rooms."""
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    floors = layers(next(each for each in contracts if each["name"].startswith("Floors")))
    rooms = layers(next(each for each in contracts if each["name"].startswith("The core's rooms")))
    lines = ["```mermaid", "flowchart TB"]
    for number, floor in enumerate([*floors[:-1], *rooms]):
        name = "core/" if number >= len(floors) - 1 else ""
        lines.append(f'    f{number}["{" · ".join(f"{name}{each}" for each in floor)}"]')
    count = len(floors) - 1 + len(rooms)
    lines += [f"    f{number} --> f{number + 1}" for number in range(count - 1)]
    return "\n".join([*lines, "```\n"])


def layers(contract: Mapping[str, Any]) -> list[list[str]]:
    """Names of rooms by floor, without those that a contract only keeps a place for."""
    inside = PROJECT / "src" / "amends" / ("core" if "containers" in contract else "")
    found: list[list[str]] = []
    for layer in contract["layers"]:
        names = [each.removeprefix("amends.") for each in re.findall(r"\(([\w.]+)\)", layer)]
        found.append([each for each in names if (inside / each).is_dir() or (inside / f"{each}.py").is_file()])
    return found


def reason_table() -> str:
    return table(
        ("reason", "what happened", "what to do"),
        [(f"`{reason}`", reason.meaning, reason.remedy) for reason in StuckReason],
    )


TABLES: Mapping[str, Callable[[], str]] = {
    "simulated-faults": fault_table,
    "events": event_table,
    "schema": schema,
    "outcomes": outcome_table,
    "answers": answer_table,
    "headers": header_table,
    "limits": limit_table,
    "policies": policy_table,
    "unknown": unknown_table,
    "commands": command_table,
    "paths": path_table,
    "settings": setting_tables,
    "promises": promise_table,
    "invariants": invariant_table,
    "on-the-way": moment_table,
    "stuck-reasons": reason_table,
    "rooms": room_picture,
}


def renewed(text: str) -> str:
    """The page with its tables as the code has them now."""
    return SECTION.sub(
        lambda found: f"<!-- begin: {found['name']} -->\n\n{TABLES[found['name']]()}\n<!-- end: {found['name']} -->",
        text,
    )


def main() -> int:
    for page in pages():
        old = page.read_text("utf-8")
        new = renewed(old)
        if new != old:
            page.write_text(new, "utf-8")
            sys.stdout.write(f"written: {page.relative_to(PROJECT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
