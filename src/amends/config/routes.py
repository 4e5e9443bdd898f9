"""What settings say of participants: routes, and how hard calls are tried."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeVar

from typing_extensions import override

from amends.config.settings import AuthSettings, CircuitSettings, ParticipantSettings, Settings
from amends.config.values import BadSetting, Secret, SecretHeaders
from amends.core.saga.operation import AT_ONCE_DEFAULT, CircuitLimits, Route, Tls
from amends.core.words.retry import DEFAULTS, Defaults

T = TypeVar("T")

FOR_ALL: Final = "defaults"
"""The participant's name under which stands what holds for those that don't say it."""


@dataclass(frozen=True, slots=True)
class Routes:
    """Routes, and their headers, whose secrets can be looked up again."""

    routes: Sequence[Route]
    headers: "Mapping[str, Authorized]" = field(default_factory=dict[str, "Authorized"])

    def reload(self, settings: Settings | None = None) -> list[str]:
        """Look every secret up again, of the headers that these settings name; what went wrong, without any secret.

        What can't be looked up stays as it was. Of a participant that the settings no longer have, no header stays.
        """
        wrong: list[str] = []
        for participant, each in self.headers.items():
            try:
                if settings is None:
                    each.reload()
                else:
                    each.renew(*_headers_of(settings, participant))
            except BadSetting as error:
                wrong.append(f"participants.{participant}: {error}")
        return wrong


def _headers_of(settings: Settings, participant: str) -> tuple[dict[str, Secret], AuthSettings | None]:
    for_all = settings.participants.get(FOR_ALL, ParticipantSettings())
    own = settings.participants.get(participant)
    if own is None or own.url is None:
        return {}, None
    return {**for_all.headers, **own.headers}, own.auth or for_all.auth


def routes_of(settings: Settings) -> Routes:
    """The routes that the settings name; `BadSetting` where a secret can't be looked up."""
    for_all = settings.participants.get(FOR_ALL, ParticipantSettings())
    if for_all.url is not None:
        msg = (
            f"participants.{FOR_ALL}.url: {FOR_ALL} holds for all participants and is none: call yours something else."
        )
        raise BadSetting(msg)
    routes: list[Route] = []
    headers: dict[str, Authorized] = {}
    for name, each in settings.participants.items():
        if name == FOR_ALL or each.url is None:
            continue
        try:
            found = headers[name] = Authorized(*_headers_of(settings, name))
        except BadSetting as error:
            msg = f"participants.{name}: {error}"
            raise BadSetting(msg) from error
        tls = each.tls or for_all.tls
        routes.append(
            Route(
                name,
                each.url,
                headers=found,
                at_once=_first(each.at_once, for_all.at_once, AT_ONCE_DEFAULT),
                tls=None if tls is None else Tls(tls.ca, tls.cert, tls.key),
                circuit=_circuit(each.circuit or for_all.circuit),
                per_second=each.per_second or for_all.per_second,
            )
        )
    return Routes(routes, headers)


def _circuit(given: CircuitSettings | None) -> CircuitLimits:
    if given is None:
        return CircuitLimits()
    return CircuitLimits(
        failures=given.failures,
        within=timedelta(seconds=given.within),
        probe_every=timedelta(seconds=given.probe_every),
    )


class Authorized(SecretHeaders):
    """Headers with the one that authenticates us."""

    def __init__(self, given: Mapping[str, Secret], auth: AuthSettings | None) -> None:
        self._auth = auth
        super().__init__(given)

    def renew(self, given: Mapping[str, Secret], auth: AuthSettings | None) -> None:
        """Other headers from now on; `BadSetting` leaves what was known."""
        before = self._given, self._auth
        self._given, self._auth = dict(given), auth
        try:
            self.reload()
        except BadSetting:
            self._given, self._auth = before
            raise

    @override
    def reload(self) -> None:
        known = {name: each.look_up() for name, each in self._given.items()}
        auth = self._auth
        if auth is not None and auth.bearer is not None:
            known["Authorization"] = f"Bearer {auth.bearer.look_up()}"
        elif auth is not None and auth.basic is not None:
            known["Authorization"] = f"Basic {b64encode(auth.basic.look_up().encode()).decode()}"
        self._known = known


def defaults_of(settings: Settings, participant: str) -> Defaults:
    """How hard calls to a participant are tried where a step doesn't say it."""
    for_all = settings.participants.get(FOR_ALL, ParticipantSettings())
    own = settings.participants.get(participant, ParticipantSettings())
    retry = own.retry or for_all.retry
    timeout = own.timeout or for_all.timeout
    found = DEFAULTS if timeout is None else Defaults(timeout=timedelta(seconds=timeout))
    if retry is None:
        return found
    return Defaults(
        timeout=found.timeout,
        attempts_max=retry.attempts_max,
        give_up_after=timedelta(seconds=retry.give_up_after),
        first=timedelta(seconds=retry.first),
        cap=timedelta(seconds=retry.cap),
    )


def _first(*values: T | None) -> T:
    return next(each for each in values if each is not None)
