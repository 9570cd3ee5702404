"""Settings: each mistake names its setting, no password is ever shown, and what is set holds on the
server."""

from __future__ import annotations

import io
import os
import pickle
import traceback
from collections.abc import Callable
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.console import Console
from rich.pretty import Pretty

from rootstream_store.database import conninfo
from rootstream_store.database._connection import names_several_hosts
from rootstream_store.errors import SettingsError, Timeout, Unavailable
from rootstream_store.settings import Settings, redact
from rootstream_store.store import Store

from .statements import SLEEP, statement

URL = "postgresql://ann@db.example/app"
SHOW = statement("SELECT current_setting(%(name)s::text)", str)


def test_defaults_bound_every_wait() -> None:
    settings = Settings.create(database_url=URL)
    assert (settings.pool_size, settings.pool_timeout, settings.connect_timeout) == (8, 5.0, 2)
    assert (settings.statement_timeout, settings.idle_in_transaction_timeout) == (30.0, 60.0)
    assert settings.redis_url is None


def test_urls_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql:///one")
    monkeypatch.setenv("REDIS_URL", "redis://one")
    assert Settings.create().database_url == "postgresql:///one"
    assert Settings.create().redis_url == "redis://one"
    assert Settings.create(database_url=URL, redis_url="redis://two").redis_url == "redis://two"
    monkeypatch.setenv("DATABASE_URL", "")
    with pytest.raises(SettingsError, match="database_url is missing: pass it or set DATABASE_URL"):
        Settings.create()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pool_size", 0),
        ("pool_size", -1),
        ("pool_size", "many"),
        ("pool_size", 2.5),
        ("pool_min_size", 9),
        ("pool_min_size", -1),
        ("pool_timeout", 0),
        ("pool_timeout", -1),
        ("pool_timeout", float("nan")),
        ("pool_timeout", float("inf")),
        ("pool_timeout", "5"),
        ("pool_max_idle", 0),
        ("pool_check_after", -0.1),
        ("connect_timeout", 0),
        ("connect_timeout", 1.5),
        ("statement_timeout", -1),
        ("statement_timeout", float("nan")),
        ("statement_timeout", 3_000_000),
        ("answer_timeout", -1),
        ("answer_timeout", float("inf")),
        ("answer_timeout", "5"),
        ("answer_timeout", 30),
        ("lock_timeout", -1),
        ("idle_in_transaction_timeout", -1),
        ("tcp_user_timeout", -1),
        ("keepalives_idle", 0),
        ("retry_deadline", -1),
        ("retry_deadline", float("nan")),
        ("redis_timeout", 0),
        ("redis_pool_size", 0),
        ("redis_retry_after", -1),
        ("pgbouncer", "yes"),
        ("application_name", 7),
        ("application_name", "a\0b"),
        ("database_url", 7),
        ("database_url", "postgresql://a\0b"),
        ("redis_url", 7),
        ("pool_size", True),
    ],
)
@pytest.mark.parametrize("make", [Settings.create, Settings], ids=["create", "direct"])
def test_a_value_that_cannot_work_names_its_setting(
    make: Callable[..., Settings], name: str, value: object
) -> None:
    with pytest.raises(SettingsError) as caught:
        make(**{"database_url": URL, name: value})
    assert str(caught.value).startswith(name)
    assert not caught.value.retryable


@pytest.mark.parametrize("name", ["database_url", "redis_url"])
def test_a_url_that_is_no_utf8(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Bytes that are no UTF-8 come out of the environment so.
    url = os.fsdecode(b"postgresql://ann:hunter2\xff@h/app")
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv(name.upper(), url)
    urls = {"database_url": URL, name: url}
    direct: Callable[..., Settings] = Settings
    for make, values in ((Settings.create, {}), (direct, urls)):
        with pytest.raises(SettingsError, match=f"^{name} has a character") as caught:
            make(**values)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__suppress_context__


def test_an_answer_is_waited_for_longer_than_the_server_works() -> None:
    with pytest.raises(SettingsError, match=r"longer than statement_timeout \(30\.0 s\), not 20\.0"):
        Settings.create(database_url=URL, answer_timeout=20)
    for settings in (
        {"answer_timeout": 31},
        {"answer_timeout": 0},
        {"answer_timeout": 20, "statement_timeout": 0},
        {"answer_timeout": 20, "pgbouncer": True},
    ):
        assert Settings.create(database_url=URL, **settings).answer_timeout == settings["answer_timeout"]
    assert Settings.create(database_url=URL).answer_timeout is None


def test_replaced_settings_are_checked_too() -> None:
    settings = Settings.create(database_url=URL)
    with pytest.raises(SettingsError, match="pool_size must be at least 1"):
        msgspec.structs.replace(settings, pool_size=0)


def test_an_unknown_setting_is_named_with_those_there_are() -> None:
    with pytest.raises(
        SettingsError, match=r"unknown setting 'pool_sise'; there are: database_url, .*pool_size"
    ):
        Settings.create(database_url=URL, pool_sise=3)


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "postgresql://a:b@[::1/app", "postgresql://h/app?nope=1", "host=x pass word=hunter2"],
)
def test_a_connection_string_that_cannot_be_read(url: str) -> None:
    settings = Settings.create(database_url=url or "=")
    with pytest.raises(SettingsError, match=r"^database_url cannot be read") as caught:
        conninfo(settings)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:hunter2@h/app?nope=1",
        "postgresql://ann:hunter%2@h/app",
        "host=h password=hunter2 nope=1",
        "host=h password='hunter2' nope",
        "host=h password=hunter2 =",
        "host=h password='hunter2",
        "postgresql://ann:hunter2@h/app?sslmode",
    ],
)
def test_what_is_told_of_a_broken_string_has_no_password(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        conninfo(Settings.create(database_url=url))
    assert "hunter" not in str(caught.value)


# Redaction


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:hunter2@h:5/app?x=1", "postgresql://ann:***@h:5/app?x=1"),
        ("postgresql://ann@h/app", "postgresql://ann@h/app"),
        ("postgresql:///app?host=/run", "postgresql:///app?host=/run"),
        ("postgresql://h/app?password=hunter2&user=ann", "postgresql://h/app?password=***&user=ann"),
        ("postgresql://h/app?sslpassword=hunter2", "postgresql://h/app?sslpassword=***"),
        ("postgresql://ann:hun/ter?2#@h/app", "postgresql://ann:***@h/app"),
        ("postgresql://ann:hun@ter2@h/app", "postgresql://ann:***@h/app"),
        ("postgresql://ann:@h/app", "postgresql://ann:***@h/app"),
        ("redis://:hunter2@h/0", "redis://:***@h/0"),
        ("rediss://h/0?password=hunter2", "rediss://h/0?password=***"),
        ("host=h password=hunter2 user=ann", "host=h password=*** user=ann"),
        ("host=h password=hun&ter2 user=ann", "host=h password=*** user=ann"),
        ("host=h PASSWORD = hunter2", "host=h PASSWORD = ***"),
        (r"password='hun\'ter 2' user=ann", "password=*** user=ann"),
        (r"password=hun\ ter2 user=ann", "password=*** user=ann"),
        ("password='hunter2", "password=***"),
        ("nothing to hide", "nothing to hide"),
        ("", ""),
    ],
)
def test_redact(text: str, shown: str) -> None:
    assert redact(text) == shown


passwords = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(passwords)
@example("a b")
@example("a'b\\c")
@example("@")
def test_a_password_never_survives(password: str) -> None:
    secret = f"xq7{password}7qx"
    texts = (
        f"postgresql://ann:{quote(secret, safe='')}@h/app",
        f"postgresql://ann:{quote(secret)}@h/app?x=y",
        f"postgresql://h/app?user=ann&password={quote(secret, safe='')}",
        make_conninfo(host="h", password=secret, user="ann"),
        make_conninfo(password=secret),
    )
    for text in texts:
        shown = redact(text)
        assert "7qx" not in shown, shown
        assert "xq7" not in shown, shown
        settings = Settings.create(database_url=text, redis_url=f"redis://:{quote(secret, safe='')}@h")
        assert "7qx" not in repr(settings)


@given(passwords)
def test_redaction_changes_nothing_that_has_no_password(text: str) -> None:
    assume("password" not in text.lower())
    assume("@" not in text)
    assert redact(text) == text


def test_rich_shows_no_password_either() -> None:
    settings = Settings.create(database_url="postgresql://ann:hunter2@h/app", redis_url="redis://:hunter2@h")
    output = io.StringIO()
    Console(file=output, width=200).print(Pretty(settings), settings)
    assert "hunter2" not in output.getvalue()
    assert "***" in output.getvalue()
    assert "hunter2" not in f"{settings} {settings!r} {[settings]}"


def test_settings_are_copied_whole() -> None:
    settings = Settings.create(database_url=URL, pool_size=3)
    assert pickle.loads(pickle.dumps(settings)) == settings


# What is sent to the server


def test_what_the_users_own_string_says_wins() -> None:
    url = f"{URL}?application_name=mine&connect_timeout=9&options=-c%20statement_timeout%3D7"
    given = conninfo_to_dict(conninfo(Settings.create(database_url=url)))
    assert given["application_name"] == "mine"
    assert given["connect_timeout"] == "9"
    assert str(given["options"]).endswith("-c statement_timeout=7"), "the server takes the last one"
    assert "-c TimeZone=UTC" in str(given["options"])


@pytest.mark.parametrize(
    ("url", "environment", "several"),
    [
        ("postgresql://a/app", "", False),
        ("postgresql://a,b/app", "", True),
        ("host=a,b port=1,2", "", True),
        ("hostaddr=10.0.0.1,10.0.0.2", "", True),
        ("dbname=app", "a,b", True),
        ("host=a", "a,b", False),
    ],
)
def test_whether_a_string_names_several_hosts(
    monkeypatch: pytest.MonkeyPatch, url: str, environment: str, several: bool
) -> None:
    monkeypatch.setenv("PGHOST", environment)
    monkeypatch.delenv("PGHOSTADDR", raising=False)
    assert names_several_hosts(url) is several


def test_pgbouncer_gets_no_options() -> None:
    given = conninfo_to_dict(conninfo(Settings.create(database_url=URL, pgbouncer=True)))
    assert "options" not in given
    given = conninfo_to_dict(conninfo(Settings.create(database_url=f"{URL}?options=-cx%3D1", pgbouncer=True)))
    assert given["options"] == "-cx=1"


def test_limits_hold_on_the_server(database_url: str) -> None:
    with Store.open(
        database_url,
        application_name="it's \\ mine",
        statement_timeout=1.5,
        lock_timeout=0.25,
        idle_in_transaction_timeout=45,
    ) as store:
        for name, value in (
            ("application_name", "it's \\ mine"),
            ("statement_timeout", "1500ms"),
            ("lock_timeout", "250ms"),
            ("idle_in_transaction_session_timeout", "45s"),
            ("TimeZone", "UTC"),
            ("client_encoding", "UTF8"),
        ):
            assert store.one(SHOW, name=name) == value


def test_the_least_limit_is_not_no_limit(database_url: str) -> None:
    with Store.open(database_url, lock_timeout=0.0001, statement_timeout=0) as store:
        assert store.one(SHOW, name="lock_timeout") == "1ms"
        assert store.one(SHOW, name="statement_timeout") == "0"


def test_a_string_with_its_own_options_wins_on_the_server(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_conninfo(database_url, options="-c statement_timeout=7s -c TimeZone=Asia/Tokyo")
    with Store.open(own) as store:
        assert store.one(SHOW, name="statement_timeout") == "7s"
        assert store.one(SHOW, name="TimeZone") == "Asia/Tokyo"
        assert store.one(SHOW, name="idle_in_transaction_session_timeout") == "1min"
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=8s")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with Store.open(database_url) as store:
        assert store.one(SHOW, name="statement_timeout") == "8s"
        assert store.one(SHOW, name="client_encoding") == "UTF8"


def test_an_option_that_the_server_does_not_know(database_url: str) -> None:
    with pytest.raises(SettingsError, match="statement_timeout"):
        Store.open(make_conninfo(database_url, options="-c statement_timeout=soon"))


def test_a_statement_is_ended_at_its_limit(database_url: str) -> None:
    with Store.open(database_url, statement_timeout=0.1) as store, pytest.raises(Timeout) as caught:
        store.run(SLEEP, seconds=20.0)
    assert caught.value.sqlstate == "57014"


def test_an_idle_transaction_is_ended_at_its_limit(database_url: str) -> None:
    count = statement(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%%'",
        int,
    )
    from .waiting import until

    def idle(store: Store) -> None:
        with store.transaction() as tx:
            tx.one(SHOW, name="TimeZone")
            until(lambda: store.one(count) == 0, "the server ends it")
            tx.one(SHOW, name="TimeZone")

    with Store.open(database_url, idle_in_transaction_timeout=0.1) as store:
        with pytest.raises((Timeout, Unavailable)) as caught:
            idle(store)
        assert caught.value.retryable
        assert store.one(SHOW, name="TimeZone") == "UTC"
