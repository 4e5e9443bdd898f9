"""How an encrypted body is told from a plain one; reading it is `amends.codecs.encrypted`'s, which needs an extra."""

from typing import Final

BEFORE: Final = b'{"sealed":"'
AFTER: Final = b'"}'


def is_sealed(body: bytes) -> bool:
    """Whether a body is encrypted."""
    return body.startswith(BEFORE)
