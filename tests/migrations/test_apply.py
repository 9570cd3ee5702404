"""Applying files to a database: what is done and recorded, and that a refused run leaves nothing."""

from __future__ import annotations

import logging
import pickle
import shutil
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rootstream_store import migrations
from rootstream_store.errors import MigrationError, PermissionDenied, SettingsError, Unavailable
from rootstream_store.migrations._adopt import catalog
from rootstream_store.migrations._files import read_files
from rootstream_store.migrations._session import open_session
from rootstream_store.queries import sql_root
from rootstream_store.settings import Settings

from .conftest import Connection, Write, ledger, snapshot, tables, value


def refused(url: str, database: Connection, directory: Path) -> MigrationError:
    """The error of a run that must fail and leave the database as it was."""
    before, recorded = snapshot(database), ledger(database)
    with pytest.raises(MigrationError) as caught:
        migrations.apply(url, directory)
    assert snapshot(database) == before
    assert ledger(database) == recorded
    return caught.value


def test_own_files_on_an_empty_database_then_again(empty_database_url: str, database: Connection) -> None:
    files = read_files(sql_root() / "migrations")
    assert migrations.status(empty_database_url).version == 0
    assert [file.name for file in migrations.plan(empty_database_url)] == [file.name for file in files]
    assert value(database, "SELECT to_regclass('schema_migrations')") is None, "looking must not write"

    applied = migrations.apply(empty_database_url)

    assert [entry.name for entry in applied] == [file.name for file in files]
    assert {entry.line for entry in applied} == {"rootstream"}
    assert {"users", "streams", "event_log"} <= tables(database)
    assert ledger(database, "rootstream") == [(file.version, "applied") for file in files]
    before = snapshot(database)
    assert migrations.apply(empty_database_url) == []
    assert migrations.plan(empty_database_url) == []
    assert snapshot(database) == before
    status = migrations.status(empty_database_url)
    assert (status.version, status.pending, status.problems) == (files[-1].version, (), ())


def test_step_by_step_gives_the_same_schema_as_all_at_once(
    empty_database_url: str, database: Connection, directory: Path
) -> None:
    """Each version applied by a run of its own, as a database that followed every release has it."""

    def fingerprint() -> dict[tuple[str, str], str]:
        with open_session(empty_database_url) as session:
            return catalog(session, "public")

    migrations.apply(empty_database_url)
    at_once = fingerprint()
    database.execute("DROP SCHEMA public CASCADE")
    database.execute("CREATE SCHEMA public")
    for file in read_files(sql_root() / "migrations"):
        shutil.copy(file.path, directory)
        (applied,) = migrations.apply(empty_database_url, directory, line="rootstream")
        assert applied.version == file.version
    assert fingerprint() == at_once
    kinds = {kind for kind, _name in at_once}
    assert {"table", "column", "constraint", "index", "trigger", "function", "sequence"} <= kinds
    # The comparison must be able to fail.
    database.execute("ALTER TABLE users ALTER COLUMN display_name SET DEFAULT 'x'")
    assert fingerprint() != at_once


def test_lines_are_beside_each_other(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_room.sql", "CREATE TABLE IF NOT EXISTS room (user_id bigint REFERENCES users)")
    migrations.apply(empty_database_url)
    (applied,) = migrations.apply(empty_database_url, directory)
    assert (applied.line, applied.version) == ("app", 1)
    assert migrations.apply(empty_database_url, directory, line="other", target=1) != []
    assert ledger(database, "other") == [(1, "applied")]
    assert ledger(database, "app") == [(1, "applied")]
    assert len(ledger(database, "rootstream")) == len(read_files(sql_root() / "migrations"))


def test_ten_comes_after_nine(empty_database_url: str, directory: Path, write: Write) -> None:
    write("10_alter_a.sql", "ALTER TABLE a ADD y int")
    write("9_create_a.sql", "CREATE TABLE a (x int)")
    assert [entry.version for entry in migrations.apply(empty_database_url, directory)] == [9, 10]


def test_target(empty_database_url: str, database: Connection, directory: Path, write: Write) -> None:
    for number in (1, 2, 3):
        write(f"000{number}_create_t.sql", f"CREATE TABLE t{number} ()")
    assert len(migrations.apply(empty_database_url, directory, target=2)) == 2
    assert migrations.apply(empty_database_url, directory, target=2) == []
    assert [file.version for file in migrations.plan(empty_database_url, directory)] == [3]
    with pytest.raises(MigrationError, match="no file has version 9; there are 1 to 3"):
        migrations.apply(empty_database_url, directory, target=9)
    with pytest.raises(MigrationError, match="at version 2, past 1: migrations only go forward"):
        migrations.apply(empty_database_url, directory, target=1)
    assert tables(database) == {"t1", "t2"}


def test_failing_file_leaves_nothing_behind(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write(
        "0001_create_a.sql", "CREATE TABLE a (x int);\nINSERT INTO a VALUES (1);\nCREATE TABLE b (x innt);\n"
    )
    error = refused(empty_database_url, database, directory)
    assert (error.file, error.line, error.column) == ("0001_create_a.sql", 3, 19)
    assert error.sqlstate == "42704"
    assert str(error) == '0001_create_a.sql:3:19: type "innt" does not exist'
    assert snapshot(database) == []


def test_files_before_the_failing_one_stay(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_a.sql", "CREATE TABLE a (x int)")
    write("0002_create_b.sql", "CREATE TABLE b (x int);\n\n  SELECT * FROM nowhere;")
    with pytest.raises(MigrationError, match=r"0002_create_b\.sql:3:17: relation \"nowhere\" does not exist"):
        migrations.apply(empty_database_url, directory)
    assert tables(database) == {"a"}
    assert ledger(database) == [(1, "applied")]
    write("0002_create_b.sql", "CREATE TABLE b (x int)")
    assert [entry.version for entry in migrations.apply(empty_database_url, directory)] == [2]


def test_place_and_line_of_an_error(empty_database_url: str, directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "-- é ü\r\nCREATE TABLE a ();\r\n/* é */ CREATE TABEL b ();\r\n")
    with pytest.raises(MigrationError) as caught:
        migrations.apply(empty_database_url, directory)
    error = caught.value
    assert (error.line, error.column, error.sqlstate) == (3, 16, "42601")
    assert error.__notes__ == ["    3 | /* é */ CREATE TABEL b ();", "      |                ^"]
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.line, copy.__notes__) == (str(error), 3, error.__notes__)
    assert isinstance(error.__cause__, psycopg.errors.SyntaxError)


def test_error_without_a_position_has_the_line_of_its_statement(
    empty_database_url: str, directory: Path, write: Write
) -> None:
    write("0001_create_a.sql", "CREATE TABLE a (x int);\n\n-- again\nCREATE TABLE\n a (x int);")
    with pytest.raises(
        MigrationError, match=r"0001_create_a\.sql:4: relation \"a\" already exists"
    ) as caught:
        migrations.apply(empty_database_url, directory)
    assert caught.value.column is None


def test_failing_row_is_not_shown(empty_database_url: str, directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "CREATE TABLE a (hash text CHECK (hash <> 'sec' || 'ret'));")
    write("0002_fill_a.sql", "INSERT INTO a VALUES (concat('sec', 'ret'))")
    with pytest.raises(MigrationError) as caught:
        migrations.apply(empty_database_url, directory)
    assert caught.value.constraint == "a_hash_check"
    for error in (caught.value, caught.value.__cause__):
        assert "secret" not in f"{error} {error!r}"
    cause = caught.value.__cause__
    assert isinstance(cause, psycopg.Error)
    assert cause.diag.message_detail is None
    assert b"secret" not in pickle.dumps(caught.value)


def test_error_at_commit(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write(
        "0001_create_a.sql",
        "CREATE TABLE a (x int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO a VALUES (1), (1)",
    )
    error = refused(empty_database_url, database, directory)
    assert (error.file, error.sqlstate, error.constraint) == ("0001_create_a.sql", "23505", "a_x_key")


def test_edited(empty_database_url: str, database: Connection, directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "CREATE TABLE a (x int);\n")
    migrations.apply(empty_database_url, directory)
    write("0001_create_a.sql", "\ufeffCREATE TABLE a (x int);\r\n\r\n")
    assert migrations.apply(empty_database_url, directory) == [], "line ends are not an edit"
    write("0001_create_a.sql", "CREATE TABLE a (x bigint);\n")
    write("0002_create_b.sql", "CREATE TABLE b ()")
    error = refused(empty_database_url, database, directory)
    assert error.file == "0001_create_a.sql"
    assert "was edited after it was applied" in str(error)
    status = migrations.status(empty_database_url, directory)
    assert status.problems == (str(error).replace(".sql: ", ".sql: ", 1),)
    assert [entry.state for entry in status.entries] == ["applied", "pending"]


def test_missing(empty_database_url: str, database: Connection, directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ()")
    write("0002_create_b.sql", "CREATE TABLE b ()")
    migrations.apply(empty_database_url, directory)
    (directory / "0001_create_a.sql").unlink()
    write("0003_create_c.sql", "CREATE TABLE c ()")
    error = refused(empty_database_url, database, directory)
    assert error.file == "0001_create_a.sql"
    assert "is missing" in str(error)


def test_newer_than_known(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ()")
    write("0002_create_b.sql", "CREATE TABLE b ()")
    migrations.apply(empty_database_url, directory)
    (directory / "0002_create_b.sql").unlink()
    error = refused(empty_database_url, database, directory)
    assert error.file == "0002_create_b.sql"
    assert "the database is newer than these files: it has version 2 of line 'app', they end at 1" in str(
        error
    )


def test_out_of_order(empty_database_url: str, database: Connection, directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ()")
    write("0003_create_c.sql", "CREATE TABLE c ()")
    migrations.apply(empty_database_url, directory)
    write("0002_create_b.sql", "CREATE TABLE b ()")
    error = refused(empty_database_url, database, directory)
    assert error.file == "0002_create_b.sql"
    assert "version 2 is out of order: the database is at version 3" in str(error)
    with pytest.raises(MigrationError, match="out of order"):
        migrations.plan(empty_database_url, directory)


def test_settings_of_a_file_end_with_it(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    role = f"owner_{value(database, 'SELECT pg_backend_pid()')}"
    database.execute(f"CREATE ROLE {role}".encode())
    database.execute(f"GRANT CREATE ON SCHEMA public TO {role}".encode())
    try:
        # What pg_dump writes at the top of its files.
        write(
            "0001_create_a.sql",
            "SELECT pg_catalog.set_config('search_path', '', false); SET statement_timeout = '9s'; "
            f"SET ROLE {role}; CREATE TABLE public.a (); SET LOCAL lock_timeout = 1",
        )
        write(
            "0002_create_b.sql",
            "CREATE TABLE b AS SELECT current_user::text AS u, current_setting('search_path') AS p, "
            "current_setting('statement_timeout') AS s, current_setting('lock_timeout') AS l",
        )
        migrations.apply(empty_database_url, directory, lock_timeout=7)
        user = value(database, "SELECT current_user::text")
        row = database.execute("SELECT u, p, s, l FROM b").fetchone()
        assert row == (user, '"$user", public', "0", "7s")
        assert ledger(database) == [(1, "applied"), (2, "applied")]
    finally:
        database.execute(f"DROP OWNED BY {role} CASCADE".encode())
        database.execute(f"DROP ROLE {role}".encode())


def test_lost_lock(empty_database_url: str, database: Connection, directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "CREATE TABLE a (); SELECT pg_advisory_unlock_all()")
    error = refused(empty_database_url, database, directory)
    assert error.file == "0001_create_a.sql"
    assert "the lock of the migration run was lost" in str(error)


@pytest.mark.parametrize("text", ["VACUUM", "CREATE TABLE a (x int); CREATE INDEX CONCURRENTLY i ON a (x)"])
def test_hint_for_what_cannot_run_in_a_transaction(
    empty_database_url: str, database: Connection, directory: Path, write: Write, text: str
) -> None:
    write("0001_do_it.sql", text)
    assert "begins with -- rootstream: no-transaction" in str(
        refused(empty_database_url, database, directory)
    )


def test_transaction_ended_from_inside(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ();\nDO $$ BEGIN COMMIT; END $$")
    error = refused(empty_database_url, database, directory)
    assert (error.sqlstate, error.line) == ("2D000", 2)


def test_without_privileges(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    role = f"reader_{value(database, 'SELECT pg_backend_pid()')}"
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'".encode())
    url = make_conninfo(empty_database_url, options=f"-c role={role}")
    write("0001_create_a.sql", "CREATE TABLE a ()")
    try:
        error = refused(url, database, directory)
        assert error.sqlstate == "42501"
        assert "run migrations as a role that owns the schema" in str(error)
        migrations.apply(empty_database_url, directory)
        database.execute(f"GRANT SELECT ON schema_migrations TO {role}".encode())
        assert migrations.apply(url, directory) == [], "an up-to-date database needs no right to create"
    finally:
        database.execute(f"DROP OWNED BY {role} CASCADE".encode())
        database.execute(f"DROP ROLE {role}".encode())


def test_read_only(empty_database_url: str, database: Connection, directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ()")
    url = make_conninfo(empty_database_url, options="-c default_transaction_read_only=on")
    assert "is read-only" in str(refused(url, database, directory))
    assert len(migrations.status(url, directory).pending) == 1


def test_no_schema_to_create_in(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ()")
    url = make_conninfo(empty_database_url, options="-c search_path=nowhere")
    assert "no schema on the search path exists" in str(refused(url, database, directory))


def test_table_of_another_tool(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ()")
    database.execute("CREATE TABLE schema_migrations (version text PRIMARY KEY)")
    with pytest.raises(MigrationError, match=r"is not ours \(columns version\).*search_path"):
        migrations.apply(empty_database_url, directory)
    database.execute("CREATE SCHEMA own")
    url = make_conninfo(empty_database_url, options="-c search_path=own")
    assert len(migrations.apply(url, directory)) == 1
    assert value(database, "SELECT count(*) FROM own.schema_migrations") == 1


def test_unreachable(directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ()")
    with pytest.raises(Unavailable, match=r"cannot reach .*127\.0\.0\.1:1/x") as caught:
        migrations.apply("postgresql://someone:hunter2@127.0.0.1:1/x", directory)
    assert caught.value.retryable
    assert "hunter2" not in repr(caught.value)


@pytest.mark.parametrize(
    ("over", "error"),
    [({"user": "nobody_at_all"}, PermissionDenied), ({"dbname": "not_there"}, SettingsError)],
)
def test_what_a_retry_cannot_help_is_not_taken_for_an_outage(
    empty_database_url: str, over: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(over.values()))) as caught:
        migrations.apply(make_conninfo(empty_database_url, **over))
    assert not getattr(caught.value, "retryable", True)


def test_bad_connection_string(directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ()")
    with pytest.raises(SettingsError) as caught:
        migrations.apply("password=x hunter2", directory)
    assert "hunter2" not in str(caught.value)


def test_a_store_will_do(empty_database_url: str, directory: Path, write: Write) -> None:
    class Store:
        def __init__(self, settings: Settings) -> None:
            self.settings = settings

    write("0001_create_a.sql", "CREATE TABLE a ()")
    # The statement timeout of the store is not that of migrations.
    write("0002_wait_long.sql", "SELECT pg_sleep(0.1)")
    store = Store(Settings.create(database_url=empty_database_url, statement_timeout=0.01))
    assert len(migrations.apply(store, directory)) == 2
    with pytest.raises(MigrationError, match="direct connection"):
        migrations.apply(Store(Settings.create(database_url=empty_database_url, pgbouncer=True)), directory)


def test_notices_go_to_the_log(
    empty_database_url: str, directory: Path, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write("0001_say_so.sql", "DO $$ BEGIN RAISE NOTICE 'half way'; END $$")
    with caplog.at_level(logging.INFO, "rootstream_store.migrations"):
        migrations.apply(empty_database_url, directory)
    assert "NOTICE: half way" in caplog.text
    assert "applied 0001_say_so.sql of line app" in caplog.text


def test_bodies_with_semicolons(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    """What the runner cuts into statements, the server must understand piece by piece."""
    write(
        "0001_create_all.sql",
        """
        CREATE TABLE a (x int);  -- a; comment
        CREATE RULE r AS ON DELETE TO a DO ALSO (SELECT 1; SELECT ';');
        CREATE FUNCTION f(v int) RETURNS int BEGIN ATOMIC
            INSERT INTO a VALUES (v);
            SELECT CASE WHEN count(*) > 0 THEN 1 ELSE 0 END FROM a;
        END;
        CREATE PROCEDURE p() LANGUAGE plpgsql AS $body$
        BEGIN
            EXECUTE $$ INSERT INTO a VALUES (2); $$;
        END $body$;
        CALL p(); SELECT f(3); COMMENT ON TABLE a IS E'it\\'s; mine'; /* ; /* ; */ ; */
        """,
    )
    assert len(migrations.apply(empty_database_url, directory)) == 1
    assert database.execute("SELECT x FROM a ORDER BY x").fetchall() == [(2,), (3,)]
    assert value(database, "SELECT obj_description('a'::regclass)") == "it's; mine"


def test_percent_signs_are_left_alone(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_a.sql", "CREATE TABLE a AS SELECT '100 %' || '%(x)s %%' AS x, 7 % 4 AS y")
    migrations.apply(empty_database_url, directory)
    assert database.execute("SELECT * FROM a").fetchone() == ("100 %%(x)s %%", 3)
