"""A web service on asyncio, without the framework: one store for the life of the application, and handlers.

With FastAPI: `app = FastAPI(lifespan=lifespan)`, and `request.app.state.store` in each handler.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

from rootstream_store import AsyncStore, AsyncTransaction, Transaction, events, live, streams, users
from rootstream_store.records import Event


@asynccontextmanager
async def lifespan(app: SimpleNamespace) -> AsyncIterator[None]:
    # On your own servers: AsyncStore.open("postgresql://app@db/rootstream", "redis://cache/0", pool_size=20)
    async with AsyncStore.embedded(pool_size=20) as store:
        app.state = SimpleNamespace(store=store)
        yield  # the application serves; then the store is closed


async def sign_up(store: AsyncStore, name: str) -> int:
    """The hash of the password is made in a thread: other requests are answered meanwhile."""
    email = f"{name}@example.org"
    user = await users.create(store, username=name, email=email, password="correct horse battery")
    return user.id


async def go_live(store: AsyncStore, user_id: int) -> int:
    stream = await streams.create(store, user_id, name="Chess at midnight")

    async def work(tx: AsyncTransaction) -> None:  # all or nothing, and again after a deadlock
        await streams.start(tx, stream.id)
        await events.append(tx, "stream", str(stream.id), "StreamStarted", {"by": user_id})

    await store.transact(work)
    return stream.id


async def watch(store: AsyncStore, ready: asyncio.Event) -> None:
    """A websocket would hand them on. No thread waits, however many watch."""
    async with live.subscribe(store, "stream.*") as messages:
        ready.set()
        async for received in messages:
            if isinstance(received, live.Received):
                print(received.topic)
                break


def send_mail(tx: Transaction, event: Event) -> None:
    print("mail about event", event.position)


async def main() -> None:
    app = SimpleNamespace()
    async with lifespan(app):
        store: AsyncStore = app.state.store
        ready = asyncio.Event()
        watching = asyncio.create_task(watch(store, ready))
        await ready.wait()

        ann, bob = await asyncio.gather(sign_up(store, "ann"), sign_up(store, "bob"))
        stream_id = await go_live(store, ann)
        await watching

        async with asyncio.timeout(5):  # a client that hangs up is the same: the statement ends on the server
            both = await asyncio.gather(users.get(store, ann), users.get(store, bob))
        print("users:", sorted(user.username for user in both))

        async with events.stream(store, "stream", str(stream_id)) as found:  # rows as they come
            async for event in found:
                print("event:", event.event_type)

        # What has no awaited form runs in a thread, on the store below: the same pools.
        subscription = events.Subscription(store.sync, "mails", send_mail)
        await asyncio.to_thread(subscription.catch_up)


asyncio.run(main())
