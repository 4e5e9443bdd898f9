"""Every limit of the core, by name. All are generous: reaching one is a mistake to hear about, not a tuning matter."""

from typing import Final

REQUEST_BYTES_MAX: Final = 1 << 20
"""A request's, or a run's input's, size as JSON."""

REPLY_BYTES_MAX: Final = 1 << 20
"""A reply's size as JSON. Larger replies are no replies: a participant stores and replays them."""

STEPS_MAX: Final = 100
"""Steps in one saga."""

ITEMS_MAX: Final = 1_000
"""Calls in one step that makes many."""

VERSION_MAX: Final = 2**31 - 1
"""A saga's version: as large as a database's whole numbers."""

READS_MAX: Final = 6
"""Steps whose replies one step reads: as many as the type checker can follow."""

TAGS_MAX: Final = 16
TAG_CHARACTERS_MAX: Final = 128

EVENTS_MAX: Final = 10_000
"""Events in one run; from there on a failed attempt counts as spent, while a person's verbs still go in."""

REASON_CHARACTERS_MAX: Final = 1_000

DETAIL_CHARACTERS_MAX: Final = 2_000
"""What is kept of an error's text in the log."""

MISROUTED_MAX: Final = 8
"""Answers from something that isn't the participant before a person is asked to check address and token."""

RETRY_AFTER_MAX_SECONDS: Final = 3_600
"""A participant may ask for patience; for an hour at the most."""
