"""Where the server listens: on loopback only, and known to be free before anything else is begun."""

import errno
import os
import socket

from amends.core.words.errors import AmendsError
from amends.server.requests import names_loopback

BACKLOG = 2_048


class BadAddress(AmendsError):
    """What was given is no HOST:PORT."""


class NotLoopback(AmendsError):
    """An address that others can reach, without anything that authenticates them."""


class AddressInUse(AmendsError):
    """Another process listens there, or this user may not."""


def parse_address(listen: str, *, anybody: bool = True) -> tuple[str, int]:
    """HOST and PORT of `127.0.0.1:8700`, `localhost:0` or `[::1]:8700`; `BadAddress`, `NotLoopback`.

    `anybody`: every caller may do everything, so it must be loopback.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or not port.isascii() or int(port) > 65_535:
        msg = f"--listen {listen}: expected HOST:PORT, as 127.0.0.1:8700; port 0 takes any that is free."
        raise BadAddress(msg)
    if anybody and not names_loopback(host):
        msg = (
            f"refusing to listen on {listen} without tokens: anyone who reaches it could move money.\n"
            "amends token new --name web --role client      prints a token once and the lines for amends.toml\n"
            f"or --listen 127.0.0.1:{port}"
        )
        raise NotLoopback(msg)
    host = host.removeprefix("[").removesuffix("]")
    return ("127.0.0.1" if host.lower() == "localhost" else host), int(port)


def listen_on(host: str, port: int) -> socket.socket:
    """A socket that listens there already: connections wait until the server is ready."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            msg = f"{host}:{port} is in use already. Stop what listens there, or take another: --listen {host}:0"
        else:
            reason = os.strerror(error.errno) if error.errno else str(error)
            msg = f"can't listen on {host}:{port}: {reason}."
        raise AddressInUse(msg) from error
    made.setblocking(False)  # noqa: FBT003 - takes no keyword
    return made


def url_of(listening: socket.socket, scheme: str = "http") -> str:
    """Where callers find it."""
    host, port = listening.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
