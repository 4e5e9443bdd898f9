# pyright: reportPrivateUsage=false
"""Bugs planted in the barrier that ships, for as long as a test lasts."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest

from amends.participant import barrier
from amends.testing.explore import participants as pretend


def plant_in_the_barrier(patch: pytest.MonkeyPatch, name: str, bug: Callable[..., Any]) -> None:
    """Put the bug in the place of a function; what the right one answered isn't known any more."""
    patch.setattr(barrier, name, bug)
    for cached in ("_asked", "_finished"):
        patch.setattr(pretend, cached, lru_cache(None)(getattr(pretend, cached).__wrapped__))
