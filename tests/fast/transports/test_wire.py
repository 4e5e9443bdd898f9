"""A call is written in two forms, which say the same."""

from datetime import UTC, datetime

import pytest

from amends.core.words.keys import Phase
from amends.core.words.retry import Guard, Kind
from amends.ports.transport import Outgoing
from amends.wire.call import call_head, call_headers

DEADLINE = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("item", ["", "sku-1"])
@pytest.mark.parametrize(
    ("deadline", "callback", "seal"),
    [(None, None, None), (DEADLINE, "https://amends.example/v1/callbacks/x", "undone")],
)
def test_the_lines_of_http_are_the_headers(
    phase: Phase, item: str, deadline: datetime | None, callback: str | None, seal: str | None
) -> None:
    call = Outgoing(
        key=f"run-1:reserve:{phase.value}",
        run="run-1",
        step="reserve",
        item=item,
        phase=phase,
        participant="inventory",
        operation="reserve",
        guard=Guard.BARRIER,
        kind=Kind.RETRIABLE,
        body=b"{}",
        attempt=2,
        epoch=3,
        since=1_772_420_400_000_250,
        timeout_seconds=5,
        deadline=deadline,
        callback=callback,
        seal=seal,
    )
    lines = call_head(call).split("\r\n")
    assert lines.pop() == ""
    assert dict(line.split(": ", 1) for line in lines) == call_headers(call)
    assert len(lines) == len(call_headers(call))
