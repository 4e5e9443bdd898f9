"""Events as they are kept: a kind (the class's name) and a JSON object of the fields, but for `at` and `epoch`.

The log keeps those two in columns of their own. Payloads (fields of type `bytes`) hold JSON text and stand in the body
as they came, byte for byte, so that what is sent again is what was sent; only white space around them isn't kept. A
field that a body lacks gets the default of its class, one that the class lacks is ignored: that is how events gain and
lose fields without a migration.

How a class is written and read is worked out once, when the codec is made, from the class itself: there is no second
list of fields that could fall behind.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from amends.codecs.seals import is_sealed
from amends.core.run.events import EVENT_TYPES, Event
from amends.core.words.codec import Undecodable

E = TypeVar("E")

Convert: TypeAlias = Callable[[Any], Any]
Annotation: TypeAlias = Any
"""A type as annotations write it: a class, a generic alias, a union; Python has no type for these."""

COLUMNS: Final = ("at", "epoch")
"""The first two fields of every event, which the log keeps itself."""


class JsonEventCodec:
    """Writes and reads every kind of event. One per process is enough."""

    def __init__(self, types: Sequence[type[Event]] = EVENT_TYPES) -> None:
        self._writers = {cls: _Shape(cls, COLUMNS) for cls in types}
        self._readers = {cls.__name__: shape for cls, shape in self._writers.items()}

    def encode(self, event: Event, run: str = "", version: int = 0) -> tuple[str, bytes]:
        """Kind and body; `Undecodable` where a payload is empty or a text can't be written as UTF-8."""
        shape = self._writers[type(event)]
        try:
            return shape.kind, _ENCODER.encode(shape.write(event))
        except (UnicodeEncodeError, ValueError) as error:
            msg = f"{shape.kind} can't be written: {error}"
            raise Undecodable(msg) from error

    def plain(self, value: object) -> bytes:
        """A value made of dicts, lists, text and whole numbers, for the columns of a row."""
        return _ENCODER.encode(value)

    def decode(self, kind: str, body: bytes, at: int, epoch: int, run: str = "", version: int = 0) -> Event:  # noqa: PLR0917 - a row of the log, column by column
        """The event again; `Undecodable` for an unknown kind (of a newer version?) or a body that isn't one."""
        shape = self._readers.get(kind)
        if shape is None:
            msg = f"{kind!r} is no kind of event this version knows"
            raise Undecodable(msg)
        try:
            return shape.read(shape.decode(body), at, epoch)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            msg = f"{kind} can't be read: {error}"
            if is_sealed(body):
                msg = f"{kind} is encrypted, and its key isn't here: [privacy] encrypt in amends.toml names it"
            raise Undecodable(msg) from error


_ENCODER: Final = msgspec.json.Encoder()


class _Shape(Generic[E]):
    """How one class is written and read: by a struct with the same fields in which payloads are raw JSON.

    `struct` is the type that is written in place of the class; `write` makes one of a value, `read` a value of one and
    of the columns.
    """

    def __init__(self, cls: type[E], columns: Sequence[str] = ()) -> None:
        hints = get_type_hints(cls)
        listed = fields(cast("Any", cls))
        assert tuple(each.name for each in listed[: len(columns)]) == tuple(columns), cls
        self.kind = cls.__name__
        wire: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        used: dict[str, object] = {"value": cls}
        outward: list[str] = []
        inward = list(columns)
        for each in listed[len(columns) :]:
            kept, out, back = _field(hints[each.name])
            wire.append((each.name, kept) if each.default is MISSING else (each.name, kept, each.default))
            used |= {f"out_{each.name}": out, f"back_{each.name}": back}
            outward.append(f"given.{each.name}" if out is None else f"out_{each.name}(given.{each.name})")
            inward.append(f"read.{each.name}" if back is None else f"back_{each.name}(read.{each.name})")
        self.struct: Annotation = msgspec.defstruct(cls.__name__, wire, frozen=True)
        used["struct"] = self.struct
        self.write: Callable[[E], object] = _function(f"given: struct({', '.join(outward)})", used)
        self.read: Callable[..., E] = _function(f"{', '.join(('read', *columns))}: value({', '.join(inward)})", used)
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(self.struct).decode


def _function(text: str, used: Mapping[str, object]) -> Callable[..., Any]:
    """A function that names the fields one by one, as the `__init__` of a dataclass does."""
    return cast("Callable[..., Any]", eval(f"lambda {text}", dict(used)))  # noqa: S307 - of our own fields' names


def _field(hint: Annotation) -> tuple[Annotation, Convert | None, Convert | None]:
    """What a field is written as, and the way there and back where they differ."""
    origin: object = get_origin(hint)
    if hint is bytes:
        return msgspec.Raw, _raw, bytes
    if is_dataclass(hint):
        shape: _Shape[Any] = _Shape(cast("type[Any]", hint))
        return shape.struct, shape.write, shape.read
    if origin is tuple:
        item, _ = get_args(hint)
        kept, outward, inward = _field(item)
        if outward is None or inward is None:
            return hint, None, None
        return (
            _list_of(kept),
            lambda values: [outward(each) for each in values],
            lambda values: tuple([inward(each) for each in values]),
        )
    if any(part is bytes or is_dataclass(part) for part in get_args(hint)):
        msg = f"{hint!r}: a payload or a nested value that may be missing has no way to be written; give it a default"
        raise TypeError(msg)
    return hint, None, None


def _list_of(item: Annotation) -> Annotation:
    return list.__class_getitem__(item)


def _raw(payload: bytes) -> msgspec.Raw:
    if not payload:
        msg = "a payload is JSON text, and never empty"
        raise ValueError(msg)
    return msgspec.Raw(payload)
