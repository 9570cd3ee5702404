"""Calls of every kind, each of which checks that the answer is its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from rootstream_store import AsyncStore, AsyncTransaction, Store, events, streams, users, viewers
from rootstream_store.events import NewEvent

from ..factories import PASSWORD, make_stream, make_user
from ..statements import ADD, COPY, GET, NUMBERS, SET
from .running import ECHO, SLOW_ECHO

__all__ = ["WORKS", "Scene", "Work", "begin", "make_scene"]

_numbers = itertools.count(1000)


class Scene(msgspec.Struct):
    """What calls are made on."""

    store: AsyncStore
    users: list[int]
    stream: int
    name: str


Work = Callable[[Scene, int], Awaitable[None]]


async def read(scene: Scene, n: int) -> None:
    assert await scene.store.one(ECHO, n=n) == n


async def slow_read(scene: Scene, n: int) -> None:
    assert await scene.store.one(SLOW_ECHO, n=n, seconds=0.01) == n


async def write(scene: Scene, n: int) -> None:
    assert (await scene.store.one(ADD, id=n, name=f"item {n}")).id == n
    assert await scene.store.run(SET, id=n, name=f"item {n} again") == 1
    assert (await scene.store.one(GET, id=n)).name == f"item {n} again"


async def transaction(scene: Scene, n: int) -> None:
    async with scene.store.transaction() as tx:
        await tx.run(ADD, id=n, name=f"item {n}")
        try:
            async with tx.transaction() as inner:
                await inner.run(SET, id=n, name="lost")
                raise LookupError
        except LookupError:
            pass
        async with tx.transaction() as inner:
            await inner.run(ADD, id=n + 1, name=f"item {n + 1}")
        assert (await tx.one(GET, id=n)).name == f"item {n}"
        assert await tx.one(ECHO, n=n) == n


async def rolled_back(scene: Scene, n: int) -> None:
    try:
        async with scene.store.transaction(isolation="serializable") as tx:
            await tx.run(ADD, id=n, name=f"item {n}")
            raise LookupError
    except LookupError:
        assert await scene.store.maybe(GET, id=n) is None


async def transact(scene: Scene, n: int) -> None:
    async def work(tx: AsyncTransaction) -> int:
        await tx.run(ADD, id=n, name=f"item {n}")
        return await tx.one(ECHO, n=n)

    assert await scene.store.transact(work) == n


async def batch(scene: Scene, n: int) -> None:
    async with scene.store.batch() as some:
        answers = [some.one(ECHO, n=n + i) for i in range(3)]
        some.run(ADD, id=n, name=f"item {n}")
    assert [answer.value for answer in answers] == [n, n + 1, n + 2]


async def batch_in_transaction(scene: Scene, n: int) -> None:
    async with scene.store.transaction() as tx:
        async with tx.batch() as some:
            answer = some.one(ECHO, n=n)
        assert answer.value == n
        assert await tx.one(ECHO, n=-n) == -n


async def stream(scene: Scene, n: int) -> None:
    seen = []
    async with scene.store.stream(NUMBERS, count=25, size=10) as rows:
        async for row in rows:
            seen.append(row)
            assert seen == list(range(1, len(seen) + 1))
    assert len(seen) == 25


async def copy(scene: Scene, n: int) -> None:
    # Enough that the socket is full at times.
    rows = ((i, f"copied {i} {'x' * 500}") for i in range(n, n + 900))
    assert await scene.store.copy(COPY, rows, ["int8", "text"]) == 900


async def cached_read(scene: Scene, n: int) -> None:
    user = scene.users[n % len(scene.users)]
    assert (await users.get(scene.store, user)).id == user


async def invalidating(scene: Scene, n: int) -> None:
    user = scene.users[n % len(scene.users)]
    changed = await users.update_profile(scene.store, user, display_name=f"name {n}")
    assert changed.id == user


async def ask(scene: Scene, n: int) -> None:
    count = await viewers.join(scene.store, scene.stream, n)
    assert count.current >= 1


async def start(scene: Scene, n: int) -> None:
    made = await streams.create(scene.store, scene.users[0], name=f"stream {n}")
    assert (await streams.start(scene.store, made.id)).stream_id == made.id


async def append(scene: Scene, n: int) -> None:
    found = await events.append_many(
        scene.store, "Stream", str(n), [NewEvent("E", {"n": i}) for i in range(3)]
    )
    assert found[-1].version == 3


async def authenticate(scene: Scene, n: int) -> None:
    assert (await users.authenticate(scene.store, login=scene.name, password=PASSWORD)).username == scene.name


async def plain_function(scene: Scene, n: int) -> None:
    def work(db: Any) -> int:
        with db.transaction() as tx:
            return int(tx.one(ECHO, n=n))

    assert await scene.store.run_sync(work) == n


WORKS: list[Work] = [
    read,
    slow_read,
    write,
    transaction,
    rolled_back,
    transact,
    batch,
    batch_in_transaction,
    stream,
    copy,
    cached_read,
    invalidating,
    ask,
    start,
    append,
    authenticate,
    plain_function,
]


def _made(store: Store) -> tuple[list[int], int, str]:
    made = [make_user(store) for _ in range(3)]
    live = make_stream(store, made[0].id).id
    streams.start(store, live)
    return [user.id for user in made], live, made[0].username


async def make_scene(store: AsyncStore) -> Scene:
    people, stream_id, name = await asyncio.to_thread(_made, store.sync)
    await users.get(store, people[0])  # from here on the cache is in use
    return Scene(store, people, stream_id, name)


async def begin(work: Work, scene: Scene) -> None:
    """Does it, on rows of its own."""
    await work(scene, next(_numbers) * 1000)
