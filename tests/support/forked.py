"""A forked child that does nothing."""

import os
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def forked(look: Callable[[], bool] = lambda: True) -> Generator[None]:
    """A child that lives until the block ends, then asserts `look`."""
    waits, tells = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of pytest, which this child doesn't need
        child = os.fork()
    if child == 0:
        status = 2
        try:
            os.close(tells)
            os.read(waits, 1)
            status = 0 if look() else 1
        finally:
            os._exit(status)
    os.close(waits)
    try:
        yield
    finally:
        os.close(tells)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
