"""Idempotency keys: `<run>:<step>:<phase>`, or `<run>:<step>/<item>:<phase>` where a step makes many calls.

Ids have no colon and items are percent-encoded, so a key has exactly two colons, is a legal header field and can
always be taken apart again.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from amends.core.words.errors import AmendsError
from amends.core.words.values import Words

RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", re.ASCII)
STEP_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
PUBLIC_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}", re.ASCII)
"""Names of sagas and participants."""

NOTICE: Final = "notice"
"""The step name under which the notice of a run's end is sent; no step may be called so."""


class Phase(Words):
    """What a call is for: act, undo, ask without changing anything, or ask and make a late action impossible."""

    ACTION = "action"
    COMPENSATION = "compensation"
    PROBE = "probe"
    SEAL = "seal"


ACTION: Final = Phase.ACTION
COMPENSATION: Final = Phase.COMPENSATION
SEAL: Final = Phase.SEAL

CallKey = tuple[str, str, Phase]
"""A call within its run: step, item (`""` where a step makes one call), and what the call is for."""


class BadKey(AmendsError):
    """What was given is no idempotency key."""


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key taken apart. `item` is `""` for a step that makes one call; it is kept percent-encoded."""

    run: str
    step: str
    item: str
    phase: Phase

    def __str__(self) -> str:
        return f"{self.run}:{self.vertex}:{self.phase.value}"

    @property
    def vertex(self) -> str:
        """The barrier's second key part: the step, or `step/item`."""
        return unit_name(self.step, self.item)


def unit_name(step: str, item: str) -> str:
    """How a step, or one item of it, is written everywhere: `reserve` or `reserve/sku-1`."""
    return f"{step}/{item}" if item else step


def make_key(run: str, step: str, item: str, phase: Phase) -> str:
    """The key as it is sent."""
    return f"{run}:{step}/{item}:{phase}" if item else f"{run}:{step}:{phase}"


def parse_key(text: str) -> Key:
    """Take a key apart; `BadKey` says what is wrong with it."""
    match text.split(":"):
        case [run, vertex, phase]:
            pass
        case _:
            msg = f"{text[:200]!r} is no idempotency key: expected <run>:<step>:<phase>."
            raise BadKey(msg)
    step, _, item = vertex.partition("/")
    if RUN_ID.fullmatch(run) is None:
        msg = f"{run[:200]!r} is no run id: expected {RUN_ID.pattern}."
        raise BadKey(msg)
    if (
        STEP_NAME.fullmatch(step) is None
        or ("/" in vertex and quote(unquote(item), safe="~") != item)
        or vertex.endswith("/")
    ):
        msg = (
            f"{vertex[:200]!r} is no step: expected a Python identifier, or <step>/<item> with the item "
            "percent-encoded."
        )
        raise BadKey(msg)
    try:
        return Key(run, step, item, Phase(phase))
    except ValueError:
        msg = f"{phase[:200]!r} is no phase: expected action, compensation, probe or seal."
        raise BadKey(msg) from None


def encode_item(name: str) -> str:
    """An item's name as it stands in keys, headers and the log."""
    return quote(name, safe="~")


def decode_item(item: str) -> str:
    """An item's name as its author gave it."""
    return unquote(item)
