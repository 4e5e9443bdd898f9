"""Settings: who wins, what a slip gets, and that no secret is ever shown."""

from pathlib import Path

import pytest

from amends.config.loading import Flag, Loaded, load, variable_of
from amends.config.routes import defaults_of, routes_of
from amends.config.showing import rows
from amends.config.values import BadSetting, Seconds, Secret, Size
from amends.core.words.retry import DEFAULTS
from amends.core.words.urls import shown_url

NONE: dict[str, str] = {}


def loaded(folder: Path, text: str, environment: dict[str, str] = NONE, flags: list[Flag] | None = None) -> Loaded:
    path = folder / "amends.toml"
    path.write_text(text, "utf-8")
    return load(flags or [], file=path, environment=environment)


def refused(folder: Path, text: str, environment: dict[str, str] = NONE) -> str:
    with pytest.raises(BadSetting) as told:
        loaded(folder, text, environment)
    return str(told.value).replace(f"{folder}/", "")


# -- who wins


def test_flags_win_over_variables_over_the_file_over_defaults(tmp_path: Path) -> None:
    text = '[server]\nlisten = "127.0.0.1:1"\nbody_max = "1 KiB"\ngrace = "2s"\n'
    variables = {"AMENDS_SERVER__LISTEN": "127.0.0.1:2", "AMENDS_SERVER__BODY_MAX": "2 KiB"}
    flags = [Flag(("server", "listen"), "127.0.0.1:3", "--listen")]
    found = loaded(tmp_path, text, variables, flags)
    server = found.settings.server
    assert (server.listen, server.body_max, server.grace, server.streams_max) == ("127.0.0.1:3", 2_048, 2.0, 1_024)
    names = ("server.listen", "server.body_max", "server.grace", "server.streams_max")
    assert [found.origin(each) for each in names] == [
        "--listen",
        "AMENDS_SERVER__BODY_MAX",
        str(tmp_path / "amends.toml"),
        "default",
    ]


def test_what_stands_in_a_list_was_set_where_the_list_was(tmp_path: Path) -> None:
    text = """
[[tokens]]
name = "web"
role = "client"
hash = "sha256:%s"
""" % ("0" * 64)
    file = str(tmp_path / "amends.toml")
    origins = {row.name: row.origin for row in rows(loaded(tmp_path, text, {}))}
    assert origins["tokens[0].name"] == origins["tokens[0].hash"] == file
    assert origins["server.listen"] == "default"


def test_without_a_file_there_are_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(environment={}).file is None
    (tmp_path / "amends.toml").write_text('log = "memory:"\n')
    assert load(environment={}).settings.log == "memory:"
    with pytest.raises(BadSetting, match="there is no such file"):
        load(environment={"AMENDS_CONFIG": "elsewhere.toml"})


def test_the_page_of_the_api_is_a_file_that_can_be_read(tmp_path: Path) -> None:
    """What stands there must work as it stands, but for the sections that other parts read."""
    text = """
log = "sqlite:///orders.db"
modules = ["shop.sagas", "shop.v1.sagas"]
[server]
listen = "0.0.0.0:8700"
tls = { cert = "/etc/amends/tls.crt", key = "/etc/amends/tls.key", client_ca = "/etc/amends/clients.pem" }
body_max = "256 KiB"
[[tokens]]
name = "web"
role = "client"
hash = "sha256:5b1c"
sagas = ["place-order"]
[participants.defaults]
timeout = "5s"
at_once = 64
circuit = { failures = 20, within = "10s", probe_every = "5s" }
[participants.inventory]
url = "https://inventory.internal/saga"
tls = { ca = "/etc/amends/internal-ca.pem", cert = "/etc/amends/client.crt", key = "/etc/amends/client.key" }
[participants.payments]
url = "https://payments.internal/saga"
headers = { X-Tenant = "${env:TENANT}" }
auth = { bearer = "${file:/run/secrets/payments}" }
at_once = 20
per_second = 100
[sagas.place-order]
deadline = "15m"
runbook = "https://wiki.example/amends"
[privacy]
keep = { completed = "30d", compensated = "90d" }
[[webhooks]]
url = "https://hooks.internal/amends"
on = ["stuck", "abandoned"]
secret = "${env:HOOK_SECRET}"
"""
    settings = loaded(tmp_path, text).settings
    assert str(settings.sagas["place-order"].deadline) == "15m"
    assert settings.tokens[0].sagas == ("place-order",)
    assert str(settings.privacy.keep) == "completed 30d, compensated 90d"
    assert settings.participants["payments"].per_second == 100
    assert settings.webhooks[0].on == ("stuck", "abandoned")


# -- slips


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lgo = 1", "amends.toml: lgo is no setting. Did you mean log?"),
        ("[server]\nlistne = 1", "amends.toml: server.listne is no setting. Did you mean server.listen?"),
        ("[participants.a]\nurll = 1", "participants.a.urll is no setting. Did you mean participants.a.url?"),
        ("[participants.a.circuit]\nfailure = 1", "Did you mean participants.a.circuit.failures?"),
        ("[[tokens]]\nnmae = 1", "amends.toml: tokens[0].nmae is no setting. Did you mean tokens[0].name?"),
        ("[server]\nlisten = 3", "amends.toml: server.listen: Expected `str`, got `int`."),
        ("[server]\ntls = 3", "amends.toml: server.tls: Expected `object | null`, got `int`."),
        ('[server]\ngrace = "soon"', "amends.toml: server.grace: 'soon' is no duration: expected a number with ms"),
        ('[server]\ngrace = "90ms"', "server.grace: 90ms is no duration between 0.1s and a hundred years."),
        ('[engine]\nlease = "2h"', "amends.toml: engine.lease: 2h is no lease: expected 0.1s to 1h."),
        ("[engine]\nlease = '0.01s'", "engine.lease: 0.01s is no duration between 0.1s and a hundred years."),
        ("[server]\ngrace = true", "server.grace: True is no duration: expected one as 5s."),
        ('[server]\nbody_max = "much"', "server.body_max: 'much' is no size"),
        ('[participants.a]\ntimeout = "x"', "amends.toml: participants.a.timeout: 'x' is no duration"),
        ('[participants.a]\nheaders = { X = "${en:T}" }', "${en:T} is no reference: expected ${env:NAME}"),
        (
            '[[tokens]]\nname = "a"\nrole = "boss"\nhash = "x"',
            "tokens[0].role: Invalid enum value 'boss'; expected one of viewer, client, operator.",
        ),
        (
            '[[webhooks]]\nurl = "http://h"\non = ["done"]',
            "webhooks[0].on[0]: Invalid enum value 'done'; expected one of",
        ),
        ('[server]\nlog_format = "xml"', "server.log_format: Invalid enum value 'xml'; expected one of text, json."),
        ("[server]\nrequests_max = 0", "amends.toml: server.requests_max: Expected `int` >= 1."),
        ("[server]\nper_second = 0.0", "amends.toml: server.per_second: Expected `float` > 0.0."),
        ("[participants.a]\nat_once = 0", "amends.toml: participants.a.at_once: Expected `int` >= 1."),
        ("[participants.a.circuit]\nfailures = 0", "participants.a.circuit.failures: Expected `int` >= 1."),
        ("server = 1", "amends.toml: server: Expected `object`, got `int`."),
        ("a = [", "amends.toml: "),
        ("\xff = 1", "amends.toml: "),
    ],
)
def test_a_slip_in_the_file_is_named_with_its_place_and_what_is_nearest(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AMENDS_LGO", "x", "AMENDS_LGO is no setting. Did you mean AMENDS_LOG?"),
        ("AMENDS_SERVER__LISTNE", "x", "Did you mean AMENDS_SERVER__LISTEN?"),
        ("AMENDS_SERVER__LISTEN__PORT", "x", "server.listen has no parts."),
        ("AMENDS_ENGINE", "x", "engine is a section. Set one of its keys, as AMENDS_ENGINE__KEY."),
        ("AMENDS_ENGINE__RUNS_MAX", "many", "AMENDS_ENGINE__RUNS_MAX=many: expected a number."),
        ("AMENDS_ENGINE__POLL", "now", "AMENDS_ENGINE__POLL: engine.poll: 'now' is no duration"),
        ("AMENDS_TOKENS__A", "x", "tokens are set in amends.toml"),
        ("AMENDS_PARTICIPANTS__A", "x", "expected AMENDS_PARTICIPANTS__NAME__KEY."),
        ("AMENDS_PARTICIPANTS__A__URLL", "x", "Did you mean url?"),
        ("AMENDS_PARTICIPANTS__A__URL__X", "x", "url has no parts."),
    ],
)
def test_a_slip_in_a_variable_is_named_too(tmp_path: Path, variable: str, value: str, said: str) -> None:
    assert said in refused(tmp_path, "", {variable: value})


def test_variables_of_others_are_left_alone(tmp_path: Path) -> None:
    others = {"AMENDS_TOKEN": "x", "AMENDS_SERVER": "http://x", "AMENDS_TEST_POSTGRES": "x", "AMENDSX": "x", "LOG": "x"}
    assert loaded(tmp_path, "", others).origins == {}


def test_every_kind_of_setting_can_be_a_variable(tmp_path: Path) -> None:
    variables = {
        "AMENDS_MODULES": "shop.sagas, shop.v1.sagas",
        "AMENDS_SERVER__PER_SECOND": "2.5",
        "AMENDS_ENGINE__LEASE": "500ms",
        "AMENDS_PARTICIPANTS__OLD_HOTEL__URL": "http://hotel",
        "AMENDS_PARTICIPANTS__OLD_HOTEL__AT_ONCE": "3",
        "AMENDS_PARTICIPANTS__OLD_HOTEL__CIRCUIT__WITHIN": "0.1s",
        "AMENDS_PARTICIPANTS__OLD_HOTEL__HEADERS__X_API_KEY": "k",
        "AMENDS_SAGAS__PLACE_ORDER__DEADLINE": "15m",
    }
    settings = loaded(tmp_path, "", variables).settings
    hotel = settings.participants["old-hotel"]
    assert settings.modules == ("shop.sagas", "shop.v1.sagas")
    assert settings.server.per_second == 2.5
    assert settings.engine.lease == 0.5
    assert (hotel.url, hotel.at_once, hotel.headers) == ("http://hotel", 3, {"x-api-key": "k"})
    assert hotel.circuit is not None
    assert hotel.circuit.within == 0.1
    assert str(settings.sagas["place-order"].deadline) == "15m"
    assert variable_of("participants.old-hotel.url") == "AMENDS_PARTICIPANTS__OLD_HOTEL__URL"


# -- values


@pytest.mark.parametrize(
    ("text", "seconds", "shown"),
    [("100ms", 0.1, "0.1s"), ("5s", 5, "5s"), ("1.5m", 90, "90s"), ("24h", 86_400, "1d")],
)
def test_durations_are_read_and_written_as_people_do(text: object, seconds: float, shown: str) -> None:
    assert (Seconds.parse(text), str(Seconds.parse(text))) == (seconds, shown)


@pytest.mark.parametrize(("text", "size", "shown"), [("256 KiB", 262_144, "256 KiB"), ("1MB", 1_000_000, "1000000")])
def test_sizes_are_read_and_written_as_people_do(text: str, size: int, shown: str) -> None:
    assert (Size.parse(text), str(Size.parse(text))) == (size, shown)


# -- secrets


def test_secrets_are_looked_up_when_asked_for_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text("geheim-1\n")
    monkeypatch.setenv("TENANT", "acme")
    text = f"""
[participants.defaults]
headers = {{ X-Tenant = "${{env:TENANT}}" }}
[participants.payments]
url = "https://payments.internal/saga"
auth = {{ bearer = "${{file:{file}}}" }}
[participants.hotel]
url = "https://hotel.internal/saga"
auth = {{ basic = "ann:${{file:{file}}}" }}
"""
    routes = routes_of(loaded(tmp_path, text).settings)
    payments, hotel = routes.routes
    assert payments.headers == {"X-Tenant": "acme", "Authorization": "Bearer geheim-1"}
    assert hotel.headers is not None
    assert hotel.headers["Authorization"] == "Basic YW5uOmdlaGVpbS0x"
    assert payments.headers is not None
    file.write_text("geheim-2\n")
    assert routes.reload() == []
    assert payments.headers["Authorization"] == "Bearer geheim-2"
    file.unlink()
    (wrong, _) = routes.reload()
    assert "No such file" in wrong
    assert payments.headers["Authorization"] == "Bearer geheim-2", "what can't be read again stays as it was"
    assert "geheim" not in repr(payments) + repr(payments.headers) + repr(hotel.headers)


def test_headers_that_the_settings_no_longer_have_are_not_sent_any_more(tmp_path: Path) -> None:
    text = '[participants.a]\nurl = "http://a"\nheaders = { X = "1" }\nauth = { bearer = "old" }'
    routes = routes_of(loaded(tmp_path, text).settings)
    (a,) = routes.routes
    assert a.headers == {"X": "1", "Authorization": "Bearer old"}
    assert routes.reload(loaded(tmp_path, text.replace("old", "new")).settings) == []
    assert a.headers == {"X": "1", "Authorization": "Bearer new"}
    (wrong,) = routes.reload(loaded(tmp_path, text.replace('"1"', '"${env:AMENDS_TEST_NOWHERE}"')).settings)
    assert "AMENDS_TEST_NOWHERE" in wrong
    assert a.headers == {"X": "1", "Authorization": "Bearer new"}, "what can't be looked up stays as it was"
    assert routes.reload(loaded(tmp_path, '[participants.a]\nurl = "http://a"').settings) == []
    assert a.headers == {}
    assert routes.reload(loaded(tmp_path, text).settings) == []
    assert routes.reload(loaded(tmp_path, "").settings) == []
    assert a.headers == {}, "nor those of a participant that the settings no longer have"


def test_a_secret_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    text = '[participants.a]\nurl = "http://a"\nheaders = { X = "${env:AMENDS_TEST_NOWHERE}" }'
    with pytest.raises(BadSetting, match=r"participants.a: \$\{env:AMENDS_TEST_NOWHERE\}: there is no such variable"):
        routes_of(loaded(tmp_path, text).settings)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    text = """
log = "postgresql://amends:geheim1@db/amends"
[participants.a]
url = "https://ann:geheim2@a.internal/saga"
headers = { X-Key = "geheim3", Y-Key = "Bearer ${env:Y_KEY}" }
auth = { bearer = "geheim4" }
[[webhooks]]
url = "https://hooks.internal"
on = ["stuck"]
secret = "geheim5"
"""
    found = loaded(tmp_path, text)
    shown = {each.name: each.value for each in rows(found)}
    assert "geheim" not in str(shown)
    assert shown["log"] == "postgresql://amends:***@db/amends"
    assert shown["participants.a.headers.Y-Key"] == "*** from ${env:Y_KEY}"
    assert shown["participants.a.headers.X-Key"] == "***"
    assert "geheim" not in repr(found.settings.participants["a"].headers)
    assert "geheim" not in repr(Secret("geheim"))


def test_a_url_is_shown_without_its_password() -> None:
    assert shown_url("sqlite:///orders.db") == "sqlite:///orders.db"
    assert shown_url("https://user:pa:ss@host/x") == "https://user:***@host/x"
    assert shown_url("https://user:p@ss@host/x") == "https://user:***@host/x"
    assert shown_url("postgresql://ann:a@h1,h2:5/x?sslmode=require") == "postgresql://ann:***@h1,h2:5/x?sslmode=require"
    several = "postgresql:///x?password=a&host=/run&sslpassword=b"
    assert shown_url(several) == "postgresql:///x?password=***&host=/run&sslpassword=***"
    assert shown_url("http://a:b@c/,http://d:e@f/") == "http://a:***@c/,http://d:***@f/"


# -- how hard calls are tried


def test_participants_say_how_hard_they_are_tried(tmp_path: Path) -> None:
    text = """
[participants.defaults]
timeout = "2s"
retry = { attempts_max = 3, cap = "0.1s", first = "0.1s" }
[participants.payments]
timeout = "0.1s"
"""
    settings = loaded(tmp_path, text).settings
    payments, other = defaults_of(settings, "payments"), defaults_of(settings, "other")
    assert (payments.timeout.total_seconds(), other.timeout.total_seconds()) == (0.1, 2)
    assert (payments.attempts_max, payments.cap.total_seconds()) == (3, 0.1)
    assert defaults_of(loaded(tmp_path, "").settings, "other") == DEFAULTS


@pytest.mark.parametrize(
    ("text", "kept", "shown"),
    [
        ('keep = "30d"', {"completed": 30, "compensated": 30, "abandoned": 30}, "30d"),
        (
            'keep = { completed = "30d", compensated = "90d" }',
            {"completed": 30, "compensated": 90},
            "completed 30d, compensated 90d",
        ),
        ("[privacy.keep]\nabandoned = '24h'", {"abandoned": 1}, "abandoned 1d"),
        ("", {}, "-"),
    ],
)
def test_histories_are_kept_by_how_runs_ended(tmp_path: Path, text: str, kept: dict[str, float], shown: str) -> None:
    found = loaded(tmp_path, text if text.startswith("[") else f"[privacy]\n{text}\n")
    assert {state: each / 86_400 for state, each in found.settings.privacy.keep.items()} == kept
    (row,) = (each for each in rows(found) if each.name == "privacy.keep")
    assert row.value == shown
    assert (row.origin == "default") == (not kept)


def test_a_variable_says_how_long_each_end_is_kept(tmp_path: Path) -> None:
    found = loaded(tmp_path, "", {"AMENDS_PRIVACY__KEEP": "completed=30d, compensated=90d"})
    assert str(found.settings.privacy.keep) == "completed 30d, compensated 90d"
    assert str(loaded(tmp_path, "", {"AMENDS_PRIVACY__KEEP": "7d"}).settings.privacy.keep) == "7d"


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (
            '{ completd = "1d" }',
            "privacy.keep: completd is no way for a run to end: expected completed, compensated or",
        ),
        ('{ done = "1d" }', "amends.toml: privacy.keep: done is no way for a run to end"),
        ('{ completed = "soon" }', "completed: 'soon' is no duration"),
        ('{ bodies = "7d" }', "bodies can't be forgotten before the rest of a run"),
        ('{ stuck = "7d" }', "a run that is stuck hasn't ended, and is never forgotten"),
        ('"1 fortnight"', "is no duration"),
    ],
)
def test_what_can_not_be_kept_so_is_told(tmp_path: Path, keep: str, said: str) -> None:
    assert said in refused(tmp_path, f"[privacy]\nkeep = {keep}\n")


@pytest.mark.parametrize("keep", ["'90'", "90", "{ completed = 90 }", "{ completed = '90', abandoned = '90d' }"])
def test_a_duration_without_its_unit_is_refused(keep: str, tmp_path: Path) -> None:
    """`"90"` was read as seconds, and the histories that were meant to be kept for 90 days were deleted."""
    assert "expected its unit, as 90s or 90d." in refused(tmp_path, f"[privacy]\nkeep = {keep}\nkeep_short = true\n")


@pytest.mark.parametrize("keep", ["'90s'", "'59m'", "{ completed = '30d', compensated = '30m' }"])
def test_a_short_retention_needs_a_word_that_it_is_meant(keep: str, tmp_path: Path) -> None:
    said = refused(tmp_path, f"[privacy]\nkeep = {keep}\n")
    assert "less than an hour. If that is meant, set privacy.keep_short = true as well." in said
    assert loaded(tmp_path, f"[privacy]\nkeep = {keep}\nkeep_short = true\n").settings.privacy.keep.short is not None
    assert loaded(tmp_path, "[privacy]\nkeep = '60m'\n").settings.privacy.keep.short is None
