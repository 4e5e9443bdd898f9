"""One process per file: a lock file beside the database, held with `flock` for as long as the log is open.

The kernel releases the lock when the process ends, however it ends. The lock file itself stays: to remove it would let
two processes hold the lock of two different files. Programs that the process starts don't inherit the lock, and forked
children give it up at once (`amends.system.forks`).

Code of a step may be at work still when the log is closed. Until it is over, no other process may repeat the step, so
the lock can be kept for longer than the log is open.

`flock` rather than a record lock (`fcntl`): a process loses a record lock as soon as it closes any descriptor of the
file, for example after it read the lock file for a backup.
"""

import fcntl
import os
import stat
from pathlib import Path
from threading import Lock

from amends.core.words.errors import LogInUse, LogUnavailable
from amends.system.forks import keep_from_children

_CLOSED = -1


class LockFile:
    """The lock of the log at `path`. A symbolic link to the log leads to the same lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = Path(f"{path.resolve()}.lock")
        self._descriptor = _CLOSED
        self._holders = 0
        self._guard = Lock()
        keep_from_children(self, LockFile.fileno)

    def fileno(self) -> int:
        """The descriptor that holds the lock; negative while it isn't held."""
        return self._descriptor

    def take(self) -> None:
        """Take it or raise `LogInUse`; never waits. The file is changed only once the lock is held."""
        with self._guard:
            if self._descriptor != _CLOSED:
                raise LogInUse(f"{self._path} is in use by a step of this process that is still at work.")
            self._take()

    def _take(self) -> None:
        try:
            # The lock file may not be a link: its target would be overwritten. `O_NONBLOCK`: a pipe doesn't block.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK  # Python adds close-on-exec
            descriptor = os.open(self._file, flags, 0o600)
        except OSError as error:
            raise self._cannot(error.strerror) from error
        self._descriptor = descriptor  # from here on kept from children
        try:
            self._lock(descriptor)
        except BaseException:
            self._close()
            raise
        self._holders = 1

    def _lock(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise self._cannot("it isn't a file of its own. Remove it")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            raise LogInUse(
                f"{self._path} is in use by {'process ' + holder if holder else 'another process'} on this machine. "
                "One process per SQLite log; for more use --log postgresql://..."
            ) from None
        except OSError as error:
            raise self._cannot(error.strerror) from error
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise self._cannot(error.strerror) from error

    def _cannot(self, why: str | None) -> LogUnavailable:
        return LogUnavailable(f"{self._path} can't be locked: {self._file}: {why}.")

    def keep(self) -> None:
        """Hold the lock for one more reason. Each reason ends with a `drop` of its own, on any thread."""
        with self._guard:
            assert self._descriptor != _CLOSED
            self._holders += 1

    def drop(self) -> None:
        """Let go of it, if it is held and there is no other reason to hold it."""
        with self._guard:
            self._holders -= 1
            if self._holders <= 0:
                self._close()

    def _close(self) -> None:
        descriptor, self._descriptor, self._holders = self._descriptor, _CLOSED, 0
        if descriptor != _CLOSED:
            os.close(descriptor)
