"""URLs that users give: what is wrong with one is told, and a password in one is shown nowhere."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amends.core.words.urls import BadUrl, http_url, shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host:8700/api", "http://host:8700/api"),
        ("sqlite:///orders.db", "sqlite:///orders.db"),
        ("memory:", "memory:"),
        ("https://user:pa:ss@host/x", "https://user:***@host/x"),
        ("https://user:p@ss@host/x", "https://user:***@host/x"),
        ("https://user:p/ss@host/x", "https://user:***@host/x"),
        ("https://token@host/x", "https://***@host/x"),
        ("https://host/@me", "https://host/@me"),
        ("https://host:443/@me", "https://host:443/@me"),
        ("postgresql://amends@db/orders", "postgresql://amends@db/orders"),
        ("postgresql://amends:s3@db1,db2/orders", "postgresql://amends:***@db1,db2/orders"),
        ("postgresql://db/orders?user=amends&password=s3", "postgresql://db/orders?user=amends&password=***"),
        ("https://host/hook?access_token=s3&page=2#sig=s3", "https://host/hook?access_token=***&page=2#sig=***"),
        ("user:s3@host:x", "user:***@host:x"),
        ("http://u:s3@[::1", "http://u:***@[::1"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert shown_url(shown) == shown, "what is shown can be shown again"


PARTS = st.text("abz019:@/?#[]%& =.\\\n", max_size=12)
SECRET = "5ecret"


@given(before=PARTS, after=PARTS, scheme=st.sampled_from(["http", "https", "postgresql", "ftp", ""]))
def test_no_text_around_a_password_makes_it_seen(before: str, after: str, scheme: str) -> None:
    url = f"{scheme}://user:{before.translate(CUT)}{SECRET}{after.translate(CUT)}@host/path"
    assert SECRET not in shown_url(url)


CUT = str.maketrans("", "", "?#/")
"""Unescaped, these end the password for every reader of URLs, and so what follows is no password any more."""


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "it has no scheme"),
        ("host:8700", "its scheme is 'host'"),
        ("ftp://host", "its scheme is 'ftp'"),
        ("http://", "it has no host"),
        ("http://user@", "it has no host"),
        ("http://host:x", "its port is no number"),
        ("http://host:99999", "its port is no number"),
        ("http://host:-1", "its port is no number"),
        ("http://host:0", "its port is no number"),
        ("http://[::1", "an IPv6 address stands in brackets"),
        ("http://ho st", "it contains a space"),
        ("http://host\n/x", "it contains a space, a backslash or a control"),
        ("http://host\\x", "it contains a space, a backslash"),
        ("http://u:p@ss@host", "must be written %40"),
    ],
)
def test_what_is_no_address_is_told(url: str, why: str) -> None:
    with pytest.raises(BadUrl, match=why):
        http_url(url)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_bad_url(text: str) -> None:
    shown_url(text)
    for url in (text, f"http://{text}"):
        with suppress(BadUrl):
            assert http_url(url).host
