"""What a participant answers, as a value. Problems are RFC 9457 bodies with the type `urn:amends:<name>`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from amends.core.words.limits import DETAIL_CHARACTERS_MAX

OUTCOME: Final = "saga-outcome"
IDEMPOTENCY_KEY: Final = "idempotency-key"
JSON_TYPE: Final = "application/json"
PROBLEM_TYPE: Final = "application/problem+json"
NULL: Final = b"null"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (names in lower case) and body of an answer.

    Without the header `saga-outcome` it says nothing about the call's outcome.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def with_outcome(self, word: str) -> "Answer":
        """The same answer as a word of the contract. Gateways demand header values of exactly the type `str`."""
        return Answer(self.status, {**self.headers, OUTCOME: str(word)}, self.body)

    def with_key(self, key: str) -> "Answer":
        """The same answer, naming the call that it answers."""
        return Answer(self.status, {**self.headers, IDEMPOTENCY_KEY: f'"{key}"'}, self.body)


def plain(status: int, body: bytes = NULL, content_type: str = JSON_TYPE) -> Answer:
    """An answer with a body."""
    return Answer(status, {"content-type": content_type}, body)


def problem(
    status: int, name: str, detail: str, *, code: str | None = None, retry_after_seconds: int | None = None
) -> Answer:
    """A problem: `code` is for programs, `detail` for people."""
    said = {"type": f"urn:amends:{name}", "status": status, "detail": detail[:DETAIL_CHARACTERS_MAX]}
    if code is not None:
        said["code"] = code
    headers = {"content-type": PROBLEM_TYPE}
    if retry_after_seconds is not None:
        headers["retry-after"] = str(retry_after_seconds)
    # What a handler said may hold lone surrogates; a question mark there is better than no answer.
    return Answer(status, headers, json.dumps(said, ensure_ascii=False).encode("utf-8", "replace"))
