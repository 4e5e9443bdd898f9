"""Values as people write them in settings: durations (`5s`), sizes (`256 KiB`), and secrets by reference.

A secret is written `${env:NAME}` or `${file:/path}`, anywhere in a value. What stands in the settings is the reference;
it is looked up when it is needed, so that a rotated secret is picked up, and nothing that prints settings knows one.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from typing_extensions import override

from amends.core.words.errors import AmendsError
from amends.core.words.urls import HIDDEN

SECONDS_MIN: Final = 0.1
"""No duration is shorter: below it timers cost more than they tell."""

SECONDS_MAX: Final = 100 * 366 * 86_400.0
FILE_BYTES_MAX: Final = 64 << 10
"""A secret in a file is a line, not a disk."""

_UNITS: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_SIZES: Final[Mapping[str, int]] = {
    "": 1,
    "B": 1,
    "KB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_NUMBER: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)")
_REFERENCE: Final = re.compile(r"\$\{(?P<kind>[a-z]*):(?P<name>[^{}]*)\}")


class BadSetting(AmendsError):
    """Something in the settings can't be used; the message says where it was set, what is wrong and what to do."""


class Seconds(float):
    """A duration. Written with its unit: `0.5s`, `200ms`, `5m`, `24h`, `30d`. A bare number is an error: a reader takes
    it for days where they are usual.
    """

    @classmethod
    def parse(cls, given: object) -> "Seconds":
        """From what stands in the settings; `ValueError` says what is wrong."""
        if not isinstance(given, str):
            number = isinstance(given, int | float) and not isinstance(given, bool)
            expected = f"its unit, as {given}s or {given}d" if number else "one as 5s"
            msg = f"{given!r} is no duration: expected {expected}"
            raise ValueError(msg)  # noqa: TRY004 - a value in a file, told as all others
        seconds = _parsed(given)
        if not SECONDS_MIN <= seconds <= SECONDS_MAX:
            msg = f"{given} is no duration between {SECONDS_MIN:g}s and a hundred years"
            raise ValueError(msg)
        return cls(seconds)

    @override
    def __str__(self) -> str:
        """As it is written."""
        for unit in ("d", "h", "m"):
            if self >= _UNITS[unit] and self % _UNITS[unit] == 0:
                return f"{self / _UNITS[unit]:g}{unit}"
        return f"{float(self):g}s"


LEASE_SECONDS_MAX: Final = 3_600.0


class LeaseDuration(Seconds):
    """How long a process may be silent before others take its runs: a duration, an hour at the most."""

    @classmethod
    @override
    def parse(cls, given: object) -> "LeaseDuration":
        """As any duration."""
        seconds = super().parse(given)
        if seconds > LEASE_SECONDS_MAX:
            msg = f"{given} is no lease: expected {SECONDS_MIN:g}s to 1h"
            raise ValueError(msg)
        return cls(seconds)


def _parsed(text: str) -> float:
    found = _NUMBER.fullmatch(text.strip())
    if found is not None and not found["unit"]:
        number = found["number"]
        msg = f"{text!r} is no duration: expected its unit, as {number}s or {number}d"
        raise ValueError(msg)
    if found is None or found["unit"] not in _UNITS:
        msg = f"{text!r} is no duration: expected a number with ms, s, m, h or d, as 5s"
        raise ValueError(msg)
    return float(found["number"]) * _UNITS[found["unit"]]


class Size(int):
    """A number of bytes. Written `256 KiB`, `1 MiB`, `64KB`, or as a number."""

    @classmethod
    def parse(cls, given: object) -> "Size":
        """From what stands in the settings; `ValueError` says what is wrong."""
        if isinstance(given, int) and not isinstance(given, bool):
            size: float = given
        else:
            found = _NUMBER.fullmatch(given.strip()) if isinstance(given, str) else None
            if found is None or found["unit"] not in _SIZES:
                msg = f"{given!r} is no size: expected a number of bytes, or one as 256 KiB"
                raise ValueError(msg)
            size = float(found["number"]) * _SIZES[found["unit"]]
        if not 1 <= size <= 1 << 40:
            msg = f"{given} is no size between one byte and 1024 GiB"
            raise ValueError(msg)
        return cls(math.floor(size))

    @override
    def __str__(self) -> str:
        """As it is written."""
        for unit in ("GiB", "MiB", "KiB"):
            if self >= _SIZES[unit] and self % _SIZES[unit] == 0:
                return f"{self // _SIZES[unit]} {unit}"
        return f"{int(self)}"


class Secret(str):
    """Text that is never shown: with references to where the secret is, or, where it must be, the secret itself."""

    __slots__ = ()

    @classmethod
    def parse(cls, given: object) -> "Secret":
        """From what stands in the settings; `ValueError` says what is wrong."""
        if not isinstance(given, str) or not given:
            msg = "expected text, as ${env:NAME} or ${file:/path}"
            raise ValueError(msg)
        for found in _REFERENCE.finditer(given):
            if found["kind"] not in _SOURCES or not found["name"]:
                msg = f"{found[0]} is no reference: expected ${{env:NAME}} or ${{file:/path}}"
                raise ValueError(msg)
        return cls(given)

    @override
    def __repr__(self) -> str:
        return f"Secret({self.shown!r})"

    @property
    def shown(self) -> str:
        """What may be shown of it: where it is, never what."""
        places = [found[0] for found in _REFERENCE.finditer(self)]
        return f"{HIDDEN} from {', '.join(places)}" if places else HIDDEN

    def look_up(self) -> str:
        """The secret itself, as it is now; `BadSetting` names the reference that leads nowhere."""
        return looked_up(self)


def looked_up(text: str) -> str:
    """A text with its references looked up; `BadSetting` names the one that leads nowhere."""
    return _REFERENCE.sub(lambda found: _SOURCES[found["kind"]](found["name"]), text)


def has_reference(text: str) -> bool:
    """Whether a text refers to a secret."""
    return _REFERENCE.search(text) is not None


def _from_environment(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        msg = f"${{env:{name}}}: there is no such variable in the environment of this process."
        raise BadSetting(msg)
    return value


def _from_file(name: str) -> str:
    path = Path(name)
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        msg = f"${{file:{name}}}: {error.strerror}."
        raise BadSetting(msg) from error
    if len(content) > FILE_BYTES_MAX:
        msg = f"${{file:{name}}}: more than {FILE_BYTES_MAX} bytes is no secret."
        raise BadSetting(msg)
    try:
        return content.decode().strip()
    except UnicodeDecodeError as error:
        msg = f"${{file:{name}}}: it isn't text."
        raise BadSetting(msg) from error


_SOURCES: Final[Mapping[str, Callable[[str], str]]] = {"env": _from_environment, "file": _from_file}


class SecretHeaders(Mapping[str, str]):
    """Headers with their secrets looked up; `reload` looks them up again. Never shown, whole or in part."""

    def __init__(self, given: Mapping[str, Secret]) -> None:
        self._given = dict(given)
        self._known: dict[str, str] = {}
        self.reload()

    def reload(self) -> None:
        """Look the secrets up again; `BadSetting` leaves what was known."""
        self._known = {name: each.look_up() for name, each in self._given.items()}

    @override
    def __getitem__(self, name: str) -> str:
        return self._known[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    @override
    def __len__(self) -> int:
        return len(self._known)

    @override
    def __repr__(self) -> str:
        return f"SecretHeaders({', '.join(self._known)})"
