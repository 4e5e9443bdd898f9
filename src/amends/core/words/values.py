"""Values: frozen for the type checkers, quick to make: a worker makes thousands of them a second.

`dataclass(frozen=True)` sets every field through `object.__setattr__`, which makes an object about three times as
dear to make; facts, commands and calls are made tens of times per run. Both type checkers refuse to assign to a field
of a value; at run time nothing would stop it, and nothing does it.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """A slotted dataclass that compares and hashes by its fields, and is not changed once it is made."""
    return dataclass(slots=True, unsafe_hash=True)(cls)


class Words(StrEnum):
    """Words of the vocabulary. They equal their text, so they hash as their text does: the hash of `Enum` itself is a
    function of Python's, and called at every look-up in a table.

    To look a word up in its class (`Phase.ACTION`) costs some 70 ns before Python 3.12, a name costs 3. Words that are
    needed for every call have names of their own beside their class.
    """

    __hash__ = str.__hash__
