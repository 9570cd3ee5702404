from __future__ import annotations

import pytest

from rootstream_store.cache import connect
from rootstream_store.cache._url import parse, passwords, safe_url
from rootstream_store.cache.client import describe_error
from rootstream_store.errors import SettingsError
from rootstream_store.settings import Settings, redact


def test_a_sentinel_url_names_sentinels_service_and_database() -> None:
    target = parse(
        "redis+sentinel://ann:p%40ss@one:26380,[::1],three/live/2?sentinel_password=s3&ssl_ca_path=x"
    )
    assert target.kind == "sentinel"
    assert target.scheme == "redis"
    assert target.nodes == (("one", 26380), ("::1", 26379), ("three", 26379))
    assert target.service == "live"
    assert target.options == {"username": "ann", "password": "p@ss", "db": 2, "ssl_ca_path": "x"}
    assert target.sentinel_options == {"password": "s3", "ssl_ca_path": "x"}


def test_the_database_may_be_left_out() -> None:
    for url in ("redis+sentinel://one/live", "redis+sentinel://one/live/"):
        assert "db" not in parse(url).options


def test_a_cluster_url_names_some_nodes() -> None:
    target = parse("rediss+cluster://:secret@one,two:7001/0?ssl_cert_reqs=none")
    assert target.kind == "cluster"
    assert target.scheme == "rediss"
    assert target.nodes == (("one", 6379), ("two", 7001))
    assert target.options == {"password": "secret", "ssl_cert_reqs": "none"}


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://:s3cret@one:26379",
        "redis+sentinel://:s3cret@one:26379/",
        "redis+sentinel://:s3cret@one:26379//0",
        "redis+sentinel://:s3cret@one:26379/live/zero",
        "redis+sentinel://:s3cret@one:26379/live/0/1",
        "redis+sentinel://:s3cret@/live",
        "redis+sentinel://:s3cret@one:port/live",
        "redis+sentinel://:s3cret@one:0,two/live",
        "redis+sentinel://:s3cret@one:70000/live",
        "redis+sentinel://:s3cret@one,,two/live",
        "redis+sentinel://one/live?sentinel_password=s3cret&no_such_option=1",
        "redis+sentinel://:s3cret@one/live?socket_timeout=soon",
        "redis+cluster://:s3cret@one/1",
        "redis+cluster://:s3cret@one?db=1",
        "redis+cluster://:s3cret@one/live",
        "redis+cluster://:s3cret@one?no_such_option=1",
        "redis+cluster://",
        "redis+cluster://:s3/cret#@one",
        "unix+cluster://:s3cret@one",
        "redis+other://:s3cret@one",
    ],
)
def test_one_that_cannot_work_is_named_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="redis_url") as caught:
        connect(Settings(database_url="postgresql:///none", redis_url=url))
    assert "s3" not in str(caught.value)
    assert "cret" not in repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+sentinel://u:pass@a:1,b:2/live/0", "redis+sentinel://u:***@a:1,b:2/live/0"),
        (
            "redis+sentinel://a,b/live?sentinel_password=hush&x=y",
            "redis+sentinel://a,b/live?sentinel_password=***&x=y",
        ),
        ("rediss+cluster://:p%40,s@a:1,b:2", "rediss+cluster://:***@a:1,b:2"),
        ("redis+cluster://forgotten-colon@a,b", "redis+cluster://***@a,b"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert safe_url(url) == shown
    settings = Settings(database_url="postgresql:///none", redis_url=url)
    for secret in ("pass@", "hush", "p%40", "colon"):
        assert secret not in repr(settings).replace("forgotten-colon@", "") or secret == "colon"
        assert secret not in redact(url) or secret == "colon"


def test_an_error_does_not_tell_the_password_of_the_sentinels() -> None:
    url = "redis+sentinel://:one%21@a/live?sentinel_password=two%21"
    assert set(passwords(url)) == {"one%21", "one!", "two%21", "two!"}
    assert (
        describe_error(ConnectionError("one! and two! at host"), url)
        == "ConnectionError: *** and *** at host"
    )


def test_nothing_is_connected_before_the_first_command() -> None:
    for url in ("redis+sentinel://192.0.2.1/live", "redis+cluster://192.0.2.1"):
        made = connect(Settings(database_url="postgresql:///none", redis_url=url))
        assert made is not None
        repr(made)
