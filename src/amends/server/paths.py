"""What is served: every path and method with its endpoint. Routes, roles and the OpenAPI document are read off this."""

from collections.abc import Mapping
from typing import Final

from amends.server import (
    bulk,
    callbacks,
    events,
    health,
    metrics,
    pages,
    participants,
    probes,
    runs,
    sagas,
    stuck,
    verbs,
)
from amends.server.access import Role
from amends.server.endpoints import HTML, PLAIN_TEXT, SCRIPT, STYLE, Endpoint, Handler
from amends.views.event import EventsView, PreviewView
from amends.views.run import RunsView, RunView, WorkersView

FILTERS: Final = ("state", "saga", "version", "tag", "step", "where")


def _verb(handler: Handler, body: type, role: Role = Role.OPERATOR, *, opens: bool = False) -> Endpoint:
    """A verb on one run; `opens`: it may be answered 202, while the pivot has yet to decide."""
    return Endpoint(
        handler=handler,
        role=role,
        body=body,
        query=("dry_run",),
        answers={200: (RunView, PreviewView), **({202: (RunView,)} if opens else {})},
        problems=(404, 409, 412, 413, 415, 422, 503),
        headers=("If-Match",),
    )


def _bulk(handler: Handler) -> Endpoint:
    return Endpoint(
        handler=handler,
        role=Role.OPERATOR,
        body=bulk.BulkRequest,
        answers={200: (bulk.BulkView,)},
        problems=(409, 413, 415, 422, 503),
    )


def _page(handler: Handler, media: str) -> Endpoint:
    return Endpoint(handler=handler, role=None, answers={200: ()}, media=media)


ENDPOINTS: Final[Mapping[str, Mapping[str, Endpoint]]] = {
    "/v1/runs": {
        "POST": Endpoint(
            handler=runs.start,
            role=Role.CLIENT,
            query=("wait", "strict", "redacted"),
            body=runs.StartRequest,
            answers={201: (RunView,), 200: (RunView,)},
            problems=(404, 409, 413, 415, 422, 503),
            headers=("Idempotency-Key",),
        ),
        "GET": Endpoint(
            handler=runs.find, role=Role.VIEWER, query=(*FILTERS, "limit", "cursor"), answers={200: (RunsView,)}
        ),
    },
    "/v1/runs:retry": {"POST": _bulk(bulk.retry)},
    "/v1/runs:cancel": {"POST": _bulk(bulk.cancel)},
    "/v1/runs:compensate": {"POST": _bulk(bulk.compensate)},
    "/v1/runs/{id}": {
        "GET": Endpoint(
            handler=runs.show,
            role=Role.VIEWER,
            query=("wait", "redacted"),
            answers={200: (RunView,)},
            problems=(404, 503),
        ),
    },
    "/v1/runs/{id}/events": {
        "GET": Endpoint(
            handler=events.history,
            role=Role.VIEWER,
            query=("after", "limit"),
            answers={200: (EventsView,), 204: ()},
            problems=(404, 503),
            headers=("Last-Event-ID",),
        ),
    },
    "/v1/runs/{id}/cancel": {"POST": _verb(verbs.cancel, verbs.Signed, Role.CLIENT, opens=True)},
    "/v1/runs/{id}/compensate": {"POST": _verb(verbs.compensate, verbs.Signed, opens=True)},
    "/v1/runs/{id}/retry": {"POST": _verb(verbs.retry, verbs.Signed)},
    "/v1/runs/{id}/abandon": {"POST": _verb(verbs.abandon, verbs.Signed)},
    "/v1/runs/{id}/steps/{step}/retry": {"POST": _verb(verbs.retry_step, verbs.StepRequest)},
    "/v1/runs/{id}/steps/{step}/resolve": {"POST": _verb(verbs.resolve, verbs.ResolveRequest)},
    "/v1/runs/{id}/steps/{step}/skip": {"POST": _verb(verbs.skip, verbs.StepRequest)},
    "/v1/runs/{id}/steps/{step}/answer": {"POST": _verb(verbs.answer, verbs.AnswerRequest, Role.CLIENT)},
    "/v1/runs/{id}/steps/{step}/probe": {
        "POST": Endpoint(
            handler=probes.probe,
            role=Role.OPERATOR,
            body=probes.ProbeRequest,
            answers={200: (probes.ProbeView,)},
            problems=(404, 409, 413, 415, 422, 503),
        ),
    },
    "/v1/stuck": {
        "GET": Endpoint(handler=stuck.stuck, role=Role.VIEWER, query=FILTERS, answers={200: (stuck.CausesView,)})
    },
    "/v1/callbacks/{token}": {
        "POST": Endpoint(
            handler=callbacks.callback,
            role=None,
            answers={200: (callbacks.CallbackView,)},
            problems=(404, 409, 410, 413, 422, 503),
            headers=("Saga-Outcome",),
        ),
    },
    "/v1/sagas": {"GET": Endpoint(handler=sagas.list_sagas, role=Role.VIEWER, answers={200: (sagas.SagasView,)})},
    "/v1/sagas/{name}": {
        "GET": Endpoint(
            handler=sagas.show_saga,
            role=Role.VIEWER,
            query=("version",),
            answers={200: (sagas.SagaSchemaView,)},
            problems=(404,),
        ),
    },
    "/v1/participants": {
        "GET": Endpoint(
            handler=participants.participants, role=Role.VIEWER, answers={200: (participants.ParticipantsView,)}
        )
    },
    "/v1/workers": {"GET": Endpoint(handler=health.workers, role=Role.VIEWER, answers={200: (WorkersView,)})},
    "/healthz": {
        "GET": Endpoint(
            handler=health.healthz, role=None, answers={200: (health.HealthView,), 503: (health.HealthView,)}
        )
    },
    "/readyz": {
        "GET": Endpoint(handler=health.readyz, role=None, answers={200: (health.ReadyView,), 503: (health.ReadyView,)})
    },
    "/metrics": {
        "GET": Endpoint(handler=metrics.metrics, role=Role.VIEWER, answers={200: ()}, media=PLAIN_TEXT),
    },
    "/openapi.json": {"GET": Endpoint(handler=pages.openapi, role=None, answers={200: ()})},
    "/docs": {"GET": _page(pages.docs, HTML)},
    "/docs/docs.js": {"GET": _page(pages.script, SCRIPT)},
    "/docs/docs.css": {"GET": _page(pages.style, STYLE)},
}
"""Path, method, endpoint."""
