"""Several tasks: on one transaction, and thousands on one pool."""

from __future__ import annotations

import asyncio
import gc
import resource

import pytest

from rootstream_store import AsyncTransaction
from rootstream_store.errors import Conflict, QueryError, RootStreamError, StoreClosed
from rootstream_store.event_loop import Call

from ..statements import ADD, COUNT, GET, NUMBERS, SET, make_items
from .running import ECHO, SLOW_ECHO, open_store, run, until


def test_two_tasks_on_one_transaction_take_turns(database_url: str) -> None:
    make_items(database_url)

    async def add(tx: AsyncTransaction, first: int) -> None:
        for n in range(first, first + 20):
            assert (await tx.one(ADD, id=n, name=f"item {n}")).id == n
            assert await tx.one(ECHO, n=n) == n

    async def main() -> None:
        async with open_store(database_url) as store:
            async with store.transaction() as tx, asyncio.TaskGroup() as group:
                group.create_task(add(tx, 100))
                group.create_task(add(tx, 200))
                async with tx.stream(NUMBERS, count=3) as rows:
                    assert [row async for row in rows] == [1, 2, 3]
            assert await store.one(COUNT) == 40

    run(main())


def test_a_block_ends_when_the_call_in_it_has_ended_and_the_next_one_is_refused(database_url: str) -> None:
    make_items(database_url)

    async def main() -> None:
        async with open_store(database_url) as store:
            late: list[RootStreamError] = []

            async def others(tx: AsyncTransaction) -> None:
                assert await tx.one(SLOW_ECHO, n=1, seconds=0.1) == 1
                await tx.run(ADD, id=1, name="one")  # in the queue before the end

            async def too_late(tx: AsyncTransaction) -> None:
                await asyncio.sleep(0.2)
                try:
                    await tx.one(ECHO, n=1)
                except StoreClosed as error:
                    late.append(error)

            async with store.transaction() as tx:
                first, last = asyncio.create_task(others(tx)), asyncio.create_task(too_late(tx))
                await asyncio.sleep(0.02)
            with pytest.raises(StoreClosed, match="transaction has ended"):
                await first
            await last
            assert len(late) == 1

    run(main())


@pytest.mark.parametrize("kind", ["transaction", "transact"])
def test_a_block_whose_task_is_cancelled_while_another_is_in_it_is_rolled_back(
    kind: str, database_url: str
) -> None:
    """The end waits for that call: on one connection, and a cancelled wait must not leave it open."""
    make_items(database_url)

    async def main() -> None:
        async with open_store(database_url, pool_size=1) as store:
            others: list[asyncio.Task[int]] = []

            async def work(tx: AsyncTransaction) -> None:
                await tx.run(ADD, id=1, name="one")
                others.append(asyncio.create_task(tx.one(SLOW_ECHO, n=2, seconds=0.3)))
                await asyncio.sleep(0.05)

            async def block() -> None:
                async with store.transaction() as tx:
                    await work(tx)

            task = asyncio.create_task(block() if kind == "transaction" else store.transact(work))
            await until(lambda: others, "the other task")
            await asyncio.sleep(0.1)  # at its end now
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await others[0] == 2
            assert await store.one(COUNT) == 0

    run(main())


def test_work_that_leaves_a_task_behind_does_not_stop_the_loop(database_url: str) -> None:
    make_items(database_url)

    async def main() -> None:
        async with open_store(database_url, pool_size=1) as store:
            left: list[asyncio.Task[int]] = []

            async def work(tx: AsyncTransaction) -> None:
                left.append(asyncio.create_task(tx.one(SLOW_ECHO, n=1, seconds=0.1)))
                left.append(asyncio.create_task(tx.one(ECHO, n=2)))
                await asyncio.sleep(0.02)

            await store.transact(work)
            assert await left[0] == 1
            with pytest.raises(StoreClosed):
                await left[1]

    run(main())


def test_savepoints_of_two_tasks_that_end_crosswise_are_refused(database_url: str) -> None:
    make_items(database_url)

    async def main() -> None:
        async with open_store(database_url, pool_size=1) as store:
            first_in, second_in, first_out = asyncio.Event(), asyncio.Event(), asyncio.Event()

            async def first(tx: AsyncTransaction) -> None:
                try:
                    async with tx.transaction():
                        first_in.set()
                        await second_in.wait()
                finally:
                    first_out.set()

            async def second(tx: AsyncTransaction) -> None:
                await first_in.wait()
                async with tx.transaction() as inner:
                    await inner.run(ADD, id=1, name="one")
                    second_in.set()
                    await first_out.wait()

            async def both(tx: AsyncTransaction) -> None:
                async with asyncio.TaskGroup() as group:
                    group.create_task(first(tx))
                    group.create_task(second(tx))

            with pytest.raises(ExceptionGroup) as caught:
                await store.transact(both)
            for error in caught.value.exceptions:
                assert isinstance(error, QueryError)
                assert "wrong nesting level" in str(error)
            assert await store.one(COUNT) == 0

    run(main())


def test_work_of_transact_runs_again_after_a_conflict(database_url: str) -> None:
    make_items(database_url)

    async def main() -> None:
        async with open_store(database_url, pool_size=2) as store:
            await store.run(ADD, id=1, name="0")
            both_have_read = asyncio.Barrier(2)
            runs = 0

            async def work(tx: AsyncTransaction) -> None:
                nonlocal runs
                runs += 1
                before = await tx.one(GET, id=1)
                if runs <= 2:
                    await both_have_read.wait()
                await tx.run(SET, id=1, name=str(int(before.name) + 1))

            await asyncio.gather(*(store.transact(work, isolation="serializable") for _ in range(2)))
            assert (await store.one(GET, id=1)).name == "2"
            assert runs == 3

            async def failing(_: AsyncTransaction) -> None:
                raise Conflict("mine")

            with pytest.raises(Conflict, match="mine"):
                await store.transact(failing)

            def plain(_: AsyncTransaction) -> int:
                return 1

            with pytest.raises(TypeError, match="await"):
                await store.transact(plain)  # type: ignore[arg-type]  # wrong on purpose

    run(main())


def count_calls() -> int:
    return sum(isinstance(one, Call) for one in gc.get_objects())


def test_five_thousand_tasks_on_eight_connections(database_url: str) -> None:
    async def main() -> None:
        async with open_store(database_url, pool_size=8, pool_timeout=60.0) as store:
            await store.one(ECHO, n=0)
            gc.collect()
            calls = count_calls()  # those of other stores, which other tests have open
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            answers = await asyncio.gather(*(store.one(ECHO, n=n) for n in range(5000)))
            assert answers == list(range(5000))
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown < 5000 * 64, f"{grown} KiB"
            gc.collect()
            assert count_calls() - calls <= 256
            home = store.sync.home  # type: ignore[attr-defined]  # of a LoopStore
            kept = len(home._idle)
            assert kept <= 256
            for n in range(1000):
                assert await store.one(ECHO, n=n) == n
            assert len(home._idle) == kept  # one and the same

    run(main(), 120)


def test_calls_of_tasks_come_to_their_turn_in_the_order_in_which_they_asked(database_url: str) -> None:
    async def main() -> None:
        async with open_store(database_url, pool_size=1) as store:
            order: list[int] = []

            async def one(n: int) -> None:
                await store.one(ECHO, n=n)
                order.append(n)

            await asyncio.gather(*map(one, range(100)))
            assert order == list(range(100))

    run(main())


def test_a_task_that_holds_a_connection_and_asks_for_another_gets_a_timeout_not_a_standstill(
    database_url: str, redis_url: str
) -> None:
    async def main() -> None:
        async with (
            open_store(database_url, redis_url, pool_size=1, pool_timeout=0.2) as store,
            store.transaction() as tx,
        ):
            with pytest.raises(RootStreamError, match="exhausted"):
                await store.one(ECHO, n=1)
            assert await tx.one(ECHO, n=2) == 2

    run(main())
