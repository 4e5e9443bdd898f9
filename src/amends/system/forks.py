"""Descriptors that a forked child must not keep.

A child that is forked without `exec`, as `multiprocessing` and `ProcessPoolExecutor` may do, has a copy of every
descriptor. What a descriptor stands for, a lock or a listening socket, then lasts as long as the child, also when its
parent was killed. Close-on-exec doesn't help: nothing is executed.

In the child `/dev/null` takes the place of each registered descriptor. Closing it would free its number for a file of
the child, which the copied object would then close.
"""

import os
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

T = TypeVar("T")

_KEPT: MutableMapping[object, Callable[[Any], int]] = WeakKeyDictionary()


def keep_from_children(owner: T, descriptor: Callable[[T], int]) -> None:
    """Take the descriptor of `owner` away from children that are forked from now on, as long as `owner` lives.

    `descriptor` gives its number, or a negative one once it is closed; it must not refer to `owner`.
    """
    _KEPT[owner] = cast("Callable[[Any], int]", descriptor)  # each is only ever called with its owner


def _in_child() -> None:
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
    except OSError:  # no descriptor is free
        nothing = None
    for owner, descriptor in list(_KEPT.items()):
        # One that can't be asked, being half made or half closed, must not save the others; and one that was closed by
        # other means the child doesn't have.
        with suppress(Exception):
            number = descriptor(owner)
            if number < 0:
                continue
            if nothing is None:
                os.close(number)
            else:
                os.dup2(nothing, number, inheritable=False)
    if nothing is not None:
        os.close(nothing)


os.register_at_fork(after_in_child=_in_child)
