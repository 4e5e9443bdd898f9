"""Events as they are kept: a kind (the class's name) and a JSON object of the fields, but for `at` and `epoch`.

The log keeps those two in columns of their own. Payloads (fields of type `bytes`) hold JSON text and stand in the body
as they came, byte for byte, so that what is sent again is what was sent; only white space around them isn't kept. A
field that a body lacks gets the default of its class, one that the class lacks is ignored: that is how events gain and
lose fields without a migration.

How a class is written and read is worked out once, when the codec is made, from the class itself: there is no second
list of fields that could fall behind.
"""

from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from operator import attrgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from amends.codecs.seals import is_sealed
from amends.core.codec import Undecodable
from amends.core.events import EVENT_TYPES, Event

E = TypeVar("E")

Convert: TypeAlias = Callable[[Any], Any]
Annotation: TypeAlias = Any
"""A type as annotations write it: a class, a generic alias, a union; Python has no type for these."""

COLUMNS: Final = ("at", "epoch")
"""The first two fields of every event, which the log keeps itself."""


class EventCodec:
    """Writes and reads every kind of event. One per process is enough."""

    def __init__(self, types: Sequence[type[Event]] = EVENT_TYPES) -> None:
        self._writers = {cls: _Shape(cls, COLUMNS) for cls in types}
        self._readers = {cls.__name__: shape for cls, shape in self._writers.items()}

    def encode(self, event: Event) -> tuple[str, bytes]:
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

    def decode(self, kind: str, body: bytes, at: int, epoch: int) -> Event:
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
    """How one class is written and read: by a struct with the same fields in which payloads are raw JSON."""

    def __init__(self, cls: type[E], columns: Sequence[str] = ()) -> None:
        hints = get_type_hints(cls)
        listed = fields(cast("Any", cls))
        assert tuple(each.name for each in listed[: len(columns)]) == tuple(columns), cls
        self.kind = cls.__name__
        self._cls: Callable[..., E] = cls
        names: list[str] = []
        wire: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        self._outward: list[tuple[int, Convert]] = []
        self._inward: list[tuple[int, Convert]] = []
        for index, each in enumerate(listed[len(columns) :]):
            kept, outward, inward = _field(hints[each.name])
            names.append(each.name)
            wire.append((each.name, kept) if each.default is MISSING else (each.name, kept, each.default))
            if outward is not None and inward is not None:
                self._outward.append((index, outward))
                self._inward.append((index, inward))
        self._struct: Any = msgspec.defstruct(cls.__name__, wire, frozen=True)
        self._get = _getter(names)
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(self._struct).decode

    @property
    def struct(self) -> Annotation:
        """The type that is written in place of the class."""
        return self._struct

    def write(self, value: E) -> object:
        """The value as its struct."""
        if not self._outward:
            return self._struct(*self._get(value))
        values = list(self._get(value))
        for index, convert in self._outward:
            values[index] = convert(values[index])
        return self._struct(*values)

    def read(self, struct: object, *columns: int) -> E:
        """The struct as its value."""
        values = self._get(struct)
        if self._inward:
            values = list(values)
            for index, convert in self._inward:
                values[index] = convert(values[index])
        return self._cls(*columns, *values)


def _getter(names: Sequence[str]) -> Callable[[object], Sequence[Any]]:
    match names:
        case []:
            return lambda _: ()
        case [name]:
            return lambda value: (getattr(value, name),)
        case _:
            return attrgetter(*names)


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
