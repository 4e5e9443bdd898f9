"""The port through which the core turns values into bytes and back. Events and state hold only names, numbers and
bytes.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from amends.core.words.errors import AmendsError

TypeForm: TypeAlias = Any
"""A type as an annotation may be: a class, a generic alias, a union. Python has no type for those before 3.15."""

Value: TypeAlias = Any
"""A value of a type that only the author of a saga knows."""


class Undecodable(AmendsError):
    """Bytes that are not a value of the expected type; `path` says where (`$.lines[2].quantity`)."""

    def __init__(self, detail: str, *, path: str = "$") -> None:
        super().__init__(detail)
        self.detail = detail
        self.path = path


class Codec(Protocol):
    """Values as JSON in UTF-8. Types are given as annotations are: classes, generic aliases, unions, `Annotated`."""

    def encode(self, value: object) -> bytes:
        """The value as JSON; `Undecodable` if it holds something JSON can't."""
        ...

    def decoder(self, type_: TypeForm) -> Callable[[bytes], Any]:
        """A function that turns JSON into a value of that type, strictly; it raises `Undecodable`."""
        ...

    def schema(self, type_: TypeForm) -> dict[str, Any]:
        """The type as JSON Schema."""
        ...
