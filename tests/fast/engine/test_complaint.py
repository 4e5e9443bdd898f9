"""What doesn't work is said so that it can be read: not a line each second, and not without an end."""

import logging

import pytest

from amends.engine.repeated_warning import AGAIN_SECONDS, Complaint


def test_an_outage_is_said_when_it_begins_now_and_then_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    complaint = Complaint(logging.getLogger("amends.engine"), "it works again", lambda: now[0])
    complaint.fine()
    for _ in range(int(2 * AGAIN_SECONDS)):
        complaint.wrong("it doesn't work: gone")
        now[0] += 1
    complaint.wrong("it doesn't work: starting")
    now[0] += 0.5
    complaint.fine()
    complaint.fine()
    complaint.wrong("it doesn't work: gone")
    assert [each.getMessage() for each in caplog.records] == [
        "it doesn't work: gone",
        "it doesn't work: gone (for 30 s now)",
        "it doesn't work: starting (for 60 s now)",
        "it works again, after 60.5 s",
        "it doesn't work: gone",
    ]
