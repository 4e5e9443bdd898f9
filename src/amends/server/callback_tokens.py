"""Tokens for answers that come later: each is good for one call of one run, and for nothing else.

A token is the call's idempotency key and its HMAC under a secret that the log keeps, so every process on that log, now
or after a restart, makes and knows the same ones, and none is stored. It is compared in constant time.
"""

import asyncio
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Final

from amends.core.run.answers import Came
from amends.core.words.keys import BadKey, Key, Phase, parse_key
from amends.ports.log import TransactionLog
from amends.ports.transport import Outgoing, Reloadable, Transport

SETTING: Final = "callback-secret"
SECRET_BYTES: Final = 32
TOKEN_CHARACTERS_MAX: Final = 1_024
ANSWERED_LATER: Final = frozenset({Phase.ACTION, Phase.COMPENSATION})
"""What participants may take on and answer later; probes and seals are answered at once."""


class CallbackTokens:
    """Makes and reads tokens, once `open` has asked the log for its secret."""

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secret
        self._opened = asyncio.Event()
        if secret is not None:
            self._opened.set()

    async def open(self, log: TransactionLog) -> None:
        """Learn the log's secret; it is made by whoever asks first."""
        self._secret = await log.setting(SETTING, secrets.token_bytes(SECRET_BYTES))
        self._opened.set()

    async def opened(self) -> None:
        """Until the secret is known: a run that is resumed may want to call before that."""
        if self._secret is None:
            await self._opened.wait()

    def token(self, key: str) -> str:
        """The token for a key."""
        return f"{_encoded(key.encode())}.{_encoded(self._mac(key))}"

    def key(self, token: str) -> Key | None:
        """The key that a token was made for; `None` if it wasn't made here."""
        if self._secret is None or len(token) > TOKEN_CHARACTERS_MAX or not token.isascii():
            return None
        named, _, signed = token.partition(".")
        try:
            text, mac = _decoded(named).decode(), _decoded(signed)
        except (Error, UnicodeDecodeError):
            return None
        # Also written in one way only: base64 has unused bits at its end.
        if not hmac.compare_digest(self._mac(text), mac) or token != self.token(text):
            return None
        try:
            return parse_key(text)
        except BadKey:
            return None

    def _mac(self, key: str) -> bytes:
        assert self._secret is not None, "open() comes first"
        return hmac.digest(self._secret, key.encode(), sha256)


class CallingBack:
    """A transport that tells participants where a later answer goes: the same URL in every attempt of a call."""

    def __init__(self, inner: Transport, tokens: CallbackTokens, public_url: str) -> None:
        self._inner = inner
        self._tokens = tokens
        self._base = f"{public_url.rstrip('/')}/v1/callbacks/"

    async def send(self, call: Outgoing) -> Came:
        """Send it, with its callback."""
        if call.phase in ANSWERED_LATER:
            await self._tokens.opened()
            call = replace(call, callback=self._base + self._tokens.token(call.key))
        return await self._inner.send(call)

    def reload(self) -> None:
        """Read again what the one inside holds."""
        if isinstance(self._inner, Reloadable):
            self._inner.reload()

    async def close(self) -> None:
        """Let go of what is inside."""
        await self._inner.close()


def calling_back(tokens: CallbackTokens, public_url: str) -> Callable[[Transport], Transport]:
    """What is put around every way to a participant."""
    return lambda inner: CallingBack(inner, tokens, public_url)


def _encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
