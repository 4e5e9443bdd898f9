"""Events encrypted at rest: what is known of customers can't be read from the log without the key.

A body becomes `{"bound":"..."}`: the key's name, a nonce and AES-256-GCM of the body, in base64. Its kind, its run and
its place in the run's history are authenticated with it, so that a body that was moved to another run, another place or
another kind can't be read. Kinds, times, versions and everything that a log is searched by stay as they are. Bodies
without a seal are read as they are: encryption can begin at any time. So are bodies as older versions wrote them,
`{"sealed":"..."}`, which are bound to their kind alone.

Nonces are random, which is safe for some four thousand million events under one key; every key reads what it wrote,
so the next one can take over long before that.
"""

import hashlib
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Sequence
from typing import Any, Final, TypeGuard

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from amends.codecs.seals import AFTER, BEFORE, NAME_BYTES, is_sealed, sealed_part
from amends.core.run.events import Event
from amends.core.words.codec import Undecodable
from amends.core.words.errors import AmendsError
from amends.ports.events import EventCodec

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


class BadEncryptionKey(AmendsError):
    """What was given is no key."""


def new_key() -> str:
    """A fresh key, as settings take it."""
    return urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()


class EncryptedEvents:
    """`ports.events.EventCodec` around another one. The first key writes, all of them read."""

    def __init__(self, inner: EventCodec, keys: Sequence[str]) -> None:
        self._inner = inner
        known = [_key_bytes(each) for each in keys]
        self._ciphers = {_name(each): AESGCM(each) for each in known}
        self._name = _name(known[0])
        self._writing = AESGCM(known[0])

    def encode(self, event: Event, run: str, version: int) -> tuple[str, bytes]:
        kind, body = self._inner.encode(event, run, version)
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._name + nonce + self._writing.encrypt(nonce, body, _place(kind, run, version))
        return kind, BEFORE + urlsafe_b64encode(sealed) + AFTER

    def plain(self, value: object) -> bytes:
        return self._inner.plain({**value, "error": None} if _is_step(value) else value)

    def decode(self, kind: str, body: bytes, at: int, epoch: int, run: str, version: int) -> Event:  # noqa: PLR0917 - a row of the log, column by column
        if is_sealed(body):
            place = _place(kind, run, version) if body.startswith(BEFORE) else kind.encode()
            body = self._opened(kind, body, place)
        return self._inner.decode(kind, body, at, epoch, run, version)

    def _opened(self, kind: str, body: bytes, place: bytes) -> bytes:
        try:
            sealed = urlsafe_b64decode(sealed_part(body))
        except Error as error:
            msg = f"{kind}: its seal can't be read"
            raise Undecodable(msg) from error
        name, nonce, rest = sealed[:NAME_BYTES], sealed[NAME_BYTES:][:NONCE_BYTES], sealed[NAME_BYTES + NONCE_BYTES :]
        cipher = self._ciphers.get(name)
        if cipher is None:
            msg = f"{kind} was encrypted with a key ({name.hex()}) that isn't here: add it to privacy.decrypt"
            raise Undecodable(msg)
        try:
            return cipher.decrypt(nonce, rest, place)
        except InvalidTag as error:
            msg = f"{kind}: it was changed since it was encrypted, or moved here from another place or run"
            raise Undecodable(msg) from error


def _place(kind: str, run: str, version: int) -> bytes:
    """What a body is bound to. No kind has a space, and no version has one, so no two places read the same."""
    return f"{kind} {version} {run}".encode()


def key_name(key: str) -> str:
    """How a key, as it stands in the settings, is called in what it wrote: see `seals.sealed_by`."""
    return _name(_key_bytes(key)).hex()


def _is_step(value: object) -> TypeGuard[dict[str, Any]]:
    """A step as a row has it: what went wrong may say with what, so it stays in the events."""
    return isinstance(value, dict) and "error" in value


def _name(key: bytes) -> bytes:
    """How a key is called in what it wrote: a hash, of which nothing can be told about the key."""
    return hashlib.sha256(b"amends key " + key).digest()[:NAME_BYTES]


def _key_bytes(text: str) -> bytes:
    try:
        key = urlsafe_b64decode(text.strip())
    except (Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        msg = f"privacy: a key is {KEY_BYTES} bytes in base64. `amends token key` makes one."
        raise BadEncryptionKey(msg)
    return key
