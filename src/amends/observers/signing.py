"""How a webhook proves where it comes from: Standard Webhooks, https://www.standardwebhooks.com (`v1` signatures).

The signature is an HMAC-SHA-256 over id, time and body, so none of the three can be changed, and an old message can't
be sent again as a new one without the secret.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256
from secrets import token_bytes
from typing import Final

from amends.core.words.errors import AmendsError

PREFIX: Final = "whsec_"

KEY_BYTES: Final = 32
KEY_BYTES_MIN: Final = 24
KEY_BYTES_MAX: Final = 64
"""Lengths of a key that the standard allows."""


class BadSecret(AmendsError):
    """A secret that libraries of the standard can't use. The message doesn't contain it."""


def signed_headers(id: str, seconds: int, body: bytes, secret: str | None) -> dict[str, str]:
    """The headers of one delivery. `seconds` since 1970. Without a secret there is no signature."""
    headers = {"content-type": "application/json", "webhook-id": id, "webhook-timestamp": str(seconds)}
    if secret is not None:
        headers["webhook-signature"] = f"v1,{signature(id, seconds, body, secret)}"
    return headers


def signature(id: str, seconds: int, body: bytes, secret: str) -> str:
    """HMAC-SHA-256 of `id.seconds.body`, in base64."""
    signed = f"{id}.{seconds}.".encode() + body
    return b64encode(hmac.digest(key_of(secret), signed, sha256)).decode()


def new_secret() -> str:
    """A fresh secret as the standard writes it."""
    return f"{PREFIX}{b64encode(token_bytes(KEY_BYTES)).decode()}"


def key_of(secret: str) -> bytes:
    """The key that a secret stands for; `BadSecret` where receivers that follow the standard would read another key."""
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True) if secret.startswith(PREFIX) else b""
    except ValueError:
        key = b""
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        msg = (
            f"the secret of a webhook is {PREFIX} and the base64 of {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes. "
            "`amends token webhook` makes one."
        )
        raise BadSecret(msg)
    return key


def is_genuine(headers: Mapping[str, str], body: bytes, secret: str, *, now: int, tolerance: int = 300) -> bool:
    """For receivers: signed with this secret, and not older or newer than `tolerance` seconds. Names are lower-case."""
    id, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent.isdecimal() or abs(now - int(sent)) > tolerance:
        return False
    expected = f"v1,{signature(id, int(sent), body, secret)}".encode()
    given = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(expected, each) for each in given)
