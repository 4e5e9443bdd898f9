"""What settings come to in a server: which callers may ask, what it takes, where it listens, with which certificates.

Everything that can be wrong with them is found here, before a log is opened or an address is taken.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from amends.config.routes import Routes, routes_of
from amends.config.settings import ServerTlsSettings, Settings
from amends.config.values import BadSetting
from amends.core.words.urls import BadUrl, http_url, shown_url
from amends.server.access import Access, Role, Token
from amends.server.callback_tokens import NO_SECRETS, CallbackSecrets
from amends.server.context import ServerLimits
from amends.server.listen import parse_address

HTTP: Final = "http"
HTTPS: Final = "https"


@dataclass(frozen=True, slots=True)
class ServerSetup:
    """A server as its settings have it. Without `tls` it speaks plain HTTP; `again` reads the settings once more."""

    settings: Settings
    address: tuple[str, int]
    access: Access
    limits: ServerLimits
    routes: Routes
    callback_secrets: CallbackSecrets = NO_SECRETS
    tls: ssl.SSLContext | None = None
    again: Callable[[], Settings] | None = None

    @property
    def scheme(self) -> str:
        """How callers reach it."""
        return HTTP if self.tls is None else HTTPS


def set_up(settings: Settings, again: Callable[[], Settings] | None = None) -> ServerSetup:
    """What these settings come to; `BadSetting`, `BadToken`, `BadAddress` and `NotLoopback` say what is wrong."""
    access = access_of(settings)
    server = settings.server
    if server.public_url is not None:
        _check_public_url(server.public_url)
    tls = None if server.tls is None else tls_context(server.tls)
    return ServerSetup(
        settings=settings,
        address=parse_address(server.listen, anybody=access.is_open),
        access=access,
        limits=limits_of(settings),
        routes=routes_of(settings),
        callback_secrets=callback_secrets_of(settings),
        tls=tls,
        again=again,
    )


def access_of(settings: Settings) -> Access:
    """The callers that may ask; `BadToken` says which token can't be used."""
    return Access([Token(each.name, Role(each.role), each.hash, each.sagas) for each in settings.tokens])


def _check_public_url(url: str) -> None:
    try:
        address = http_url(url)
    except BadUrl as error:
        msg = f"server.public_url: {shown_url(url)!r} is no address: {error}. Expected https://host/path."
        raise BadSetting(msg) from None
    if address.has_login or address.has_query:
        msg = f"server.public_url: {shown_url(url)!r} is told to participants: leave user, password and query out."
        raise BadSetting(msg)


CALLBACK_SECRET_CHARACTERS_MIN: Final = 32
"""A shorter one is a password, which can be guessed from one token without asking the server."""


def callback_secrets_of(settings: Settings) -> CallbackSecrets:
    """What makes and verifies callback tokens; `BadSetting` where a secret can't be looked up, or is too short."""
    server = settings.server
    if not server.callback_secrets and not server.callback_secret_of_log:
        msg = (
            "server.callback_secret_of_log is false and there are no server.callback_secrets, so no callback could be "
            "verified. Make one: amends token callback"
        )
        raise BadSetting(msg)
    found: list[bytes] = []
    for number, each in enumerate(server.callback_secrets):
        where = f"server.callback_secrets[{number}]"
        try:
            secret = each.look_up()
        except BadSetting as error:
            msg = f"{where}: {error}"
            raise BadSetting(msg) from error
        if len(secret) < CALLBACK_SECRET_CHARACTERS_MIN:
            msg = (
                f"{where} has {len(secret)} characters, expected {CALLBACK_SECRET_CHARACTERS_MIN} or more. "
                "Make one: amends token callback"
            )
            raise BadSetting(msg)
        found.append(secret.encode())
    return CallbackSecrets(tuple(found), of_log=server.callback_secret_of_log)


def limits_of(settings: Settings) -> ServerLimits:
    """What the server takes."""
    server = settings.server
    return ServerLimits(
        body_bytes=server.body_max,
        body_seconds=server.body_timeout,
        requests=server.requests_max,
        streams=server.streams_max,
        per_second=server.per_second,
        head_bytes=server.head_max,
        head_seconds=server.head_timeout,
        write_seconds=server.write_timeout,
        connections=server.connections_max,
    )


def tls_context(tls: ServerTlsSettings) -> ssl.SSLContext:
    """A context with the server's certificates and the clients' authority; `BadSetting` names files that can't be used.

    Read again, they make a new one: authorities can only be added to a context, and sessions made under it could be
    resumed without another look at the client's certificate.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key)
        if tls.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(tls.client_ca)
    except OSError as error:  # an `SSLError` is one
        named = ", ".join(each for each in (tls.cert, tls.key, tls.client_ca) if each is not None)
        msg = f"server.tls: the certificates can't be read ({named}): {error.strerror or error}."
        raise BadSetting(msg) from error
    return context
