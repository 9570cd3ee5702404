"""One call in several ways: by the library, and its statements by the bare drivers."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from rootstream_store import Store
from rootstream_store.queries import Query

from ._recording import Statement, Step, record
from ._replay import Bare, Native
from ._ways import Way, each, repeated
from ._world import World
from .cases import Case

__all__ = ["Contest"]


class Contest:
    """The ways of one case. All of them meet the same rows; none takes what another has used up."""

    def __init__(self, case: Case, store: Store, world: World) -> None:
        """`store`: without Redis, so that every answer comes from PostgreSQL."""
        self.case = case
        self._store = store
        self._world = world

    def items(self, count: int) -> list[Any]:
        """What so many calls are made with."""
        if self.case.make is None:
            return [self._world] * count
        with self._store.transaction() as tx:
            return [self.case.make(tx, self._world) for _ in range(count)]

    def steps(self, count: int) -> list[list[Step]]:
        """What so many calls do."""
        if self._recorded is not None:
            return [self._recorded] * count
        return [self._record(item) for item in self.items(count)]

    @cached_property
    def statement(self) -> Statement:
        """The only one of the call, with values."""
        return _only(self.steps(1)[0])

    @property
    def query(self) -> Query[Any]:
        """The only one of the call."""
        return self.statement.query

    def parameters(self, count: int) -> list[dict[str, Any]]:
        """Of the only statement of so many calls."""
        return [_only(steps).params for steps in self.steps(count)]

    @cached_property
    def _recorded(self) -> list[Step] | None:
        """Where each call is the same: what it does."""
        return None if self.case.make else self._record(self._world)

    def ours(self) -> Way:
        """The repository function, on the store."""
        store, call = self._store, self.case.call
        if self.case.make is None:
            world = self._world
            return repeated(lambda: call(store, world))
        return each(self.items, lambda item: call(store, item))

    def bare(self, bare: Bare) -> Way:
        """psycopg."""
        if self._recorded is not None:
            return repeated(bare.compiled(self._recorded))
        return each(lambda count: [bare.compiled(steps) for steps in self.steps(count)], lambda run: run())

    def native(self, native: Native) -> Way | None:
        """libpq; None where the program cannot do it."""
        if not native.can(self._recorded or self.steps(1)[0]):
            return None
        return lambda count: native.measure(self.steps(count))

    def _record(self, item: Any) -> list[Step]:
        return record(self._store, lambda db: self.case.call(db, item))


def _only(steps: list[Step]) -> Statement:
    (step,) = steps
    assert isinstance(step, Statement)
    return step
