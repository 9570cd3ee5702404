"""Migration files: reading a directory, and refusing what could never be applied before a server is asked."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import msgspec

from rootstream_store._sql_text import (
    Statement,
    Token,
    first_fault,
    line_column,
    split_statements,
    tokens,
)
from rootstream_store.errors import InvalidInput, MigrationError
from rootstream_store.migrations._arguments import check_path
from rootstream_store.queries import sql_root

__all__ = ["OWN_LINE", "MigrationFile", "locate", "read_files", "words"]

OWN_LINE: Final = "rootstream"
_FILE_NAME = re.compile(r"0*([0-9]{1,19})_[a-z0-9]+(?:_[a-z0-9]+)*\.sql")
_LINE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_DIRECTIVE = re.compile(r"--\s*rootstream:\s*(.*)")
_MAX_VERSION = 2**63 - 1


class MigrationFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a directory of migrations, read and found to be possible."""

    version: int
    """The number its name begins with; files apply in this order, 10 after 9."""
    name: str
    """File name, as errors and the ledger show it."""
    path: Path
    text: str
    """Its SQL, without byte order mark and with LF line ends: what the server gets on every platform."""
    checksum: str
    """SHA-256 of `text` without white space at its end, as 64 hexadecimal digits."""
    in_transaction: bool
    """False where the file says `-- rootstream: no-transaction`; it then holds exactly one statement."""
    statements: tuple[Statement, ...]


def locate(path: Path | str | None, line: str | None) -> tuple[Path, str]:
    """The directory and the line that a call means.

    No path: the library's own files, line "rootstream". A path without a line: line "app". Raises
    MigrationError for a line name that cannot be, and for another line than our own without a path;
    InvalidInput for what is no path and no name.
    """
    check_path(path)
    if line is not None and not isinstance(line, str):
        raise InvalidInput("line", f"must be a name or None, not {type(line).__name__}")
    if path is None:
        if line not in (None, OWN_LINE):
            raise MigrationError(f"line {line!r} needs the path of its directory")
        return sql_root() / "migrations", OWN_LINE
    line = "app" if line is None else line
    if not _LINE_NAME.fullmatch(line):
        raise MigrationError(
            f"line {line!r}: must be 1 to 63 of a-z, 0-9, _ and -, and must begin with a letter"
        )
    return Path(path), line


def read_files(directory: Path) -> list[MigrationFile]:
    """The migrations of a directory, by version.

    Only names that end in .sql count; hidden files do not. Raises MigrationError naming the file for a bad
    name, a number used twice, and a text that could not be run; line and column where there is a place.
    """
    try:
        paths = sorted(entry for entry in directory.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise MigrationError(f"cannot read the directory {directory}: {error.strerror}") from error
    files: dict[int, MigrationFile] = {}
    for path in paths:
        if path.suffix.lower() != ".sql":
            continue
        version = _version(path.name)
        if version in files:
            raise MigrationError(
                f"version {version} is used twice, also by {files[version].name}", file=path.name
            )
        files[version] = _read(path, version)
    if not files:
        raise MigrationError(f"the directory {directory} holds no migration (NNNN_verb_noun.sql)")
    return [files[version] for version in sorted(files)]


def _version(name: str) -> int:
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        raise MigrationError(
            "badly named: must be NNNN_verb_noun.sql, a number, then small letters, digits and _", file=name
        )
    version = int(match[1])
    if not 0 < version <= _MAX_VERSION:
        raise MigrationError(f"version {version} is not between 1 and 2^63-1", file=name)
    return version


def _read(path: Path, version: int) -> MigrationFile:
    name = path.name
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MigrationError(f"cannot be read: {error.strerror}", file=name) from error
    text = _decode(raw, name).replace("\r\n", "\n")
    if fault := first_fault(text):
        raise _at(fault.message, name, text, fault.offset)
    in_transaction = _in_transaction(text, name)
    statements = split_statements(text)
    if not statements:
        raise MigrationError("holds no statement", file=name)
    for statement in statements:
        _refuse_impossible(statement, name, text)
    if not in_transaction:
        _check_alone(statements, name, text)
    return MigrationFile(
        version=version,
        name=name,
        path=path,
        text=text,
        checksum=hashlib.sha256(text.rstrip().encode()).hexdigest(),
        in_transaction=in_transaction,
        statements=tuple(statements),
    )


def _decode(raw: bytes, name: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise MigrationError("is UTF-16, must be UTF-8", file=name)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise MigrationError(f"is not UTF-8: byte 0x{raw[error.start]:02x}", file=name, line=line) from error
    if "\0" in text:
        raise _at("contains a NUL character, which PostgreSQL cannot take", name, text, text.index("\0"))
    return text


def _at(message: str, name: str, text: str, offset: int) -> MigrationError:
    line, column = line_column(text, offset)
    return MigrationError(message, file=name, line=line, column=column)


def _in_transaction(text: str, name: str) -> bool:
    """Reads the `-- rootstream: …` lines; they stand before the first statement."""
    in_transaction = True
    first: Token | None = None
    for token in tokens(text):
        if token.kind != "comment":
            first = first or token
            continue
        directive = _DIRECTIVE.fullmatch(text[token.start : token.end].rstrip())
        if directive is None:
            continue
        if directive[1] != "no-transaction":
            raise _at(f"unknown directive {directive[1]!r}; known: no-transaction", name, text, token.start)
        if first is not None:
            raise _at("the directive must come before the first statement", name, text, token.start)
        in_transaction = False
    return in_transaction


def words(sql: str) -> list[str]:
    """The keywords and plain identifiers of a statement, in lower case."""
    return [sql[token.start : token.end].lower() for token in tokens(sql) if token.kind == "word"]


def _refuse_impossible(statement: Statement, name: str, text: str) -> None:
    found = words(statement.text)
    first, second = (*found[:2], "", "")[:2]
    ends = first in ("begin", "commit", "end", "abort", "start") or (
        # ROLLBACK TO a savepoint stays inside the transaction.
        (first == "rollback" and "to" not in found[1:3]) or (first, second) == ("prepare", "transaction")
    )
    if ends:
        raise _at(
            f"{first.upper()} would end the runner's own transaction: leave it out",
            name,
            text,
            statement.offset,
        )
    if first == "copy" and not {"stdin", "stdout"}.isdisjoint(found):
        raise _at("COPY from or to the client cannot run here: use INSERT", name, text, statement.offset)


def _check_alone(statements: list[Statement], name: str, text: str) -> None:
    if len(statements) > 1:
        raise _at(
            f"a no-transaction file must hold exactly one statement, not {len(statements)}: "
            "if a later one failed, the ones before it would stay",
            name,
            text,
            statements[1].offset,
        )
