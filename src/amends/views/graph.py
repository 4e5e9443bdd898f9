"""What views need of a saga, read off the graph that the log keeps: steps in order, and what must not be shown."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from amends.core.run.events import Request
from amends.core.run.record import BUILT_IN, LOCAL, RunRecord, StepState
from amends.core.words.keys import Phase
from amends.core.words.retry import Kind, Patience, ResolvedPolicy
from amends.views.masking import NOTHING_HIDDEN, Mask
from amends.views.redaction import SHOWS_ALL, Redaction

NO_GRAPH: Final = b'{"steps":[],"input":{}}'
"""For runs whose graph isn't kept."""


class _Types(msgspec.Struct):
    request: dict[str, Any] | None = None
    reply: dict[str, Any] | None = None


class _GraphStep(msgspec.Struct):
    name: str
    kind: Kind
    schemas: dict[str, _Types] = {}


class _GraphBody(msgspec.Struct):
    steps: list[_GraphStep]
    input: dict[str, Any]


class Graph:
    """One saga as views know it. `kinds` has the steps in their order; `policies` those of a saga that is loaded."""

    def __init__(self, graph: bytes, policies: Mapping[str, ResolvedPolicy] | None = None) -> None:
        self._policies = policies or {}
        known = msgspec.json.decode(graph, type=_GraphBody)
        self.kinds: Mapping[str, Kind] = {step.name: step.kind for step in known.steps}
        self.input = Redaction(known.input)
        self._requests: dict[tuple[str, str], Redaction] = {}
        self._replies: dict[tuple[str, str], Redaction] = {}
        for step in known.steps:
            for operation, types in step.schemas.items():
                self._requests[step.name, operation] = _redaction(types.request)
                self._replies[step.name, operation] = _redaction(types.reply)
        self.hides = any(each.hides for each in (self.input, *self._requests.values(), *self._replies.values()))
        """Whether anything of its runs must not be shown; of most sagas nothing."""

    def request(self, step: str, participant: str, operation: str) -> Redaction:
        """How the requests of a step are shown."""
        return self._requests.get((step, _label(participant, operation)), SHOWS_ALL)

    def reply(self, step: str, participant: str, operation: str) -> Redaction:
        """How the replies to a step's calls are shown."""
        return self._replies.get((step, _label(participant, operation)), SHOWS_ALL)

    def patience(self, step: str, phase: Phase) -> Patience | None:
        """How hard a call of a step is tried, where that is known here."""
        policy = self._policies.get(step)
        if policy is None:
            return None
        return policy.action if phase is Phase.ACTION else policy.compensation

    def mask(self, record: RunRecord) -> Mask:
        """Texts of a run without what its input, requests and replies hide: the one place for all that leaves it."""
        if not self.hides:
            return NOTHING_HIDDEN
        knows_all = True
        found = set(self.input.secrets(record.input)) if record.input else set[str]()
        for item in record.items():
            asked = item.request
            if asked is None:
                continue
            found |= self.request(item.step, asked.participant, asked.operation).secrets(asked.body)
            reply = self.reply(item.step, asked.participant, asked.operation)
            if item.reply is not None:
                found |= reply.secrets(item.reply)
            elif reply.hides and item.state is not StepState.REJECTED:
                knows_all = False
        return Mask(found, knows_all=knows_all)

    def input_mask(self, input: bytes) -> Mask:
        """The same of a run that doesn't exist yet: its input is all there is."""
        return Mask(self.input.secrets(input))


def label_of(request: Request) -> str:
    """`inventory.reserve`, or `local`, `ask` and `sleep`."""
    return _label(request.participant, request.operation)


def _label(participant: str, operation: str) -> str:
    if participant == LOCAL or participant in BUILT_IN:
        return participant
    return f"{participant}.{operation}"


def _redaction(schema: Mapping[str, Any] | None) -> Redaction:
    return Redaction(schema) if schema else SHOWS_ALL
