"""One process per file: a lock file beside the database, held with `flock` for as long as the log is open.

Work of a step that the log is closed under may last; until it is over, another process must not repeat it. So the lock
can be kept beyond the log.

The kernel lets go of it when the process is gone, however it went. The lock file itself stays: to remove it would let
two processes hold the lock of two different files. It isn't inherited by programs that the process starts.
"""

import fcntl
import os
from pathlib import Path
from threading import Lock

from amends.core.errors import LogInUse, LogUnavailable


class LockFile:
    """The lock of the log at `path`; whoever asks for the same file by a symbolic link asks for the same lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = Path(f"{path.resolve()}.lock")
        self._descriptor: int | None = None
        self._holders = 0
        self._guard = Lock()

    def take(self) -> None:
        """Take it or raise `LogInUse`; never waits."""
        with self._guard:
            if self._descriptor is not None:
                raise LogInUse(f"{self._path} is in use by work of a step that this process began before.")
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)  # Python adds close-on-exec
        except OSError as error:
            raise LogUnavailable(f"{self._path} can't be locked: {self._file}: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise LogUnavailable(f"{self._path} can't be locked: {self._file}: {error.strerror}.") from error
            raise LogInUse(
                f"{self._path} is in use by {'process ' + holder if holder else 'another process'} on this machine. "
                "One process per SQLite log; for more use --log postgresql://..."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor, self._holders = descriptor, 1

    def keep(self) -> None:
        """Hold it for another reason, too; each is ended by a `drop` of its own, on any thread."""
        with self._guard:
            assert self._descriptor is not None
            self._holders += 1

    def drop(self) -> None:
        """Let go of it, if it is held, unless there is another reason to hold it."""
        with self._guard:
            if self._descriptor is None:
                return
            self._holders -= 1
            if not self._holders:
                os.close(self._descriptor)
                self._descriptor = None
