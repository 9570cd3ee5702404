"""What the queue's writer puts into PostgreSQL: every event once, in order; what cannot be stored is kept."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from rootstream_store import Store, events, migrations, streams, users
from rootstream_store.cache import keys

from ...waiting import until
from .helpers import Queue

Native = tuple[Any, Any]


@pytest.fixture
def queue(native: Native, store: Store) -> Iterator[Queue]:
    with Queue(native, store) as opened:
        yield opened


def log_of(store: Store, aggregate_id: str, aggregate_type: str = "stream") -> list[Any]:
    return [event.event_data for event in events.read(store, aggregate_type, aggregate_id, limit=1000)]


def test_an_event_is_stored_as_it_was_given(queue: Queue, store: Store) -> None:
    data = {"text": 'Grüße, "世界" \\ 🎬', "n": 1.5, "list": [True, None, {}]}
    assert queue.put("7", data, metadata={"from": "here"}, user_id=3) == 0
    assert queue.put("7", b" [1, 2] ", event_type="Other") == 0
    assert queue.flush()
    first, second = events.read(store, "stream", "7")
    assert (first.version, first.event_type, first.event_data) == (1, "Tick", data)
    assert (first.metadata, first.user_id) == ({"from": "here"}, 3)
    assert first.event_id.version == 7
    assert (second.version, second.event_type, second.event_data) == (2, "Other", [1, 2])
    assert (second.metadata, second.user_id) == (None, None)
    assert first.position < second.position
    assert first.timestamp <= second.timestamp


def test_many_threads_many_aggregates_versions_and_order(queue: Queue, store: Store) -> None:
    def produce(producer: int) -> None:
        for number in range(500):
            assert queue.put(f"{number % 7}", {"producer": producer, "number": number}) == 0

    threads = [threading.Thread(target=produce, args=(producer,)) for producer in range(4)]
    for thread in threads:
        thread.start()
    for number in range(100):  # beside them others append in the ordinary way
        events.append(store, "stream", str(number % 7), "Tick", {"producer": 99, "number": number})
    for thread in threads:
        thread.join()
    assert queue.flush()
    last: Counter[int] = Counter(dict.fromkeys(range(4), -1))
    found = []
    after = 0
    while page := events.read_all(store, after_position=after, limit=1000):
        found += page
        after = page[-1].position
    assert len(found) == 2100
    for event in found:
        producer, number = event.event_data["producer"], event.event_data["number"]
        assert producer == 99 or number == last[producer] + 1
        last[producer] = number
    for aggregate in range(7):
        versions = [event.version for event in found if event.aggregate_id == str(aggregate)]
        assert versions == list(range(1, len(versions) + 1))
        assert events.get_version(store, "stream", str(aggregate)) == len(versions)
    assert queue.counts()["events_stored"] == 2000


BAD = [
    (b"{", "data is not JSON"),
    (b'{"a": 1,}', "data is not JSON"),
    (b"7", "data must be a JSON object or array"),
    (b'"text"', "data must be a JSON object or array"),
    (b"", "data must be a JSON object or array"),
    (b"{} {}", "data goes on after its end"),
    (b'{"a": "\\u0000"}', "data must not contain the character U+0000"),
    (b'{"a": "\\ud800"}', "data has half of a surrogate pair"),
    (b'{"a": "\xff"}', "data must be valid UTF-8"),
    (b'{"a": "\xed\xa0\x80"}', "data must be valid UTF-8"),
    (b'{"a": NaN}', "data is not JSON"),
    (b'{"a": "' + b"\n" + b'"}', "data has a control character within a string"),
    (b"[" * 101 + b"]" * 101, "data is nested more than 100 levels deep"),
    (b'{"a": 1e999999}', "was refused by PostgreSQL"),
]


@pytest.mark.parametrize(("data", "error"), BAD, ids=[error for _, error in BAD])
def test_what_cannot_be_stored_is_kept_and_the_rest_is_stored(
    queue: Queue, store: Store, data: bytes, error: str
) -> None:
    for number in range(50):
        assert queue.put("7", {"n": number}) == 0
        if number == 20:
            assert queue.put("7", data, user_id=5) == 0
    assert queue.flush()
    assert log_of(store, "7") == [{"n": number} for number in range(50)]
    assert [event.version for event in events.read(store, "stream", "7")] == list(range(1, 51))
    (rejected,) = events.list_rejected(store)
    assert (rejected.event_data, rejected.user_id, rejected.aggregate_id) == (data, 5, "7")
    assert error in rejected.error_text
    assert (rejected.sqlstate is not None) == ("PostgreSQL" in error)
    assert queue.counts()["events_rejected"] == 1
    assert events.discard_rejected(store, rejected.id) == rejected
    assert events.list_rejected(store) == []


def test_rules_of_names_and_sizes(queue: Queue, store: Store) -> None:
    assert queue.put("", {}) == 0
    assert queue.put("7", {}, event_type="t" * 256) == 0
    assert queue.put("7", {}, aggregate_type=b"\xff") == 0
    assert queue.put("7", {}, aggregate_type=b"a\0b") == 0
    assert queue.put("7", {}, metadata=b"7") == 0
    assert queue.put("ü" * 255, {"deep": eval("[" * 99 + "]" * 99)}) == 0
    assert queue.put("7", b'{"a": "' + b"x" * 200_000 + b'"}') == 0
    assert queue.flush()
    assert [
        (row.aggregate_type, row.aggregate_id, row.error_text) for row in events.list_rejected(store)
    ] == [
        ("stream", "", "aggregate_id must be 1 to 255 characters"),
        ("stream", "7", "event_type must be 1 to 255 characters (byte 256)"),
        ("\\xff", "7", "aggregate_type must be valid UTF-8"),
        ("a\\x00b", "7", "aggregate_type must not contain the character U+0000 (byte 1)"),
        ("stream", "7", "metadata must be a JSON object or array"),
    ]
    assert len(log_of(store, "ü" * 255)) == len(log_of(store, "7")) == 1


def test_many_poison_events_in_one_batch(queue: Queue, store: Store) -> None:
    for number in range(2000):
        assert queue.put(str(number % 3), b'{"a": 1e999999}' if number % 50 == 0 else {"n": number}) == 0
    assert queue.flush()
    counts = queue.counts()
    assert (counts["events_stored"], counts["events_rejected"]) == (1960, 40)
    stored = [data["n"] for aggregate in "012" for data in log_of(store, aggregate)]
    assert sorted(stored) == [number for number in range(2000) if number % 50]
    assert len(events.list_rejected(store)) == 40


def test_a_closed_aggregate_takes_no_event(queue: Queue, store: Store) -> None:
    events.append(store, "stream", "7", "Tick", {})
    events.close(store, "stream", "7")
    assert queue.put("7", {"n": 1}) == 0
    assert queue.put("8", {"n": 2}) == 0
    assert queue.flush()
    assert log_of(store, "8") == [{"n": 2}]
    assert len(log_of(store, "7")) == 1
    (rejected,) = events.list_rejected(store)
    assert rejected.error_text == "its aggregate is closed: no further event is accepted"


def test_an_error_does_not_show_what_the_event_holds(queue: Queue, store: Store) -> None:
    assert queue.put("7", b'{"password": "hunter2", "n": 1e999999}') == 0
    assert queue.put("7", b'{"password": "hunter2"') == 0
    assert queue.flush()
    assert not [row for row in events.list_rejected(store) if "hunter2" in row.error_text]


def test_readers_are_woken(queue: Queue, store: Store) -> None:
    with store.subscribe(keys.APPENDED) as messages:
        assert queue.put("7", {}) == 0
        assert messages.get(10) is not None


def test_the_policy_to_fail_and_the_room_that_comes_back(native: Native, store: Store) -> None:
    with Queue(native, None, event_bytes=1 << 14, policy=0) as queue:
        number = 0
        while queue.put("7", {"n": number}) == 0:
            number += 1
        assert queue.put("7", {"n": number}) == 1
        queue.start(store)
        assert queue.flush()
        assert queue.put("7", {"n": number}) == 0
        assert queue.flush()
        assert log_of(store, "7") == [{"n": n} for n in range(number + 1)]
        assert queue.counts()["events_refused"] == 2


def test_the_policy_to_drop_the_oldest(native: Native, store: Store) -> None:
    with Queue(native, None, event_bytes=1 << 14, policy=2) as queue:
        for number in range(1000):
            assert queue.put("7", {"n": number}) == 0
        queue.start(store)
        assert queue.flush()
        counts = queue.counts()
        assert counts["events_dropped"] + counts["events_stored"] == 1000
        assert log_of(store, "7") == [{"n": n} for n in range(counts["events_dropped"], 1000)]


# --- stats


@pytest.fixture
def live(store: Store) -> list[int]:
    """Three streams on air."""
    ann = users.create(store, username="ann", email="ann@example.org", password="correct horse")
    ids = [streams.create(store, ann.id, name=f"stream {number}").id for number in range(3)]
    for stream_id in ids:
        streams.start(store, stream_id, bitrate_kbps=100, fps=30.0)
    return ids


def test_reports_are_made_one_and_bytes_add_up(queue: Queue, store: Store, live: list[int]) -> None:
    def report(count: int) -> None:
        for number in range(1, count + 1):
            assert queue.report(live[0], viewers=number, fps=60.0, count=10) == 0
            assert queue.report(live[1], bitrate=number, count=1) == 0

    key = keys.viewers(live[0])  # a count of others', which reports leave alone, as update_stats does
    store.redis.set(key, 7)
    threads = [threading.Thread(target=report, args=(200,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.report(live[0], viewers=41) == 0
    assert queue.report(live[2], viewers=77) == 0  # for a moment
    assert queue.report(live[2], viewers=0) == 0
    assert queue.flush()
    first, second, third = (streams.get(store, stream_id) for stream_id in live)
    assert (first.viewer_count, first.bitrate_kbps, first.fps) == (41, 100, 60.0)
    assert (second.viewer_count, second.bitrate_kbps, second.fps) == (0, 200, 30.0)
    assert (third.viewer_count, third.bitrate_kbps) == (0, 100)
    assert store.redis.get(key) == b"7"
    ended = [streams.stop(store, stream_id) for stream_id in live]
    assert [session.total_bytes_sent for session in ended] == [8000, 800, 0]
    assert [session.peak_viewers for session in ended] == [200, 0, 77]
    assert [session.total_viewers for session in ended] == [200, 0, 77]
    counts = queue.counts()
    assert (counts["stats_accepted"], counts["stats_stored"], counts["stats_rejected"]) == (1603, 1603, 0)
    assert counts["batches"] < 100


def test_reports_are_stored_without_a_flush(queue: Queue, store: Store, live: list[int]) -> None:
    assert queue.report(live[0], viewers=5) == 0
    until(lambda: streams.get(store, live[0]).viewer_count == 5)
    assert queue.report(live[0], viewers=6) == 0
    until(lambda: streams.get(store, live[0]).viewer_count == 6)


def test_reports_of_what_is_not_on_air_are_counted(queue: Queue, store: Store, live: list[int]) -> None:
    streams.stop(store, live[2])
    assert queue.report(live[2], viewers=5, count=7) == 0
    assert queue.report(404, viewers=5) == 0
    assert queue.report(live[0], viewers=5) == 0
    assert queue.flush()
    assert streams.get(store, live[0]).viewer_count == 5
    assert streams.get(store, live[2]).viewer_count == 0
    counts = queue.counts()
    assert (counts["stats_stored"], counts["stats_rejected"], counts["stats_waiting"]) == (1, 2, 0)


def test_a_sum_that_no_column_holds_costs_the_others_nothing(
    queue: Queue, store: Store, live: list[int]
) -> None:
    for stream_id in live:
        assert queue.report(stream_id, count=2**62) == 0
    assert queue.flush()
    for stream_id in live:
        assert queue.report(stream_id, viewers=9, count=2**62 if stream_id == live[1] else 1) == 0
    assert queue.flush()
    assert [streams.get(store, stream_id).viewer_count for stream_id in live] == [9, 0, 9]
    assert queue.counts()["stats_rejected"] == 1


# --- the checkpoint


def test_the_checkpoint_goes_with_its_writer(native: Native, store: Store, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        count = "SELECT count(*) FROM queue_writers"
        with Queue(native, store) as queue:
            assert queue.put("7", {}) == 0
            assert queue.flush()
            assert connection.execute(count).fetchone() == (1,)
            connection.execute("TRUNCATE queue_writers")  # somebody tidies up
            for number in range(5):
                assert queue.put("7", {"n": number}) == 0
                assert queue.flush()
        assert connection.execute(count).fetchone() == (0,)
        assert len(log_of(store, "7")) == 6
        connection.execute(
            "INSERT INTO queue_writers VALUES (gen_random_uuid(), 1, 1, now(), now() - interval '31 days')"
        )
        with Queue(native, store) as queue:
            assert queue.put("7", {}) == 0
            assert queue.flush()
            assert connection.execute(count).fetchone() == (1,)


def test_the_queue_keeps_all_until_the_tables_are_there(native: Native, empty_database_url: str) -> None:
    with Store.open(empty_database_url) as store, Queue(native, store) as queue:
        assert queue.put("7", {"n": 1}) == 0
        until(lambda: queue.counts()["is_failing"])
        assert "queue_writers" in queue.counts()["error"]
        queue.lib.rssq_queue_note_error(queue.pointer, ("ü" * 200).encode())
        assert (queue.counts()["error"], queue.counts()["is_cut"]) == ("ü" * 127, 1)
        assert not queue.flush(0.05)
        migrations.apply(empty_database_url)
        assert queue.flush()
        assert log_of(store, "7") == [{"n": 1}]
        assert not queue.counts()["is_failing"]
