"""Queries by name: `sql/<area>/<verb_noun>.sql`, read and checked when the repository that uses them is
imported.

The text goes to psycopg as it stands; nothing rewrites SQL. What a file declares (its parameters and their
types) is checked at every call, so that a mistake is told with the name of the value and of the file, before
the server sees it.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import math
import re
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, overload

import msgspec

from rootstream_store._sql_text import parameters, split_statements, tokens
from rootstream_store.errors import InvalidInput, QueryError
from rootstream_store.secret import SECRET_NAMES

__all__ = ["Query", "catalogue", "in_use", "query", "row_checker", "sql_root"]

R = TypeVar("R")

_INT8 = range(-(2**63), 2**63)

in_use: weakref.WeakSet[Query[Any]] = weakref.WeakSet()
"""The queries that loaded modules made from files, for tests and tools that look at all of them."""


class Query(Generic[R]):
    """One statement of the catalogue and the record its rows become.

    `record` is a msgspec.Struct class whose fields are the columns, a plain type for a query of one column
    (int, bool), or None for a statement whose rows nobody reads.
    """

    __slots__ = (
        "__weakref__",
        "_checks",
        "_make",
        "_names",
        "file",
        "is_read",
        "name",
        "parameters",
        "record",
        "text",
    )

    def __init__(self, name: str, text: str, record: type[R] | None) -> None:
        self.name = name
        self.file = f"sql/{name}.sql"
        self.text = text
        self.record = record
        self.parameters: dict[str, str | None] = {}
        for parameter, cast in parameters(text):
            if self.parameters.setdefault(parameter, cast) != cast:
                raise QueryError(f"parameter {parameter!r} has two types", query=self.file)
            if cast is None:
                raise QueryError(
                    f"parameter {parameter!r} has no type: write %({parameter})s::type", query=self.file
                )
        self._names = frozenset(self.parameters)
        self._checks = [(parameter, *_rule_of(cast or "")) for parameter, cast in self.parameters.items()]
        words = [text[token.start : token.end].upper() for token in tokens(text) if token.kind == "word"]
        # Only such a statement may be repeated after a lost connection. FOR UPDATE only locks, but is no
        # plain read.
        self.is_read = words[0] in ("SELECT", "WITH", "VALUES") and not _WRITING.intersection(words)
        self._make: Callable[[Sequence[Any]], R] | None = None

    def __repr__(self) -> str:
        return f"<Query {self.name}>"

    @property
    def entity(self) -> str:
        """What a person calls one row of the area: "stream session" for sql/stream_sessions."""
        area = self.name.partition("/")[0]
        return _ENTITIES.get(area) or area.replace("_", " ").removesuffix("s")

    def key(self, params: Mapping[str, object]) -> dict[str, object]:
        """The parameters that say which row was meant, for errors; never a secret."""
        return {name: value for name, value in params.items() if name == "id" or name.endswith(_KEY_ENDINGS)}

    def check(self, params: Mapping[str, object]) -> None:
        """Raises QueryError when `params` has other names than the file, InvalidInput when a value does not
        fit the type that the file declares for it."""
        if params.keys() != self._names:
            missing = sorted(self._names - params.keys())
            extra = sorted(params.keys() - self._names)
            parts = [
                f"{what} {', '.join(names)}"
                for what, names in (("missing", missing), ("unknown", extra))
                if names
            ]
            raise QueryError(f"wrong parameters: {'; '.join(parts)}", query=self.file)
        for name, exact, fits, rule in self._checks:
            value = params[name]
            if value is None or (type(value) is exact and fits is None):
                continue
            if fits is None or not fits(value):
                raise InvalidInput(name, rule, None if name in SECRET_NAMES else value, query=self.file)

    def make_row(self, columns: Callable[[], Sequence[str]]) -> Callable[[Sequence[Any]], R]:
        """What turns a tuple of columns into the record. `columns` tells their names; asked at the first call
        only."""
        make = self._make
        if make is None:
            make = self._make = self._maker(tuple(columns()))
        return make

    def _maker(self, columns: tuple[str, ...]) -> Callable[[Sequence[Any]], R]:
        record: Any = self.record
        make: Callable[[Sequence[Any]], Any]
        if isinstance(record, type) and issubclass(record, msgspec.Struct):
            if sorted(columns) != sorted(record.__struct_fields__):
                raise QueryError(
                    f"columns {', '.join(columns)} are not the fields of {record.__name__}: "
                    f"{', '.join(record.__struct_fields__)}",
                    query=self.file,
                )
            make = functools.partial(_record_of, record, columns)
        elif record is not None and len(columns) != 1:
            raise QueryError(f"one column expected, not {', '.join(columns) or 'none'}", query=self.file)
        else:
            make = _first_of
        return make


def _record_of(record: Callable[..., Any], columns: tuple[str, ...], values: Sequence[Any]) -> Any:
    return record(**dict(zip(columns, values, strict=True)))


def _first_of(values: Sequence[Any]) -> Any:
    return values[0] if values else None


@overload
def query(name: str) -> Query[None]: ...
@overload
def query(name: str, record: type[R]) -> Query[R]: ...
def query(name: str, record: type[Any] | None = None) -> Query[Any]:
    """The query in `sql/<name>.sql`. Raises QueryError, naming the file, when it is missing or is not one
    statement."""
    file = f"sql/{name}.sql"
    try:
        text = (sql_root() / f"{name}.sql").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise QueryError("no such query file", query=file) from None
    except UnicodeDecodeError as error:
        raise QueryError(f"not UTF-8: {error}", query=file) from error
    if not text.startswith("-- "):
        raise QueryError("the first line must be a comment saying what the query answers", query=file)
    try:
        statements = split_statements(text)
        if len(statements) != 1:
            raise QueryError(f"must be exactly one statement, not {len(statements)}")
        made = Query(name, text, record)
    except QueryError as error:
        raise QueryError(error.message, query=file) from error
    in_use.add(made)
    return made


def row_checker(query: Query[Any], types: Sequence[str]) -> Callable[[int, Sequence[object]], None]:
    """What checks the rows of a COPY, each with its number from 1, against the PostgreSQL types of its
    columns.

    It raises InvalidInput naming the column, with the number of the row in a note."""
    rules = [_rule_of(_ALIASES.get(type_, type_)) for type_ in types]
    head = re.search(r"\(([^()]*)\)", query.text)
    columns = [name.strip() for name in head[1].split(",")] if head else []
    if len(columns) != len(types):
        raise QueryError(
            f"{len(types)} types for the columns {', '.join(columns) or 'of a COPY'}", query=query.file
        )

    def check(number: int, row: Sequence[object]) -> None:
        if len(row) != len(rules):
            raise InvalidInput("rows", f"each must have {len(rules)} values", query=query.file)
        for name, value, (exact, fits, rule) in zip(columns, row, rules, strict=True):
            if value is None or (type(value) is exact if fits is None else fits(value)):
                continue
            error = InvalidInput(name, rule, None if name in SECRET_NAMES else value, query=query.file)
            error.add_note(f"in row {number}")
            raise error

    return check


def catalogue() -> list[str]:
    """The names of all queries there are, in order; migrations and roles are not queries."""
    root = sql_root()
    names = (path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.sql"))
    return sorted(name for name in names if not name.startswith(("migrations/", "roles/")))


@functools.cache
def sql_root() -> Path:
    """The folder of the SQL files: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for root in (package / "sql", package.parent / "sql"):
        if (root / "migrations").is_dir():
            return root
    raise QueryError(f"no sql folder in {package} or beside it: the installation is incomplete")


_WRITING = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "CALL", "NEXTVAL"})
_KEY_ENDINGS = ("_id", "username", "email", "version", "aggregate_type")
_ALIASES = {"int8": "bigint", "int4": "integer", "float8": "double precision", "bool": "boolean"}
_ENTITIES = {"billing": "billing account", "usage": "usage log"}


def _is_text(value: object) -> bool:
    # NUL cannot be stored and was silently cut by C strings; a lone surrogate has no UTF-8.
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_int8(value: object) -> bool:
    return type(value) is int and value in _INT8


def _is_aware(value: object) -> bool:
    return isinstance(value, datetime.datetime) and value.utcoffset() is not None


def _is_number(value: object) -> bool:
    # NaN is the largest number of all to PostgreSQL, infinity the next: neither is a measurement.
    return math.isfinite(value) if type(value) is float else _is_int8(value)


def _array_of(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list | tuple) and all(item is None or fits(item) for item in value)


def _instance(*types: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, types)


def _is_address(value: object) -> bool:
    # PostgreSQL has no zones ("%eth0"): psycopg would drop it silently.
    return isinstance(value, _IP) and getattr(value, "scope_id", None) is None


_IP = get_args(
    ipaddress.IPv4Address | ipaddress.IPv6Address | ipaddress.IPv4Interface | ipaddress.IPv6Interface
)

# PostgreSQL type → (test, rule told when it fails)
_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "bigint": (_is_int8, "must be an integer from -2^63 to 2^63-1"),
    "integer": (
        lambda v: type(v) is int and -(2**31) <= v < 2**31,
        "must be an integer from -2^31 to 2^31-1",
    ),
    "double precision": (_is_number, "must be a finite number"),
    "text": (_is_text, "must be text without NUL that is valid Unicode"),
    "jsonb": (_is_text, "must be JSON text"),
    "boolean": (_instance(bool), "must be true or false"),
    "bytea": (_instance(bytes), "must be bytes"),
    "uuid": (_instance(uuid.UUID), "must be a UUID"),
    "inet": (_is_address, "must be an IP address without a zone"),
    "date": (lambda v: type(v) is datetime.date, "must be a date"),
    "timestamptz": (_is_aware, "must be a time with time zone"),
    "interval": (_instance(datetime.timedelta), "must be a time span"),
}


def _rule_of(cast: str) -> tuple[type | None, Callable[[object], bool] | None, str]:
    """(type that is right without a further test, test, rule) for a declared type."""
    element = re.sub(r"(\[\])+$", "", cast)
    if element not in _RULES:
        raise QueryError(
            f"type {cast!r} is not known to the checker; known: {', '.join(sorted(_RULES))}, and arrays"
        )
    fits, rule = _RULES[element]
    if element != cast:
        return None, _array_of(fits), f"each {rule}"
    exact = {"boolean": bool, "bytea": bytes, "uuid": uuid.UUID}.get(cast)
    return exact, (None if exact else fits), rule
