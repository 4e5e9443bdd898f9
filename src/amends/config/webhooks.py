"""Receivers that the settings name: webhooks with their secrets looked up, and where alerts point to."""

from amends.config.settings import Settings
from amends.config.values import BadSetting
from amends.core.words.urls import BadUrl, http_url, shown_url
from amends.observers.alerts import AlertLinks
from amends.observers.deliveries import Webhook
from amends.observers.signing import BadSecret, key_of


def webhooks_of(settings: Settings) -> list[Webhook]:
    """The receivers and what they are told of; `BadSetting` where a secret can't be looked up or used, or an address
    isn't one.
    """
    found: list[Webhook] = []
    for number, each in enumerate(settings.webhooks):
        try:
            secret = None if each.secret is None else each.secret.look_up()
            if secret is not None:
                key_of(secret)
        except (BadSetting, BadSecret) as error:
            msg = f"webhooks[{number}].secret: {error}"
            raise BadSetting(msg) from error
        try:
            http_url(each.url)
        except BadUrl as error:
            msg = f"webhooks[{number}].url: {shown_url(each.url)!r} is no address: {error}. Expected https://host/path."
            raise BadSetting(msg) from None
        found.append(Webhook(each.url, each.on, secret, each.sagas))
    return found


def links_of(settings: Settings) -> AlertLinks:
    """Where people look: this server, and each saga's runbook."""
    runbooks = tuple((name, each.runbook) for name, each in settings.sagas.items() if each.runbook is not None)
    return AlertLinks((settings.server.public_url or "").rstrip("/"), runbooks)
