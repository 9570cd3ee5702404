from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from rootstream_store import Store, WorkQueue
from rootstream_store.errors import InvalidInput, Unavailable
from rootstream_store.work import Job, QueueStats

from ..cache.groups import cluster_group, sentinel_group
from ..waiting import until


class Transcode(msgspec.Struct, frozen=True):
    stream_id: int
    height: int


@pytest.fixture
def queue(store: Store) -> Iterator[WorkQueue[Transcode]]:
    with WorkQueue(store, "transcode", Transcode) as made:
        yield made


def taken(queue: WorkQueue[Transcode], timeout: float = 0.0) -> Job[Transcode]:
    job = queue.take(timeout)
    assert job is not None
    return job


def stats(ready: int = 0, in_hands: int = 0, delayed: int = 0, dead: int = 0) -> QueueStats:
    return QueueStats(ready=ready, in_hands=in_hands, delayed=delayed, dead=dead)


def test_jobs_come_in_order_and_are_gone_when_done(store: Store, queue: WorkQueue[Transcode]) -> None:
    assert queue.take() is None
    ids = [queue.put(Transcode(7, height)) for height in (360, 720)]
    assert queue.stats() == stats(ready=2)
    first, second = taken(queue), taken(queue)
    assert [first.id, second.id] == ids
    assert (first.payload, first.attempt) == (Transcode(7, 360), 1)
    assert queue.take() is None
    assert queue.stats() == stats(in_hands=2)
    assert first.done()
    assert second.done()
    assert not second.done()
    assert queue.stats() == stats()
    assert store.redis.keys("*work*") == []


def test_bytes_are_kept_whole(store: Store) -> None:
    with WorkQueue(store, "raw") as queue:
        queue.put(b"\x00\xff\r\n")
        job = queue.take()
        assert job is not None
        assert job.payload == b"\x00\xff\r\n"
        with pytest.raises(InvalidInput, match="payload"):
            queue.put("text")  # type: ignore[arg-type]  # what is tested


def test_the_same_id_is_put_once_while_it_is_there(queue: WorkQueue[Transcode]) -> None:
    for _ in range(3):
        assert queue.put(Transcode(1, 1), job_id="stream-1") == "stream-1"
    job = taken(queue)
    queue.put(Transcode(1, 1), job_id="stream-1")
    assert queue.stats() == stats(in_hands=1)
    job.done()
    queue.put(Transcode(1, 1), job_id="stream-1")
    assert queue.stats() == stats(ready=1)


def test_a_job_that_was_not_finished_in_time_goes_to_another(store: Store) -> None:
    with WorkQueue(store, "transcode", Transcode, lease=0.2) as queue:
        queue.put(Transcode(1, 1))
        first = taken(queue)
        started = time.monotonic()
        second = taken(queue, 5)
        assert 0.1 < time.monotonic() - started < 2
        assert (second.id, second.attempt) == (first.id, 2)
        assert not first.done()
        assert not first.retry()
        assert not first.failed()
        assert not first.extend()
        assert second.done()


def test_a_job_may_be_kept_for_longer(store: Store) -> None:
    with WorkQueue(store, "transcode", Transcode, lease=0.2) as queue:
        queue.put(Transcode(1, 1))
        job = taken(queue)
        assert job.extend(60)
        assert queue.take(0.5) is None
        assert job.done()


def test_what_fails_each_time_is_kept_aside(store: Store) -> None:
    with WorkQueue(store, "transcode", Transcode, attempts=3) as queue:
        job_id = queue.put(Transcode(1, 1))
        for attempt in (1, 2, 3):
            job = taken(queue)
            assert job.attempt == attempt
            assert job.retry(f"no encoder {attempt}")
        assert queue.take() is None
        (dead,) = queue.dead()
        assert (dead.id, dead.attempts, dead.error) == (job_id, 3, "no encoder 3")
        assert msgspec.json.decode(dead.payload, type=Transcode) == Transcode(1, 1)
        assert abs(dead.died_at.timestamp() - time.time()) < 60
        assert queue.stats() == stats(dead=1)
        assert queue.revive(job_id)
        assert not queue.revive(job_id)
        job = taken(queue)
        assert job.attempt == 1
        assert job.failed("for good")
        assert queue.dead()[0].error == "for good"
        assert queue.drop(job_id)
        assert not queue.drop(job_id)
        assert queue.stats() == stats()


def test_a_job_whose_workers_all_die_is_kept_aside(store: Store) -> None:
    with WorkQueue(store, "transcode", Transcode, attempts=2, lease=0.05) as queue:
        queue.put(Transcode(1, 1))
        for _ in range(2):
            taken(queue, 5)
        assert queue.take(0.5) is None
        assert queue.dead()[0].error == "its worker did not finish it in time"


def test_a_job_given_back_waits_for_its_delay(queue: WorkQueue[Transcode]) -> None:
    queue.put(Transcode(1, 1))
    started = time.monotonic()
    taken(queue).retry("later", delay=0.3)
    assert queue.stats() == stats(delayed=1)
    assert queue.take() is None
    job = taken(queue, 5)
    assert 0.29 < time.monotonic() - started < 3
    assert job.attempt == 2


def test_a_payload_of_another_type_is_kept_aside(store: Store, queue: WorkQueue[Transcode]) -> None:
    with WorkQueue(store, "transcode", dict[str, str]) as other:
        other.put({"no": "stream"})
    queue.put(Transcode(1, 1))
    assert taken(queue).payload == Transcode(1, 1)
    assert "not of the queue's type" in queue.dead()[0].error


def test_a_waiting_worker_is_woken(queue: WorkQueue[Transcode]) -> None:
    waits: list[float] = []
    ready = threading.Barrier(2)

    def work() -> None:
        queue.take(0.01)  # subscribed from here on
        ready.wait(10)
        for _ in range(20):
            job = taken(queue, 20)
            waits.append(time.monotonic() - job.payload.stream_id / 1e6)
            job.done()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(10)
    for number in range(20):
        queue.put(Transcode(int(time.monotonic() * 1e6), 1))
        until(lambda: len(waits) > number, "the job to be taken")  # noqa: B023  # called at once
    thread.join(20)
    assert sorted(waits)[10] < 0.2, waits  # it would look by itself each second


def test_each_job_goes_to_one_of_many_threads(queue: WorkQueue[Transcode]) -> None:
    done: list[int] = []

    def work() -> None:
        while (job := queue.take(0.5)) is not None:
            done.append(job.payload.height)
            job.done()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(300):
        queue.put(Transcode(1, number))
    for thread in threads:
        thread.join(30)
    assert sorted(done) == list(range(300))


def test_two_queues_do_not_mix(store: Store, queue: WorkQueue[Transcode]) -> None:
    queue.put(Transcode(1, 1))
    with WorkQueue(store, "transcode:other", Transcode) as other:
        assert other.take() is None


def test_a_redis_that_is_not_there_is_told(database_url: str) -> None:
    for url in (None, "redis://127.0.0.1:1"):
        with Store.open(database_url, url) as store, WorkQueue(store, "transcode", Transcode) as queue:
            with pytest.raises(Unavailable) as caught:
                queue.put(Transcode(1, 1))
            assert caught.value.outcome_unknown
            started = time.monotonic()
            with pytest.raises(Unavailable):
                queue.take(0.3)
            assert time.monotonic() - started < 0.9
            with pytest.raises(Unavailable):
                queue.dead()


@pytest.mark.parametrize("name", ["", "a b", "a{b}", "ü", "x" * 101, 7])
def test_a_name_that_cannot_be_a_key_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        WorkQueue(store, name)


@pytest.mark.parametrize(
    "values",
    [
        {"lease": 0},
        {"lease": float("nan")},
        {"lease": 1e9},
        {"lease": "x"},
        {"attempts": 0},
        {"attempts": True},
    ],
)
def test_settings_that_cannot_work_are_refused(store: Store, values: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(values))):
        WorkQueue(store, "x", Transcode, **values)  # type: ignore[call-overload]  # what is tested


def test_arguments_that_cannot_work_are_refused(queue: WorkQueue[Transcode]) -> None:
    for job_id in ("", "a\nb", "\ud800", "x" * 201):
        with pytest.raises(InvalidInput, match="job_id"):
            queue.put(Transcode(1, 1), job_id=job_id)
    with pytest.raises(InvalidInput, match="limit"):
        queue.dead(0)
    queue.put(Transcode(1, 1))
    with pytest.raises(InvalidInput, match="delay"):
        taken(queue).retry(delay=-1)


@pytest.mark.parametrize("make", [sentinel_group, lambda: cluster_group(replicas=False)])
def test_it_works_behind_sentinels_and_in_a_cluster(database_url: str, make: object) -> None:
    assert callable(make)
    with make() as group, Store.open(database_url, group.url) as store:
        for number in range(5):
            with WorkQueue(store, f"queue-{number}", int) as queue:
                queue.put(number)
                job = queue.take(1)
                assert job is not None
                assert job.payload == number
                assert queue.take(0.05) is None
                assert job.done()


@pytest.mark.parametrize("timeout", [float("inf"), float("nan"), True])
def test_a_timeout_that_is_no_time_is_refused(queue: WorkQueue[Transcode], timeout: float) -> None:
    with pytest.raises(InvalidInput, match="timeout"):
        queue.take(timeout)
