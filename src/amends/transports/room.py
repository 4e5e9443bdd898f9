"""Whether a call failed because this process, or this machine, had no room to make it.

That says nothing of the participant, and nothing was sent: the engine holds the call back, and counts no attempt.
"""

import errno
import os
import socket
import ssl
from typing import Final

from amends.core.run.answers import NoRoom, NotSent

EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC})
"""Descriptors, memory, buffers; `ENOSPC`: watches of the event loop's `epoll`."""

NO_THREAD: Final = "can't start new thread"
"""What `threading` says where the system refuses a thread; it has no class of its own for that."""


def not_sent(detail: str, error: BaseException) -> NotSent | NoRoom:
    """What came of a call that failed before a byte of it left."""
    return NoRoom(detail) if lacks_room(error) else NotSent(detail)


def lacks_room(error: BaseException) -> bool:
    """Whether this failure is for want of descriptors, memory or threads on our side."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, RuntimeError):
        return NO_THREAD in str(error)
    if not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
        return False
    if isinstance(error, socket.gaierror):
        # A resolver without a descriptor reports that the name doesn't exist, or "try again".
        return error.errno == socket.EAI_MEMORY or not _has_descriptor()
    if error.errno is None:  # several addresses failed, each in its own way
        return not _has_descriptor()
    return error.errno in EXHAUSTED


def _has_descriptor() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in EXHAUSTED
    return True
