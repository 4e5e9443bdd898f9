"""The four decorators of a saga and what they make of a function, written out for the type checker.

Python 3.11 has no variadic way to say "the n-th parameter is the reply of the n-th step read", so each arity up to
six is an overload. What the function returns picks the shape of the step: a plain `def` builds one call, perhaps one,
or many; an `async def` does the work in this process. Nothing here checks anything at run time: `check` does, for all
steps at once.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, cast, overload

from amends.core.saga.operation import Blocking, Call
from amends.core.words.retry import Kind, Policy

I = TypeVar("I")  # noqa: E741 - the field's letter for a saga's input
P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")


class Step(Generic[I, R]):
    """A vertex of the graph. Its name is its function's; it is stored in every run.

    Its reply's type is exact (invariant): an answer to a step must be of that type, not of any type wide enough.
    """

    def __init__(
        self,
        kind: Kind,
        function: Callable[..., Any],
        reads: Sequence["Step[Any, Any]"],
        after: Sequence["Step[Any, Any]"],
        policy: Policy | None,
    ) -> None:
        self.name: str = getattr(function, "__name__", type(function).__name__)
        self.kind = kind
        self.function = function
        self.reads = tuple(reads)
        self.after = tuple(after)
        self.policy = policy
        self.undo: Callable[..., Any] | None = None

    @property
    def where(self) -> str:
        """`shop/sagas.py:31`: where its function is written."""
        return where_is(self.function)

    def _reply(self) -> R:
        """Ties the reply's type to the step, for type checkers only."""
        msg = f"{self.name} is a step; its reply is read by steps that name it, or with outcome.reply({self.name})"
        raise TypeError(msg)

    def __repr__(self) -> str:
        return f"<{self.kind.value} step {self.name}>"


class CompensableStep(Step[I, R], Generic[I, R]):
    """A step whose compensation can be overridden beside it."""

    @overload
    def compensation(self, undo: Callable[[I, R | None], Call[Any]], /) -> Callable[[I, R | None], Call[Any]]: ...
    @overload
    def compensation(
        self, undo: Callable[[I, R | None], Awaitable[None]], /
    ) -> Callable[[I, R | None], Awaitable[None]]: ...
    def compensation(self, undo: Callable[..., Any], /) -> Callable[..., Any]:
        """Undo this step like this. The function is given the input and the reply, or `None` where it was lost."""
        self.undo = undo
        return undo


def where_is(function: Callable[..., Any]) -> str:
    """`file:line` of a function, as far as it is known."""
    inner = function.work if isinstance(function, Blocking) else function
    code = getattr(cast("Any", inner), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(inner)


class AsCompensable(Generic[I, P]):
    """Makes a compensable step of a function."""

    def __init__(self, add: Callable[[Callable[..., Any]], CompensableStep[I, Any]]) -> None:
        self._add = add

    # A call that is always built also is one that is perhaps built: the first row that fits is meant.
    @overload
    def __call__(self, build: Callable[P, Call[R]], /) -> CompensableStep[I, R]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, build: Callable[P, Call[R] | None], /) -> CompensableStep[I, R | None]: ...
    @overload
    def __call__(self, build: Callable[P, Mapping[str, Call[R]]], /) -> Step[I, dict[str, R]]: ...
    @overload
    def __call__(self, build: Callable[P, Sequence[Call[R]]], /) -> Step[I, list[R]]: ...
    @overload
    def __call__(self, work: Callable[P, Awaitable[R]], /) -> CompensableStep[I, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Step[I, Any]:
        """Add the function to the saga."""
        return self._add(function)


class AsStep(Generic[I, P]):
    """Makes a pivot, retriable or neutral step of a function."""

    def __init__(self, add: Callable[[Callable[..., Any]], Step[I, Any]]) -> None:
        self._add = add

    # A call that is always built also is one that is perhaps built: the first row that fits is meant.
    @overload
    def __call__(self, build: Callable[P, Call[R]], /) -> Step[I, R]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, build: Callable[P, Call[R] | None], /) -> Step[I, R | None]: ...
    @overload
    def __call__(self, build: Callable[P, Mapping[str, Call[R]]], /) -> Step[I, dict[str, R]]: ...
    @overload
    def __call__(self, build: Callable[P, Sequence[Call[R]]], /) -> Step[I, list[R]]: ...
    @overload
    def __call__(self, work: Callable[P, Awaitable[R]], /) -> Step[I, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Step[I, Any]:
        """Add the function to the saga."""
        return self._add(function)


class Declares(Generic[I]):
    """The decorators `compensable`, `pivot`, `retriable` and `neutral`; `Saga` adds the rest.

    Positional arguments are the steps whose replies the function reads, in the order of its parameters; `after` names
    steps it only waits for.
    """

    name: str
    version: int
    steps: list[Step[I, Any]]
    notices: list[Callable[..., Any]]

    @overload
    def compensable(
        self, *, after: Iterable[Step[I, Any]] = (), policy: Policy | None = None
    ) -> AsCompensable[I, [I]]: ...

    @overload
    def compensable(
        self, a: Step[I, A], /, *, after: Iterable[Step[I, Any]] = (), policy: Policy | None = None
    ) -> AsCompensable[I, [I, A]]: ...

    @overload
    def compensable(
        self, a: Step[I, A], b: Step[I, B], /, *, after: Iterable[Step[I, Any]] = (), policy: Policy | None = None
    ) -> AsCompensable[I, [I, A, B]]: ...

    @overload
    def compensable(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsCompensable[I, [I, A, B, C]]: ...

    @overload
    def compensable(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        d: Step[I, D],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsCompensable[I, [I, A, B, C, D]]: ...

    @overload
    def compensable(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        d: Step[I, D],
        e: Step[I, E],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsCompensable[I, [I, A, B, C, D, E]]: ...

    @overload
    def compensable(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        d: Step[I, D],
        e: Step[I, E],
        f: Step[I, F],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsCompensable[I, [I, A, B, C, D, E, F]]: ...

    def compensable(
        self, *reads: Step[I, Any], after: Iterable[Step[I, Any]] = (), policy: Policy | None = None
    ) -> Any:
        """A step that is undone when the run turns back."""
        return AsCompensable[I, ...](self._adder(CompensableStep[I, Any], Kind.COMPENSABLE, reads, after, policy))

    @overload
    def pivot(self, *, after: Iterable[Step[I, Any]] = (), policy: Policy | None = None) -> AsStep[I, [I]]: ...

    @overload
    def pivot(
        self, a: Step[I, A], /, *, after: Iterable[Step[I, Any]] = (), policy: Policy | None = None
    ) -> AsStep[I, [I, A]]: ...

    @overload
    def pivot(
        self, a: Step[I, A], b: Step[I, B], /, *, after: Iterable[Step[I, Any]] = (), policy: Policy | None = None
    ) -> AsStep[I, [I, A, B]]: ...

    @overload
    def pivot(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsStep[I, [I, A, B, C]]: ...

    @overload
    def pivot(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        d: Step[I, D],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsStep[I, [I, A, B, C, D]]: ...

    @overload
    def pivot(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        d: Step[I, D],
        e: Step[I, E],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsStep[I, [I, A, B, C, D, E]]: ...

    @overload
    def pivot(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        d: Step[I, D],
        e: Step[I, E],
        f: Step[I, F],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsStep[I, [I, A, B, C, D, E, F]]: ...

    def pivot(self, *reads: Step[I, Any], after: Iterable[Step[I, Any]] = (), policy: Policy | None = None) -> Any:
        """The point of no return: once it has succeeded the run only goes forward. At most one in a saga."""
        return AsStep[I, ...](self._adder(Step[I, Any], Kind.PIVOT, reads, after, policy))

    @overload
    def retriable(self, *, after: Iterable[Step[I, Any]] = (), policy: Policy | None = None) -> AsStep[I, [I]]: ...

    @overload
    def retriable(
        self, a: Step[I, A], /, *, after: Iterable[Step[I, Any]] = (), policy: Policy | None = None
    ) -> AsStep[I, [I, A]]: ...

    @overload
    def retriable(
        self, a: Step[I, A], b: Step[I, B], /, *, after: Iterable[Step[I, Any]] = (), policy: Policy | None = None
    ) -> AsStep[I, [I, A, B]]: ...

    @overload
    def retriable(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsStep[I, [I, A, B, C]]: ...

    @overload
    def retriable(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        d: Step[I, D],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsStep[I, [I, A, B, C, D]]: ...

    @overload
    def retriable(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        d: Step[I, D],
        e: Step[I, E],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsStep[I, [I, A, B, C, D, E]]: ...

    @overload
    def retriable(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        d: Step[I, D],
        e: Step[I, E],
        f: Step[I, F],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsStep[I, [I, A, B, C, D, E, F]]: ...

    def retriable(self, *reads: Step[I, Any], after: Iterable[Step[I, Any]] = (), policy: Policy | None = None) -> Any:
        """A step after the point of no return, which must succeed in the end: it is tried until it does."""
        return AsStep[I, ...](self._adder(Step[I, Any], Kind.RETRIABLE, reads, after, policy))

    @overload
    def neutral(self, *, after: Iterable[Step[I, Any]] = (), policy: Policy | None = None) -> AsStep[I, [I]]: ...

    @overload
    def neutral(
        self, a: Step[I, A], /, *, after: Iterable[Step[I, Any]] = (), policy: Policy | None = None
    ) -> AsStep[I, [I, A]]: ...

    @overload
    def neutral(
        self, a: Step[I, A], b: Step[I, B], /, *, after: Iterable[Step[I, Any]] = (), policy: Policy | None = None
    ) -> AsStep[I, [I, A, B]]: ...

    @overload
    def neutral(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsStep[I, [I, A, B, C]]: ...

    @overload
    def neutral(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        d: Step[I, D],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsStep[I, [I, A, B, C, D]]: ...

    @overload
    def neutral(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        d: Step[I, D],
        e: Step[I, E],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsStep[I, [I, A, B, C, D, E]]: ...

    @overload
    def neutral(
        self,
        a: Step[I, A],
        b: Step[I, B],
        c: Step[I, C],
        d: Step[I, D],
        e: Step[I, E],
        f: Step[I, F],
        /,
        *,
        after: Iterable[Step[I, Any]] = (),
        policy: Policy | None = None,
    ) -> AsStep[I, [I, A, B, C, D, E, F]]: ...

    def neutral(self, *reads: Step[I, Any], after: Iterable[Step[I, Any]] = (), policy: Policy | None = None) -> Any:
        """A step that changes nothing (a look-up, `ask`, `sleep`): nothing to undo, and it may stand anywhere."""
        return AsStep[I, ...](self._adder(Step[I, Any], Kind.NEUTRAL, reads, after, policy))

    def _adder(
        self,
        make: "Callable[[Kind, Callable[..., Any], _Steps, _Steps, Policy | None], S]",
        kind: Kind,
        reads: Sequence[Step[Any, Any]],
        after: Iterable[Step[Any, Any]],
        policy: Policy | None,
    ) -> "Callable[[Callable[..., Any]], S]":
        waits = tuple(after)
        for each in (*reads, *waits):
            _must_be_a_step(each, kind)

        def add(function: Callable[..., Any]) -> S:
            step = make(kind, function, tuple(reads), waits, policy)
            self.steps.append(step)
            return step

        return add


def _must_be_a_step(given: object, kind: Kind) -> None:
    """Untyped code forgets the parentheses, and passes its function where a step is read."""
    if not isinstance(given, Step):
        msg = (
            f"@{kind.value}(...) takes steps of this saga, got {given!r}. "
            f"Write @{kind.value}() with parentheses above the function."
        )
        raise TypeError(msg)


S = TypeVar("S", bound=Step[Any, Any])
_Steps: TypeAlias = Sequence[Step[Any, Any]]
