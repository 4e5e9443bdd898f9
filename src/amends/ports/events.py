"""How facts are written down: the port between the core's events and the log's bytes."""

from typing import Protocol

from amends.core.run.events import Event


class EventCodec(Protocol):
    """Events as (kind, body); `at` and `epoch` are columns of their own and not in the body."""

    def encode(self, event: Event, run: str, version: int) -> tuple[str, bytes]:
        """The event's kind and its body as JSON text. It will be the run's event number `version`, counted from 1."""
        ...

    def plain(self, value: object) -> bytes:
        """A value made of dicts, lists, text and whole numbers as JSON, for the columns of a row."""
        ...

    def decode(self, kind: str, body: bytes, at: int, epoch: int, run: str, version: int) -> Event:  # noqa: PLR0917 - a row of the log, column by column
        """The event again; `Undecodable` if it can't be read, or was written for another place than this."""
        ...
