"""Files that could never be applied are refused, with their name, before a server is asked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from rootstream_store import migrations
from rootstream_store.errors import MigrationError
from rootstream_store.migrations._files import read_files

from .conftest import Write

# Refused before any connection is made, so this address is never used.
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def refused(directory: Path) -> MigrationError:
    with pytest.raises(MigrationError) as caught:
        migrations.apply(NOWHERE, directory)
    assert not caught.value.retryable
    return caught.value


@pytest.mark.parametrize(
    "name",
    [
        "create_a.sql",
        "0001.sql",
        "0001-create-a.sql",
        "0001_Create_a.sql",
        "0001_a.SQL",
        "1_a b.sql",
        "x0001_a.sql",
        "0001__a.sql",
        "0001_a_.sql",
        "\u0661_a.sql",  # a digit, but not of ASCII
        "0000_a.sql",
        "9223372036854775808_a.sql",
        "123456789012345678901_a.sql",
    ],
)
def test_bad_name(directory: Path, write: Write, name: str) -> None:
    write(name, "SELECT 1")
    assert refused(directory).file == name


def test_number_used_twice(directory: Path, write: Write) -> None:
    write("0001_create_a.sql", "SELECT 1")
    write("01_create_b.sql", "SELECT 1")
    error = refused(directory)
    assert error.file == "01_create_b.sql"
    assert "version 1 is used twice, also by 0001_create_a.sql" in str(error)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", (None, None), "holds no statement"),
        ("-- nothing\n/* at all */ ;\n", (None, None), "holds no statement"),
        ("SELECT 1;\n  \\i other.sql\n", (2, 3), r"\i is a psql command"),
        ("SELECT 1;\n\\copy a FROM 'x'\n", (2, 1), r"\copy is a psql command"),
        ("SELECT 1;\nSELECT 'a;\n", (2, 8), "string is never closed"),
        ("SELECT 1;\nSELECT $f$ a $g$;\n", (2, 8), "string is never closed"),
        ("SELECT 1;\n/* a", (2, 1), "comment is never closed"),
        (b"SELECT 1;\nSELECT '\xff'", (2, None), "is not UTF-8: byte 0xff"),
        ("SELECT 1".encode("utf-16"), (None, None), "is UTF-16, must be UTF-8"),
        ("SELECT\n 1\0", (2, 3), "NUL character"),
        ("CREATE TABLE a ();\nCOMMIT;", (2, 1), "COMMIT would end the runner's own transaction"),
        ("BEGIN;\nCREATE TABLE a ();\nEND;", (1, 1), "BEGIN would end"),
        ("SELECT 1; START TRANSACTION", (1, 11), "START would end"),
        ("SELECT 1; rollback", (1, 11), "ROLLBACK would end"),
        ("SELECT 1; ABORT", (1, 11), "ABORT would end"),
        ("PREPARE TRANSACTION 'x'", (1, 1), "PREPARE would end"),
        ("COPY a FROM STDIN;", (1, 1), "COPY from or to the client"),
        ("-- rootstream: no-transaktion\nSELECT 1", (1, 1), "unknown directive 'no-transaktion'"),
        ("SELECT 1;\n-- rootstream: no-transaction\n", (2, 1), "before the first statement"),
        ("-- rootstream: no-transaction\nSELECT 1;\nSELECT 2", (3, 1), "exactly one statement, not 2"),
    ],
)
def test_bad_text(
    directory: Path, write: Write, text: str | bytes, place: tuple[int | None, int | None], message: str
) -> None:
    write("0001_create_a.sql", "SELECT 1")
    write("0002_create_b.sql", text)
    error = refused(directory)
    assert (error.file, error.line, error.column) == ("0002_create_b.sql", *place)
    assert message in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "SAVEPOINT a; ROLLBACK TO a; ROLLBACK TO SAVEPOINT a; ROLLBACK WORK TO a; RELEASE a",
        "PREPARE p AS SELECT 1; DEALLOCATE p",
        "COPY a FROM '/file'",
        "DO $$ BEGIN PERFORM 1; END $$",
        "-- rootstream: no-transaction\n\n-- why\nVACUUM",
        "--rootstream:no-transaction  \nVACUUM",
    ],
)
def test_good_text(directory: Path, write: Write, text: str) -> None:
    write("0001_create_a.sql", text)
    (file,) = read_files(directory)
    assert file.in_transaction == ("no-transaction" not in text)


def test_directory(directory: Path, tmp_path: Path, write: Write) -> None:
    assert "holds no migration" in str(refused(directory))
    assert "cannot read the directory" in str(refused(tmp_path / "absent"))
    assert "cannot read the directory" in str(refused(write("0001_a.sql", "SELECT 1")))
    (directory / "0002_b.sql").mkdir()
    assert refused(directory).file == "0002_b.sql"


def test_what_is_no_migration_is_left_alone(directory: Path, write: Write) -> None:
    for name in ("README.md", ".0002_b.sql.swp", ".#0003_c.sql", "0004_d.sql~", "0005_e.sql.orig"):
        write(name, "nonsense '")
    write("0001_a.sql", "SELECT 1")
    assert [file.name for file in read_files(directory)] == ["0001_a.sql"]


def test_order_is_by_number(directory: Path, write: Write) -> None:
    for name in ("10_c.sql", "9_b.sql", "0001_a.sql", "20240101120000_d.sql"):
        write(name, "SELECT 1")
    assert [file.version for file in read_files(directory)] == [1, 9, 10, 20240101120000]


@pytest.mark.parametrize(
    "written",
    [b"SELECT 1;\r\nSELECT 2;\r\n", b"SELECT 1;\nSELECT 2;", b"\xef\xbb\xbfSELECT 1;\nSELECT 2;\n \n\n"],
)
def test_checksum_is_of_the_text_not_of_the_platform(directory: Path, write: Write, written: bytes) -> None:
    write("0001_a.sql", written)
    (file,) = read_files(directory)
    assert file.checksum == hashlib.sha256(b"SELECT 1;\nSELECT 2;").hexdigest()
    assert "\r" not in file.text
    assert not file.text.startswith("\ufeff")


def test_checksum_sees_what_matters(directory: Path, write: Write) -> None:
    write("0001_a.sql", "SELECT  1")
    write("0002_b.sql", "SELECT 1")
    one, two = read_files(directory)
    assert one.checksum != two.checksum


@pytest.mark.parametrize("line", ["", "App", "1a", "a b", "a" * 64, "a'; DROP TABLE users; --"])
def test_bad_line(directory: Path, write: Write, line: str) -> None:
    write("0001_a.sql", "SELECT 1")
    with pytest.raises(MigrationError, match="line"):
        migrations.apply(NOWHERE, directory, line=line)


def test_another_line_needs_a_path() -> None:
    with pytest.raises(MigrationError, match="line 'app' needs the path of its directory"):
        migrations.apply(NOWHERE, line="app")


def test_own_files_are_found_and_possible() -> None:
    text = migrations.sql()
    assert "CREATE TABLE users" in text
    assert text.startswith("-- 0001_")


def test_sql_between_versions(directory: Path, write: Write) -> None:
    for number in (1, 2, 3):
        write(f"000{number}_a.sql", f"SELECT {number};\r\n")
    assert migrations.sql(directory, after=1, target=2) == "-- 0002_a.sql\nSELECT 2;\n"
