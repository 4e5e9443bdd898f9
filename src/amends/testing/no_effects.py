"""Code that must only compute, held to it: what reaches outside of the process is stopped before it happens.

Python tells audit hooks (PEP 578) of connections, processes, files and threads before they are made, and a hook may
refuse. One hook is installed, once; it looks only at threads that are inside of `no_effects`. What C libraries do by
themselves (a database driver with its own sockets) isn't audited, and isn't stopped.
"""

import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

FORBIDDEN: Final = frozenset(
    {
        "ftplib.connect",
        "http.client.connect",
        "imaplib.open",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.kill",
        "os.link",
        "os.mkdir",
        "os.posix_spawn",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.spawn",
        "os.symlink",
        "os.system",
        "os.truncate",
        "smtplib.connect",
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.sendto",
        "sqlite3.connect",
        "subprocess.Popen",
        "urllib.Request",
    }
)
"""Names of audit events. `open` is one too, where it is for writing."""

_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class OutsideEffect(BaseException):
    """The code reached outside. No `Exception`, so that code which handles those can't go on as if nothing were."""


class Tripped:
    """What the code tried, in order; empty if it only computed."""

    def __init__(self) -> None:
        self.events: list[str] = []


_watched: dict[int, Tripped] = {}
_installing = threading.Lock()
_installed: list[bool] = []


@contextmanager
def no_effects() -> Generator[Tripped]:
    """Stop this thread's effects by `OutsideEffect` until this is left; what was stopped is told also if the code
    swallows the exception.
    """
    with _installing:
        if not _installed:
            sys.addaudithook(_look)
            _installed.append(True)
    tripped = _watched[threading.get_ident()] = Tripped()
    plainly = threading.Thread.start  # no audit event before Python 3.12

    def start(self: threading.Thread) -> None:
        _trip("threading.Thread.start")
        plainly(self)

    setattr(threading.Thread, "start", start)  # noqa: B010 - pyright allows the assignment, mypy does not
    try:
        yield tripped
    finally:
        setattr(threading.Thread, "start", plainly)  # noqa: B010 - as above
        del _watched[threading.get_ident()]


def _look(event: str, arguments: tuple[object, ...]) -> None:
    if _watched and (event in FORBIDDEN or (event == "open" and _is_for_writing(*arguments))):
        _trip(event)


def _trip(event: str) -> None:
    tripped = _watched.get(threading.get_ident())
    if tripped is not None:
        tripped.events.append(event)
        raise OutsideEffect(event)


def _is_for_writing(path: object = "", _mode: object = None, flags: object = 0) -> bool:
    compiled = isinstance(path, (str, bytes)) and "__pycache__" in os.fsdecode(path)  # an import, which is no effect
    return isinstance(flags, int) and bool(flags & _WRITES) and not compiled
