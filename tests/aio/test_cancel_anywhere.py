"""Tasks that are cancelled at each of their waits and at random: no connection is lost or mixed up."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from rootstream_store import users

from ..statements import make_items
from .running import ECHO, Moment, at_wait, check_whole, open_store, run, until, working
from .works import WORKS, Scene, Work, begin, make_scene


@pytest.fixture(autouse=True, scope="module")
def _cheap_passwords() -> Iterator[None]:
    users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
    yield
    users.configure_passwords()


@pytest.fixture
def admin(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    make_items(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("moment", ["while waiting", "with the answer"])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_a_task_is_cancelled_at_each_of_its_waits(
    work: Work, moment: Moment, database_url: str, redis_url: str, admin: psycopg.Connection[Any]
) -> None:
    chance = random.Random(0)

    async def main() -> int:
        async with open_store(database_url, redis_url, pool_size=1) as store:
            scene = await make_scene(store)
            await begin(work, scene)
            for wait in itertools.count(1):
                # Once, and again while it cleans up.
                for second in (None, 1, 2):
                    cancels: dict[int, Moment] = {wait: moment}
                    if second is not None:
                        cancels[wait + second] = "while waiting"
                    ended, waits = await at_wait(begin(work, scene), cancels)
                    n = chance.randrange(2**32)
                    assert await store.one(ECHO, n=n) == n
                    assert store.sync._pool.in_use() <= 1  # the sweep's
                    if waits < wait:
                        assert ended
                        await until(lambda: not working(admin), "the server to be at rest")
                        return wait
        raise AssertionError

    assert run(main(), 120) > 1


def test_a_storm_of_tasks_that_are_cancelled_at_random(
    database_url: str, redis_url: str, admin: psycopg.Connection[Any]
) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    done: list[str] = []
    cancelled: list[str] = []

    async def one(scene: Scene) -> None:
        work = chance.choice(WORKS)
        task = asyncio.create_task(begin(work, scene))
        way = chance.random()
        patience = chance.choice([0, 0.001, 0.005, 0.02])
        try:
            if way < 0.3:
                async with asyncio.timeout(patience):
                    await task
            elif way < 0.5:
                await asyncio.wait_for(task, patience)
            elif way < 0.9:
                for _ in range(chance.randrange(30)):
                    await asyncio.sleep(0)
                task.cancel()
                if chance.random() < 0.3:
                    for _ in range(chance.randrange(5)):
                        await asyncio.sleep(0)
                    task.cancel()
                await task
            else:
                await task
        except (asyncio.CancelledError, TimeoutError):
            cancelled.append(work.__name__)
        else:
            done.append(work.__name__)

    async def main() -> None:
        async with open_store(database_url, redis_url, pool_size=3) as store:
            scene = await make_scene(store)

            async def many() -> None:
                for _ in range(60):
                    await one(scene)

            async with asyncio.TaskGroup() as group:
                for _ in range(10):
                    group.create_task(many())
            await check_whole(store)
            await until(lambda: not working(admin), "the server to be at rest")

    try:
        run(main(), 150)
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    assert len(done) > 50
    assert len(cancelled) > 50
