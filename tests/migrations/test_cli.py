"""`rootstream-store migrate` as a process: what it prints and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rootstream_store.cli import main

from .conftest import Connection, Write, command, finish, ledger, value


def run(url: str, *arguments: str) -> tuple[int, str, str]:
    return finish(command(url, *arguments))


def test_status_plan_apply(empty_database_url: str, directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ()")
    write("0002_create_b.sql", "CREATE TABLE b ()")
    path = ("--path", str(directory))

    code, out, err = run(empty_database_url, "status", *path)
    assert (code, err) == (3, "")
    assert "version 0, 2 pending" in out
    assert "0002_create_b.sql" in out

    code, out, _ = run(empty_database_url, "plan", *path, "--to", "1", "--json")
    assert code == 0
    assert [file["name"] for file in json.loads(out)] == ["0001_create_a.sql"]

    code, out, err = run(empty_database_url, "apply", *path)
    assert (code, err) == (0, "")
    assert "2 applied" in out
    assert run(empty_database_url, "apply", *path) == (0, "nothing to apply\n", "")
    assert run(empty_database_url, "plan", *path) == (0, "nothing to apply\n", "")

    code, out, err = run(empty_database_url, "status", *path, "--json")
    assert (code, err) == (0, "")
    status = json.loads(out)
    assert (status["line"], status["version"], status["pending"], status["problems"]) == ("app", 2, 0, [])
    assert [entry["state"] for entry in status["migrations"]] == ["applied", "applied"]


def test_error_is_one_line_and_the_place(empty_database_url: str, directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ();\nCREATE TABEL b ();\n")
    code, out, err = run(empty_database_url, "apply", "--path", str(directory))
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        'error: 0001_create_a.sql:2:8: syntax error at or near "TABEL"',
        "    2 | CREATE TABEL b ();",
        "      |        ^",
    ]


def test_status_with_a_problem(empty_database_url: str, directory: Path, write: Write) -> None:
    path = write("0001_create_a.sql", "CREATE TABLE a ()")
    assert run(empty_database_url, "apply", "--path", str(directory))[0] == 0
    path.write_text("CREATE TABLE a (x int)")
    code, out, _ = run(empty_database_url, "status", "--path", str(directory), "--json")
    assert code == 1
    assert "was edited" in json.loads(out)["problems"][0]


def test_baseline_and_resolve(
    empty_database_url: str, database: Connection, directory: Path, write: Write
) -> None:
    write("0001_create_a.sql", "CREATE TABLE a (x int)")
    path = ("--path", str(directory))
    code, _, err = run(empty_database_url, "baseline", "1", *path)
    assert (code, "table a is missing" in err) == (1, True)
    database.execute("CREATE TABLE a (x int)")
    code, out, _ = run(empty_database_url, "baseline", "1", *path)
    assert (code, "1 on record" in out) == (0, True)

    code, _, err = run(empty_database_url, "resolve", "1", "--applied", *path)
    assert (code, "nothing to resolve" in err) == (1, True)
    write("0002_end_it.sql", "-- rootstream: no-transaction\nSELECT pg_terminate_backend(pg_backend_pid())")
    code, _, err = run(empty_database_url, "apply", *path)
    assert (code, "hint: the same command may succeed later" in err) == (1, True)
    assert run(empty_database_url, "resolve", "2", "--not-applied", *path) == (
        0,
        "version 2: not applied\n",
        "",
    )
    assert ledger(database) == [(1, "applied")]


def test_sql_needs_no_server(directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "CREATE TABLE a ()")
    write("0002_create_b.sql", "CREATE TABLE b ()")
    code, out, err = run("", "sql", "--path", str(directory), "--after", "1")
    assert (code, out, err) == (0, "-- 0002_create_b.sql\nCREATE TABLE b ()\n", "")


def test_printed_sql_is_what_apply_applies(empty_database_url: str, database: Connection) -> None:
    code, out, _ = run("", "sql")
    assert code == 0
    database.execute(out.encode())
    assert value(database, "SELECT to_regclass('event_log') IS NOT NULL") is True


def test_no_database_url() -> None:
    code, _, err = run("", "status")
    assert (code, err) == (2, "error: database_url is missing: pass --database-url or set DATABASE_URL\n")


def test_unreachable_server_and_no_password_shown() -> None:
    url = "postgresql://someone:hunter2@127.0.0.1:1/x"
    code, _, err = run("", "status", "--database-url", url)
    assert code == 1
    assert err.startswith("error: cannot reach ")
    assert "hunter2" not in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["migrate"],
        ["migrate", "nonsense"],
        ["migrate", "resolve", "1"],
        ["migrate", "apply", "--wait", "soon"],
    ],
)
def test_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["migrate", "status", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert "3" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("rootstream-store ")
