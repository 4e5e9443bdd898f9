"""URLs that users give: read by one function, shown by one function, and a password in one is never shown.

Every message, log line and view that names a URL takes its text from `shown_url`. Every HTTP address (a server, a
route, a webhook, an origin) is read by `http_url`, so that what is wrong with it is one clear error.
"""

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from amends.core.words.values import value

HIDDEN: Final = "***"

_SECRET_NAME: Final = re.compile(r"pass|pwd|token|secret|key|sig|auth|credential", re.IGNORECASE)
_BETWEEN: Final = re.compile(r",(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_PORTS: Final = {"http": 80, "https": 443}


class BadUrl(ValueError):
    """The text is no address. The message says why, without the text itself."""


@value
class HttpUrl:
    """An HTTP address, taken apart. `host` without the brackets of IPv6; `path` without a slash at its end."""

    scheme: str
    host: str
    port: int
    path: str
    has_login: bool
    has_query: bool

    @property
    def is_tls(self) -> bool:
        """Whether it is https."""
        return self.scheme == "https"


def http_url(text: str) -> HttpUrl:
    """Read an address `http://host:port/path` or `https://...`; `BadUrl` says what is wrong with it."""
    if not text.isprintable() or " " in text or "\\" in text:
        msg = "it contains a space, a backslash or a control character"
        raise BadUrl(msg)
    parts = _split(text)
    if parts.scheme not in _PORTS:
        msg = f"its scheme is {parts.scheme!r}" if parts.scheme else "it has no scheme"
        raise BadUrl(msg)
    login, at, _ = parts.netloc.rpartition("@")
    if "@" in login:
        msg = "an @ in its user or password must be written %40"
        raise BadUrl(msg)
    if not parts.hostname:
        msg = "it has no host"
        raise BadUrl(msg)
    try:
        port = parts.port
    except ValueError:
        msg = "its port is no number from 1 to 65535"
        raise BadUrl(msg) from None
    if port == 0:
        msg = "its port is no number from 1 to 65535"
        raise BadUrl(msg)
    return HttpUrl(
        scheme=parts.scheme,
        host=parts.hostname,
        port=_PORTS[parts.scheme] if port is None else port,
        path=parts.path.rstrip("/"),
        has_login=bool(at),
        has_query=bool(parts.query or parts.fragment),
    )


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        msg = "its host can't be read; an IPv6 address stands in brackets"
        raise BadUrl(msg) from None


def shown_url(text: str) -> str:
    """The URL for people: without its password, and without the values of secrets in its query.

    Takes any text, also one that is no URL: what may be a password is hidden rather than shown. A user without a
    password is hidden in an HTTP address, where it is often a token. Several URLs may stand in a list with commas.
    """
    return ",".join(_shown_one(each) for each in _BETWEEN.split(text))


def _shown_one(text: str) -> str:
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "", text
    address, query_mark, query = _cut(rest)
    login, at, place = _login(address)
    if at:
        user, colon, _ = login.partition(":")
        if colon:
            login = f"{user}:{HIDDEN}"
        elif scheme.lower() in _PORTS:
            login = HIDDEN
    return f"{scheme}{mark}{login}{at}{place}{query_mark}{_shown_query(query)}"


def _cut(rest: str) -> tuple[str, str, str]:
    found = re.search(r"[?#]", rest)
    return (rest, "", "") if found is None else (rest[: found.start()], found[0], rest[found.end() :])


def _login(address: str) -> tuple[str, str, str]:
    """User and password, the @, and the rest. An unescaped slash in a password puts its end into the path."""
    host, slash, path = address.partition("/")
    login, at, place = host.rpartition("@")
    if at:
        return login, at, f"{place}{slash}{path}"
    port = host.rpartition("]")[2].partition(":")[2]
    if port and not port.isdigit():
        return address.rpartition("@")
    return "", "", address


def _shown_query(query: str) -> str:
    pairs = re.split(r"([&;#])", query)
    return "".join(_shown_pair(each) for each in pairs)


def _shown_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}={HIDDEN}" if equals and _SECRET_NAME.search(name) else pair
