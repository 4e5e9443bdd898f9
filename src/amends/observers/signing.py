"""How a webhook proves where it comes from: Standard Webhooks, https://www.standardwebhooks.com (`v1` signatures).

The signature is an HMAC-SHA-256 over id, time and body, so none of the three can be changed, and an old message can't
be sent again as a new one by somebody who doesn't know the secret.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Final

PREFIX: Final = "whsec_"


def signed_headers(id: str, seconds: int, body: bytes, secret: str | None) -> dict[str, str]:
    """The headers of one delivery. `seconds` since 1970. Without a secret there is no signature."""
    headers = {"content-type": "application/json", "webhook-id": id, "webhook-timestamp": str(seconds)}
    if secret is not None:
        headers["webhook-signature"] = f"v1,{signature(id, seconds, body, secret)}"
    return headers


def signature(id: str, seconds: int, body: bytes, secret: str) -> str:
    """HMAC-SHA-256 of `id.seconds.body`, in base64."""
    signed = f"{id}.{seconds}.".encode() + body
    return b64encode(hmac.digest(_key(secret), signed, sha256)).decode()


def _key(secret: str) -> bytes:
    """The standard writes keys as `whsec_` and base64; any other text is a key as it is."""
    if secret.startswith(PREFIX):
        with suppress(ValueError):
            return b64decode(secret.removeprefix(PREFIX), validate=True)
    return secret.encode()


def is_genuine(headers: Mapping[str, str], body: bytes, secret: str, *, now: int, tolerance: int = 300) -> bool:
    """For receivers: signed with this secret, and not older or newer than `tolerance` seconds. Names are lower-case."""
    id, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent.isdecimal() or abs(now - int(sent)) > tolerance:
        return False
    expected = f"v1,{signature(id, int(sent), body, secret)}".encode()
    given = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(expected, each) for each in given)
