"""Authorization: tokens, their roles, and the sagas they are good for.

Only hashes of tokens are kept, and a token that comes is compared with all of them in constant time. A server without
tokens listens on loopback only, where every user of the machine is an operator.
"""

import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final

from starlette.requests import Request

from amends.core.words.errors import AmendsError
from amends.server.problems import Problem, ProblemRaised
from amends.server.rate_limit import WrongTokens

TOKEN_PREFIX: Final = "amends_"  # noqa: S105 - how tokens begin, so that scanners of repositories know one
TOKEN_BYTES: Final = 32
TOKEN_CHARACTERS_MAX: Final = 512
HASH_PREFIX: Final = "sha256:"


class Role(StrEnum):
    """What a caller may do. Each may do what those before it may."""

    VIEWER = "viewer"
    """Look at runs, sagas, workers and metrics."""

    CLIENT = "client"
    """Start runs, cancel them, answer their questions."""

    OPERATOR = "operator"
    """Everything that a person may do to a run."""

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what the other may."""
        return _RANK[self] >= _RANK[other]


_RANK: Final[Mapping[Role, int]] = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller. `name` is what the log keeps; `sagas` are the only ones it sees, `None` for all."""

    name: str
    role: Role
    sagas: frozenset[str] | None = None

    def sees(self, saga: str) -> bool:
        """Whether runs of this saga exist for them."""
        return self.sagas is None or saga in self.sagas


NOBODY: Final = Caller("", Role.VIEWER)
"""The caller of what needs no token."""

LOCAL_OPERATOR: Final = Caller("http", Role.OPERATOR)
"""The caller of a server that listens on loopback only and has no tokens."""


class BadToken(AmendsError):
    """A token's settings can't be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as settings have it: `hash` is `sha256:` and the hash of the token in hexadecimal."""

    name: str
    role: Role
    hash: str
    sagas: Sequence[str] = ()

    @property
    def digest(self) -> bytes:
        """The hash as bytes; `BadToken` if it is none."""
        try:
            found = bytes.fromhex(self.hash.removeprefix(HASH_PREFIX)) if self.hash.startswith(HASH_PREFIX) else b""
        except ValueError:
            found = b""
        if len(found) != sha256().digest_size:
            msg = (
                f"token {self.name}: its hash is not {HASH_PREFIX} and 64 hexadecimal digits. "
                "`amends token new` makes one."
            )
            raise BadToken(msg)
        return found


def new_token() -> tuple[str, str]:
    """A fresh token, to be shown once, and the hash to keep."""
    token = f"{TOKEN_PREFIX}{secrets.token_urlsafe(TOKEN_BYTES)}"
    return token, f"{HASH_PREFIX}{sha256(token.encode()).hexdigest()}"


class Access:
    """Tells which caller a request is from. Without tokens every caller is the operator of this machine."""

    def __init__(self, tokens: Sequence[Token] = ()) -> None:
        names = [each.name for each in tokens]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            msg = f"two tokens are called {twice}. A token's name stands in the log of what it did: give each its own."
            raise BadToken(msg)
        self._known = [(each.digest, _caller(each)) for each in tokens]

    @property
    def is_open(self) -> bool:
        """Whether no token is asked for."""
        return not self._known

    def caller(self, request: Request, role: Role | None, failures: WrongTokens) -> Caller:
        """The caller, if it may ask; 401 without a token that is known, 403 where its role doesn't include `role`."""
        if role is None:
            return NOBODY
        if not self._known:
            return LOCAL_OPERATOR
        client = request.client.host if request.client is not None else ""
        caller = self._found(request.headers.get("authorization"))
        if caller is None:
            failures.count(client)
            raise ProblemRaised(_unknown(given="authorization" in request.headers))
        if not caller.role.includes(role):
            raise ProblemRaised(_forbidden(caller, role))
        return caller

    def holds(self, request: Request, caller: Caller) -> bool:
        """Whether a caller that was admitted before would be admitted now with the same rights."""
        if caller is NOBODY:
            return True
        if not self._known:
            return caller is LOCAL_OPERATOR
        return self._found(request.headers.get("authorization")) == caller

    def _found(self, header: str | None) -> Caller | None:
        if header is None or len(header) > TOKEN_CHARACTERS_MAX:
            return None
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest = sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        found: Caller | None = None
        for known, caller in self._known:  # all of them: how long it takes tells nothing
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def rights_changed() -> ProblemRaised:
    """401 for a token whose role or sagas are others than when its request came."""
    detail = "The rights of this token changed while the request was answered."
    return ProblemRaised(
        Problem(401, "unauthorized", "The token's rights changed", detail, remedy="Send the request again.")
    )


def _caller(token: Token) -> Caller:
    return Caller(f"token {token.name}", token.role, frozenset(token.sagas) if token.sagas else None)


def _unknown(*, given: bool) -> Problem:
    return Problem(
        401,
        "unauthorized",
        "A token is needed",
        "The token isn't one of this server's." if given else "There is no token.",
        "Authorization",
        "Send Authorization: Bearer TOKEN. amends token new --name web --role client makes one.",
        headers={"WWW-Authenticate": 'Bearer realm="amends"'},
    )


def _forbidden(caller: Caller, role: Role) -> Problem:
    return Problem(
        403,
        "forbidden",
        "Not with this token",
        f"This needs role {role.value}; {caller.name} has role {caller.role.value}.",
        remedy="Use a token with that role.",
    )
