"""Which statements a repository function runs, and with which values: what the bare drivers are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from rootstream_store import Store
from rootstream_store.db import CachedQuery, Db
from rootstream_store.flow import drive
from rootstream_store.queries import Query

__all__ = ["BEGIN", "COMMIT", "Copy", "Plain", "Statement", "Step", "Stream", "record"]


@dataclass(frozen=True)
class Statement:
    """One statement in one round trip."""

    query: Query[Any]
    params: dict[str, Any]
    verb: str
    """Of `Db`: what is done with the rows. "run": nobody reads them."""


@dataclass(frozen=True)
class Stream:
    """All rows of a statement from a server-side cursor."""

    query: Query[Any]
    params: dict[str, Any]
    size: int


@dataclass(frozen=True)
class Copy:
    """A COPY of rows into a table."""

    query: Query[Any]
    rows: list[Sequence[object]]
    types: Sequence[str]


@dataclass(frozen=True)
class Plain:
    """BEGIN or COMMIT."""

    text: str


BEGIN: Final = Plain("BEGIN")
COMMIT: Final = Plain("COMMIT")
Step = Statement | Stream | Copy | Plain


def record(store: Store, call: Callable[[Db], object]) -> list[Step]:
    """The steps of one call in their order. It is rolled back: whoever takes the steps again meets what the
    call met."""
    recorder: Any = None
    try:
        with store.transaction() as transaction:
            recorder = _Recorder(transaction)
            call(cast("Db", recorder))
            raise _Undo
    except _Undo:
        found: list[Step] = recorder.steps
        return found


class _Undo(Exception):
    pass


class _Recorder:
    """A Db that hands everything on to a transaction and keeps what it was asked for.

    Not a subclass of Db: a verb that comes later is handed on, too."""

    has_cache = False

    def __init__(self, db: Db) -> None:
        self._db = db
        self._depth = 0
        self.steps: list[Step] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def one(self, query: Query[Any], /, **params: Any) -> Any:
        return self._note("one", query, params).one(query, **params)

    def maybe(self, query: Query[Any], /, **params: Any) -> Any:
        return self._note("maybe", query, params).maybe(query, **params)

    def one_or(self, query: Query[Any], *more: Any, **params: Any) -> Any:
        return self._note("maybe", query, params).one_or(query, *more, **params)

    def all(self, query: Query[Any], /, **params: Any) -> Any:
        return self._note("all", query, params).all(query, **params)

    def run(self, query: Query[Any], /, **params: Any) -> int:
        return self._note("run", query, params).run(query, **params)

    def cached(self, query: CachedQuery[Any], /, **params: Any) -> Any:
        return self.maybe(query.query, **params)

    def ask(self, _: object, otherwise: Callable[[], Any]) -> Any:
        return self.flow(otherwise())  # as where there is no Redis

    def copy(self, query: Query[None], rows: Iterable[Sequence[object]], types: Sequence[str]) -> int:
        kept = list(rows)
        self.steps.append(Copy(query, kept, types))
        return self._db.copy(query, kept, types)

    @contextmanager
    def stream(self, query: Query[Any], /, *, size: int = 1000, **params: Any) -> Iterator[Iterator[Any]]:
        self.steps.append(Stream(query, params, size))
        with self._db.stream(query, size=size, **params) as rows:
            yield rows

    def flow(self, steps: Any, *, atomic: bool = False, invalidates: Sequence[str] = ()) -> Any:
        outermost = atomic and not self._depth
        self._depth += atomic
        if outermost:
            self.steps.append(BEGIN)
        found = drive(cast("Db", self), steps)
        if outermost:
            self.steps.append(COMMIT)
        self._depth -= atomic
        return found

    def _note(self, verb: str, query: Query[Any], params: dict[str, Any]) -> Db:
        self.steps.append(Statement(query, params, verb))
        return self._db
