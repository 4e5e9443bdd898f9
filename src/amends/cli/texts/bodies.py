"""`show --bodies`: requests and replies. `show --curl`: the next request, to be sent by hand."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from amends.cli.texts.calls import where
from amends.cli.texts.facts import Fact, FactHistory
from amends.cli.texts.story import units
from amends.core.words.keys import Phase, decode_item, make_key, parse_key, unit_name
from amends.core.words.reasons import StuckReason
from amends.core.words.visible import visible_json
from amends.server.participants import ParticipantView
from amends.views.run import CallView, ItemView, RunView, StepView


def body_lines(run: RunView, history: FactHistory) -> list[str]:
    """What was asked and what was answered, call by call."""
    lines = ["input", *_indented(msgspec.json.decode(bytes(run.input)))]
    for fact in history.facts:
        for title, body in _bodies(run.id, fact):
            lines += ["", title, *_indented(body)]
    return lines


def _bodies(run: str, fact: Fact) -> Iterator[tuple[str, object]]:
    step = fact.text("step")
    if fact.data.get(StuckReason.UNREADABLE):
        return
    match fact.kind:
        case "ActionRequested":
            for request in fact.data.get("requests", ()):
                item = request.get("item", "")
                key = make_key(run, step, item, Phase.ACTION)
                name = unit_name(step, decode_item(item))
                yield f"{name} asked of {request['participant']}.{request['operation']}, key {key}", request["body"]
        case "ActionSucceeded":
            yield f"{fact.step} answered", fact.data.get("reply")
        case "CompensationRequested":
            key = make_key(run, step, fact.text("item"), Phase.COMPENSATION)
            to = f"{fact.text('participant')}.{fact.text('operation')}"
            yield f"{fact.step} undo asked of {to}, key {key}", fact.data.get("body")
        case "Answered" if not fact.data.get("declined"):
            yield f"{fact.step} answered by a person", fact.data.get("reply")
        case _:
            return


def _indented(body: object) -> list[str]:
    text = msgspec.json.format(msgspec.json.encode(body), indent=2).decode()
    return [f"  {line}" for line in visible_json(text).split("\n")]


# -- curl


def curl_lines(run: RunView, history: FactHistory, participants: Mapping[str, ParticipantView]) -> list[str]:
    """The next request of the run, as the participant would be sent it."""
    found = next((each for step in run.steps for _, owner in units(step) if (each := _next(owner)) is not None), None)
    if found is None:
        return ["nothing is to be sent."]
    call, phase = found
    key = parse_key(call.key)
    body = _body(history, key.step, key.item, phase)
    url = where(call, participants)
    if "://" not in url:
        url = f"http://{call.participant}.example/{call.operation}"
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": f'"{call.key}"',
        "Saga-Id": run.id,
        "Saga-Step": key.vertex,
        "Saga-Phase": phase.value,
        "Saga-Attempt": str(call.attempts + 1),
    }
    if call.since is not None:
        headers["Saga-Since"] = call.since.isoformat().replace("+00:00", "Z")
    lines = [f"curl -sS -X POST {shlex.quote(url)}"]
    lines += [f"  -H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    lines.append(f"  -d {shlex.quote(visible_json(msgspec.json.encode(body).decode()))}")
    notes = ["", "# The route's own headers (tokens) are left out: add them."]
    if b"***" in msgspec.json.encode(body):
        notes.append("# What is redacted is *** here: it must be as it was sent, or the barrier refuses other bytes.")
    return [*" \\\n".join(lines).split("\n"), *notes]


def _next(owner: StepView | ItemView) -> tuple[CallView, Phase] | None:
    match owner.state:
        case "compensating" if owner.undo is not None:
            return owner.undo, Phase.COMPENSATION
        case "acting" | "unknown" if owner.action is not None:
            return owner.action, Phase.ACTION
        case _:
            return None


def _body(history: FactHistory, step: str, item: str, phase: Phase) -> Any:  # noqa: ANN401 - whatever was logged
    if phase is Phase.COMPENSATION:
        asked = history.last("CompensationRequested", unit_name(step, decode_item(item)))
        return None if asked is None else asked.data.get("body")
    asked = history.first("ActionRequested", step)
    requests = () if asked is None else asked.data.get("requests", ())
    return next((each["body"] for each in requests if each.get("item", "") == item), None)
