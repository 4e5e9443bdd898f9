"""A run's facts as a stream of server-sent events (WHATWG HTML, section 9.2), taken up again where it broke."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from amends.client.protocol import Ask
from amends.client.requests import place

BREAKS_MAX: Final = 5
"""Connections in a row that broke without a single event, before the server counts as gone."""


PAUSE_SECONDS: Final = 0.1

LAST: Final = frozenset({"RunEnded", "HistoryPurged", "HistoryUnreadable"})
"""Kinds after which nothing follows: the run's end; or in place of its history, that it isn't there to be read."""


class EventsRead:
    """Reads one run's stream, line by line, over as many connections as it takes."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._last = ""
        self._data: list[str] = []
        self._breaks = 0
        self.is_over = False

    def ask(self) -> Ask:
        """The request for what isn't known yet."""
        self._data.clear()
        self._breaks += 1
        headers = {"accept": "text/event-stream"}
        if self._last:
            headers["last-event-id"] = self._last
        return Ask("GET", f"/v1/runs/{place(self._run)}/events", headers=headers)

    def gives_up(self) -> bool:
        """Whether it broke too often, without anything new, for another try."""
        return self._breaks >= BREAKS_MAX

    @property
    def pause_seconds(self) -> float:
        """How long to wait before the next connection: not at all where this one brought something."""
        return PAUSE_SECONDS * 2**self._breaks if self._breaks > 1 else 0.0

    def line(self, line: bytes) -> Iterator[Mapping[str, Any]]:
        """One line of the stream; gives the event that it completes, if it does."""
        text = line.decode().rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name == "id":
                self._last = value
            return
        if not self._data:
            return
        event: dict[str, Any] = msgspec.json.decode("\n".join(self._data))
        self._data.clear()
        self._breaks = 0
        yield event
        if event.get("kind") in LAST:
            self.is_over = True
