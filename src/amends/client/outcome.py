"""A run as a server shows it, made the outcome that its caller matches on."""

from typing import Any, Final

import msgspec

from amends.codecs.json import JsonCodec
from amends.core.run.record import RunState, StepState
from amends.core.run.summary import PURGED
from amends.core.saga.functions import is_local, return_type, typed_reply
from amends.core.saga.outcomes import Abandoned, Compensated, Completed, Outcome, Stuck, Unfinished
from amends.core.saga.signatures import operations_in
from amends.core.saga.steps import Step
from amends.core.words.codec import TypeForm
from amends.core.words.errors import NoSuchReply

_NULL: Final = msgspec.Raw(b"null")


class SeenStep(msgspec.Struct, frozen=True):
    """One step. `items` are named where it makes many calls."""

    name: str
    state: str
    items: list[Any] | None = None


class SeenMark(msgspec.Struct, frozen=True):
    """What only a person can move."""

    step: str | None
    phase: str | None
    reason: str
    detail: str | None = None
    code: str | None = None
    since: str = ""


class SeenEnd(msgspec.Struct, frozen=True):
    """How it ended."""

    step: str | None = None
    code: str | None = None
    reason: str | None = None
    by: str | None = None
    undone: tuple[str, ...] = ()
    replies: dict[str, msgspec.Raw] = {}


class SeenWarning(msgspec.Struct, frozen=True):
    """What is probably wrong with a start."""

    path: str
    text: str


class SeenRun(msgspec.Struct, frozen=True):
    """What of a run a client needs; a server shows more."""

    id: str
    saga: str
    version: int
    state: str
    by_hand: bool
    current: list[str]
    steps: list[SeenStep]
    stuck: list[SeenMark]
    outcome: SeenEnd | None = None
    history: str | None = None
    warnings: tuple[SeenWarning, ...] = ()

    @property
    def is_settled(self) -> bool:
        """It has ended, or only a person can move it."""
        return self.state not in {RunState.RUNNING.value, RunState.COMPENSATING.value}


SEEN: Final = msgspec.json.Decoder(SeenRun)


def outcome_of(run: SeenRun, codec: JsonCodec) -> Outcome:
    """How a run stands, as `Orchestrator` says it."""
    end = run.outcome or SeenEnd()
    match run.state:
        case RunState.COMPLETED.value:
            done = tuple(each.name for each in run.steps if each.state == StepState.DONE.value)
            return Completed(run.id, run.by_hand, done, lambda step: _reply(run, end, step, codec))
        case RunState.COMPENSATED.value:
            return Compensated(run.id, run.by_hand, end.step, end.code, end.reason or "", end.undone)
        case RunState.ABANDONED.value:
            return Abandoned(run.id, end.by or "", end.reason or "")
        case RunState.STUCK.value:
            return _stuck(run)
        case RunState.COMPENSATING.value:
            return Unfinished(run.id, "compensating", tuple(run.current))
        case _:
            return Unfinished(run.id, "running", tuple(run.current))


def _stuck(run: SeenRun) -> Stuck:
    oldest = min(run.stuck, key=lambda mark: mark.since, default=SeenMark(None, None, "stuck"))
    reason = f"{oldest.reason}: {oldest.detail}" if oldest.detail else oldest.reason
    match oldest.phase:
        case "compensation" | "probe" | "seal":
            return Stuck(run.id, oldest.step or "", oldest.phase, reason)
        case _:
            return Stuck(run.id, oldest.step or "", "action", reason)


def _reply(run: SeenRun, end: SeenEnd, step: Step[Any, Any], codec: JsonCodec) -> object:
    if run.history is not None:
        why = PURGED if run.history == "purged" else "its history can't be read"
        msg = f"{run.id} is {run.state}, and {why}: there is no reply of {step.name}."
        raise NoSuchReply(msg)
    known = next((each for each in run.steps if each.name == step.name), None)
    if known is None:
        msg = f"{run.id} is {run.saga} v{run.version}, which has no step {step.name}."
        raise NoSuchReply(msg)
    body = bytes(end.replies.get(step.name, _NULL))
    kind = _reply_type(step)
    if known.items is None:
        return None if known.state != StepState.DONE.value else codec.decoder(kind)(body)
    if body.lstrip().startswith(b"{"):
        return codec.decoder(dict.__class_getitem__((str, kind)))(body)
    return codec.decoder(list.__class_getitem__(kind))(body)


def _reply_type(step: Step[Any, Any]) -> TypeForm:
    """What one call of the step is answered with; no reply is `None`."""
    if is_local(step.function):
        return return_type(step.function)
    said = typed_reply(step.function)
    if said is not Any:
        return said
    operations = operations_in(step.function)
    return operations[0].reply_type if len(operations) == 1 else Any
