"""A saga, loaded: bytes inside, values outside.

`define` checks what an author wrote and makes a `Definition` of it once: the graph with its closures, and per step
functions from bytes to bytes (decode, call the author's builder, encode). The core calls builders only through here
and only while deciding; every exception of a builder is caught here and becomes a value.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, TypeGuard, TypeVar, assert_never, cast

from amends.core.run.events import Request
from amends.core.run.record import ASK, LOCAL, SKIPPED, SLEEP, ItemRecord, RunRecord, StepRecord
from amends.core.saga.check import check_saga
from amends.core.saga.functions import is_local, parameter_types, return_type, typed_reply
from amends.core.saga.graph import Vertex, arrange
from amends.core.saga.mistakes import (
    AuthorMistake,
    BuildError,
    IsKeyPress,
    ValueMistake,
    may_be_key_press,
    raised_by,
    unreadable,
    written,
)
from amends.core.saga.operation import CALLS_BUILT, Call, Operation, Question, RequestCall, Slept, is_call
from amends.core.saga.saga import Saga
from amends.core.saga.signatures import operations_in
from amends.core.saga.steps import Step
from amends.core.words.codec import Codec, TypeForm, Undecodable, Value
from amends.core.words.error_texts import no_of
from amends.core.words.errors import DefinitionInvalid, NoSuchReply, Rejected
from amends.core.words.keys import decode_item, encode_item
from amends.core.words.limits import DETAIL_CHARACTERS_MAX, ITEMS_MAX, REQUEST_BYTES_MAX
from amends.core.words.retry import (
    BARRIER,
    COMPENSABLE,
    DEFAULTS,
    IDEMPOTENT,
    Defaults,
    Guard,
    Kind,
    ResolvedPolicy,
    micros,
    resolve,
)

I = TypeVar("I")  # noqa: E741 - the field's letter for a saga's input

DefaultsOf = Callable[[str], Defaults]
"""How hard calls to a participant are tried; work done in this process is the participant `local`."""

EPOCH_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Built:
    """What a builder gave: these calls."""

    shape: str
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Declined:
    """The builder said no."""

    code: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class Undoing:
    """What is sent to undo an action."""

    participant: str
    operation: str
    guard: Guard
    body: bytes


class StepDefinition:
    """One step, loaded."""

    def __init__(
        self, saga: Saga[Any], step: Step[Any, Any], vertex: Vertex, codec: Codec, defaults_of: DefaultsOf
    ) -> None:
        self.name = step.name
        self.kind = step.kind
        self.vertex = vertex
        self.forward_only = vertex.forward_only
        self.reads = tuple(each.name for each in step.reads)
        self.after = tuple(each.name for each in step.after)
        self.where = step.where
        self.function = step.function
        self.undo_function = step.undo
        self.is_local = is_local(step.function)
        self.operations = operations_in(step.function)
        called = self.operations[0].participant if self.operations else LOCAL
        kind = Kind.RETRIABLE if vertex.forward_only else step.kind
        self.policy: ResolvedPolicy = resolve(step.policy, kind, defaults_of(called))
        self._codec = codec
        self._saga_input = saga.input_type
        self.reply_type = return_type(step.function) if self.is_local else typed_reply(step.function)
        kinds = parameter_types(step.function)
        self.optional_reads = frozenset(
            name for name, type_ in zip(self.reads, kinds[1:], strict=False) if allows_none(type_)
        )
        self._argument_types = (
            tuple((kinds + (Any,) * len(self.reads))[: 1 + len(self.reads)])
            if kinds
            else ((saga.input_type, *(Any for _ in self.reads)))
        )

    # -- acting

    def build(self, definition: "Definition", record: RunRecord) -> Built | Declined | BuildError | None:
        """What the step asks for, given the run's input and the replies it reads; `None`: nothing, it is skipped."""
        try:
            if self.is_local:
                return Built("one", (self._local_request(record),))
            return self._built(definition, record)
        except Rejected as no:
            return Declined(*no_of(no))
        except AuthorMistake as mistake:
            return mistake.as_error()
        except BaseException as raised:  # noqa: BLE001 - whatever an author's code raises is the author's error
            return raised_by("the builder", raised, definition.is_key_press)

    def _local_request(self, record: RunRecord) -> Request:
        arguments = [record.input, *[_reply_json(record.steps.get(name)) for name in self.reads]]
        body = b"[" + b",".join(arguments) + b"]"
        return Request("", LOCAL, self.name, IDEMPOTENT, self._fits(body), self.name)

    def _built(self, definition: "Definition", record: RunRecord) -> Built | None:
        arguments = [definition.given_input(record)]
        arguments += [definition.given_reply(record, name) for name in self.reads]
        built: list[Call[Any]] = []
        token = CALLS_BUILT.set(built)
        try:
            value: object = self.function(*arguments)
        finally:
            CALLS_BUILT.reset(token)
        if value is None:
            return None
        if is_call(value):
            return Built("one", (self._request("", value, definition, record),))
        if _is_mapping(value):
            return self._many("dict", value, built, definition, record)
        if _is_sequence(value):
            numbered = {str(n): each for n, each in enumerate(value)}
            return self._many("list", numbered, built, definition, record)
        close = getattr(value, "close", None)
        if hasattr(value, "__await__") and callable(close):
            close()
            msg = "the builder is an async client call. Builders must not wait."
            raise AuthorMistake(msg)
        kind = type(value).__name__
        msg = (
            f"returned {_article(kind)} {kind}, expected a Call. A plain def only builds the request. To do the work "
            "here write async def, or put @blocking under the decorator."
        )
        raise AuthorMistake(msg)

    def _many(
        self,
        shape: str,
        calls: Mapping[Any, Any],
        built: list[Call[Any]],
        definition: "Definition",
        record: RunRecord,
    ) -> Built:
        if self.kind is Kind.PIVOT:
            msg = (
                f"built {len(calls)} calls, but a pivot decides once: half of a pivot can't be taken back. Make it "
                "one call, and the others retriable steps after it."
            )
            raise AuthorMistake(msg)
        if len(calls) > ITEMS_MAX:
            msg = f"built {len(calls)} calls; a step makes {ITEMS_MAX} at the most."
            raise ValueMistake(msg)
        for name, call in calls.items():
            if not isinstance(name, str) or not name:
                msg = f"names its calls; {name!r} is no name: expected a non-empty str."
                raise ValueMistake(msg)
            if not is_call(call):
                msg = f"gave {type(call).__name__} for {name!r}, expected a Call."
                raise AuthorMistake(msg)
        kept = {id(call) for call in calls.values()}
        lost = [call for call in built if id(call) not in kept]
        if shape == "dict" and lost and len(kept) == len(calls):
            shown = lost[0].what.request if isinstance(lost[0].what, RequestCall) else lost[0].what
            msg = (
                f"built {len(built)} calls for {len(calls)} names, so a call got lost: {shown!r}"[
                    :DETAIL_CHARACTERS_MAX
                ]
                + ". Merge them, or give each a name of its own."
            )
            raise ValueMistake(msg)
        return Built(
            shape, tuple(self._request(encode_item(name), call, definition, record) for name, call in calls.items())
        )

    def _request(self, item: str, call: Call[Any], definition: "Definition", record: RunRecord) -> Request:
        match call.what:
            case RequestCall(operation=operation, request=request):
                definition.learn(operation)
                undo = operation.compensation if isinstance(operation.compensation, str) else ""
                if self.kind is COMPENSABLE and not undo and (self.undo_function is None or item):
                    msg = f"is compensable, but {operation.label} has no compensation. Nothing was sent."
                    raise AuthorMistake(msg)
                body = self._fits(written(self._codec, request))
                settles = operation.guard is BARRIER or operation.probe is not None
                return Request(item, operation.participant, operation.name, operation.guard, body, undo, settles)
            case Question(question=question, within=within):
                self._must_be_neutral(ASK)
                body = self._fits(written(self._codec, question))
                return Request(item, ASK, ASK, Guard.IDEMPOTENT, body, due_at=record.at + micros(within))
            case Slept(until=until):
                self._must_be_neutral(SLEEP)
                due = record.at + micros(until) if isinstance(until, timedelta) else micros(until - EPOCH_START)
                return Request(item, SLEEP, SLEEP, Guard.IDEMPOTENT, b"null", due_at=due)
            case _ as never:
                assert_never(never)

    def _must_be_neutral(self, what: str) -> None:
        if self.kind is not Kind.NEUTRAL:
            msg = f"is {self.kind.value}, but {what} changes nothing. Make it a neutral step."
            raise AuthorMistake(msg)

    def _fits(self, body: bytes) -> bytes:
        if len(body) > REQUEST_BYTES_MAX:
            msg = f"built a request of {len(body)} bytes; the limit is {REQUEST_BYTES_MAX}."
            raise ValueMistake(msg)
        return body

    # -- undoing

    def build_undo(
        self, definition: "Definition", record: RunRecord, item: ItemRecord, reason: str
    ) -> Undoing | BuildError:
        """What undoes this item: its operation's compensation, or the one written beside the step."""
        request = cast("Request", item.request)
        operation, body = request.undo, request.body
        if request.participant != LOCAL and self.undo_function is not None:
            try:
                operation, body = self._override(definition, record, item, request)
            except AuthorMistake as mistake:
                return mistake.as_error()
            except BaseException as raised:  # noqa: BLE001 - sorted out where all errors of builders are
                return raised_by("the compensation", raised, definition.is_key_press)
        known = item.reply is not None
        reply = item.reply if item.reply is not None else b"null"
        told = json.dumps(reason, ensure_ascii=False).encode()
        flag = b"true" if known else b"false"
        envelope = b"".join(
            (b'{"request":', body, b',"reply":', reply, b',"reply_known":', flag, b',"reason":', told, b"}")
        )
        return Undoing(request.participant, operation, request.guard, envelope)

    def _override(
        self, definition: "Definition", record: RunRecord, item: ItemRecord, request: Request
    ) -> tuple[str, bytes]:
        undo = cast("Callable[..., Any]", self.undo_function)
        given = definition.given_input(record)
        try:
            reply = None if item.reply is None else definition.item_value(request, item.reply, self.name)
        except Undecodable as error:
            raise unreadable("its reply, as logged, can't be read", error) from error
        call: object = undo(given, reply)
        if not is_call(call) or not isinstance(call.what, RequestCall):
            msg = f"its compensation returned {type(call).__name__}, expected a Call of {request.participant}."
            raise AuthorMistake(msg)
        what = call.what
        definition.learn(what.operation)
        if what.operation.participant != request.participant:
            msg = (
                f"its compensation calls {what.operation.participant}, but {request.participant} acted: elsewhere "
                "there is nothing to undo."
            )
            raise AuthorMistake(msg)
        return what.operation.name, self._fits(written(self._codec, what.request))

    # -- work done in this process

    @property
    def argument_types(self) -> tuple[Any, ...]:
        """The types of a local step's arguments, by which its logged body is read."""
        return self._argument_types

    @property
    def undo_input_type(self) -> TypeForm:
        """The type in which a local compensation takes the run's input."""
        kinds = () if self.undo_function is None else parameter_types(self.undo_function)
        return kinds[0] if kinds else self._saga_input

    def describe(self) -> dict[str, Any]:
        """What the digest covers."""
        if self.is_local:
            operations = [LOCAL]
            undone_by = [LOCAL] if self.undo_function is not None else []
        else:
            operations = [f"{each.participant}.{each.name}" for each in self.operations]
            if self.undo_function is not None:
                undone_by = [f"{each.participant}.{each.name}" for each in operations_in(self.undo_function)]
            else:
                undone_by = [str(each.compensation) for each in self.operations if each.compensation]
        return {
            "name": self.name,
            "kind": self.kind.value,
            "reads": list(self.reads),
            "after": list(self.after),
            "guard": sorted({each.guard.value for each in self.operations}) or [Guard.IDEMPOTENT.value],
            "operations": operations,
            "compensations": undone_by,
        }

    def schemas(self) -> dict[str, Any]:
        """Types of requests and replies by operation, for views and for telling versions apart; not part of the
        digest.
        """
        found: dict[str, Any] = {}
        if self.is_local:
            arguments: TypeForm = tuple.__class_getitem__(self._argument_types)
            found[LOCAL] = {"request": self._codec.schema(arguments), "reply": self._codec.schema(self.reply_type)}
        elif not self.operations:
            found[ASK] = {"request": self._codec.schema(str), "reply": self._codec.schema(self.reply_type)}
        for each in self.operations:
            found[f"{each.participant}.{each.name}"] = {
                "request": self._codec.schema(each.request_type),
                "reply": self._codec.schema(each.reply_type) if each.reply_type is not None else None,
            }
        return found


class Definition:
    """A saga, loaded and checked. Made by `define`."""

    def __init__(
        self,
        saga: Saga[Any],
        codec: Codec,
        defaults_of: DefaultsOf = lambda _: DEFAULTS,
        is_key_press: IsKeyPress = may_be_key_press,
        *,
        callable_only: bool = False,
    ) -> None:
        self.is_key_press = is_key_press
        self._callable_only = callable_only
        vertices = arrange(saga.steps)
        self.saga = saga.name
        self.version = saga.version
        self.codec = codec
        self.steps: Mapping[str, StepDefinition] = {
            step.name: StepDefinition(saga, step, vertices[step.name], codec, defaults_of) for step in saga.steps
        }
        self.pivot = next((step.name for step in saga.steps if step.kind is Kind.PIVOT), None)
        self.input_type = saga.input_type
        self.input_value: Callable[[bytes], Any] = codec.decoder(saga.input_type)
        self._notice = saga.notices[0] if saga.notices else None
        self._operations: dict[tuple[str, str], Operation[..., Any, Any]] = {}
        self._decoders: dict[tuple[str, str], Callable[[bytes], Any] | None] = {}
        functions = [each for step in saga.steps for each in (step.function, step.undo) if each is not None]
        for function in (*functions, *saga.notices):
            for operation in operations_in(function):
                self._operations[operation.participant, operation.name] = operation
        described = {
            "saga": self.saga,
            "version": self.version,
            "steps": [step.describe() for step in self.steps.values()],
        }
        self.digest = sha256(_canonical(described)).hexdigest()
        self._described = described
        self._graph: bytes | None = None

    def graph(self) -> bytes:
        """The graph as it is kept in the log: what the digest covers, and schemas. Made once: it is asked for at every
        opening of a log.
        """
        if self._graph is None:
            self._graph = self._made_graph()
        return self._graph

    def _made_graph(self) -> bytes:
        steps = [
            {**step.describe(), "where": step.where.rpartition("/")[2], "schemas": step.schemas()}
            for step in self.steps.values()
        ]
        return _canonical({**self._described, "steps": steps, "input": self.input_schema})

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """The input's type as JSON Schema."""
        return self.codec.schema(self.input_type)

    @property
    def participants(self) -> tuple[str, ...]:
        """Every participant that the builders can name."""
        return tuple(dict.fromkeys(participant for participant, _ in self._operations))

    def owner_of(self, participant: str) -> str:
        """The class that declares a participant, as its author wrote it."""
        owners = (each.owner for (name, _), each in self._operations.items() if name == participant)
        return next(owners, participant)

    @property
    def has_notice(self) -> bool:
        """Whether a completion notification is sent."""
        return self._notice is not None

    def learn(self, operation: Operation[..., Any, Any]) -> None:
        """Keep an operation in mind, so that its logged calls find their types again. `AuthorMistake`: it can't be
        called.
        """
        if self._callable_only and operation.uncallable is not None:
            msg = f"builds a call that can't be made: {operation.uncallable}"
            raise AuthorMistake(msg)
        if self._operations.get((operation.participant, operation.name)) is operation:
            return
        try:
            if operation.reply_type is not None:
                self.codec.decoder(operation.reply_type)
        except DefinitionInvalid as error:
            msg = f"builds a call whose reply can't be read: {error}"
            raise AuthorMistake(msg) from error
        self._operations[operation.participant, operation.name] = operation

    def operation(self, participant: str, name: str) -> Operation[..., Any, Any] | None:
        """An operation that was seen in a builder."""
        return self._operations.get((participant, name))

    def reply_decoder(self, participant: str, name: str, step: str) -> Callable[[bytes], Any] | None:
        """What a reply must be readable as; `None` where the operation has no reply."""
        key = (participant, name if participant != ASK else step)
        try:
            return self._decoders[key]
        except KeyError:
            decoder = self._decoders[key] = self._make_decoder(participant, name, step)
            return decoder

    def _make_decoder(self, participant: str, name: str, step: str) -> Callable[[bytes], Any] | None:
        operation = self._operations.get((participant, name))
        if participant == SLEEP:
            return None
        if operation is not None:
            return None if operation.reply_type is None else self.codec.decoder(operation.reply_type)
        known = self.steps.get(step)
        return self.codec.decoder(Any if known is None else known.reply_type)

    def item_value(self, request: Request, reply: bytes, step: str) -> Value:
        """One reply as a value."""
        decode = self.reply_decoder(request.participant, request.operation, step)
        return None if decode is None else decode(reply)

    def reply_value(self, record: RunRecord, step: str) -> Value:
        """What a step's readers get: a value, `None` where it was skipped, a dict or list where it made many calls."""
        known = record.steps.get(step)
        if known is None:
            if step in self.steps:
                return None
            msg = f"{record.run} is {record.saga} v{record.version}, which has no step {step}."
            raise NoSuchReply(msg)
        values = {
            item.item: self.item_value(item.request, item.reply, step)
            for item in known.items.values()
            if item.request is not None and item.reply is not None and item.state is not SKIPPED
        }
        match known.shape:
            case "one":
                return values.get("")
            case "dict":
                return {decode_item(name): value for name, value in values.items()}
            case shape:
                assert shape == "list", "a step makes one call, or many by name or in order"
                return list(values.values())

    def given_input(self, record: RunRecord) -> Value:
        """The run's input, for a builder. An input that this version of its type can't read is the author's mistake."""
        try:
            return self.input_value(record.input)
        except Undecodable as error:
            raise unreadable("the run's input can't be read", error) from error

    def given_reply(self, record: RunRecord, step: str) -> Value:
        """The reply of a step, for a builder that reads it."""
        try:
            return self.reply_value(record, step)
        except Undecodable as error:
            raise unreadable(f"the reply of {step}, as logged, can't be read", error) from error

    def build_notice(self, record: RunRecord, ended: object) -> Request | BuildError | None:
        """The call that notifies of how the run ended."""
        assert self._notice is not None, "there is a notice to build"
        try:
            call: object = self._notice(self.given_input(record), ended)
            if call is None:
                return None
            if not is_call(call) or not isinstance(call.what, RequestCall):
                return BuildError(f"the notice returned {type(call).__name__}, expected a Call or None")
            what = call.what
            self.learn(what.operation)
            body = written(self.codec, what.request)
            return Request("", what.operation.participant, what.operation.name, what.operation.guard, body)
        except AuthorMistake as mistake:
            return mistake.as_error("the notice ")
        except BaseException as raised:  # noqa: BLE001 - how the run ended must stay what it is
            return raised_by("the notice", raised, self.is_key_press)


def define(
    saga: Saga[I],
    codec: Codec,
    defaults_of: DefaultsOf = lambda _: DEFAULTS,
    is_key_press: IsKeyPress = may_be_key_press,
) -> Definition:
    """Check and load a saga; `DefinitionInvalid` lists every mistake at once. `defaults_of` says of each participant
    how hard calls to it are tried where a step doesn't say it. `is_key_press` tells a Ctrl-C, which isn't a builder's
    error, from a `KeyboardInterrupt` that a builder raises.
    """
    mistakes = check_saga(saga)
    if mistakes:
        raise DefinitionInvalid(mistakes)
    return Definition(saga, codec, defaults_of, is_key_press, callable_only=True)


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


def allows_none(type_: TypeForm) -> bool:
    """Whether a parameter of this type may be given `None`."""
    return type_ is Any or type_ is None or type_ is type(None) or type(None) in getattr(type_, "__args__", ())


def _reply_json(step: StepRecord | None) -> bytes:
    """A step's replies as the JSON that its readers get, joined from the logged bytes."""
    if step is None:
        return b"null"
    known = [item for item in step.items.values() if item.reply is not None and item.state is not SKIPPED]
    match step.shape:
        case "one":
            return cast("bytes", known[0].reply) if known else b"null"
        case "dict":
            pairs = (json.dumps(decode_item(item.item)).encode() + b":" + cast("bytes", item.reply) for item in known)
            return b"{" + b",".join(pairs) + b"}"
        case shape:
            assert shape == "list", "a step makes one call, or many by name or in order"
            return b"[" + b",".join(cast("bytes", item.reply) for item in known) + b"]"


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _article(word: str) -> str:
    return "an" if word[:1].lower() in "aeiou" else "a"
