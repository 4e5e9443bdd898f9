"""The door for WSGI servers; the calling thread does the work."""

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias, TypeVar

from amends.participant.asgi import NOT_POST, HasIncoming
from amends.participant.response import Answer

WsgiApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

A = TypeVar("A", bound=HasIncoming)


class WsgiService(Protocol[A]):
    """What this door opens on: a `Service`."""

    def admit_remote(self, headers: Mapping[str, str], operation: str) -> A | Answer:
        """Judge a call from the network, its token included, before its body is read."""
        ...

    def answer_blocking(self, admitted: A, body: bytes) -> Answer:
        """Answer it."""
        ...


def application(service: WsgiService[A]) -> WsgiApp:
    """A WSGI application of this service."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = _answer(service, environ)
        status = HTTPStatus(answer.status)
        start_response(
            f"{status.value} {status.phrase}", [*answer.headers.items(), ("content-length", str(len(answer.body)))]
        )
        return [answer.body]

    return app


def _answer(service: WsgiService[A], environ: dict[str, Any]) -> Answer:
    if environ["REQUEST_METHOD"] != "POST":
        return NOT_POST
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    admitted = service.admit_remote(headers, str(environ.get("PATH_INFO", "")).rpartition("/")[2])
    if isinstance(admitted, Answer):
        return admitted
    limit = admitted.incoming.body_bytes_max
    length = str(environ.get("CONTENT_LENGTH") or "0")
    expected = int(length) if length.isascii() and length.isdigit() else 0
    # One byte more than the limit shows that it is too long.
    return service.answer_blocking(admitted, environ["wsgi.input"].read(min(expected, limit + 1)))
