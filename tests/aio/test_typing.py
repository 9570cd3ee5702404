"""What type checkers make of a call: mypy checks this file, warn_unused_ignores the refusals in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any

from rootstream_store import AsyncStore, AsyncTransaction, Store, Transaction, events, live, query, users
from rootstream_store.records import Event, User

if TYPE_CHECKING:
    from typing import assert_type

    from rootstream_store._async_messages import AsyncMessages
    from rootstream_store.live import Gap, LiveSubscription, Received, StateChanged, StateSnapshot

    GET = query("users/get", User)

    def plain(store: Store, tx: Transaction) -> None:
        assert_type(users.get(store, 1), User)
        assert_type(users.get(tx, 1), User)
        assert_type(events.stream(store, "Stream", "7"), AbstractContextManager[Iterator[Event]])
        assert_type(store.one(GET, user_id=1), User)
        assert_type(live.subscribe(store), LiveSubscription)
        users.get(store, "x")  # type: ignore[call-overload]  # refused, as it should be

    async def awaited(store: AsyncStore, tx: AsyncTransaction) -> None:
        _ = assert_type(users.get(store, 1), Coroutine[Any, Any, User])
        assert_type(await users.get(store, 1), User)
        assert_type(await users.get(tx, 1), User)
        assert_type(events.stream(store, "Stream", "7"), AbstractAsyncContextManager[AsyncIterator[Event]])
        async with events.stream(store, "Stream", "7") as found:
            assert_type([event async for event in found], list[Event])
        assert_type(await store.one(GET, user_id=1), User)
        assert_type(await store.maybe(GET, user_id=1), User | None)
        assert_type(await store.all(GET, user_id=1), list[User])
        async with store.stream(GET, user_id=1) as rows:
            assert_type(rows, AsyncIterator[User])
        async with store.transaction() as opened, opened.transaction() as inner:
            assert_type(inner, AsyncTransaction)
        async with store.batch() as batch:
            answer = batch.one(GET, user_id=1)
        assert_type(answer.value, User)
        assert_type(await store.transact(lambda tx: users.get(tx, 1)), User)
        assert_type(await store.run_sync(lambda db: users.get(db, 1)), User)
        assert_type(live.subscribe(store), AsyncMessages[Received | Gap])
        async with live.follow_state(store, 7) as items:
            assert_type([item async for item in items], list[StateSnapshot | StateChanged])
        users.get(store, "x")  # type: ignore[call-overload]  # refused, as it should be
        with events.stream(store, "Stream", "7"):  # type: ignore[attr-defined]  # refused, as it should be
            pass
        users.get(store, 1).username  # type: ignore[attr-defined]  # noqa: B018  # refused, as it should be


def test_is_checked_by_mypy() -> None:
    assert not TYPE_CHECKING
