"""Queries by name: `sql/<area>/<verb_noun>.sql`, read and checked when the repository that uses them is
imported.

The text goes to psycopg as it stands; nothing rewrites SQL. What a file declares (its parameters and their
types) is checked at every call, so that a mistake is told with the name of the value and of the file, before
the server sees it. What SQL itself does not tell stands in comment lines before the statement:

    -- rootstream: null before_id, session_id   these parameters may be None, and no other
    -- rootstream: writes                       a SELECT that has effects: never repeated by itself
"""

from __future__ import annotations

import functools
import itertools
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import msgspec

from rootstream_store._sql_text import parameters, split_statements, tokens
from rootstream_store._sql_types import rule_of
from rootstream_store.errors import InvalidInput, QueryError
from rootstream_store.secret import SECRET_NAMES

__all__ = ["Query", "catalogue", "in_use", "may_set_timeout", "query", "row_checker", "sql_root"]

R = TypeVar("R")

in_use: weakref.WeakSet[Query[Any]] = weakref.WeakSet()
"""The library's own queries that loaded modules made, for tests and tools that look at all of them."""


class Query(Generic[R]):
    """One statement of the catalogue and the record its rows become.

    `record` is a msgspec.Struct class whose fields are the columns, a plain type for a query of one column
    (int, bool), or None for a statement whose rows nobody reads. `file`: how errors call the file; None:
    sql/<name>.sql. `is_read`: whether it may be repeated after a lost connection. Raises QueryError.
    """

    __slots__ = (
        "__weakref__",
        "_checks",
        "_make",
        "_names",
        "casts_numbers",
        "file",
        "is_read",
        "may_set_timeout",
        "name",
        "nullable",
        "parameters",
        "record",
        "sent_text",
        "statement_name",
        "text",
    )

    def __init__(self, name: str, text: str, record: type[R] | None, *, file: str | None = None) -> None:
        self.name = name
        self.file = f"sql/{name}.sql" if file is None else file
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
        self.casts_numbers = not _NUMBERS.isdisjoint(self.parameters.values())
        """Whether a parameter is a number of another type than bigint."""
        self.statement_name = b"rootstream_%d" % next(_numbers)
        """Of its prepared statement: its own in this process."""
        order = {parameter: number for number, parameter in enumerate(self.parameters, 1)}
        self.sent_text = _PLACEHOLDER.sub(
            lambda match: f"${order[match[1]]}" if match[1] else "%", text
        ).encode()
        """As the server is sent it: $1, $2, … for the parameters, in the order of `parameters`."""
        self.nullable, writes = _directives(text, self.file)
        if unknown := sorted(self.nullable - self._names):
            raise QueryError(f"null names what is no parameter: {', '.join(unknown)}", query=self.file)
        self._checks = [
            (parameter, parameter in self.nullable, *rule_of(cast or ""))
            for parameter, cast in self.parameters.items()
        ]
        words = [text[token.start : token.end].upper() for token in tokens(text) if token.kind == "word"]
        # FOR UPDATE only locks, but is no plain read.
        reads = words[0] in ("SELECT", "WITH", "VALUES") and not _WRITING.intersection(words)
        self.is_read = reads and not writes
        self.may_set_timeout = may_set_timeout(text)
        """Whether it may change statement_timeout for the statements after it."""
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
        fit the type that the file declares for it, or is None where the file does not allow it."""
        if params.keys() != self._names:
            missing = sorted(self._names - params.keys())
            extra = sorted(params.keys() - self._names)
            parts = [
                f"{what} {', '.join(names)}"
                for what, names in (("missing", missing), ("unknown", extra))
                if names
            ]
            raise QueryError(f"wrong parameters: {'; '.join(parts)}", query=self.file)
        for name, nullable, exact, fits, rule in self._checks:
            value = params[name]
            if value is None:
                if not nullable:
                    raise InvalidInput(name, "must not be null", query=self.file)
            elif not (type(value) is exact if fits is None else fits(value)):
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
            # One call with the names written out takes half the time of record(**dict(zip(columns, values))).
            # The names are those of fields, as was just checked.
            fields = ", ".join(f"{column}=values[{number}]" for number, column in enumerate(columns))
            make = eval(f"lambda values: record({fields})", {"record": record})
        elif record is not None and len(columns) != 1:
            raise QueryError(f"one column expected, not {', '.join(columns) or 'none'}", query=self.file)
        else:
            make = _first_of
        return make


def may_set_timeout(text: str) -> bool:
    """Whether a statement may change statement_timeout for those after it."""
    return _SETTING.search(text) is not None


def _first_of(values: Sequence[Any]) -> Any:
    return values[0] if values else None


def _directives(text: str, file: str) -> tuple[frozenset[str], bool]:
    """What the `-- rootstream: …` lines say: the parameters that may be None, and whether it writes."""
    said: dict[str, str] = {}
    begun = False
    for token in tokens(text):
        match = _DIRECTIVE.fullmatch(text[token.start : token.end]) if token.kind == "comment" else None
        if match is None:
            begun = begun or token.kind != "comment"
            continue
        kind, names = match[1], match[2].strip()
        if begun:
            raise QueryError(f"directive {kind!r} must stand before the statement", query=file)
        if kind not in ("null", "writes"):
            raise QueryError(f"unknown directive {kind!r}; known: null, writes", query=file)
        if kind in said:
            raise QueryError(f"directive {kind!r} is there twice", query=file)
        if bool(names) != (kind == "null"):
            raise QueryError("write -- rootstream: null NAME, NAME or -- rootstream: writes", query=file)
        said[kind] = names
    nullable = frozenset(name.strip() for name in said["null"].split(",")) if "null" in said else frozenset()
    return nullable, "writes" in said


@overload
def query(name: str, record: None = None, root: Path | None = None) -> Query[None]: ...
@overload
def query(name: str, record: type[R], root: Path | None = None) -> Query[R]: ...
def query(name: str, record: type[Any] | None = None, root: Path | None = None) -> Query[Any]:
    """The query in `sql/<name>.sql`, `name` being `area/verb_noun`.

    `root`: a folder of your own with files of the same kind, as `<root>/<name>.sql`, which errors name from
    there; None: the library's. Raises QueryError, naming the file, when it is missing, cannot be read, or is
    not one statement that begins with a comment.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise QueryError(f"no query can be called {name!a}: write area/verb_noun")
    file = f"sql/{name}.sql" if root is None else f"{name}.sql"
    try:
        text = ((sql_root() if root is None else Path(root)) / f"{name}.sql").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise QueryError("no such query file", query=file) from None
    except OSError as error:
        raise QueryError(f"cannot be read: {error.strerror}", query=file) from error
    except UnicodeDecodeError as error:
        raise QueryError(f"not UTF-8: {error}", query=file) from error
    if not text.startswith("-- ") or _DIRECTIVE.match(text):
        raise QueryError("the first line must be a comment saying what the query answers", query=file)
    try:
        statements = split_statements(text)
        if len(statements) != 1:
            raise QueryError(f"must be exactly one statement, not {len(statements)}")
        made = Query(name, text, record, file=file)
    except QueryError as error:
        raise QueryError(error.message, query=file) from error
    if root is None:
        in_use.add(made)
    return made


def row_checker(query: Query[Any], types: Sequence[str]) -> Callable[[int, Sequence[object]], None]:
    """What checks the rows of a COPY, each with its number from 1, against the PostgreSQL types of its
    columns.

    It raises InvalidInput naming the column, with the number of the row in a note."""
    rules = [rule_of(_ALIASES.get(type_, type_)) for type_ in types]
    head = re.search(r"\(([^()]*)\)", query.text)
    columns = [name.strip() for name in head[1].split(",")] if head else []
    if len(columns) != len(types):
        raise QueryError(
            f"{len(types)} types for the columns {', '.join(columns) or 'of a COPY'}", query=query.file
        )

    # Many columns hold the very same object row after row. But a list could have changed meanwhile.
    can_skip = not any(type_.endswith("]") for type_ in types)
    last: Sequence[object] = (None,) * len(rules)

    def check(number: int, row: Sequence[object]) -> None:
        nonlocal last
        if len(row) != len(rules):
            raise InvalidInput("rows", f"each must have {len(rules)} values", query=query.file)
        for name, value, before, (exact, fits, rule) in zip(columns, row, last, rules, strict=True):
            if value is before or value is None or (type(value) is exact if fits is None else fits(value)):
                continue
            error = InvalidInput(name, rule, None if name in SECRET_NAMES else value, query=query.file)
            error.add_note(f"in row {number}")
            raise error
        if can_skip:
            last = tuple(row)  # a caller may fill one list again and again

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


_numbers = itertools.count(1)
_NUMBERS = frozenset(
    {"int", "integer", "int4", "smallint", "int2", "double precision", "float8", "real", "float4", "numeric"}
)
_PLACEHOLDER = re.compile(r"%(?:\((\w+)\)s|%)")
_WRITING = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "CALL", "NEXTVAL", "INTO"})
_SETTING = re.compile(r"statement_timeout|\b(reset|discard)\s+all\b", re.IGNORECASE)
_DIRECTIVE = re.compile(r"--[ \t]*rootstream:[ \t]*([\w-]*)([^\n\r]*)")
_NAME = re.compile(r"\w[\w-]*(/\w[\w-]*)*")
_KEY_ENDINGS = ("_id", "username", "email", "version", "aggregate_type")
_ALIASES = {"int8": "bigint", "int4": "integer", "float8": "double precision", "bool": "boolean"}
_ENTITIES = {"billing": "billing account", "usage": "usage log"}
