"""A participant without code: it answers every operation with a made-up reply of the right type.

The values come from the reply type's JSON Schema: text is the field's name and a number (`sku-1`, `sku-2`), different
every time, lists have two elements, optional fields are filled in. Its barrier is the real one, in memory: repeats are
answered with the same reply, undos of nothing are remembered, late actions are blocked.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias, cast

from amends.core.run.definition import Definition
from amends.core.saga.operation import Operation, Participant, operations_of
from amends.core.words.codec import Codec, TypeForm, Undecodable
from amends.core.words.errors import AmendsError
from amends.core.words.keys import Phase
from amends.inboxes.memory import MemoryInbox
from amends.participant.barrier import BarrierCall, program
from amends.participant.driver import drive_async
from amends.participant.handlers import Handler
from amends.participant.request import BadHeaders, read_headers
from amends.participant.response import Answer, problem

TRIES_MAX: Final = 100
"""Texts that are given another form, in one value."""

NESTED_MAX: Final = 8
"""Levels down to which optional fields are filled in: a type may contain itself."""

_MOMENTS: Final = ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00", "2030-01-01", "12:00:00", "PT1S")
"""What text may have to look like though its schema doesn't say so."""

_FORMATS: Final = {"date-time": _MOMENTS[0], "date": _MOMENTS[2], "time": "12:00:00Z", "duration": "PT1S"}
_PART: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")

Schema: TypeAlias = Mapping[str, Any]
Json: TypeAlias = Any
"""A value as `json` reads and writes it."""


class MadeUpValues:
    """Values of any type that JSON has room for; no two texts or numbers of one name are the same.

    `after`: the number after which they are counted, so that two makers of values needn't give the same.
    """

    def __init__(self, codec: Codec, *, after: int = 0) -> None:
        self._codec = codec
        self._after = after
        self._numbers: Counter[str] = Counter()

    def json(self, type_: TypeForm, name: str) -> bytes:
        """One value of this type, as JSON; `name` is what it is called where nothing in it has a name."""
        schema = self._codec.schema(type_)
        value = self._value(schema, name, schema.get("$defs", {}), 0)
        read = self._codec.decoder(type_)
        for attempt in range(TRIES_MAX):
            body = json.dumps(value, ensure_ascii=False).encode()
            try:
                read(body)
            except Undecodable as error:
                changed = _replace(value, error.path, _MOMENTS[attempt % len(_MOMENTS)])
                if changed is None:
                    msg = (
                        f"no {name} can be made up as {type_!r}: {error.detail} at {error.path}. Route it to a Service."
                    )
                    raise AmendsError(msg) from error
                value = changed[0]
            else:
                return body
        msg = f"no {name} can be made up as {type_!r}. Route it to a Service."
        raise AmendsError(msg)

    def _number(self, name: str) -> int:
        self._numbers[name] += 1
        return self._after + self._numbers[name]

    def _value(self, schema: Schema, name: str, known: Schema, depth: int) -> Json:
        if "$ref" in schema:
            return self._value(known[str(schema["$ref"]).rpartition("/")[2]], name, known, depth + 1)
        for choice in ("anyOf", "oneOf", "allOf"):
            if choice in schema:
                return self._choose(schema[choice], name, known, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        match schema.get("type"):
            case "object":
                return self._object(schema, name, known, depth)
            case "array":
                return self._array(schema, name, known, depth)
            case "string":
                return self._text(schema, name)
            case "integer":
                return self._bounded(schema, name)
            case "number":
                return float(self._bounded(schema, name))
            case "boolean":
                return True
            case _:
                return None

    def _choose(self, choices: Iterable[Schema], name: str, known: Schema, depth: int) -> Json:
        listed = list(choices)
        there = [each for each in listed if each.get("type") != "null"]
        if not there or (depth > NESTED_MAX and len(there) < len(listed)):
            return None
        return self._value(there[0], name, known, depth)

    def _object(self, schema: Schema, name: str, known: Schema, depth: int) -> dict[str, Any]:
        required = set(schema.get("required", ()))
        properties = cast("Mapping[str, Schema]", schema.get("properties", {}))
        made = {
            field: self._value(each, field, known, depth + 1)
            for field, each in properties.items()
            if field in required or depth <= NESTED_MAX
        }
        more = schema.get("additionalProperties")
        if isinstance(more, Mapping) and not properties:
            rest = cast("Schema", more)
            made |= {f"{name}-key-{n}": self._value(rest, name, known, depth + 1) for n in (1, 2)}
        return made

    def _array(self, schema: Schema, name: str, known: Schema, depth: int) -> list[Any]:
        if "prefixItems" in schema:
            return [self._value(each, name, known, depth + 1) for each in schema["prefixItems"]]
        if depth > NESTED_MAX:
            return []
        size = max(2, int(schema.get("minItems", 0)))
        size = min(size, int(schema.get("maxItems", size)))
        single = name.removesuffix("s") or name
        return [self._value(schema.get("items", {}), single, known, depth + 1) for _ in range(size)]

    def _text(self, schema: Schema, name: str) -> str:
        number = self._number(name)
        if "contentEncoding" in schema:
            return ""
        match schema.get("format"):
            case "uuid":
                return f"00000000-0000-4000-8000-{number:012d}"
            case "decimal":
                return str(number)
            case str() as known if known in _FORMATS:
                return _FORMATS[known]
            case _:
                text = f"{name}-{number}".ljust(int(schema.get("minLength", 0)), "-")
                longest = int(schema.get("maxLength", len(text)))
                return text if len(text) <= longest else str(number).zfill(longest)[-longest:] if longest else ""

    def _bounded(self, schema: Schema, name: str) -> int:
        lowest = int(schema.get("minimum", int(schema.get("exclusiveMinimum", 0)) + 1))
        number = lowest + self._number(name) - 1
        highest = schema.get("maximum")
        return number if highest is None else min(number, int(highest))


def _replace(value: Json, path: str, text: str) -> tuple[Json] | None:
    """The value with this text where the path leads, if there is text; what the schema doesn't say, the error does."""
    parts = [field or int(index) for field, index in _PART.findall(path)]
    if not parts:
        return (text,) if isinstance(value, str) else None
    holder = value
    try:
        for part in parts[:-1]:
            holder = holder[part]
        if not isinstance(holder[parts[-1]], str):
            return None
        holder[parts[-1]] = text
    except (LookupError, TypeError):
        return None
    return (value,)


class MadeUp:
    """What `"made-up"` stands for in a route: `handle` is the door of a `Service`."""

    def __init__(self, participant: str, definitions: Iterable[Definition], codec: Codec, values: MadeUpValues) -> None:
        self.name = participant
        self._definitions = list(definitions)
        self._codec = codec
        self._values = values
        self._inbox = MemoryInbox()

    async def handle(self, headers: Mapping[str, str], operation: str, body: bytes) -> Answer:
        """Answer one call."""
        try:
            incoming = read_headers(headers, operation)
        except BadHeaders as error:
            return problem(400, "bad-call", str(error))
        undoes = incoming.key.phase is Phase.COMPENSATION
        known = self._operation(operation, undoes=undoes)
        if known is None:
            return problem(404, "unknown-operation", f"{self.name} has no operation {operation[:100]!r}.")
        anything = self._codec.decoder(Any)
        handler = Handler(
            operation=known,
            code=self._undo if undoes else partial(self._act, known),
            asynchronous=True,
            codec=self._codec,
            request=anything,
            reply=anything,
            replies={},
            undoes=undoes,
        )
        call = BarrierCall(incoming, incoming.print_of(body))
        work = handler.work_async(incoming, body)
        return await drive_async(self._inbox, partial(program, call), work, f"{self.name}, made up")

    async def _act(self, operation: Operation[..., Any, Any], _request: object, _data: object) -> object:
        if operation.reply_type is None:
            return None
        return json.loads(self._values.json(operation.reply_type, operation.name))

    async def _undo(self, _undo: object, _data: object) -> None:
        """Nothing was done, so nothing is to be undone."""

    def _operation(self, name: str, *, undoes: bool) -> Operation[..., Any, Any] | None:
        for definition in self._definitions:
            found = definition.operation(self.name, name)
            if found is not None:
                return found
        declared = [each for known in _declared(Participant) for each in operations_of(known).values()]
        ours = [each for each in declared if each.participant == self.name]
        return next((each for each in ours if name == each.name or (undoes and name == each.compensation)), None)


def _declared(base: type[Participant]) -> list[type[Participant]]:
    """All participants there are: one that a builder picked from a table isn't known to the definition."""
    return [each for known in base.__subclasses__() for each in (known, *_declared(known))]
