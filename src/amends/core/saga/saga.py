"""What an author writes: a saga is a name, a version, an input type and steps. It is data: nothing runs at import."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from amends.core.saga.check import check_saga
from amends.core.saga.operation import Call
from amends.core.saga.outcomes import Ended
from amends.core.saga.steps import Declares, Step

I = TypeVar("I")  # noqa: E741 - the field's letter for a saga's input


class Redacted:
    """`Annotated[str, Redacted]`: shown as `***` by the API, the CLI, the dashboard and in log lines."""


class Saga(Declares[I], Generic[I]):
    """A transaction over services as a graph of steps.

    ```python
    place_order = Saga("place-order", Order, version=1)
    ```
    Runs finish under the version they began with; a change of the graph needs a new version.
    """

    def __init__(self, name: str, input: type[I], *, version: int = 1) -> None:
        self.name = name
        self.version = version
        self.input_type: Any = input
        self.steps: list[Step[I, Any]] = []
        self.notices: list[Callable[..., Any]] = []

    def notice(self, build: Callable[[I, Ended], Call[None] | None], /) -> Callable[[I, Ended], Call[None] | None]:
        """Send a completion notification when a run has ended, by a call that is retried like any other; it never
        changes the end.
        """
        self.notices.append(build)
        return build

    def check(self) -> list[str]:
        """Every mistake in this definition, each with where it is and what to do; empty if there is none."""
        return check_saga(self)

    def __repr__(self) -> str:
        return f"<saga {self.name} v{self.version}>"
