"""Everything that can be set, with its default. Names are those of the sections of `amends.toml`.

What a setting is for stands below it and is what the reference page prints.
"""

from typing import Annotated, Any, Literal

import msgspec

from amends.config.keep import Keep
from amends.config.values import LeaseDuration, Seconds, Secret, Size

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section: unknown keys are errors."""


class ServerTlsSettings(Section, frozen=True):
    """Certificates of the server."""

    cert: str
    """The server's certificate, with what is needed up to the authority: a PEM file."""

    key: str
    """Its private key: a PEM file."""

    client_ca: str | None = None
    """Only clients with a certificate of this authority may connect: a PEM file."""


class ServerSettings(Section, frozen=True):
    """`[server]`: where it listens, and what it takes."""

    listen: str = "127.0.0.1:8700"
    """HOST:PORT; port 0 takes any. Other than loopback only with tokens."""

    public_url: str | None = None
    """How participants reach this server; with it they are told where a later answer goes (`Saga-Callback`)."""

    callback_secrets: tuple[Secret, ...] = ()
    """Secrets of the tokens in `Saga-Callback`, the newest first: the first makes tokens, all verify them.
    `amends token callback` makes one. Without any, the log makes and keeps one."""

    callback_secret_of_log: bool = True
    """Whether tokens made with the log's own secret are accepted beside those of `callback_secrets`."""

    tls: ServerTlsSettings | None = None
    """Certificates; without them it speaks plain HTTP."""

    body_max: Size = Size((1 << 20) + (64 << 10))
    """The largest body. A run's input has a limit of its own, 1 MiB."""

    body_timeout: Seconds = Seconds(30)
    """How long a body may take to arrive."""

    head_timeout: Seconds = Seconds(20)
    """How long the head of a request may take to arrive."""

    head_max: Size = Size(64 << 10)
    """The largest head of a request."""

    write_timeout: Seconds = Seconds(30)
    """How long a client may leave an answer unread; then its connection is closed."""

    requests_max: AtLeastOne = 4_096
    """Requests that are being answered at a time, those that wait for a run included; more are 503. One token may have
    three quarters of them."""

    streams_max: AtLeastOne = 1_024
    """Live streams of events at a time. One token may have a quarter of them."""

    connections_max: AtLeastOne = 8_192
    """Connections that are open at a time; fewer if the process may not have 512 open files more. For a new one the
    connection that has been idle longest is closed."""

    per_second: AboveZero = 1_000.0
    """Requests of one token per second, on average; more are 429. Without tokens there is no such limit."""

    grace: Seconds = Seconds(10)
    """How long calls in flight get when the server stops."""

    log_format: Literal["text", "json"] = "text"
    """Of the process's log on the standard error: text, or one JSON object a line. Among lines of text an alert is a
    line of JSON."""

    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    """The least level that is logged of amends and the HTTP server. Alerts are logged at any level."""

    access_log: bool = False
    """Whether each answered request is logged: client, name of the token, method, path without query, status, time."""


class TokenSettings(Section, frozen=True):
    """`[[tokens]]`: callers that may ask. `amends token new` makes one."""

    name: str
    """Stands in the log of whatever is done with it."""

    role: Literal["viewer", "client", "operator"]
    """What it may do: look; start, cancel and answer; everything."""

    hash: str
    """`sha256:` and the token's hash; the token itself is kept by its user."""

    sagas: tuple[str, ...] = ()
    """Only runs of these sagas; of all where none is named."""


class CircuitSettings(Section, frozen=True):
    """When a participant counts as down."""

    failures: AtLeastOne = 20
    """So many failures in a row..."""

    within: Seconds = Seconds(10)
    """... within this time..."""

    probe_every: Seconds = Seconds(5)
    """... and only one call this often is sent, until one is answered."""


class RetrySettings(Section, frozen=True):
    """How hard steps try that don't say it themselves."""

    attempts_max: AtLeastOne = 8
    """Attempts of what may be turned back; what must succeed, and undo, have no limit but the time."""

    give_up_after: Seconds = Seconds(86_400)
    """How long the same call is tried before a person is asked."""

    first: Seconds = Seconds(1)
    """The first wait; each further one is twice as long..."""

    cap: Seconds = Seconds(60)
    """... up to this."""


class ClientTlsSettings(Section, frozen=True):
    """Certificates towards a participant."""

    ca: str | None = None
    """The authority of the participant's certificate: a PEM file. Not set: the system's."""

    cert: str | None = None
    """Our certificate: a PEM file."""

    key: str | None = None
    """Its private key: a PEM file."""


class AuthSettings(Section, frozen=True):
    """Authentication sent to the participant."""

    bearer: Secret | None = None
    """Sent as `Authorization: Bearer ...`."""

    basic: Secret | None = None
    """`name:password`, sent as `Authorization: Basic ...`."""


class ParticipantSettings(Section, frozen=True):
    """`[participants.NAME]`: where a service is; `[participants.defaults]` holds for all that don't say it."""

    url: str | None = None
    """http://host/path, https://host/path or python:module:name."""

    headers: dict[str, Secret] = {}
    """Sent with every call; read again on SIGHUP, never in the log, in errors or in `show`."""

    auth: AuthSettings | None = None
    """Authentication sent to the participant."""

    tls: ClientTlsSettings | None = None
    """Certificates, also towards us."""

    at_once: AtLeastOne | None = None
    """Calls in flight per process; 64 unless set."""

    per_second: AboveZero | None = None
    """Calls begun a second, per process; any number unless set."""

    timeout: Seconds | None = None
    """Of one attempt, for steps that don't say it themselves; 5 s unless set."""

    circuit: CircuitSettings | None = None
    """When it counts as down."""

    retry: RetrySettings | None = None
    """How hard steps try that don't say it themselves."""


class SagaSettings(Section, frozen=True):
    """`[sagas.NAME]`: what holds for the runs of one saga."""

    deadline: Seconds | None = None
    """The deadline of runs that are started without one."""

    runbook: str | None = None
    """Where people read what to do; printed by `show` and in alerts."""


class EngineSettings(Section, frozen=True):
    """`[engine]`: how this process drives runs."""

    runs_max: AtLeastOne = 1_000
    """Runs in memory; more wait in the log."""

    poll: Seconds = Seconds(1)
    """How often the log is asked for runs that need a worker."""

    lease: LeaseDuration | None = None
    """How long this process may be silent before others take its runs, on PostgreSQL: 15 s unless set here or in the
    log's URL (`?lease_seconds=5`), which wins. All workers of a log should say the same."""

    leave: tuple[str, ...] = ()
    """Sagas whose live runs may be left without a worker: the process starts although it lacks them, and they don't go
    on.
    """


class PrivacySettings(Section, frozen=True):
    """`[privacy]`: what is kept, and how."""

    encrypt: Secret | None = None
    """The key that encrypts what the log keeps of events; `amends token key` makes one."""

    decrypt: tuple[Secret, ...] = ()
    """Former keys, which still read what they wrote."""

    keep: Keep = Keep()
    """How long the histories of runs that ended are kept: `30d`, or by how they ended, as
    `{ completed = "30d", compensated = "90d" }`. Not set: for ever. Ids stay taken, what is stuck stays."""

    keep_short: bool = False
    """Confirms that `keep` is meant where it is less than an hour."""


class WebhookSettings(Section, frozen=True):
    """`[[webhooks]]`: receivers of signed POSTs, and what they are told of."""

    url: str
    """Where it is posted."""

    on: tuple[Literal["completed", "compensated", "stuck", "abandoned", "alert"], ...]
    """The states of a run of which they are told; `alert`: what is wrong, by cause, a message for many runs."""

    secret: Secret | None = None
    """The secret of `Webhook-Signature`, as `amends token webhook` makes it: `whsec_` and base64."""

    sagas: tuple[str, ...] = ()
    """Only runs of these sagas; of all where none is named."""


class Settings(Section, frozen=True):
    """Everything that can be set."""

    log: str = "sqlite:///amends.db"
    """The log, by URL: memory:, sqlite:///file.db. References to secrets may stand in it."""

    modules: tuple[str, ...] = ()
    """Where the sagas are: MODULE or MODULE:NAME."""

    server: ServerSettings = ServerSettings()
    engine: EngineSettings = EngineSettings()
    privacy: PrivacySettings = PrivacySettings()
    tokens: tuple[TokenSettings, ...] = ()
    participants: dict[str, ParticipantSettings] = {}
    sagas: dict[str, SagaSettings] = {}
    webhooks: tuple[WebhookSettings, ...] = ()


def convert(raw: dict[str, Any]) -> Settings:
    """Settings of plain values; `msgspec.ValidationError` says what is wrong, and where."""
    return msgspec.convert(raw, Settings, dec_hook=_parse)


def _parse(type_: type, given: object) -> object:
    parse: Any = getattr(type_, "parse", None)
    if parse is None:
        msg = f"nothing is known by {type_!r}"
        raise NotImplementedError(msg)
    return parse(given)
