"""What stands out on a terminal: what a person must move, what is down, how it ended. Never into a pipe, never with
`NO_COLOR` (no-color.org).
"""

import os
import re
from typing import Final

_STYLES: Final = (
    (re.compile(r"\bSTUCK\b|\bNOT DELIVERED\b"), "1;31"),
    (re.compile(r"\bcompensated\b"), "33"),
    (re.compile(r"\babandoned\b"), "35"),
    (re.compile(r"\bcompleted\b"), "32"),
    (re.compile(r"\bwaiting for [\w.-]+|\bis down\b|\bdown since\b"), "33"),
    (re.compile(r"^ *amends [a-z]+ .*?(?=   )"), "36"),
)


def painted(line: str) -> str:
    """The line with what matters in its colour."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return line
    for pattern, style in _STYLES:
        line = pattern.sub(f"\x1b[{style}m\\g<0>\x1b[0m", line)
    return line
