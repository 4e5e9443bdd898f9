"""What an engine says of itself while it is simulated: an error that it caught and logged is a bug that it survived."""

import logging
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Final

from typing_extensions import override

from amends.testing.broken import BrokenPromise

LOGGERS: Final = ("amends.engine", "amends.steps")


class Complaints(logging.Handler):
    """Keeps what was logged together with an exception: such things are meant never to happen."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._first: logging.LogRecord | None = None

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None and self._first is None:
            self._first = record

    def take(self) -> Exception | None:
        """The first of them, which is then forgotten."""
        first, self._first = self._first, None
        if first is None or first.exc_info is None:
            return None
        error = first.exc_info[1]
        if isinstance(error, BrokenPromise):
            return error
        complaint = BrokenPromise(f"the engine complains: {first.getMessage()} ({type(error).__name__}: {error})")
        complaint.__cause__ = error
        return complaint


@contextmanager
def heard() -> Generator[Complaints]:
    """Hear what engines log meanwhile; it goes nowhere else: that disks and calls fail is no news here."""
    complaints = Complaints()
    with ExitStack() as stack:
        for name in LOGGERS:
            stack.enter_context(_only_to(complaints, logging.getLogger(name)))
        yield complaints


@contextmanager
def _only_to(complaints: Complaints, logger: logging.Logger) -> Generator[None]:
    level, propagate = logger.level, logger.propagate
    logger.addHandler(complaints)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(complaints)
        logger.setLevel(level)
        logger.propagate = propagate
