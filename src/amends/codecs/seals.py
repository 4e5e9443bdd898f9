"""How an encrypted body is told from a plain one; reading it is `amends.codecs.encrypted`'s, which needs an extra."""

from base64 import urlsafe_b64decode
from binascii import Error
from typing import Final

BEFORE: Final = b'{"bound":"'
"""Of a body that is bound to its place: it can be read as this event of this run and nowhere else."""

BEFORE_UNBOUND: Final = b'{"sealed":"'
"""Of a body that versions before 0.2 wrote: it is bound to its kind alone."""

AFTER: Final = b'"}'
NAME_BYTES: Final = 4
"""Of the name of the key, which comes first in what is sealed."""


def is_sealed(body: bytes) -> bool:
    """Whether a body is encrypted."""
    return body.startswith((BEFORE, BEFORE_UNBOUND))


def sealed_part(body: bytes) -> bytes:
    """What stands between the quotes of an encrypted body."""
    before = BEFORE if body.startswith(BEFORE) else BEFORE_UNBOUND
    return body[len(before) : -len(AFTER)]


def sealed_by(body: bytes) -> str | None:
    """The name of the key that an encrypted body was written with; `None` of one that isn't encrypted."""
    if not is_sealed(body):
        return None
    try:
        return urlsafe_b64decode(sealed_part(body)[:8])[:NAME_BYTES].hex()
    except Error:
        return "unreadable"
