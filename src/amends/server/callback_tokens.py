"""Tokens for answers that come later: each is good for one call of one run, and for nothing else.

A token is the call's idempotency key and its HMAC under a secret, so every process with that secret makes and knows the
same tokens, now or after a restart, and none is stored. It is compared in constant time.

The secret is the log's own, made by the first server, unless the settings name others (`server.callback_secrets`). Of
those the first makes tokens and all verify them: a new secret is put in front, and the old one is taken out once the
calls that were told of it are answered.
"""

import asyncio
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Callable
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class CallbackSecrets:
    """What the settings say: these secrets, the newest first, and whether the log's own verifies tokens as well."""

    secrets: tuple[bytes, ...] = ()
    of_log: bool = True


NO_SECRETS: Final = CallbackSecrets()


class CallbackTokens:
    """Makes tokens with the first of its secrets and verifies them with each, once `open` has learnt them."""

    def __init__(self, *secrets: bytes) -> None:
        self._secrets = secrets
        self._of_log: bytes | None = None
        self._opened = asyncio.Event()
        if secrets:
            self._opened.set()

    async def open(self, log: TransactionLog, configured: CallbackSecrets = NO_SECRETS) -> None:
        """Learn the secrets; the log's own is made by the first process that asks for it."""
        if configured.of_log:
            self._of_log = await log.setting(SETTING, secrets.token_bytes(SECRET_BYTES))
        self.renew(configured)
        self._opened.set()

    def renew(self, configured: CallbackSecrets) -> None:
        """Use these secrets from now on; `ValueError` if the log's own is wanted and was not read at the start."""
        if configured.of_log and self._of_log is None:
            msg = "the log's secret is read when the server starts: start it anew"
            raise ValueError(msg)
        of_log = (self._of_log,) if configured.of_log and self._of_log is not None else ()
        self._secrets = (*configured.secrets, *of_log)

    async def opened(self) -> None:
        """Until a secret is known: a run that is resumed may want to call before that."""
        if not self._secrets:
            await self._opened.wait()

    def token(self, key: str) -> str:
        """The token for a key."""
        assert self._secrets, "open() comes first"
        return _token(self._secrets[0], key)

    def key(self, token: str) -> Key | None:
        """The key that a token was made for; `None` if none of the secrets made it."""
        if len(token) > TOKEN_CHARACTERS_MAX or not token.isascii():
            return None
        named, _, signed = token.partition(".")
        try:
            text, mac = _decoded(named).decode(), _decoded(signed)
        except (Error, UnicodeDecodeError):
            return None
        # Also written in one way only: base64 has unused bits at its end. Every secret is tried, whichever made it.
        made_here = [
            hmac.compare_digest(_mac(each, text), mac) and token == _token(each, text) for each in self._secrets
        ]
        if not any(made_here):
            return None
        try:
            return parse_key(text)
        except BadKey:
            return None


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


def _token(secret: bytes, key: str) -> str:
    return f"{_encoded(key.encode())}.{_encoded(_mac(secret, key))}"


def _mac(secret: bytes, key: str) -> bytes:
    return hmac.digest(secret, key.encode(), sha256)


def _encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
