"""The role scripts in sql/roles: what each role may do, and what it is refused."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from rootstream_store import events, maintenance, migrations
from rootstream_store.errors import PermissionDenied, RootStreamError
from rootstream_store.events import NewEvent
from rootstream_store.events._checkpoint import Member
from rootstream_store.queries import Query, sql_root
from rootstream_store.records import Event
from rootstream_store.repositories import (
    billing,
    recordings,
    sessions,
    stream_sessions,
    streams,
    usage,
    users,
)
from rootstream_store.repositories.usage import UsageEntry
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

from .capi.queue.helpers import Queue, compile_c, load
from .factories import make_stream, make_stream_session, make_user

_numbers = itertools.count(1)


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


def _apply(owner: psycopg.Connection, script: str, role: str, name: str) -> None:
    # Roles belong to the whole server: other tests, and the user, have theirs.
    text = (sql_root() / f"roles/{script}.sql").read_text().replace(role, name)
    owner.execute(text.encode())


def _role(owner: psycopg.Connection, script: str, role: str) -> Iterator[str]:
    name = f"{role}_test_{os.getpid()}_{next(_numbers)}"
    try:
        _apply(owner, script, role, name)
        _apply(owner, script, role, name)  # a second time must do as well
        yield name
    finally:
        owner.execute(SQL("DROP OWNED BY {}").format(Identifier(name)))
        owner.execute(SQL("DROP ROLE {}").format(Identifier(name)))


@pytest.fixture
def app_role(owner: psycopg.Connection) -> Iterator[str]:
    yield from _role(owner, "grant_application", "rootstream_app")


@pytest.fixture
def readonly_role(owner: psycopg.Connection) -> Iterator[str]:
    yield from _role(owner, "grant_readonly", "rootstream_readonly")


def _as(database_url: str, role: str) -> str:
    options = f"{conninfo_to_dict(database_url).get('options') or ''} -c role={role}"
    return make_conninfo(database_url, options=options)


@pytest.fixture
def app(database_url: str, redis_url: str, app_role: str) -> Iterator[Store]:
    with Store.open(_as(database_url, app_role), redis_url, pool_size=4) as opened:
        yield opened


@pytest.fixture
def reader(database_url: str, readonly_role: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(_as(database_url, readonly_role), autocommit=True) as opened:
        yield opened


def test_the_tests_really_run_as_the_role(app: Store, app_role: str) -> None:
    assert app.one(Query("roles/who", "-- Who.\nSELECT current_user::text AS name", str)) == app_role


# --- the application


def test_everything_works_as_the_application(app: Store) -> None:
    user = make_user(app)
    created = sessions.create(app, user.id)
    assert sessions.validate(app, created.token).user_id == user.id
    stream = make_stream(app, user.id)
    session = make_stream_session(app, stream.id)
    assert stream_sessions.get_current(app, stream.id).id == session.id
    assert recordings.list_by_stream(app, stream.id) == []
    streams.stop(app, stream.id)

    usage.log(app, user.id, event_type="x", bytes_transferred=1)
    usage.log(app, user.id, event_type="x", created_at=datetime(2090, 1, 1, tzinfo=UTC))
    usage.log_many(app, [UsageEntry(user_id=user.id, event_type="x", bytes_transferred=2)])
    billing.open(app, user.id)
    billing.set_tier(app, user.id, "pro")
    assert billing.get_quota(app, user.id).bytes_transferred == 3
    billing.delete(app, user.id)

    for expected in (events.NO_STREAM, events.EXISTS, events.ANY, 3):
        events.append(app, "Stream", "a", "E", {}, expected=expected, user_id=user.id)
    events.append_many(app, "Stream", "a", [NewEvent("E", {})] * 3, expected=4)
    assert len(events.read(app, "Stream", "a")) == 7
    events.save_snapshot(app, "Stream", "a", version=7, state={})
    assert events.load_snapshot(app, "Stream", "a") is not None
    fold: events.Fold[int] = events.Fold(lambda total, _: total + 1, int, schema_version=2, snapshot_every=1)
    assert events.load(app, "Stream", "a", fold).state == 7
    assert events.load_snapshot(app, "Stream", "a", schema_version=2) is not None
    assert events.prune_snapshots(app, "Stream", "a", keep=0) == 2
    assert events.close(app, "Stream", "a").is_closed
    assert not events.reopen(app, "Stream", "a").is_closed
    subscription = events.Subscription(
        app, "all", lambda tx, event: 1 // (event.position - 1), max_attempts=1
    )
    assert subscription.catch_up() == 7
    assert [parked.position for parked in events.list_parked(app, "all")] == [1]
    assert events.list_lag(app)[0].positions_behind == 0
    events.discard_parked(app, "all", 1)
    events.reset(app, "all", 3)
    events.delete_subscription(app, "all")
    users.delete(app, user.id)
    assert len(events.list_by_user(app, user.id)) == 4
    assert events.close(app, "Stream", "a").is_closed


def test_the_application_cannot_open_the_door_of_the_log(app: Store) -> None:
    """The setting that the triggers ask for is one that everybody can make; the rights are not."""
    events.append(app, "Stream", "a", "E", {})
    for door, statement in (
        ("DELETE event_log", "DELETE FROM event_log"),
        ("UPDATE event_log", "UPDATE event_log SET event_data = '{}', metadata = '{}'"),
    ):
        with app.transaction() as transaction:
            setting = f"-- A door.\nSELECT set_config('rootstream.event_log_door', '{door}', TRUE) AS door"
            transaction.one(Query("roles/door", setting, str))
            with pytest.raises(PermissionDenied), transaction.transaction() as inner:
                inner.run(Query("roles/attempt", f"-- An attempt.\n{statement}", None))


def test_the_application_reads_archived_events(app: Store, owner: psycopg.Connection) -> None:
    events.append_many(app, "Stream", "a", [NewEvent("E", {"n": n}, user_id=7) for n in range(3)])
    events.close(app, "Stream", "a")
    with pytest.raises(PermissionDenied):
        events.archive(app, before=datetime(2090, 1, 1, tzinfo=UTC))
    moved = owner.execute("SELECT events FROM archive_events('{a}', '{Stream}', 'infinity', 3)").fetchone()
    assert moved == (3,)
    assert [event.version for event in events.read(app, "Stream", "a")] == [1, 2, 3]
    assert [event.version for event in events.read_all(app)] == [1, 2, 3]
    assert len(events.list_by_user(app, 7)) == 3


def test_the_application_makes_and_drops_partitions(app: Store, owner: psycopg.Connection) -> None:
    owner.execute("SELECT usage_logs_create_partitions('2001-01-01', 2)")
    report = maintenance.run(app, months_ahead=4, keep_usage_months=3)
    assert (report.usage_partitions_created, report.usage_partitions_dropped) == (2, 2)
    owners = owner.execute(
        "SELECT DISTINCT relowner::regrole = current_user::regrole FROM pg_class "
        "WHERE relname ~ '^usage_logs_y'"
    ).fetchall()
    assert owners == [(True,)]
    user = make_user(app)
    usage.log(app, user.id, event_type="x")


def test_a_temporary_table_of_the_callers_is_not_taken_for_a_partition(
    app: Store, owner: psycopg.Connection
) -> None:
    """A function that runs as the owner must not run a trigger of its caller's."""
    with app.transaction() as transaction:
        for statement in (
            "CREATE TEMPORARY TABLE usage_logs_default (user_id bigint, created_at timestamptz)",
            "CREATE FUNCTION pg_temp.become() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'ran as %%', current_user; END $$",
            "CREATE TRIGGER become BEFORE DELETE ON usage_logs_default "
            "FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.become()",
            "CREATE TEMPORARY TABLE usage_logs (LIKE usage_logs_default)",
        ):
            transaction.run(Query("roles/attack", f"-- An attack.\n{statement}", None))
        assert maintenance.run(transaction, months_ahead=5).usage_partitions_created == 3


def test_whoever_reads_verifies(filled: Store, app: Store, database_url: str, readonly_role: str) -> None:
    with Store.open(_as(database_url, readonly_role), pool_size=1) as reading:
        for store in (app, reading):
            found = events.verify(store)
            assert (found.fault, found.sealed_events) == (None, 3)


def test_the_application_neither_seals_nor_erases(app: Store) -> None:
    events.append(app, "Stream", "a", "E", {}, user_id=7)
    with pytest.raises(PermissionDenied):
        events.seal(app)
    with pytest.raises(PermissionDenied):
        events.erase(app, user_id=7, reason="r")


APP_REFUSED = [
    "UPDATE event_log SET event_type = 'X'",
    "DELETE FROM event_log",
    "UPDATE event_segments SET event_types = event_types",
    "DELETE FROM event_segments",
    "INSERT INTO event_segments DEFAULT VALUES",
    "SELECT events FROM archive_events('{a}', '{Stream}', now(), 1)",
    "SELECT operation FROM erase_events(7, '{}', '{}', 'r', NULL)",
    "INSERT INTO event_seals DEFAULT VALUES",
    "INSERT INTO event_erased DEFAULT VALUES",
    "INSERT INTO event_erasures DEFAULT VALUES",
    "DELETE FROM event_seals",
    "UPDATE event_seals SET hash = hash",
    "DELETE FROM event_erasures",
    "UPDATE event_erased SET position = 1",
    "TRUNCATE event_segments, event_seals",
    "ALTER TABLE event_segments DISABLE TRIGGER event_segments_append_only",
    "TRUNCATE event_log",
    "TRUNCATE users CASCADE",
    "DELETE FROM aggregates",
    "ALTER TABLE event_log DISABLE TRIGGER event_log_append_only",
    "DROP TRIGGER event_log_append_only ON event_log",
    "DROP TABLE usage_logs",
    "CREATE TABLE of_mine (id bigint)",
    "CREATE TRIGGER mine BEFORE INSERT ON event_log EXECUTE FUNCTION refuse_event_log_change()",
    "SELECT setval('event_log_position_seq', 1)",
    "DELETE FROM schema_migrations",
    "UPDATE schema_migrations SET checksum = checksum",
    "CREATE SCHEMA of_mine",
]


@pytest.mark.parametrize("statement", APP_REFUSED)
def test_the_application_is_refused(app: Store, owner: psycopg.Connection, statement: str) -> None:
    events.append(app, "Stream", "a", "E", {})
    with pytest.raises(PermissionDenied) as caught:
        app.run(Query("roles/attempt", f"-- An attempt.\n{statement}", None))
    assert caught.value.sqlstate == "42501"
    assert "append-only" not in caught.value.message, "the grant, not only the trigger, must refuse"
    assert owner.execute("SELECT event_type FROM event_log").fetchall() == [("E",)]


def test_the_application_can_tell_whether_migrations_are_pending(database_url: str, app_role: str) -> None:
    status = migrations.status(_as(database_url, app_role))
    assert not status.pending
    assert not status.problems


def test_the_application_makes_and_rebuilds_projections(app: Store, owner: psycopg.Connection) -> None:
    def count(tx: Transaction, event: Event) -> None:
        tx.run(
            Query("roles/count", "-- Counts.\nINSERT INTO seen VALUES (%(n)s::bigint)", None), n=event.version
        )

    table: Query[None] = Query("roles/table", "-- A table.\nCREATE TABLE seen (n bigint)", None)
    projection = events.Projection("counted", count, [table])
    for _ in range(3):
        events.append(app, "Stream", "a", "E", {})
    assert projection.subscription(app).catch_up() == 3
    events.rebuild(app, projection)
    events.append(app, "Stream", "a", "E", {})
    assert projection.subscription(app).catch_up() == 1
    assert owner.execute("SELECT n FROM projection_counted.seen ORDER BY n").fetchall() == [
        (1,),
        (2,),
        (3,),
        (4,),
    ]
    schemas = owner.execute(
        "SELECT nspname::text, nspowner::regrole = current_user::regrole FROM pg_namespace "
        "WHERE nspname LIKE 'projection%'"
    ).fetchall()
    assert schemas == [("projection_counted", True)]
    with pytest.raises(RootStreamError):
        app.one(
            Query("roles/other", "-- Another.\nSELECT projection_create_schema('x', '/../public') AS x", bool)
        )


def test_others_may_not_call_what_runs_as_the_owner(
    app_role: str, reader: psycopg.Connection, owner: psycopg.Connection
) -> None:
    for call in (
        "usage_logs_create_partitions('2001-01-01', 1)",
        "usage_logs_drop_partitions('2001-01-01')",
        "projection_create_schema('x', '')",
        "projection_drop_schema('x', '')",
        "projection_switch_schemas('x')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"SELECT {call}".encode())


# --- the reader


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with a row in every table."""
    user = make_user(store)
    sessions.create(store, user.id)
    stream = make_stream(store, user.id)
    session = make_stream_session(store, stream.id)
    recordings.create(store, stream.id, session_id=session.id, file_path="/a")
    usage.log(store, user.id, event_type="x")
    billing.open(store, user.id)
    events.append(store, "Stream", "a", "E", {})
    events.save_snapshot(store, "Stream", "a", version=1, state={})
    events.append(store, "Stream", "old", "E", {})
    events.close(store, "Stream", "old")
    assert events.archive(store, before=datetime(2090, 1, 1, tzinfo=UTC)).events == 1
    assert events.erase(store, aggregates=[("Stream", "old")], reason="r").archived_events == 1
    assert events.seal(store) is not None
    subscription = events.Subscription(store, "all", lambda tx, event: 1 // 0, max_attempts=1)
    subscription.catch_up()
    Member("all", uuid4(), timedelta(seconds=30)).claim(store)
    with psycopg.connect(store.settings.database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO queue_writers (writer) VALUES (gen_random_uuid())")
        connection.execute(
            "INSERT INTO rejected_events "
            "(writer, aggregate_type, aggregate_id, event_type, event_data, error_text) "
            "VALUES (gen_random_uuid(), 'Stream', 'a', 'E', '{', 'is not JSON')"
        )
    return store


SECRETS = {
    "users": "password_hash",
    "sessions": "token_hash",
    "streams": "stream_key",
    "cache_invalidations": "key",
}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_the_application_serves_the_queue_of_native_code(app: Store, tmp_path: Path) -> None:
    native = load(compile_c(tmp_path / "libqueue.so", options=("-O1", "-shared", "-fPIC")))
    stream_id = make_stream(app, make_user(app).id).id
    streams.start(app, stream_id)
    with Queue(native, app) as queue:
        assert queue.put("7", {"n": 1}) == 0
        assert queue.put("7", b"{") == 0
        assert queue.report(stream_id, viewers=5) == 0
        assert queue.flush()
        assert not queue.counts()["is_failing"]
    assert events.get_version(app, "stream", "7") == 1
    assert streams.get(app, stream_id).viewer_count == 5
    (rejected,) = events.list_rejected(app)
    assert events.discard_rejected(app, rejected.id) == rejected


def test_the_reader_reads_every_column_but_the_secrets(
    filled: Store, reader: psycopg.Connection, owner: psycopg.Connection
) -> None:
    columns: dict[str, list[str]] = {}
    for table, column in owner.execute(
        "SELECT table_name::text, column_name::text FROM information_schema.columns "
        "JOIN information_schema.tables USING (table_schema, table_name) "
        "WHERE table_schema = 'public' AND table_name !~ '^usage_logs_' AND table_type = 'BASE TABLE'"
    ).fetchall():
        columns.setdefault(table, []).append(column)
    assert len(columns) == 21
    for table, names in columns.items():
        names = [name for name in names if name != SECRETS.get(table)]
        listed = SQL(", ").join(Identifier(name) for name in names)
        assert reader.execute(SQL("SELECT {} FROM {}").format(listed, Identifier(table))).fetchall(), table


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT password_hash FROM users",
        "SELECT * FROM users",
        "SELECT users FROM users",
        "SELECT id FROM users WHERE password_hash LIKE '$argon2id%'",
        "SELECT token_hash FROM sessions",
        "SELECT key FROM cache_invalidations",
        "SELECT * FROM sessions",
        "SELECT stream_key FROM streams",
        "SELECT * FROM streams",
        "SELECT id FROM streams ORDER BY stream_key",
        "COPY users TO STDOUT",
        "UPDATE users SET is_active = FALSE",
        "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data) "
        "VALUES ('a', 'b', 1, 'E', '{}')",
        "DELETE FROM event_log",
        "TRUNCATE usage_logs",
        "SELECT nextval('event_log_position_seq')",
        "SELECT id FROM users FOR UPDATE",
        "CREATE TABLE of_mine (id bigint)",
    ],
)
def test_the_reader_is_refused(filled: Store, reader: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(statement.encode())


def test_a_right_given_before_is_taken_back(owner: psycopg.Connection) -> None:
    """Applying the script again brings a role that had more back to what it says."""
    name = f"rootstream_readonly_test_{os.getpid()}_{next(_numbers)}"
    owner.execute(SQL("CREATE ROLE {}").format(Identifier(name)))
    try:
        owner.execute(SQL("GRANT ALL ON users, sessions, streams TO {}").format(Identifier(name)))
        _apply(owner, "grant_readonly", "rootstream_readonly", name)
        row = owner.execute(
            "SELECT has_column_privilege(%(role)s, 'users', 'password_hash', 'SELECT'), "
            "has_column_privilege(%(role)s, 'users', 'username', 'SELECT'), "
            "has_table_privilege(%(role)s, 'users', 'UPDATE')",
            {"role": name},
        ).fetchone()
        assert row == (False, True, False)
    finally:
        owner.execute(SQL("DROP OWNED BY {}").format(Identifier(name)))
        owner.execute(SQL("DROP ROLE {}").format(Identifier(name)))


def test_tokens_are_stored_as_digests_only(filled: Store, owner: psycopg.Connection) -> None:
    user = make_user(filled)
    created = sessions.create(filled, user.id)
    row = owner.execute("SELECT token_hash FROM sessions WHERE user_id = %s", [user.id]).fetchone()
    assert row == (hashlib.sha256(created.token.reveal().encode()).digest(),)
