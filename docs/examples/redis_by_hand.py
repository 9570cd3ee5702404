"""Redis by hand, on redis-py through `store.redis`, and a queue of work. Servers of its own."""

from typing import Any

import redis

from rootstream_store import Store, WorkQueue
from rootstream_store.cache import Message

with Store.embedded() as store:
    # A key with a time to live. Values are bytes.
    store.redis.set("greeting:7", "hello", ex=300)
    store.redis.set("greeting:7", "too late", nx=True)  # only where there is none
    print("value:", store.redis.get("greeting:7"), "for", store.redis.ttl("greeting:7"), "s")
    store.redis.expire("greeting:7", 60)
    store.redis.persist("greeting:7")
    print("kept:", store.redis.ttl("greeting:7") == -1, "there:", store.redis.exists("greeting:7"))
    store.redis.delete("greeting:7")

    # A hash: one key, several fields. The key expires as a whole.
    store.redis.hset("encoder:7", mapping={"codec": "h264", "kbps": 6000})
    store.redis.hincrby("encoder:7", "kbps", -500)
    store.redis.expire("encoder:7", 3600)
    print("hash:", store.redis.hgetall("encoder:7"))

    # A list: the newest ten, in one step with MULTI and EXEC. On a cluster the keys share a {hash tag}.
    with store.redis.pipeline(transaction=True) as pipe:
        pipe.lpush("{chat:7}:lines", "hi")
        pipe.ltrim("{chat:7}:lines", 0, 9)
        pipe.incr("{chat:7}:count")
        print("EXEC:", pipe.execute())

    # DISCARD: what was queued is dropped, here because of an error.
    try:
        with store.redis.pipeline(transaction=True) as pipe:
            pipe.set("{chat:7}:topic", "never sent")
            raise LookupError
    except LookupError:
        print("after DISCARD:", store.redis.get("{chat:7}:topic"))

    # WATCH: changed only if nobody else did since it was read; else once more.
    def double(pipe: Any) -> None:
        seen = int(pipe.get("{chat:7}:count"))
        pipe.multi()
        pipe.set("{chat:7}:count", 2 * seen)

    print("WATCH:", store.redis.transaction(double, "{chat:7}:count"), store.redis.get("{chat:7}:count"))

    # SUBSCRIBE, on a connection of its own; a gap is told.
    with store.subscribe("chat:7", patterns=["room:*"]) as messages:
        store.redis.publish("room:1", "knock")
        received = messages.get(timeout=5)
        assert isinstance(received, Message)
        print("message:", received.channel, received.data)

    # Each of these raises when Redis is away. The store's own calls do not.
    try:
        store.redis.incr("encoder:7")
    except redis.ResponseError as error:
        print("refused:", str(error).split()[0])

    # A queue of work: a list would lose a job together with the worker that popped it.
    with WorkQueue(store, "transcode", dict[str, int], lease=30, attempts=2) as queue:
        queue.put({"stream": 7, "height": 720}, job_id="recording-12")
        job = queue.take(timeout=5)
        assert job is not None
        job.retry("no encoder free")
        job = queue.take(timeout=5)
        assert job is not None
        print("job:", job.payload, "attempt", job.attempt)
        job.retry("the file is broken")  # that was the last one
        for dead in queue.dead():
            print("dead:", dead.id, "after", dead.attempts, "attempts:", dead.error)
        queue.revive("recording-12")
        job = queue.take()
        assert job is not None
        print("done:", job.done(), queue.stats())
