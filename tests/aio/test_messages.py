"""Live messages, channels and states, awaited: in order, none lost to a cancelled wait, without threads."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import pytest
import redis

from rootstream_store import AsyncStore, live, streams
from rootstream_store._async_messages import AsyncMessages
from rootstream_store.cache import Gap, Message
from rootstream_store.errors import InvalidInput, SettingsError, StoreClosed

from .. import waiting
from ..cache.conftest import OwnValkey
from ..factories import make_stream
from ..faults.proxy import Proxy
from .running import ECHO, open_store, run, until
from .test_heartbeat import valkey

__all__ = ["valkey"]


class Number(live.Message, frozen=True, kw_only=True, tag="number.told"):
    stream_id: int
    n: int


def numbers(received: list[Any]) -> list[int]:
    assert all(isinstance(one, live.Received) for one in received), received
    return [one.message.n for one in received]


async def publish(store: AsyncStore, *told: int) -> None:
    await live.publish(store, *(Number(stream_id=7, n=n) for n in told))


async def some(messages: AsyncMessages[Any], count: int) -> list[Any]:
    found = []
    async with asyncio.timeout(20):
        async for message in messages:
            found.append(message)
            if len(found) == count:
                break
    return found


def test_messages_come_in_order_and_by_topic(database_url: str, redis_url: str) -> None:
    async def main() -> None:
        async with open_store(database_url, redis_url) as store:
            stream_id = (await asyncio.to_thread(make_stream, store.sync)).id
            async with (
                live.subscribe(store, "number.7.*", types=[Number]) as ours,
                live.subscribe(store, f"stream.{stream_id}.*") as theirs,
            ):
                await publish(store, *range(50))
                await streams.start(store, stream_id)
                await publish(store, 50)
                assert numbers(await some(ours, 51)) == list(range(51))
                (started,) = await some(theirs, 1)
                assert isinstance(started.message, live.StreamStarted)
                assert await ours.get(timeout=0.01) is None
                assert await ours.get(0) is None
                last = started.id
            assert ours.closed
            assert await ours.get() is None
            async with live.subscribe(store, "number.*", since=last, types=[Number]) as missed:
                assert numbers(await some(missed, 1)) == [50]

    run(main())


def test_a_wait_that_is_cancelled_loses_no_message(database_url: str, redis_url: str) -> None:
    count = 300

    async def main() -> None:
        chance = random.Random(1)
        async with (
            open_store(database_url, redis_url) as store,
            live.subscribe(store, types=[Number]) as messages,
        ):
            found: list[Any] = []

            async def tell() -> None:
                for n in range(count):
                    await publish(store, n)
                    await asyncio.sleep(chance.choice([0, 0.001]))

            telling = asyncio.create_task(tell())
            while len(found) < count:
                task = asyncio.create_task(messages.get())
                for _ in range(chance.randrange(20)):
                    await asyncio.sleep(0)
                if chance.random() < 0.7:
                    task.cancel()
                await asyncio.wait([task], timeout=20)
                if not task.cancelled():
                    found.append(task.result())
                    found.extend([one] if (one := await messages.get(0.0005)) is not None else [])
            await telling
            assert numbers(found) == list(range(count))

    run(main())


def test_several_tasks_read_each_message_once(database_url: str, redis_url: str) -> None:
    async def main() -> None:
        async with (
            open_store(database_url, redis_url) as store,
            live.subscribe(store, types=[Number]) as messages,
        ):
            readers = [asyncio.create_task(some(messages, 10)) for _ in range(4)]
            await publish(store, *range(40))
            found = [n for part in await asyncio.gather(*readers) for n in numbers(part)]
            assert sorted(found) == list(range(40))

    run(main())


def test_closing_ends_a_wait_at_once(database_url: str, redis_url: str) -> None:
    async def main() -> None:
        store = await AsyncStore.open(database_url, redis_url)
        loop = asyncio.get_running_loop()
        async with live.subscribe(store) as first, store.subscribe("a") as second:
            waits = [asyncio.create_task(one.get()) for one in (first, second)]
            await asyncio.sleep(0.05)
            started = loop.time()
            await first.close()
            assert await waits[0] is None
            await store.close()
            assert await waits[1] is None
            assert [one async for one in second] == []
            assert loop.time() - started < 10
        with pytest.raises(StoreClosed):
            async with live.subscribe(store):
                pass

    run(main())


def test_what_cannot_be_subscribed_to_is_refused(database_url: str, redis_url: str) -> None:
    async def main() -> None:
        async with open_store(database_url, redis_url) as store:
            with pytest.raises(InvalidInput, match="pattern"):
                live.subscribe(store, [])
            with pytest.raises(InvalidInput, match="since"):
                async with live.subscribe(store, since="never"):
                    pass
            with pytest.raises(InvalidInput, match="channels"):
                async with store.subscribe():
                    pass
            async with store.subscribe("a") as messages:
                with pytest.raises(InvalidInput, match="timeout"):
                    await messages.get("soon")  # type: ignore[arg-type]  # wrong on purpose
        async with open_store(database_url) as without:
            with pytest.raises(SettingsError, match="redis_url"):
                async with without.subscribe("a"):
                    pass

    run(main())


def test_channels(database_url: str, redis_url: str) -> None:
    async def main() -> None:
        async with (
            open_store(database_url, redis_url) as store,
            store.subscribe("one", patterns=["two.*"]) as messages,
        ):
            with redis.Redis.from_url(redis_url) as client:
                client.publish("one", b"1")
                client.publish("two.x", b"2")
                client.publish("three", b"3")
            assert await some(messages, 2) == [Message("one", b"1"), Message("two.x", b"2")]

    run(main())


def test_a_state_is_followed(database_url: str, redis_url: str) -> None:
    async def main() -> None:
        async with open_store(database_url, redis_url) as store:
            await live.update_state(store, 7, {"scene": "intro"})
            async with live.follow_state(store, 7) as items:
                first = await items.get()
                assert isinstance(first, live.StateSnapshot)
                assert first.values == {"scene": "intro"}
                await live.update_state(store, 7, {"scene": "end"})
                second = await anext(items)
                assert isinstance(second, live.StateChanged)
                assert first.after(second).values == {"scene": "end"}
                waits = asyncio.create_task(items.get())
                await asyncio.sleep(0.01)
                waits.cancel()
                await live.delete_state(store, 7)
                third = await items.get(10)
                assert isinstance(third, live.StateSnapshot)
                assert third.version == 0

    run(main())


def test_a_lost_connection_is_told_and_made_again(
    database_url: str, valkey: OwnValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(proxy: Proxy) -> None:
        async with (
            open_store(database_url, proxy.redis_url, redis_retry_after=0.1) as store,
            store.subscribe("a") as channel,
            live.subscribe(store, types=[Number]) as messages,
        ):
            waits = asyncio.create_task(channel.get())
            await publish(store, 1)
            assert numbers(await some(messages, 1)) == [1]
            proxy.stop()
            with redis.Redis.from_url(valkey.url) as client:
                await asyncio.sleep(0.2)
                proxy.start()
                async with asyncio.timeout(20):
                    assert isinstance(await waits, Gap)
                    while not client.publish("a", b"again"):
                        await asyncio.sleep(0.01)
                    found = await channel.get()
                    assert isinstance(found, Message)
                    assert found.data == b"again"
            await until_published(store, 2)
            assert numbers(await some(messages, 1)) == [2]

    with Proxy(target=str(valkey.socket)) as proxy:
        run(main(proxy))


async def until_published(store: AsyncStore, n: int) -> None:
    async with asyncio.timeout(20):
        while store.sync._cache._breaker.state != "closed":
            await live.get_state(store, 1)
            await asyncio.sleep(0.05)
        await publish(store, n)


def test_many_subscriptions_take_no_threads_and_hold_nothing_up(database_url: str, redis_url: str) -> None:
    async def main() -> None:
        async with open_store(database_url, redis_url, redis_pool_size=4) as store:
            before = threading.active_count()
            subscriptions = [live.subscribe(store, types=[Number]) for _ in range(100)]
            for one in subscriptions:
                await one.__aenter__()
            readers = [asyncio.create_task(some(one, 3)) for one in subscriptions]
            for n in range(3):
                await asyncio.sleep(0.1)
                await publish(store, n)
                assert await store.one(ECHO, n=n) == n
            assert [numbers(found) for found in await asyncio.gather(*readers)] == [[0, 1, 2]] * 100
            assert threading.active_count() - before < 20
            for one in subscriptions:
                await one.close()

    run(main())


def test_a_subscription_whose_beginning_is_cancelled_is_closed(database_url: str, valkey: OwnValkey) -> None:
    async def main(client: redis.Redis) -> None:
        async with open_store(database_url, valkey.url) as store:

            async def begin() -> None:
                async with store.subscribe("a"):
                    await asyncio.sleep(60)

            for steps in range(6):
                task = asyncio.create_task(begin())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await until(lambda: client.pubsub_numsub("a")[0][1] == 0, "all to be closed")

    with redis.Redis.from_url(valkey.url) as client:
        run(main(client))
        waiting.until(lambda: client.pubsub_numsub("a")[0][1] == 0, "all to be closed")
