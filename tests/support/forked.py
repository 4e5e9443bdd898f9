"""A forked child that does nothing."""

import os
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def forked(look: Callable[[], bool] = lambda: True) -> Generator[None]:
    """A child that runs when the block begins, and when it ends asserts `look` and exits."""
    waits, tells = os.pipe()
    begins, began = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of pytest, which this child doesn't need
        child = os.fork()
    if child == 0:
        status = 2
        try:
            os.close(tells)
            os.write(began, b"!")
            os.read(waits, 1)
            status = 0 if look() else 1
        finally:
            os._exit(status)
    os.close(waits)
    os.read(begins, 1)
    os.close(begins)
    os.close(began)
    try:
        yield
    finally:
        os.close(tells)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
