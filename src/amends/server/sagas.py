"""The sagas that are loaded here: their graphs, kinds and versions."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amends.core.run.definition import Definition
from amends.core.words.errors import NoSuchSaga
from amends.server.access import Caller
from amends.server.context import Context
from amends.server.requests import whole


class SagaStepView(msgspec.Struct, frozen=True):
    """One step of a graph: what it reads, what it only waits for, what it calls and what undoes that."""

    name: str
    kind: str
    reads: list[str]
    after: list[str]
    guard: list[str]
    operations: list[str]
    compensations: list[str]


class SagaView(msgspec.Struct, frozen=True):
    """One version of a saga. Runs keep the `digest` of the graph that they began with."""

    name: str
    version: int
    digest: str
    pivot: str | None
    participants: tuple[str, ...]
    steps: list[SagaStepView]
    runbook: str | None


class SagaSchemaView(msgspec.Struct, frozen=True):
    """One version of a saga with the types of its input and of its calls, as JSON Schema."""

    name: str
    version: int
    digest: str
    pivot: str | None
    participants: tuple[str, ...]
    versions: list[int]
    input: Mapping[str, Any]
    steps: list[SagaStepView]
    schemas: Mapping[str, Any]


class SagasView(msgspec.Struct, frozen=True):
    """Every saga that is loaded here, in every version."""

    sagas: list[SagaView]


class _StoredStep(SagaStepView, frozen=True, kw_only=True):
    schemas: dict[str, Any] = {}


class _Stored(msgspec.Struct):
    steps: list[_StoredStep]
    input: dict[str, Any]


async def list_sagas(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /v1/sagas`: the sagas that are loaded here: graph, kinds, versions, digest."""
    loaded = sorted(context.engine.definitions.values(), key=lambda each: (each.saga, -each.version))
    view = SagasView([_view(context, each) for each in loaded if caller.sees(each.saga)])
    return Response(msgspec.json.encode(view), 200, media_type="application/json")


async def show_saga(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /v1/sagas/{name}`: one of them, the highest version or `?version=`, with its types as JSON Schema."""
    name: str = request.path_params["name"]
    version = whole(request, "version", least=0, most=1 << 31)
    found = context.engine.latest(name, version) if caller.sees(name) else None
    if found is None:
        wanted = name[:80] if version is None else f"{name[:80]} v{version}"
        msg = f"no saga {wanted} is loaded here"
        raise NoSuchSaga(msg)
    view, stored = _view(context, found), _stored(found)
    shown = SagaSchemaView(
        name=view.name,
        version=view.version,
        digest=view.digest,
        pivot=view.pivot,
        participants=view.participants,
        versions=sorted(each.version for each in context.engine.definitions.values() if each.saga == name),
        input=stored.input,
        steps=view.steps,
        schemas={step.name: step.schemas for step in stored.steps},
    )
    return Response(msgspec.json.encode(shown), 200, media_type="application/json")


def _view(context: Context, definition: Definition) -> SagaView:
    steps = [
        SagaStepView(each.name, each.kind, each.reads, each.after, each.guard, each.operations, each.compensations)
        for each in _stored(definition).steps
    ]
    settings = context.sagas.get(definition.saga)
    return SagaView(
        name=definition.saga,
        version=definition.version,
        digest=definition.digest,
        pivot=definition.pivot,
        participants=definition.participants,
        steps=steps,
        runbook=None if settings is None else settings.runbook,
    )


def _stored(definition: Definition) -> _Stored:
    return msgspec.json.decode(definition.graph(), type=_Stored)
