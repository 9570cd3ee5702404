"""Repository functions of several steps, written once for every kind of Db.

Such a function is a generator that yields steps and gets their results: `user = yield from one(_GET,
user_id=1)`. `db.flow(...)` runs it. The steps say what is to be done; only the Db does it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, ParamSpec, TypeVar

from rootstream_store import event_loop
from rootstream_store.cache import Ask, Effect, Unreached
from rootstream_store.db import CachedQuery, Db
from rootstream_store.queries import Query

__all__ = [
    "Flow",
    "Step",
    "after_commit",
    "ask",
    "ask_all",
    "atomically",
    "cached",
    "compute",
    "drive",
    "has_cache",
    "invalidating",
    "maybe",
    "one",
    "rows",
    "run",
]

R = TypeVar("R")
T = TypeVar("T")
P = ParamSpec("P")

Step = Callable[[Db], Any]
Flow = Generator[Step, Any, T]


def one(query: Query[R], /, **params: object) -> Flow[R]:
    """The one row. Raises NotFound."""
    result: R = yield lambda db: db.one(query, **params)
    return result


def maybe(query: Query[R], /, **params: object) -> Flow[R | None]:
    """The one row, or None."""
    result: R | None = yield lambda db: db.maybe(query, **params)
    return result


def rows(query: Query[R], **params: object) -> Flow[list[R]]:
    """All rows."""
    result: list[R] = yield lambda db: db.all(query, **params)
    return result


def run(query: Query[Any], /, **params: object) -> Flow[int]:
    """How many rows were changed."""
    result: int = yield lambda db: db.run(query, **params)
    return result


def has_cache() -> Flow[bool]:
    """Whether `cached` may be answered from Redis, so that two small answers may be better than one."""
    result: bool = yield lambda db: db.has_cache
    return result


def cached(query: CachedQuery[R], /, **params: object) -> Flow[R | None]:
    """The one row or None, from Redis when it is known there."""
    result: R | None = yield lambda db: db.cached(query, **params)
    return result


def ask(question: Ask[T], otherwise: Callable[[], Flow[T]]) -> Flow[T]:
    """What a script on Redis answers, or what the steps of `otherwise` give where Redis cannot be asked."""
    result: T = yield lambda db: db.ask(question, otherwise)
    return result


def ask_all(questions: Sequence[Ask[T]]) -> Flow[list[T | Literal[Unreached.UNREACHED]]]:
    """What many scripts on Redis answer, UNREACHED for each that cannot be asked."""
    result: list[T | Literal[Unreached.UNREACHED]] = yield lambda db: db.ask_all(questions)
    return result


def compute(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Flow[T]:
    """Work that keeps a processor busy, such as a password hash; an event loop goes on meanwhile."""
    result: T = yield lambda _: event_loop.compute(function, *args, **kwargs)
    return result


def atomically(steps: Flow[T]) -> Flow[T]:
    """`steps` in a transaction of their own, so that no connection is held during the steps around them."""
    result: T = yield lambda db: db.flow(steps, atomic=True)
    return result


def invalidating(keys: Sequence[str], steps: Flow[T]) -> Flow[T]:
    """`steps`, which make the cached answers of `keys` untrue; for keys that are known only on the way."""
    result: T = yield lambda db: db.flow(steps, invalidates=keys)
    return result


def after_commit(*effects: Effect) -> Flow[None]:
    """Effects on Redis, once what came before is committed."""
    yield lambda db: db.after_commit(*effects)


def drive(db: Db, steps: Flow[T]) -> T:
    """Runs `steps` on `db`. An error of a step is raised inside the function, which may handle it."""
    try:
        step = next(steps)
        while True:
            try:
                result = step(db)
            except Exception as error:  # noqa: BLE001  # whatever it is, the function sees it, and may let it pass
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()
