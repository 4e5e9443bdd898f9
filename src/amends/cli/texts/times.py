"""Times and durations as people read them at 3 a.m.: how long ago first, always UTC."""

from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = (("d", 86_400.0, 172_800.0), ("h", 3_600.0, 7_200.0), ("min", 60.0, 120.0))
"""Unit, its seconds, and from how many seconds on it is used: 90 s says more than 1 min."""


def age(duration: timedelta) -> str:
    """`0.1 s`, `6 s`, `10 min`, `2 h`, `3 d`."""
    seconds = max(0.0, duration.total_seconds())
    for unit, size, least in _UNITS:
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 1 else f"{seconds:.0f} s"


def took(duration: timedelta) -> str:
    """`41 ms`, `1.50 s`, `12 s`, then as `age`."""
    seconds = max(0.0, duration.total_seconds())
    if seconds < 1:
        return f"{seconds * 1_000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else age(duration)


def span(duration: timedelta) -> str:
    """`0.31 s`: what a whole run took."""
    seconds = max(0.0, duration.total_seconds())
    return f"{seconds:.2f} s" if seconds < 10 else age(duration)


def clock(moment: datetime, now: datetime, *, exactly: bool = False) -> str:
    """`03:16:20` of today, `2026-03-02 03:16:20` of another day; in UTC. `exactly`: with milliseconds."""
    moment = moment.astimezone(UTC)
    text = f"{moment:%H:%M:%S}" + (f".{moment.microsecond // 1_000:03d}" if exactly else "")
    return text if moment.date() == now.astimezone(UTC).date() else f"{moment:%Y-%m-%d} {text}"


def minute(moment: datetime) -> str:
    """`2026-03-02 03:10`, for what is far off."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
