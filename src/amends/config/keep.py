"""How long the histories of runs that ended are kept: one time for all of them, or one for each way to end."""

from collections.abc import Mapping
from typing import Final, cast

from typing_extensions import override

from amends.config.values import Seconds

ENDS: Final = ("completed", "compensated", "abandoned")
"""How a run may end; what hasn't ended is kept in any case."""

SHORT_SECONDS: Final = 3_600
"""Histories are kept less long than this only where an explicit word says that it is meant (`privacy.keep_short`)."""

NEVER: Final[Mapping[str, str]] = {
    "bodies": "bodies can't be forgotten before the rest of a run: its history is facts that are never changed, and "
    "they are what it is read from. Encrypt them (privacy.encrypt), and keep the run less long",
    "stuck": "a run that is stuck hasn't ended, and is never forgotten",
    "running": "a run that hasn't ended is never forgotten",
    "compensating": "a run that hasn't ended is never forgotten",
}
"""What people may look for here, and why it isn't."""


class Keep(dict[str, Seconds]):
    """Seconds by the state a run ended in; those of a state that isn't named are kept for ever.

    Written `"30d"` (all of them), or as a table: `{ completed = "30d", compensated = "90d" }`. In a variable:
    `completed=30d,compensated=90d`.
    """

    @classmethod
    def parse(cls, given: object) -> "Keep":
        """From what stands in the settings; `ValueError` says what is wrong."""
        if isinstance(given, str) and "=" in given:
            given = dict(_pair(each) for each in given.split(",") if each.strip())
        if not isinstance(given, dict):
            return cls(dict.fromkeys(ENDS, Seconds.parse(given)))
        kept = cls()
        for state, each in cast("Mapping[str, object]", given).items():
            if state in NEVER:
                raise ValueError(NEVER[state])
            if state not in ENDS:
                msg = f"{state} is no way for a run to end: expected completed, compensated or abandoned"
                raise ValueError(msg)
            try:
                kept[state] = Seconds.parse(each)
            except ValueError as error:
                msg = f"{state}: {error}"
                raise ValueError(msg) from error
        return kept

    @property
    def short(self) -> str | None:
        """A state whose histories are kept for less than an hour, if there is one."""
        return next((state for state in ENDS if state in self and self[state] < SHORT_SECONDS), None)

    @override
    def __str__(self) -> str:
        """As it is written."""
        times = set(self.values())
        if len(self) == len(ENDS) and len(times) == 1:
            return str(times.pop())
        return ", ".join(f"{state} {self[state]}" for state in ENDS if state in self) or "-"


def _pair(text: str) -> tuple[str, str]:
    state, _, time = text.partition("=")
    return state.strip(), time.strip()
