"""Callers that a service accepts over the network, and where its callbacks may go.

A service that is reachable acts on any call that looks right: it reserves, charges and refunds. A bearer token says
that the call is the orchestrator's. `Saga-Callback` names a URL to which the service later posts; it is handed to the
handler only if its origin is one of those that the service was given, so that no caller can make the service post into
its own network.

Both hold for the doors to the network (`asgi()`, `wsgi()`). A call within the process (`handle`) is trusted.
"""

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from amends.core.words.errors import DefinitionInvalid
from amends.core.words.urls import BadUrl, http_url, shown_url
from amends.participant.response import Answer, problem

Tokens: TypeAlias = Collection[str] | Callable[[], Collection[str]]
"""Bearer tokens that are accepted, or a function that gives them; either is read at each call."""

TOKEN_CHARACTERS_MIN: Final = 16
TOKEN_CHARACTERS_MAX: Final = 4_096


log = logging.getLogger("amends.participant")


class TokenFile:
    """Bearer tokens from a file, one a line; lines that are empty or begin with `#` don't count.

    The file is read again when it has changed, so tokens are added and taken away without a restart. To rotate: add the
    new token, change the orchestrator, take the old token away. A file that can't be read refuses every call.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._tokens: tuple[str, ...] = ()

    def __call__(self) -> tuple[str, ...]:
        """The tokens as the file has them now; `OSError` if it can't be read."""
        found = self._path.stat()
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            lines = (line.strip() for line in self._path.read_text(encoding="utf-8").splitlines())
            self._tokens = tuple(line for line in lines if line and not line.startswith("#"))
            self._seen = seen
        return self._tokens


class ServiceAccess:
    """What a service checks of a call from the network before it reads anything else of it."""

    def __init__(self, service: str, tokens: Tokens | None, callback_origins: Iterable[str]) -> None:
        self._service = service
        self._tokens = tokens
        mistakes = _mistakes(service, tokens)
        if isinstance(callback_origins, str):
            msg = f"{service}: callback_origins is the text {callback_origins!r}: give a list of origins."
            mistakes.append(msg)
            callback_origins = ()
        self._origins: set[tuple[str, str, int]] = set()
        for each in callback_origins:
            origin = _origin(each)
            if origin is None or urlsplit(each).path not in {"", "/"}:
                mistakes.append(
                    f"{service}: {shown_url(each)!r} is no origin: expected https://host or https://host:port."
                )
            else:
                self._origins.add(origin)
        if mistakes:
            raise DefinitionInvalid(mistakes)
        self._warned = False

    def refusal(self, headers: Mapping[str, str]) -> Answer | None:
        """The answer to a call without a token that is accepted; `None` if the call may go on.

        It has no outcome: an orchestrator whose token is wrong tries again, then lists the run as stuck. No run is
        compensated for it. `headers` have names in lower case.
        """
        if self._tokens is None:
            return None
        try:
            accepted = self._tokens() if callable(self._tokens) else self._tokens
            good = _is_one_of(_bearer(headers.get("authorization", "")), accepted)
        except Exception:  # whatever fails here, the call must not be let through
            log.exception("%s: its tokens can't be read; every call is refused until they can", self._service)
            return problem(503, "tokens-unavailable", f"{self._service} can't check tokens now.", retry_after_seconds=5)
        if good:
            return None
        answer = problem(401, "unauthorized", f"{self._service} takes calls only with a bearer token that it knows.")
        return Answer(answer.status, {**answer.headers, "www-authenticate": "Bearer"}, answer.body)

    def callback(self, url: str | None) -> str | None:
        """The URL if a service may post to it, else `None`. The first URL that is dropped is logged."""
        if url is None or _origin(url) in self._origins:
            return url
        if not self._warned:
            self._warned = True
            log.warning(
                "%s: a call's Saga-Callback goes to another origin than callback_origins lists; it is dropped. "
                "Pending answers are then found by asking again. First dropped: %.200r",
                self._service,
                url,
            )
        return None


def _mistakes(service: str, tokens: Tokens | None) -> list[str]:
    if tokens is None or callable(tokens):
        return []
    if isinstance(tokens, str | bytes):
        return [f"{service}: tokens is one text: give a list of tokens, or a function that returns one."]
    return [
        f"{service}: token {number} of {len(tokens)} can't be used: a token has {TOKEN_CHARACTERS_MIN} to "
        f"{TOKEN_CHARACTERS_MAX} printable ASCII characters and no spaces."
        for number, each in enumerate(tokens, 1)
        if not (TOKEN_CHARACTERS_MIN <= len(each) <= TOKEN_CHARACTERS_MAX and _is_plain(each))
    ]


def _is_plain(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token


def _bearer(header: str) -> str:
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" and len(token) <= TOKEN_CHARACTERS_MAX else ""


def _is_one_of(token: str, accepted: Collection[str]) -> bool:
    """Compared in constant time with each: neither the time nor the order says how much of a guess was right."""
    if isinstance(accepted, str | bytes):
        msg = "tokens are one text, not a list of texts"
        raise TypeError(msg)
    given = sha256(token.encode()).digest()
    good = False
    for each in accepted:
        good |= compare_digest(sha256(each.encode()).digest(), given) and len(each) >= TOKEN_CHARACTERS_MIN
    return good


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; `None` for what isn't a plain HTTP URL."""
    if not url.isascii():
        return None
    try:
        address = http_url(url)
    except BadUrl:
        return None
    return None if address.has_login else (address.scheme, address.host.rstrip("."), address.port)
