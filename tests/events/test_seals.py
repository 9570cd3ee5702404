"""Seals and what `verify` says of a log that nobody has touched, whatever else happens to it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.errors import Conflict, InvalidInput
from rootstream_store.events import NewEvent
from rootstream_store.records import Seal, Verification
from rootstream_store.store import Store

from ..together import together
from ..waiting import until

LATER = datetime(2090, 1, 1, tzinfo=UTC)


def seal_all(store: Store, limit: int = 10) -> list[Seal]:
    made = []
    while (seal := events.seal(store, limit=limit)) is not None:
        made.append(seal)
    return made


def append(store: Store, name: str = "a", count: int = 1) -> None:
    events.append_many(store, "Stream", name, [NewEvent("E", {"n": n}, user_id=n % 3) for n in range(count)])


def test_seals_follow_one_another_up_to_the_horizon(store: Store, connection: psycopg.Connection) -> None:
    assert events.seal(store) is None
    assert events.find_last_seal(store) is None
    assert events.verify(store) == Verification(
        fault=None, seals=0, sealed_events=0, unsealed_events=0, last_position=0, head=None
    )
    append(store, count=25)
    first, second, third = seal_all(store)
    assert [(s.number, s.first_position, s.last_position, s.event_count) for s in (first, second, third)] == [
        (1, 1, 10, 10),
        (2, 11, 20, 10),
        (3, 21, 25, 5),
    ]
    assert len({first.hash, second.hash, third.hash}) == 3
    assert events.find_last_seal(store) == third
    assert events.seal(store) is None

    with connection.transaction():
        connection.execute(
            "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data) "
            "VALUES ('x', 'Other', 1, 'E', '{}')"
        )
        append(store)
        assert events.seal(store) is None, "position 26 is still open"
    append(store)
    found = events.verify(store)
    assert (found.sealed_events, found.unsealed_events) == (25, 3)
    assert seal_all(store)[-1].last_position == 28
    found = events.verify(store)
    assert (found.fault, found.seals, found.sealed_events, found.unsealed_events) == (None, 4, 28, 0)


def test_positions_that_were_never_used_are_sealed_as_such(
    store: Store, connection: psycopg.Connection
) -> None:
    append(store, count=3)
    connection.execute("SELECT nextval('event_log_position_seq') FROM generate_series(1, 30)")
    append(store, count=3)
    assert [seal.event_count for seal in seal_all(store)] == [3, 0, 0, 3]
    assert events.verify(store).fault is None


def test_an_anchor_is_the_hash_of_any_seal(store: Store) -> None:
    append(store, count=25)
    for seal in seal_all(store):
        assert events.verify(store, anchor=seal.hash.hex()).fault is None
        assert events.verify(store, anchor=seal.hash.hex().upper()).fault is None
    assert events.verify(store).head == seal.hash.hex()
    unknown = events.verify(store, anchor="0" * 64)
    assert unknown.fault is not None
    assert unknown.fault.kind == "unanchored"
    for wrong in ("", "0" * 63, "g" * 64, "0" * 64 + "\n", b"0" * 64, 7):
        with pytest.raises(InvalidInput):
            events.verify(store, anchor=wrong)  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize("limit", [0, -1, 100_001, None, "5"])
def test_a_limit_that_is_none_is_refused(store: Store, limit: Any) -> None:
    with pytest.raises(InvalidInput):
        events.seal(store, limit=limit)


def test_only_in_read_committed(store: Store) -> None:
    with store.transaction(isolation="repeatable read") as transaction, pytest.raises(Conflict):
        events.seal(transaction)


def test_progress_is_told_seal_by_seal(store: Store) -> None:
    append(store, count=25)
    seal_all(store)
    seen: list[tuple[int, int]] = []
    events.verify(store, on_progress=lambda found: seen.append((found.seals, found.sealed_events)))
    assert seen == [(1, 10), (2, 20), (3, 25)]


def test_several_sealers_at_once_make_one_chain(store: Store) -> None:
    append(store, count=200)
    made = together([lambda: seal_all(store, limit=7)] * 6)
    seals = [seal for part in made for seal in part]  # type: ignore[union-attr]  # none fails
    assert sorted(seal.number for seal in seals) == list(range(1, 30))
    found = events.verify(store)
    assert (found.fault, found.seals, found.sealed_events) == (None, 29, 200)


def test_a_seal_does_not_depend_on_settings(store: Store, connection: psycopg.Connection) -> None:
    events.append(store, "Überstrom", "a", "日本", {"ä": "ö", "f": 1.5}, metadata={"x": "\u2028"})
    append(store, count=5)
    connection.execute("UPDATE aggregates SET is_closed = TRUE WHERE aggregate_type = 'Überstrom'")
    text = "SELECT encode(hash, 'hex') FROM seal_events(1, 6, '')"
    plain = connection.execute(text).fetchone()
    settings = (
        "SET TimeZone = 'Asia/Kathmandu'",
        "SET DateStyle = 'SQL, DMY'",
        "SET IntervalStyle = 'iso_8601'",
        "SET extra_float_digits = -15",
        "SET bytea_output = 'escape'",
        "SET client_encoding = 'SQL_ASCII'",
        "SET search_path = pg_catalog, public",
    )
    for setting in settings:
        connection.execute(setting.encode())
    again = connection.execute(text).fetchone()
    assert again == plain or again == (plain[0].encode(),)  # type: ignore[index]  # bytes in SQL_ASCII
    events.archive(store, before=LATER)
    once_more = connection.execute(text).fetchone()
    assert once_more == again


def test_seals_hold_across_archiving_and_erasure(store: Store) -> None:
    for name in "abcd":
        append(store, name, 12)
    seal_all(store)
    anchor = events.verify(store).head
    assert anchor is not None

    def check(unsealed: int) -> None:
        found = events.verify(store, anchor=anchor)
        assert (found.fault, found.unsealed_events) == (None, unsealed)

    events.close(store, "Stream", "a")
    events.archive(store, before=LATER)
    check(0)
    events.erase(store, user_id=1, reason="r")
    check(1)
    events.close(store, "Stream", "b")
    events.archive(store, before=LATER)
    check(1)
    events.erase(store, aggregates=[("Stream", "a"), ("Stream", "b"), ("Stream", "c")], reason="r")
    check(2)
    seal_all(store)
    check(0)
    append(store, "d", 5)
    events.erase(store, aggregates=[("Stream", "d")], reason="erased before it was sealed")
    seal_all(store)
    check(0)
    for name in "cd":
        events.close(store, "Stream", name)
    assert events.archive(store, before=LATER).events == 29
    check(0)
    assert events.erase(store, user_id=1, reason="r").operation is None


def test_no_false_alarm_while_everything_goes_on(store: Store) -> None:
    for name in range(30):
        append(store, f"old{name}", 10)
        events.close(store, "Stream", f"old{name}")
    seal_all(store, limit=50)
    stopped = threading.Event()
    failed: list[BaseException] = []
    turns = dict.fromkeys(("append", "archive", "seal", "erase", "verify"), 0)

    def loop(name: str, work: Any) -> None:
        try:
            while not stopped.is_set():
                work(turns[name])
                turns[name] += 1
        except BaseException as error:  # noqa: BLE001  # shown by the test
            failed.append(error)

    def verify(_: int) -> None:
        found = events.verify(store)
        assert found.fault is None, found.fault

    works: dict[str, Any] = {
        "append": lambda turn: append(store, f"n{turn % 5}", 3),
        "archive": lambda _: events.archive(store, before=LATER, limit=1),
        "seal": lambda _: events.seal(store, limit=20),
        "erase": lambda turn: events.erase(store, aggregates=[("Stream", f"old{turn % 30}")], reason="r"),
        "verify": verify,
    }
    threads = [threading.Thread(target=loop, args=item) for item in works.items()]
    for thread in threads:
        thread.start()
    try:
        until(lambda: failed or (min(turns.values()) >= 8 and turns["archive"] >= 30), "8 turns of each", 60)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert not failed
    seal_all(store)
    found = events.verify(store)
    assert (found.fault, found.unsealed_events) == (None, 0)
