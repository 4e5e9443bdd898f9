"""Mistakes in an author's code that show only while a run goes on, and how they are told.

They are values to the core: a run with one is stuck (`author-error`) until the code is mended, and loses nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from amends.core.saga.operation import Operation
from amends.core.words.codec import Codec, Undecodable, Value
from amends.core.words.error_texts import clean, told

IsKeyPress: TypeAlias = Callable[[BaseException], bool]
"""Whether an exception is a Ctrl-C that Python raised, and not one that the code which raised it made up."""


def may_be_key_press(raised: BaseException) -> bool:
    """What can be said without looking at the process's signal handlers."""
    return isinstance(raised, KeyboardInterrupt)


@dataclass(frozen=True, slots=True)
class BuildError:
    """The builder has a bug; `error` says which and where. `of_values`: with other values it needn't have one."""

    error: str
    exception: Exception | None = field(default=None, compare=False)
    of_values: bool = field(default=False, compare=False)


class AuthorMistake(Exception):
    """A builder gave something that can't be sent; the message says what, for the log."""

    of_values = False

    def as_error(self, where: str = "") -> BuildError:
        """The same as a value."""
        return BuildError(clean(f"{where}{self}"), of_values=self.of_values)


class ValueMistake(AuthorMistake):
    """As before, but it hangs on the values: their size or their number, or names that are made of them."""

    of_values = True


def written(codec: Codec, value: Value) -> bytes:
    """What a builder gave, as JSON. What can't be written is the author's mistake."""
    try:
        return codec.encode(value)
    except Undecodable as error:
        raise unreadable("built a request that can't be written as JSON", error) from error


def unreadable(what: str, error: Undecodable) -> AuthorMistake:
    """What the codec refused, told with its place."""
    return AuthorMistake(f"{what}: {error.detail} at {error.path}")


def raised_by(what: str, raised: BaseException, is_key_press: IsKeyPress) -> BuildError:
    """Whatever the author's code raises is the author's error, told with its place; only a Ctrl-C is not."""
    if is_key_press(raised):
        raise raised
    said = clean(f"{what} raised {told(raised)}{_place(raised)}")
    return BuildError(said, raised if isinstance(raised, Exception) else None)


def _place(raised: BaseException) -> str:
    """` (shop/sagas.py:47)`: the innermost place in it, other than where a call is made of its fields."""
    place = ""
    trace = raised.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        code = frame.f_code
        if frame.f_globals.get("__name__") == Operation.__module__:
            break
        place = f" ({code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place
