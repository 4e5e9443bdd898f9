"""The API as an OpenAPI 3.1 document, made of the table of endpoints and the types that they read and write.

Nothing is written down twice: what an endpoint does is its handler's docstring, what goes over the wire is its types'
JSON Schema, which 3.1 takes as it is.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec

from amends.server.access import Role
from amends.server.endpoints import EVENT_STREAM, HEADERS, JSON, PARAMETERS, Endpoint
from amends.server.problems import MEDIA_TYPE

REFERENCE: Final = "#/components/schemas/{name}"

TITLES: Final[Mapping[int, str]] = {
    200: "Done, or as it stands.",
    201: "A new run; it is durable.",
    202: "Asked; the pivot decides.",
    204: "Nothing more will come.",
    400: "Not a request of this API.",
    401: "No token, or not one of this server's.",
    403: "Not with this token's role.",
    404: "There is no such thing.",
    409: "It can't be done as the run stands.",
    410: "It comes too late.",
    412: "It has changed since the version in If-Match.",
    413: "Larger than the limit.",
    415: "The body isn't JSON.",
    422: "What is asked can't be meant; `where` says what.",
    429: "Too many requests; Retry-After says when to come again.",
    503: "Not now; Retry-After says when. Nothing was acknowledged.",
}
"""What a status means here."""

ABOUT: Final = (
    "A saga is a transaction over several services. A run is one execution of a saga: its steps call participants, and "
    "when a step is rejected, the steps before it are compensated. Errors are problems of RFC 9457, "
    "`application/problem+json`; `remedy` says what to do."
)

TAGS: Final[Mapping[str, str]] = {
    "callbacks": "Participants that answered 202 send their results here.",
    "participants": "The services that steps call, and whether they answer.",
    "runs": "Start runs, and read how they stand.",
    "sagas": "The sagas that this server has loaded.",
    "server": "Health checks, metrics and descriptions of this process.",
    "stuck": "Runs that need a person, by cause.",
    "verbs": "Commands of a client or an operator to runs and their steps.",
    "workers": "The processes that drive runs.",
}
"""The groups of operations."""

_PATH_PARAMETERS: Final[Mapping[str, str]] = {
    "id": "The run's id.",
    "step": "The step's name; one call of a step that makes many is named by `item` in the body.",
    "token": "The token of the callback URL that came with the call.",
    "name": "The saga's name.",
}
_IN_PATH: Final = re.compile(r"{(\w+)}")


class ProblemView(msgspec.Struct, frozen=True, rename={"kind": "type"}):
    """RFC 9457. `type` is `urn:amends:<name>`, `where` a path into the request, `remedy` what to do."""

    kind: str
    title: str
    status: int
    detail: str
    where: str | None = None
    remedy: str | None = None


def document(endpoints: Mapping[str, Mapping[str, Endpoint]]) -> bytes:
    """The document as JSON."""
    types = list(dict.fromkeys(_types(each for methods in endpoints.values() for each in methods.values())))
    references, schemas = msgspec.json.schema_components([*types, ProblemView], ref_template=REFERENCE)
    known = dict(zip([*types, ProblemView], references, strict=True))
    paths = {
        path: {method.lower(): _operation(path, method, each, known) for method, each in methods.items()}
        for path, methods in endpoints.items()
    }
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "amends",
                "version": version("amends"),
                "summary": "Start sagas, see how they stand, repair what is stuck.",
                "description": ABOUT,
                "contact": {"name": "The operator of this server"},
                "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/", "description": "The server that this document comes from."}],
            "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "token": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "Not needed where the server has no tokens and listens on loopback only.",
                    }
                },
            },
        }
    )


def _types(endpoints: Iterable[Endpoint]) -> Iterable[type]:
    for each in endpoints:
        if each.body is not None:
            yield each.body
        for types in each.answers.values():
            yield from types


def _operation(path: str, method: str, endpoint: Endpoint, known: Mapping[Any, Any]) -> dict[str, Any]:
    told = inspect.getdoc(endpoint.handler) or ""
    summary = " ".join(told.partition(": ")[2].partition("\n\n")[0].split())
    more = " ".join(told.partition("\n\n")[2].split())
    problems = {400, *endpoint.problems, *((401, 403, 429) if endpoint.role is not None else ())}
    made: dict[str, Any] = {
        "operationId": _operation_id(path, method),
        "summary": summary[:1].upper() + summary[1:],
        "description": f"{more} {_role(endpoint.role)}".strip(),
        "parameters": [*_in_path(path), *_in_query(endpoint), *_in_headers(endpoint)],
        "responses": {
            **{str(status): _problem(status, known) for status in sorted(problems - set(endpoint.answers))},
            **{str(status): _answer(status, types, endpoint, known) for status, types in endpoint.answers.items()},
        },
        "security": [{"token": []}, {}] if endpoint.role is not None else [{}],
        "tags": [_tag(path)],
    }
    if endpoint.body is not None:
        made["requestBody"] = {"required": True, "content": {JSON: {"schema": known[endpoint.body]}}}
    elif method == "POST":
        made["requestBody"] = {"required": False, "content": {JSON: {"schema": {}}}}
    return made


def _operation_id(path: str, method: str) -> str:
    words = [word for word in re.split(r"[^A-Za-z0-9]+", path.removeprefix("/v1")) if word]
    return "_".join([method.lower(), *words])


def _role(role: Role | None) -> str:
    return "Needs no API token." if role is None else f"Needs role `{role.value}`."


def _tag(path: str) -> str:
    parts = path.removeprefix("/v1/").strip("/").replace(":", "/").split("/")
    if len(parts) > 1 and parts[0] == "runs" and parts[-1] not in {"{id}", "events"}:
        return "verbs"
    return parts[0] if path.startswith("/v1/") else "server"


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string"},
        }
        for name in _IN_PATH.findall(path)
    ]


def _in_query(endpoint: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in endpoint.query:
        known = PARAMETERS[name]
        schema = {"type": "array", "items": known.schema} if known.many else known.schema
        found.append({"name": name, "in": "query", "required": False, "description": known.about, "schema": schema})
    return found


def _in_headers(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "header",
            "required": name == "Saga-Outcome",
            "description": HEADERS[name],
            "schema": {"type": "string"},
        }
        for name in endpoint.headers
    ]


def _answer(status: int, types: tuple[type, ...], endpoint: Endpoint, known: Mapping[Any, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"description": TITLES[status]}
    schemas = [known[each] for each in types]
    if schemas:
        made["content"] = {JSON: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}
        if "Last-Event-ID" in endpoint.headers:
            made["content"][EVENT_STREAM] = {"schema": {"type": "string"}}
    elif status == 200:
        made["content"] = {endpoint.media: {"schema": {} if endpoint.media == JSON else {"type": "string"}}}
    return made


def _problem(status: int, known: Mapping[Any, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"description": TITLES[status], "content": {MEDIA_TYPE: {"schema": known[ProblemView]}}}
    if status in {429, 503}:
        made["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return made
