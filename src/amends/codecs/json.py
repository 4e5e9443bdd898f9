"""Values as JSON in UTF-8, by msgspec; pydantic models by their own methods, without importing pydantic.

Reading is strict: no number from a string, no missing field; unknown fields are ignored, of a name that stands
twice the last one counts. Dataclasses, attrs classes, TypedDicts, named tuples, msgspec structs, unions and what is
built of them work as msgspec says. Whatever can't be read is `Undecodable` with the place, and nothing else: types run
code of their authors (`__post_init__`, validators), and an answer that breaks it is unreadable, not a crash.

Numbers: integers have any size. A fraction is a double, and one beyond it is refused; `Decimal` fields keep every
digit. NaN and infinities are no JSON and are refused, not turned into `null`. Nesting is limited, so that what was
accepted once can also be read inside an event, wherever the stack stands.
"""

import math
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from itertools import accumulate
from typing import Any, Final, cast

import msgspec

from amends.codecs.json_schema import Annotation, pydantic_adapter, schema_of
from amends.core.words.codec import Undecodable
from amends.core.words.error_texts import text_of, told
from amends.core.words.errors import DefinitionInvalid
from amends.core.words.limits import DETAIL_CHARACTERS_MAX

NESTING_MAX: Final = 128
"""Levels of arrays and objects. Deeper than any message people write, far from Python's recursion limit of 1,000."""

_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class JsonCodec:
    """`core.codec.Codec` for JSON. One per process is enough; decoders are kept per type."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder(enc_hook=_encode_foreign)
        self._decoders: dict[Any, Callable[[bytes], Any]] = {}

    def encode(self, value: object) -> bytes:
        try:
            encoded = self._encoder.encode(value)
            if encoded.find(b"null") >= 0:  # `in` first asks whether it is a number, at twice the price
                _refuse_non_numbers(value)
        except Exception as error:  # serializers of foreign types raise what they like
            raise _undecodable(error) from error
        _check_nesting(encoded)
        return encoded

    def decoder(self, type_: Annotation) -> Callable[[bytes], Any]:
        try:
            return self._decoders[type_]
        except KeyError:
            made = self._decoders[type_] = _guarded(_decoder(type_))
            return made
        except TypeError:  # `Annotated` with metadata that has no hash
            return _guarded(_decoder(type_))

    def schema(self, type_: Annotation) -> dict[str, Any]:
        return schema_of(type_)


def canonical(body: bytes) -> bytes:
    """The same JSON in its one canonical form: keys sorted, no spaces, not ASCII-escaped.

    Fractions that differ only in how they are written (`1.10`, `1.1`) become the same; one that no double holds keeps
    its digits. `1` and `1.0` stay apart: a strict reader treats them differently.
    """
    return _CANONICAL.encode(_ANYTHING(body))


# -- reading


def _decoder(type_: Annotation) -> Callable[[bytes], Any]:
    """How to read this type: by msgspec, by the model's own method, or by pydantic's adapter where msgspec can't."""
    own = getattr(type_, "model_validate_json", None)
    if own is not None:
        return cast("Callable[[bytes], Any]", own)
    try:
        decoder = msgspec.json.Decoder(type_, dec_hook=_decode_foreign)
        strangers = sorted(_strangers(msgspec.inspect.type_info(type_), set()))
    except (TypeError, NameError, AttributeError) as error:
        adapter = pydantic_adapter(type_)
        if adapter is None:
            msg = f"{type_!r} can't be read from JSON: {error}"
            raise DefinitionInvalid([msg]) from error
        return cast("Callable[[bytes], Any]", adapter.validate_json)
    if strangers:
        msg = f"{type_!r} can't be read from JSON: nothing says how to read {', '.join(strangers)}. Use a dataclass."
        raise DefinitionInvalid([msg])
    return decoder.decode


def _strangers(info: object, seen: set[int]) -> Iterator[str]:
    """The classes in a type that msgspec leaves to us and we can't read either."""
    if isinstance(info, msgspec.inspect.CustomType):
        if not hasattr(info.cls, "model_validate_json"):
            yield info.cls.__qualname__
    elif isinstance(info, tuple):
        for each in cast("tuple[object, ...]", info):
            yield from _strangers(each, seen)
    elif isinstance(info, msgspec.Struct) and id(info) not in seen:
        seen.add(id(info))
        for name in info.__struct_fields__:
            yield from _strangers(getattr(info, name), seen)


def _guarded(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(body: bytes) -> object:
        try:
            if not body.isascii():
                str(body, "utf-8")  # msgspec skips unknown fields without looking into their strings
            _check_nesting(body)
            return decode(body)
        except Undecodable:
            raise
        except Exception as error:  # types run their author's code: the module says why
            raise _undecodable(error) from error

    return read


def _decode_foreign(type_: type, value: object) -> object:
    """A pydantic model somewhere inside of another type."""
    validate = getattr(type_, "model_validate_json", None)
    if validate is None:
        raise NotImplementedError
    try:
        return validate(msgspec.json.encode(value))
    except Exception as error:
        # msgspec says where it is and keeps only the text of a ValueError: the inner place goes along in it.
        inner = _undecodable(error)
        raise ValueError(f"{inner.detail}{_INNER}{inner.path[1:]}") from error


_INNER: Final = "\x00"


def _undecodable(error: Exception) -> Undecodable:
    """Whatever a reader or writer raised, as one error with detail and place."""
    found = _pydantic_errors(error)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return Undecodable(f"{found[0]['msg']}{more}", path=_path(found[0]["loc"]))
    if isinstance(error, RecursionError):
        return Undecodable("nested too deeply")
    if isinstance(error, UnicodeError):
        return Undecodable(f"not UTF-8: {error.reason}" if isinstance(error, UnicodeDecodeError) else text_of(error))
    text = text_of(error) if isinstance(error, (msgspec.MsgspecError, ValueError, TypeError)) else told(error)
    detail, path = _placed(text)
    detail, _, inner = detail.partition(_INNER)
    return Undecodable(_short(detail), path=_short(path + inner))


def _placed(text: str) -> tuple[str, str]:
    """Detail and place of msgspec's ``detail - at `$.place` ``. The text may quote the input: one pass, no pattern."""
    if text.endswith("`"):
        detail, found, place = text[:-1].rpartition(" - at `")
        if found:
            return detail, place.removeprefix("key` in `")
    return text, "$"


def _short(text: str) -> str:
    """A type's error may quote a value of the input whole, however long."""
    return text if len(text) <= DETAIL_CHARACTERS_MAX else f"{text[: DETAIL_CHARACTERS_MAX - 1]}\N{HORIZONTAL ELLIPSIS}"


def _pydantic_errors(error: Exception) -> list[dict[str, Any]]:
    """What pydantic found, without the input, which its text quotes and which may hold what must not be shown."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return []
    try:
        return cast("list[dict[str, Any]]", errors(include_url=False, include_input=False, include_context=False))
    except Exception:  # noqa: BLE001 - an exception of its author's own whose `errors` is something else
        return []


def _path(location: tuple[str | int, ...]) -> str:
    return "$" + "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in location)


def _check_nesting(body: bytes) -> None:
    if len(body) <= NESTING_MAX or body.count(b"[") + body.count(b"{") <= NESTING_MAX:
        return
    # What is left between quotes, once escaped ones are gone, is within a string and outside of it in turn.
    outside = body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2]
    brackets = b"".join(outside).translate(None, _OTHERS)
    if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > NESTING_MAX:
        msg = f"nested too deeply: more than {NESTING_MAX} levels"
        raise Undecodable(msg)


# -- writing


def _encode_foreign(value: object) -> object:
    """A pydantic model: by alias and without computed fields, so that the model can read what it wrote."""
    dump = getattr(value, "model_dump_json", None)
    if dump is None:
        msg = f"a value of type {type(value).__qualname__} can't be written as JSON"
        raise TypeError(msg)
    return msgspec.Raw(cast("str", dump(by_alias=True, round_trip=True)))


def _refuse_non_numbers(value: object) -> None:
    """Msgspec writes NaN and infinities as `null`; looked for only where a `null` was written."""
    left = [msgspec.to_builtins(value, enc_hook=_plain)]
    while left:
        each = left.pop()
        if isinstance(each, float) and not math.isfinite(each):
            msg = f"{each} is no JSON"
            raise ValueError(msg)
        if isinstance(each, dict):
            left.extend(cast("dict[object, object]", each).values())
        elif isinstance(each, (list, tuple, set, frozenset)):
            left.extend(cast("list[object]", each))


def _plain(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    return str(value) if dump is None else dump(by_alias=True, round_trip=True)


# -- canonical


def _exact(text: str) -> float | Decimal:
    number = float(text)
    try:
        exact = Decimal(text)
    except InvalidOperation:
        msg = "Number out of range"
        raise ValueError(msg) from None
    if math.isfinite(number) and Decimal(repr(number)) == exact:
        return number
    sign, digits, written = exact.as_tuple()
    exponent = int(written)
    kept = len(digits)
    while kept > 1 and digits[kept - 1] == 0:
        kept -= 1
    return Decimal((sign, digits[:kept], exponent + len(digits) - kept))


_ANYTHING: Final = _guarded(msgspec.json.Decoder(Any, float_hook=_exact).decode)
_CANONICAL: Final = msgspec.json.Encoder(order="sorted", decimal_format="number")
