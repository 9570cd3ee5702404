"""CREATE INDEX CONCURRENTLY: finding the index that a file names, and dropping it when it was left half done.

A build that fails or is killed leaves an invalid index, which IF NOT EXISTS would take for the finished one.
Only the index that the file names is ever touched: another invalid one may be a build that is under way.
"""

from __future__ import annotations

from typing import NamedTuple

from rootstream_store._sql_text import Token, tokens
from rootstream_store.errors import MigrationError
from rootstream_store.migrations._files import MigrationFile
from rootstream_store.migrations._session import Session, statement

__all__ = ["NamedIndex", "drop_invalid", "index_of", "is_valid"]

_FIND = statement("find_index")


class NamedIndex(NamedTuple):
    """The index that a CREATE INDEX CONCURRENTLY makes: its name as stored, its table as written."""

    name: str
    table: str


def index_of(file: MigrationFile) -> NamedIndex | None:
    """The index that a no-transaction file builds concurrently; None when it does something else.

    Raises MigrationError when the index has no name: a half-built one could not be told from others.
    """
    if file.in_transaction:
        return None
    sql = file.statements[0].text
    code = [token for token in tokens(sql) if token.kind != "comment"]
    plain = [sql[token.start : token.end].lower() if token.kind == "word" else "" for token in code]
    at = 2 if plain[:2] == ["create", "unique"] else 1
    if plain[0] != "create" or plain[at : at + 2] != ["index", "concurrently"]:
        return None
    at += 2
    if plain[at : at + 3] == ["if", "not", "exists"]:
        at += 3
    if plain[at] == "on" or plain[at + 1] != "on":
        raise MigrationError("an index built concurrently must have a name, without a schema", file=file.name)
    name = _stored_name(sql, code[at])
    at += 3 if plain[at + 2] == "only" else 2
    end = at + 1
    while end + 1 < len(code) and sql[code[end].start] == ".":
        end += 2
    return NamedIndex(name, sql[code[at].start : code[end - 1].end])


def _stored_name(sql: str, token: Token) -> str:
    text = sql[token.start : token.end]
    return text[1:-1].replace('""', '"') if token.kind == "name" else text.lower()


def is_valid(session: Session, index: NamedIndex) -> bool | None:
    """Whether the index is complete; None when there is none of this name on its table."""
    rows = session.run(_FIND, table=index.table, index=index.name)
    return bool(rows[0][0]) if rows else None


def drop_invalid(session: Session, index: NamedIndex) -> None:
    """Drops the index if it is there and invalid, else does nothing."""
    rows = session.run(_FIND, table=index.table, index=index.name)
    if not rows or rows[0][0]:
        return
    _, lock_statement, drop_statement = rows[0]
    with session.connection.transaction():
        # A build by somebody else holds this lock to its end, and its index then is no longer invalid.
        session.run_text(lock_statement)
        if is_valid(session, index) is False:
            session.run_text(drop_statement)
