"""Stores on a migrated database and on a Valkey of the test's own, which it may break."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rootstream_store import live
from rootstream_store.store import Store

from ..cache.conftest import OwnValkey, own_valkey

__all__ = ["Goal", "MakeStore", "drain", "own_valkey"]

MakeStore = Callable[..., Store]


class Goal(live.Message, frozen=True, kw_only=True, tag="goal.reached"):
    """A message of the tests' own."""

    stream_id: int
    number: int = 0
    text: str = ""


@pytest.fixture
def make_store(database_url: str, own_valkey: OwnValkey) -> Iterator[MakeStore]:
    """Makes stores on the test's own Valkey; settings as keyword arguments. Closed at the end."""
    made: list[Store] = []

    def make(**settings: Any) -> Store:
        # Longer than a busy machine takes for an answer.
        patient = {"redis_retry_after": 0.1, "redis_timeout": 2.0, "pool_size": 4}
        settings = {"redis_url": own_valkey.url, **patient, **settings}
        made.append(Store.open(database_url, **settings))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def own(make_store: MakeStore) -> Store:
    """One store on the test's own Valkey."""
    return make_store()


def drain(
    messages: live.LiveSubscription, count: int, seconds: float = 20.0
) -> list[live.Received | live.Gap]:
    """The next `count` messages and gaps; fewer when they do not come in time."""
    found: list[live.Received | live.Gap] = []
    while len(found) < count:
        received = messages.get(seconds)
        if received is None:
            break
        found.append(received)
    return found
