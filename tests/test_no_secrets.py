"""No password, token, stream key or hash in a log, an error, a repr or on a terminal, whatever goes wrong.

The former C++ layer printed the refused row, password hash included, to stderr, and logged unknown stream
keys.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import pickle
import secrets
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import argon2
import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rootstream_store import Store, billing, events, migrations, recordings, sessions, streams, usage, users
from rootstream_store.cli import main
from rootstream_store.embedded import EmbeddedServers
from rootstream_store.errors import (
    AlreadyExists,
    AuthenticationFailed,
    InvalidInput,
    NotFound,
    PermissionDenied,
    RootStreamError,
    SettingsError,
    Timeout,
    Unavailable,
)
from rootstream_store.metrics import generate
from rootstream_store.queries import Query
from rootstream_store.settings import Settings

from .cache.conftest import OwnValkey, until
from .factories import make_user

MISSING = 2**62


class Secrets:
    """Secrets made while a test runs, so that no source line in a traceback shows one."""

    def __init__(self) -> None:
        self.known: set[str] = set()

    def new(self, prefix: str = "") -> str:
        return self.add(prefix + secrets.token_hex(12))

    def add(self, text: str) -> str:
        assert len(text) > 8
        self.known.add(text)
        return text

    def found_in(self, text: str | bytes) -> list[str]:
        shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return [secret for secret in self.known if secret in shown or quote(secret, safe="") in shown]


class Everything(logging.Handler):
    """All that any logger says at DEBUG, with tracebacks, and the arguments it says it with."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.lines: list[str] = []
        self.loggers: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {record.args!r}")
        self.loggers.add(record.name)


@pytest.fixture
def said() -> Iterator[Everything]:
    everything = Everything()
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in list(root.manager.loggerDict))]
    before = [(logger, logger.level, logger.propagate, logger.disabled) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.propagate = True
        logger.disabled = False
    root.addHandler(everything)
    yield everything
    root.removeHandler(everything)
    for logger, level, propagate, disabled in before:
        logger.level, logger.propagate, logger.disabled = level, propagate, disabled
    root.manager._clear_cache()  # type: ignore[attr-defined]  # levels were set without setLevel


@pytest.fixture
def hidden() -> Secrets:
    return Secrets()


@pytest.fixture
def valkey() -> Iterator[OwnValkey]:
    """A server of the test's own, not yet started."""
    with tempfile.TemporaryDirectory(prefix="rss-") as directory:
        server = OwnValkey(Path(directory))
        yield server
        server.kill()


@pytest.fixture(autouse=True)
def _cheap_passwords() -> Iterator[None]:
    users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
    yield
    users.configure_passwords()


def shown(error: BaseException) -> str:
    """Everything that a log, a debugger, another process or a crash reporter may show of an error."""
    texts = ["".join(traceback.format_exception(error))]
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        texts += [repr(one), str(one), repr(one.args), repr(vars(one))]
        if isinstance(one, psycopg.Error):
            # A connection that failed is of no use to anybody, and knows its password until it is told to
            # forget it.
            if one.pgconn is not None and one.pgconn.status == psycopg.pq.ConnStatus.BAD:
                with contextlib.suppress(psycopg.OperationalError):  # it has forgotten everything
                    texts += [repr(one.pgconn), repr(one.pgconn.password), repr(one.pgconn.info)]
            diag = one.diag
            texts += [repr(getattr(diag, name)) for name in dir(diag) if not name.startswith("_")]
        pending += [one.__cause__, None if one.__suppress_context__ else one.__context__]
    # Last: psycopg's own errors forget their connection when they are pickled.
    return "\n".join([*texts, repr(pickle.dumps(error))])


def refused(call: Callable[[], object], *kinds: type[RootStreamError]) -> RootStreamError:
    with pytest.raises(kinds) as caught:
        call()
    return caught.value


def check(hidden: Secrets, said: Everything, errors: list[RootStreamError], shows: list[str]) -> None:
    for error in errors:
        assert not hidden.found_in(shown(error)), type(error)
    for text in shows:
        assert not hidden.found_in(text), text[:60]
    gc.collect()
    for line in said.lines:
        assert not hidden.found_in(line), line.partition(" ")[0]


def add_hashes(hidden: Secrets, database_url: str) -> None:
    """The password hashes that are stored now: each whole, and its salt and digest."""
    with psycopg.connect(database_url) as connection:
        for (stored,) in connection.execute("SELECT password_hash FROM users").fetchall():
            hidden.add(stored)
            for part in stored.split("$")[-2:]:
                hidden.add(part)


def test_the_tests_would_notice(
    hidden: Secrets, said: Everything, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is looked for is found where the driver alone is used, and a logger of any name is heard."""
    user_hash = hidden.new("$argon2id-")
    with psycopg.connect(database_url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.CheckViolation) as caught:
            connection.execute(
                "INSERT INTO users (username, email, password_hash) VALUES ('bob', 'none', %s)", [user_hash]
            )
        assert hidden.found_in(shown(caught.value)) == [user_hash]
    logging.getLogger("psycopg.pool").debug("connecting to %s", user_hash)
    assert hidden.found_in(said.lines[-1]) == [user_hash]
    assert hidden.found_in(f"postgresql://{quote(hidden.new('p@ss/w?rd'), safe='')}@host")
    assert capfd.readouterr().err == ""


def test_calls_that_go_well_and_calls_that_are_refused(
    store: Store,
    database_url: str,
    hidden: Secrets,
    said: Everything,
    capfd: pytest.CaptureFixture[str],
) -> None:
    errors: list[RootStreamError] = []
    shows: list[str] = []
    password, other = hidden.new(), hidden.new()
    user = users.create(store, username="bob", email="bob@example.com", password=password)
    users.create(store, username="eve", email="eve@example.com", password=other)
    login = sessions.create(store, user.id, device_id="phone")
    stream = streams.create(store, user.id, name="mine")
    for secret in (login.token, stream.stream_key, streams.rotate_key(store, stream.id)):
        hidden.add(secret.reveal())
    hidden.add(login.token_hash.hex())
    key = streams.get_key(store, stream.id)
    unknown = hidden.new("unknown-key-")
    add_hashes(hidden, database_url)

    def sign_up(**over: Any) -> RootStreamError:
        values = {"username": "new", "email": "new@example.com", "password": password, **over}
        return refused(lambda: users.create(store, **values), AlreadyExists, InvalidInput)

    # Each rule of the table refuses a row, which PostgreSQL's own message shows with the hash in it.
    over: list[dict[str, Any]] = [
        {"username": "BOB"},
        {"email": "BOB@example.com"},
        {"username": ""},
        {"username": "x" * 65},
        {"email": "a@b.c|"},
        {"display_name": "x" * 129},
        {"avatar_url": "x" * 2049},
        {"username": "a\0b"},
        {"password": f"{password}\0"},
        {"password": f"{password}\ud800"},
        {"password": password.encode()},
        {"password": password * 100},
    ]
    errors += [sign_up(**values) for values in over]
    stored_hash = next(secret for secret in hidden.known if secret.startswith("$argon2id$"))
    errors += [
        refused(lambda: make_user(store, username="", password_hash=stored_hash), InvalidInput),
        refused(lambda: make_user(store, username="x", password_hash=hidden.new("plain-")), InvalidInput),
        refused(lambda: make_user(store, username="x", password_hash=hidden.new() + "\0"), InvalidInput),
        refused(lambda: users.authenticate(store, login="bob", password=other), AuthenticationFailed),
        refused(lambda: users.authenticate(store, login=hidden.new(), password=other), AuthenticationFailed),
        refused(lambda: users.authenticate(store, login="bob", password=f"{other}\0"), InvalidInput),
        refused(lambda: users.set_password(store, MISSING, password), NotFound),
        refused(lambda: users.set_password(store, user.id, password[:5]), InvalidInput),
        refused(lambda: sessions.validate(store, hidden.new()), AuthenticationFailed),
        refused(lambda: sessions.touch(store, hidden.new()), AuthenticationFailed),
        refused(lambda: sessions.revoke(store, hidden.new()), NotFound),
        refused(lambda: sessions.revoke_hash(store, hidden.new()[:16].encode()), InvalidInput),
        refused(lambda: streams.get_by_key(store, unknown), NotFound),
        refused(lambda: streams.get_by_key(store, f"{unknown}\0"), InvalidInput),
        refused(lambda: streams.update(store, stream.id, name=""), InvalidInput),
        refused(lambda: streams.update_stats(store, MISSING, viewer_count=1), NotFound),
    ]
    # The same key, or a row that a check refuses, through the statements themselves.
    add_stream: Query[None] = Query(
        "streams/test",
        "-- a copy\nINSERT INTO streams (user_id, name, stream_key) "
        "VALUES (%(user_id)s::bigint, %(name)s::text, %(stream_key)s::text)",
        None,
    )
    for name, given in (("copy", key.reveal()), ("", hidden.new("k" * 43)), ("short", hidden.new())):
        add = partial(store.run, add_stream, user_id=user.id, name=name, stream_key=given)
        errors.append(refused(add, AlreadyExists, InvalidInput))
    # Events hold what an application puts there.
    private = hidden.new("private-")
    errors += [
        refused(lambda: events.append(store, "", "a", "E", {"p": private}), InvalidInput),
        refused(lambda: events.append(store, "T", "a", "E", {"p": f"{private}\0"}), InvalidInput),
        refused(lambda: billing.open(store, user.id, subscription_tier="gold"), InvalidInput),
        refused(lambda: recordings.create(store, stream.id, file_path=""), InvalidInput),
        refused(lambda: usage.log(store, user.id, event_type="NOT ONE"), InvalidInput),
    ]

    sessions.validate(store, login.token)
    users.authenticate(store, login="bob", password=password)
    users.set_password(store, user.id, other)
    shows += [f"{thing!r} {thing}" for thing in (store, store.settings, login.token, stream, key, user)]
    shows += [repr(login).replace(repr(login.token_hash), "")]
    shows += [repr(store.health()), msgspec.json.encode(store.health()).decode(), str(generate(store))]
    with store.transaction() as tx:
        shows.append(repr(tx))
    check(hidden, said, errors, shows)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_passwords_of_connection_strings(
    database_url: str,
    hidden: Secrets,
    said: Everything,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of servers that are not there, refuse the login or have strings that cannot be read."""
    port = free_port()
    plain, odd = hidden.new(), hidden.new("p@ss:w/?#%")
    user, target = "ann", f"127.0.0.1:{port}/app"
    urls = [
        f"postgresql://{user}:{plain}@{target}",
        f"postgresql://{user}:{quote(odd, safe='')}@{target}",
        f"postgresql://{user}@{target}?password={quote(odd, safe='')}",
        f"postgresql://{user}:{plain}@{target}?sslmode=nonsense",
        f"postgresql://{user}:{odd}@{target}",
        f"host=127.0.0.1 port={port} user={user} password={plain}",
        f"host=127.0.0.1 port={port} password='{plain}",
        f"host=127.0.0.1 port=x password='{plain} and more'",
        f"{user}:{plain}@{target}",
        f"//{user}:{odd}@{target}",
        f"postgresql:/{user}:{odd}@{target}",
        make_conninfo(database_url, user="nobody_at_all", password=plain),
        make_conninfo(database_url, dbname="no_such_database", password=plain),
    ]
    kinds = (Unavailable, SettingsError, PermissionDenied)
    errors: list[RootStreamError] = []
    shows: list[str] = []
    for url in urls:
        errors.append(refused(partial(Store.open, url), *kinds))
        errors.append(refused(partial(migrations.apply, url), *kinds))
        shows.append(repr(Settings.create(database_url=url)))
        monkeypatch.setenv("DATABASE_URL", url)
        for command in (["status"], ["migrate", "status"], ["maintain"], ["metrics", "--once"]):
            main(command)
    for url in (
        f"redis://:{plain}@127.0.0.1:{port}/0",
        f"redis://{user}:{quote(odd, safe='')}@127.0.0.1:{port}/0",
    ):
        with Store.open(make_conninfo(database_url, password=plain), url) as store:
            make_user(store)
            shows += [repr(store), repr(store.settings), repr(store.health())]
            errors.append(refused(partial(store.subscribe, "x"), Unavailable, SettingsError))
    bad = [
        f"redis://:{odd}@x:99999999/0",
        f"http://:{plain}@x/0",
        f"redis://:{plain}@x/0?nonsense=1",
        f":{plain}@x/0",
        f"{user}:{odd}@x:6379",
        f"redis:{user}:{plain}@x",
    ]
    errors += [refused(partial(Store.open, database_url, url), SettingsError) for url in bad]
    check(hidden, said, errors, shows)
    out, err = capfd.readouterr()
    assert not hidden.found_in(out)
    assert not hidden.found_in(err)
    assert "***" in err


@pytest.mark.parametrize("odd", ["", "p@ss:w/?#%"])
def test_redis_that_goes_away_or_refuses_the_password(
    database_url: str,
    valkey: OwnValkey,
    hidden: Secrets,
    said: Everything,
    capfd: pytest.CaptureFixture[str],
    odd: str,
) -> None:
    password = hidden.new(odd)
    valkey.start("--requirepass", password)
    url = f"unix://:{quote(password, safe='')}@{valkey.socket}"
    shows: list[str] = []
    with Store.open(make_conninfo(database_url, password=hidden.new()), url, redis_retry_after=0.05) as store:
        user = make_user(store)
        made = sessions.create(store, user.id)
        hidden.add(made.token.reveal())
        hidden.add(made.token_hash.hex())
        assert sessions.validate(store, made.token).user_id == user.id
        assert store.health().redis.reachable, "the password is right"
        with store.subscribe("x") as messages:
            shows.append(repr(messages))
            for fault in ("freeze", "kill"):
                getattr(valkey, fault)()
                for _ in range(3):
                    sessions.validate(store, made.token)
                    shows.append(repr(store.health()))
                users.record_login(store, user.id)
                if fault == "freeze":
                    valkey.thaw()
        # Back with another password: every command is refused.
        valkey.start("--requirepass", hidden.new())

        def told() -> bool:
            sessions.validate(store, made.token)
            return any("rootstream_store.cache" in line for line in said.lines)

        until(told, "the outage to be logged")
        sessions.revoke(store, made.token)
        error = refused(lambda: store.subscribe("x"), SettingsError)
        shows += [repr(store), repr(store.settings), repr(store.health()), str(generate(store))]
    check(hidden, said, [error], shows)
    assert capfd.readouterr() == ("", "")


def test_postgresql_that_goes_away(
    hidden: Secrets, said: Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    """The pool logs each attempt to connect again."""
    servers = EmbeddedServers.start(redis=False, durable=False)
    try:
        migrations.apply(servers.database_url)
        url = make_conninfo(servers.database_url, password=hidden.new("p@ss'w\\"))
        settings: dict[str, Any] = {"pool_timeout": 1, "retry_deadline": 0.2, "pool_min_size": 2}
        with Store.open(url, **settings) as store:
            password = hidden.new()
            user = users.create(store, username="bob", email="bob@example.com", password=password)
            add_hashes(hidden, servers.database_url)
            refused(lambda: make_user(store, username=""), InvalidInput)
            servers.stop()
            errors = [
                refused(call, Unavailable, Timeout)
                for call in (
                    lambda: users.get(store, user.id),
                    lambda: users.create(store, username="eve", email="e@example.com", password=password),
                    lambda: users.set_password(store, user.id, password),
                    lambda: users.authenticate(store, login="bob", password=password),
                )
            ]
            shows = [repr(store), repr(store.health()), str(generate(store))]
            until(lambda: "psycopg.pool" in said.loggers, "the pool to log")
    finally:
        servers.stop()
    check(hidden, said, errors, shows)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that the account of the server may enter, which pytest's own are not when root runs it."""
    with tempfile.TemporaryDirectory(prefix="rss-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_the_log_of_the_embedded_server(hidden: Secrets, reachable: Path) -> None:
    """It is shown in errors; PostgreSQL's defaults would write the refused row into it."""
    path = reachable / "data"
    with EmbeddedServers.start(path, redis=False, durable=False) as servers:
        migrations.apply(servers.database_url)
        with Store.open(servers.database_url) as store:
            make_user(store)
            add_hashes(hidden, servers.database_url)
            refused(lambda: make_user(store, username=""), InvalidInput)
            refused(lambda: make_user(store, password_hash=hidden.new()), InvalidInput)
            refused(
                lambda: store.run(
                    Query("users/test", f"-- wrong\nSELECT '{hidden.new()}' FROM nothing", None)
                ),
                RootStreamError,
            )
        log = path / "postgres.log"
        until(lambda: log.read_text().count("ERROR") >= 3, "the errors to be in the log")
    assert not hidden.found_in(log.read_text())


def test_an_error_that_nobody_catches(database_url: str, hidden: Secrets) -> None:
    """What the interpreter prints when it ends, and when a thread does."""
    script = """if True:
        import json, sys, threading
        from rootstream_store import Store, users
        url, password = json.load(sys.stdin)
        users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
        store = Store.open(url, None)
        def sign_up():
            users.create(store, username="x", email="a@b.c|", password=password)
        thread = threading.Thread(target=sign_up)
        thread.start()
        thread.join()
        sign_up()
    """
    password = hidden.new()
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([database_url, password]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("InvalidInput: email: ") == 2, done.stderr
    assert "argon2id$" not in done.stderr
    assert not hidden.found_in(done.stderr + done.stdout)


def test_a_failed_login_tells_by_its_work_nothing_of_who_exists(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One statement and one hash of the same cost, whether the name, the password or the account is wrong."""
    users.configure_passwords(time_cost=2, memory_cost=64, parallelism=1)
    users.create(store, username="bob", email="bob@example.com", password="correct horse")
    gone = users.create(store, username="eve", email="eve@example.com", password="correct horse")
    users.deactivate(store, gone.id)
    work: list[object] = []
    verify = argon2.PasswordHasher.verify

    def counted(self: argon2.PasswordHasher, stored: str, password: bytes) -> bool:
        work.append(argon2.extract_parameters(stored))
        return verify(self, stored, password)

    def observed(name: str, call: Callable[[], Any]) -> Any:
        work.append(name)
        return call()

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    store.observe(observed)
    seen = []
    for login, password in (
        ("bob", "a wrong one"),
        ("BOB@example.com", "a wrong one"),
        ("nobody", "correct horse"),
        ("nobody@example.com", "a wrong one"),
        ("' OR 1=1 --", "a wrong one"),
        ("eve", "correct horse"),
        ("eve", "a wrong one"),
        ("bob", ""),
        ("nobody", ""),
    ):
        work.clear()
        error = refused(
            partial(users.authenticate, store, login=login, password=password), AuthenticationFailed
        )
        seen.append(([*work], str(error), vars(error)))
    assert all(one == seen[0] for one in seen), seen
    statements, hashes = seen[0][0]
    assert statements == "users/find_credentials"
    assert isinstance(hashes, argon2.Parameters)
    assert (hashes.time_cost, hashes.memory_cost) == (2, 64)
