"""Appending: versions, expectations, conflicts, payloads, and many writers at once."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg
import pytest

from rootstream_store import events
from rootstream_store.errors import Conflict, InvalidInput, VersionConflict
from rootstream_store.events import ANY, EXISTS, NO_STREAM, NewEvent
from rootstream_store.store import Store

Row = tuple[Any, ...]


def rows_of(connection: psycopg.Connection, text: str = "SELECT * FROM event_log") -> list[Row]:
    return connection.execute(text.encode()).fetchall()


def append_one(db: Any, aggregate_id: Any = "a", **over: Any) -> Any:
    return events.append(db, "Stream", aggregate_id, "StreamStarted", {"quality": "1080p"}, **over)


def append_two(db: Any, aggregate_id: Any = "a", **over: Any) -> Any:
    return events.append_many(
        db, "Stream", aggregate_id, [NewEvent("A", {"n": 1}), NewEvent("B", {"n": 2})], **over
    )


# --- one event


def test_append_tells_where_the_event_went(store: Store, connection: psycopg.Connection) -> None:
    event_id = uuid.uuid4()
    appended = events.append(
        store,
        "Stream",
        "a",
        "StreamStarted",
        {"quality": "1080p"},
        metadata={"ip": "::1"},
        user_id=2**40,
        event_id=event_id,
    )
    assert (appended.version, appended.event_id) == (1, event_id)
    (event,) = events.read(store, "Stream", "a")
    assert (event.version, event.position, event.timestamp) == (1, appended.position, appended.timestamp)
    assert (event.aggregate_type, event.aggregate_id, event.event_type) == ("Stream", "a", "StreamStarted")
    assert (event.event_data, event.metadata) == ({"quality": "1080p"}, {"ip": "::1"})
    assert (event.user_id, event.event_id) == (2**40, event_id)


def test_event_without_a_user_and_without_metadata(store: Store, connection: psycopg.Connection) -> None:
    append_one(store)
    assert rows_of(connection, "SELECT user_id, metadata FROM event_log") == [(None, None)]
    (event,) = events.read(store, "Stream", "a")
    assert (event.user_id, event.metadata) == (None, None)


def test_ids_above_32_bits_and_ids_that_are_numbers(store: Store) -> None:
    append_one(store, 2**40, user_id=2**62)
    (event,) = events.read(store, "Stream", str(2**40))
    assert (event.aggregate_id, event.user_id) == (str(2**40), 2**62)
    assert events.get_version(store, "Stream", 2**40) == 1


def test_event_ids_are_uuid7_and_differ(store: Store) -> None:
    made = [append_one(store).event_id for _ in range(3)] + [a.event_id for a in append_two(store)]
    assert len(set(made)) == 5
    assert {event_id.version for event_id in made} == {7}


def test_aggregates_of_one_id_and_two_types_are_two(store: Store) -> None:
    assert append_one(store, "7").version == 1
    assert events.append(store, "User", "7", "Made", {}).version == 1
    assert [event.event_type for event in events.read(store, "User", "7")] == ["Made"]


# --- expectations: each mode on an aggregate that is new, exists, and has moved

MATRIX: list[tuple[Any, int, bool]] = [
    (ANY, 0, True),
    (ANY, 3, True),
    (NO_STREAM, 0, True),
    (NO_STREAM, 3, False),
    (EXISTS, 0, False),
    (EXISTS, 3, True),
    (0, 0, True),
    (0, 3, False),
    (1, 0, False),
    (2, 3, False),
    (3, 3, True),
    (4, 3, False),
    (2**63 - 1, 3, False),
]


@pytest.mark.parametrize("append", [append_one, append_two])
@pytest.mark.parametrize(("expected", "version", "accepted"), MATRIX)
def test_expectation(
    store: Store, connection: psycopg.Connection, append: Any, expected: Any, version: int, accepted: bool
) -> None:
    for _ in range(version):
        append_one(store)
    before = rows_of(connection)
    if accepted:
        appended = append(store, expected=expected)
        versions = [a.version for a in appended] if append is append_two else [appended.version]
        assert versions == list(range(version + 1, version + 1 + len(versions)))
        assert events.get_version(store, "Stream", "a") == versions[-1]
        return
    with pytest.raises(VersionConflict) as caught:
        append(store, expected=expected)
    assert (caught.value.expected, caught.value.actual) == (expected, version)
    assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("Stream", "a")
    assert caught.value.query is not None
    assert caught.value.query.startswith("sql/events/append_")
    assert not caught.value.retryable
    assert f"at version {version}, expected {expected}" in str(caught.value)
    assert rows_of(connection) == before
    assert events.get_version(store, "Stream", "a") == version


@pytest.mark.parametrize("expected", [-1, True, 1.0, "any", None, 2**63])
def test_an_expectation_that_is_none_is_refused(store: Store, expected: Any) -> None:
    for append in (append_one, append_two):
        with pytest.raises(InvalidInput) as caught:
            append(store, expected=expected)
        assert caught.value.field == "expected"


def test_a_conflict_writes_nothing_and_raises_no_error_on_the_server(
    store: Store, connection: psycopg.Connection
) -> None:
    append_one(store)
    with store.transaction() as transaction:
        for expected in (0, 7, NO_STREAM):
            with pytest.raises(VersionConflict):
                append_one(transaction, expected=expected)
        with pytest.raises(VersionConflict):
            append_one(transaction, "other", expected=EXISTS)
        # An error would have ended the transaction.
        assert append_one(transaction, expected=1).version == 2
    for _ in range(50):
        for expected in (0, 1, NO_STREAM):
            with pytest.raises(VersionConflict):
                append_one(store, expected=expected)
            with pytest.raises(VersionConflict):
                append_two(store, expected=expected)
    assert append_one(store, expected=2).version == 3
    # A dead tuple would have taken the place in between, and a drawn position would be missing.
    assert rows_of(connection, "SELECT ctid::text, position FROM event_log ORDER BY position") == [
        ("(0,1)", 1),
        ("(0,2)", 2),
        ("(0,3)", 3),
    ]


def test_a_closed_aggregate_accepts_nothing(store: Store, connection: psycopg.Connection) -> None:
    append_one(store)
    connection.execute("UPDATE aggregates SET is_closed = TRUE")
    for expected in (ANY, EXISTS, 1):
        for append in (append_one, append_two):
            with pytest.raises(Conflict, match="closed") as caught:
                append(store, expected=expected)
            assert not isinstance(caught.value, VersionConflict)
    assert len(rows_of(connection)) == 1


# --- many events


def test_append_many_keeps_order_and_every_field(store: Store) -> None:
    append_one(store)
    given = [
        NewEvent(
            f"Type{number}",
            {"number": number, "text": "\"\\ {} ''", "none": None},
            metadata={"m": number} if number % 2 else None,
            user_id=2**40 + number if number % 3 else None,
            event_id=uuid.uuid4() if number % 4 else None,
        )
        for number in range(500)
    ]
    appended = events.append_many(store, "Stream", "a", given, expected=1)
    assert [a.version for a in appended] == list(range(2, 502))
    assert [a.position for a in appended] == sorted(a.position for a in appended)
    found = events.read(store, "Stream", "a", after_version=1)
    assert [(e.version, e.position, e.event_id, e.timestamp) for e in found] == [
        (a.version, a.position, a.event_id, a.timestamp) for a in appended
    ]
    assert [(e.event_type, e.event_data, e.metadata, e.user_id) for e in found] == [
        (g.event_type, g.data, g.metadata, g.user_id) for g in given
    ]
    assert all(g.event_id in (None, e.event_id) for g, e in zip(given, found, strict=True))


def test_append_many_of_nothing_is_nothing(store: Store) -> None:
    assert events.append_many(store, "Stream", "a", [], expected=5) == []
    assert events.get_version(store, "Stream", "a") == 0


def test_append_many_is_all_or_nothing_and_names_the_event(
    store: Store, connection: psycopg.Connection
) -> None:
    good = NewEvent("A", {})
    for bad, field in (
        (NewEvent("A", {"x": float("nan")}), "data"),
        (NewEvent("A", {}, metadata={"x": "\0"}), "metadata"),
        (NewEvent("", {}), "event_type"),
        (NewEvent(None, {}), "event_type"),  # type: ignore[arg-type]  # the fault that is tested
        (NewEvent("x" * 256, {}), "event_type"),
        (NewEvent("a\0b", {}), "event_type"),
        (NewEvent("a\ud800b", {}), "event_type"),
        (NewEvent(7, {}), "event_type"),  # type: ignore[arg-type]  # the fault that is tested
        (NewEvent("A", {}, user_id=2**63), "user_id"),
        (NewEvent("A", {}, event_id="x"), "event_id"),  # type: ignore[arg-type]  # the fault that is tested
    ):
        with pytest.raises(InvalidInput) as caught:
            events.append_many(store, "Stream", "a", [good, good, bad, good])
        assert caught.value.field == f"events[2].{field}"
    assert rows_of(connection) == []
    assert events.find_head(store, "Stream", "a") is None


def test_append_many_has_limits(store: Store) -> None:
    with pytest.raises(InvalidInput) as caught:
        events.append_many(store, "Stream", "a", [NewEvent("A", {})] * (events.MAX_BATCH_EVENTS + 1))
    assert caught.value.field == "events"
    big = NewEvent("A", b'{"x":"' + b"x" * (events.MAX_PAYLOAD_BYTES - 8) + b'"}')
    with pytest.raises(InvalidInput) as caught:
        events.append_many(store, "Stream", "a", [big] * 65)
    assert caught.value.field == "events"
    assert len(events.append_many(store, "Stream", "a", [big] * 3)) == 3


# --- names


NAMES = [
    "O'Brien",
    "x' OR '1'='1",
    "'; DELETE FROM users; --",
    "x' UNION SELECT password_hash FROM users --",
    '"quoted"',
    "back\\slash",
    "%s %(x)s {0}",
    "日本語 🎥",
    " spaced ",
    "a/b?c#d\n",
]


@pytest.mark.parametrize("name", NAMES)
def test_sql_in_an_aggregate_type_or_id_is_only_text(store: Store, name: str) -> None:
    events.append(store, name, name, name, {name: name}, metadata={name: name})
    events.append_many(store, name, name, [NewEvent(name, {name: name})])
    first, second = events.read(store, name, name)
    assert (first.aggregate_type, first.aggregate_id, first.event_type) == (name, name, name)
    assert (first.event_data, first.metadata) == ({name: name}, {name: name})
    assert (second.event_type, second.event_data) == (name, {name: name})
    assert events.read(store, name, "x") == []
    assert events.find_head(store, name, name) is not None
    events.save_snapshot(store, name, name, version=2, state={name: name})
    snapshot = events.load_snapshot(store, name, name)
    assert snapshot is not None
    assert snapshot.state == {name: name}


@pytest.mark.parametrize("field", ["aggregate_type", "aggregate_id", "event_type"])
@pytest.mark.parametrize("value", ["", "x" * 256, "root\0x", "\ud800", None, 1.5, True, b"x"])
def test_a_name_that_is_none_is_refused(
    store: Store, connection: psycopg.Connection, field: str, value: Any
) -> None:
    names = {"aggregate_type": "T", "aggregate_id": "a", "event_type": "E", field: value}
    with pytest.raises(InvalidInput) as caught:
        events.append(store, **names, data={})
    assert caught.value.field == field
    if field != "event_type":
        with pytest.raises(InvalidInput) as caught:
            events.append_many(store, names["aggregate_type"], names["aggregate_id"], [NewEvent("E", {})])
        assert caught.value.field == field
    assert rows_of(connection) == []


def test_names_may_have_255_characters_of_any_width(store: Store) -> None:
    name = "🎥" * 255
    assert events.append(store, name, name, name, {}).version == 1


# --- writers at once


def test_any_never_conflicts_and_leaves_no_gap(store: Store, connection: psycopg.Connection) -> None:
    def write(number: int) -> None:
        for step in range(25):
            if (number + step) % 5:
                append_one(store, user_id=number)
            else:
                append_two(store)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    check_log(connection, 8 * (20 + 2 * 5))


def test_exactly_one_of_many_wins_each_version(store: Store, connection: psycopg.Connection) -> None:
    append_one(store)
    wins = []
    for version in range(1, 21):
        barrier = threading.Barrier(8)
        actual: list[int | None] = []

        def attempt(
            _: int,
            expected: int = version,
            barrier: threading.Barrier = barrier,
            actual: list[int | None] = actual,
        ) -> bool:
            barrier.wait(10)
            try:
                append_one(store, expected=expected)
            except VersionConflict as conflict:
                actual.append(conflict.actual)
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            wins.append(sum(pool.map(attempt, range(8))))
        assert actual == [version + 1] * 7
    assert wins == [1] * 20
    check_log(connection, 21)


def test_exactly_one_of_many_makes_the_aggregate(store: Store, connection: psycopg.Connection) -> None:
    def attempt(_: int) -> bool:
        try:
            append_two(store, expected=NO_STREAM)
        except VersionConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    check_log(connection, 2)


def check_log(connection: psycopg.Connection, count: int) -> None:
    """One aggregate: versions 1.. without gaps, positions and times in their order, a head row that knows."""
    rows = rows_of(connection, "SELECT version, position, timestamp FROM event_log ORDER BY version")
    assert [row[0] for row in rows] == list(range(1, count + 1))
    assert [row[1] for row in rows] == sorted({row[1] for row in rows})
    assert [row[2] for row in rows] == sorted(row[2] for row in rows)
    assert rows_of(connection, "SELECT version FROM aggregates") == [(count,)]


def test_rollback_takes_event_and_version_back(store: Store, connection: psycopg.Connection) -> None:
    append_one(store)
    with contextlib.suppress(KeyError), store.transaction() as transaction:
        append_one(transaction)
        append_two(transaction, "b")
        assert events.get_version(transaction, "Stream", "a") == 2
        raise KeyError
    assert events.find_head(store, "Stream", "b") is None
    assert append_one(store, expected=1).version == 2
    check_log(connection, 2)


def test_a_change_and_its_event_are_one_transaction(store: Store, connection: psycopg.Connection) -> None:
    from ..factories import make_user

    def register(transaction: Any) -> None:
        user = make_user(transaction)
        append_one(transaction, user_id=user.id, expected=9)

    with pytest.raises(VersionConflict):
        store.transact(register)
    assert rows_of(connection, "SELECT count(*) FROM users") == [(0,)]


# --- payloads


class Point(msgspec.Struct):
    x: float
    y: float | None = None


@dataclass
class Codec:
    name: str
    kbps: int


GOOD: list[tuple[object, object]] = [
    ({}, {}),
    ([], []),
    ([1, "2", None, True, 1.5, {"a": []}], [1, "2", None, True, 1.5, {"a": []}]),
    ({"a": 2**63, "b": -(2**70), "c": 10**30, "d": 0.1, "e": 5e-324}, None),
    ({"text": "null NaN \\u0000 \\\\u0000 \u2028 🎥 \x7f \x01"}, None),
    ({"null": None, "nan": "NaN"}, None),
    (Point(1.5), {"x": 1.5, "y": None}),
    (Codec("h264", 6000), {"name": "h264", "kbps": 6000}),
    (b'  {"a": [1, 2.5, "x\\u00e9"]}\n', {"a": [1, 2.5, "xé"]}),
    (bytearray(b"[null]"), [None]),
    (msgspec.Raw(b"[1]"), [1]),
    ({"raw": msgspec.Raw(b'{"a":null}'), "none": None}, {"raw": {"a": None}, "none": None}),
    ((1, 2), [1, 2]),
    ({"a": {"b": {"c": {"d": [[[[]]]]}}}}, None),
]


@pytest.mark.parametrize(("data", "stored"), GOOD)
def test_payload_comes_back_equal(store: Store, data: object, stored: object) -> None:
    stored = data if stored is None else stored
    events.append(store, "T", "a", "E", data, metadata=data)
    events.append_many(store, "T", "a", [NewEvent("E", data, metadata=data)])
    for event in events.read(store, "T", "a"):
        assert (event.event_data, event.metadata) == (stored, stored)


NAN, INFINITY = float("nan"), float("inf")
CYCLE: list[object] = []
CYCLE.append(CYCLE)
BAD: list[tuple[str, object]] = [
    ("NaN", {"a": NAN}),
    ("infinity", {"a": -INFINITY}),
    ("NaN deep inside", {"a": [{"b": (1, {"c": [None, INFINITY]})}]}),
    ("NaN in a struct", Point(1.0, NAN)),
    ("NaN in a set", {"a": {1.0, INFINITY}}),
    ("NaN as raw JSON", b'{"a": NaN}'),
    ("NaN beside raw JSON", {"raw": msgspec.Raw(b"null"), "a": NAN}),
    ("U+0000", {"a": "x\0y"}),
    ("U+0000 in a key", {"a\0": 1}),
    ("U+0000 after backslashes", {"a": "\\\\\0"}),
    ("U+0000 escaped in raw JSON", b'{"a": "\\u0000"}'),
    ("U+0000 escaped after a backslash in raw JSON", b'{"a": "\\\\\\u0000"}'),
    ("U+0000 in raw JSON", b'{"a": "\x00"}'),
    ("U+0000 in Raw", {"raw": msgspec.Raw(b'"\\u0000"')}),
    ("lone surrogate", {"a": "\ud800"}),
    ("lone surrogate in a key", {"\udfff": 1}),
    ("lone surrogate in raw JSON", b'{"a": "\\ud800"}'),
    ("lone surrogate in raw JSON, second half", b'{"a": "\\udc00"}'),
    ("invalid UTF-8", b'{"a": "\xff"}'),
    ("invalid UTF-8 in Raw", {"raw": msgspec.Raw(b'"\xff"')}),
    ("no JSON", b"{"),
    ("two values", b"{} {}"),
    ("nothing", b""),
    ("number beyond a double", b'{"a": 1e400}'),
    ("text", "{}"),
    ("None", None),
    ("a number", 1),
    ("a raw number", b"1"),
    ("a raw text", b'"x"'),
    ("an object of no known type", {"a": object()}),
    ("a cycle", CYCLE),
    ("deep nesting", b"[" * 100_000 + b"]" * 100_000),
    ("too large", {"a": "x" * events.MAX_PAYLOAD_BYTES}),
    ("too large as raw JSON", b'{"a": "' + b"x" * events.MAX_PAYLOAD_BYTES + b'"}'),
    ("an integer of more digits than Python writes", {"a": 10**5000}),
]


@pytest.mark.parametrize(("why", "data"), BAD, ids=[why for why, _ in BAD])
def test_bad_payload_is_refused(store: Store, connection: psycopg.Connection, why: str, data: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        events.append(store, "T", "a", "E", data)
    assert caught.value.field == "data"
    assert not caught.value.retryable
    if data is not None:
        with pytest.raises(InvalidInput) as caught:
            events.append(store, "T", "a", "E", {}, metadata=data)
        assert caught.value.field == "metadata"
    assert rows_of(connection) == []


def test_errors_do_not_carry_the_payload(store: Store) -> None:
    with pytest.raises(InvalidInput) as caught:
        events.append(store, "T", "a", "E", {"password": "hunter2", "x": NAN})
    assert "hunter2" not in str(caught.value)
    assert caught.value.value is None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (None, "events"),
        ("x", "events"),
        (b"x", "events"),
        (1, "events"),
        ({0: NewEvent("E", {})}, "events"),
        ([1], "events[0]"),
        ([NewEvent("E", {}), {"event_type": "E"}], "events[1]"),
    ],
)
def test_what_is_no_list_of_events_is_refused(
    store: Store, connection: psycopg.Connection, given: Any, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        events.append_many(store, "T", "a", given)
    assert caught.value.field == field
    assert rows_of(connection) == []


@pytest.mark.parametrize(
    "id_", [uuid.UUID(int=1), 2**63, -(2**63) - 1, pytest.param(10**5000, id="huge"), True, 1.0, b"a", None]
)
def test_what_is_no_id_is_refused(store: Store, id_: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: events.append(store, "T", id_, "E", {}),
        lambda: events.append_many(store, "T", id_, [NewEvent("E", {})]),
        lambda: events.read(store, "T", id_),
        lambda: events.get_version(store, "T", id_),
        lambda: events.find_head(store, "T", id_),
        lambda: events.load_snapshot(store, "T", id_),
    ]
    for call in calls:
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.field == "aggregate_id"


def nested(levels: int) -> Any:
    value: Any = {}
    for number in range(levels - 1):
        value = [value] if number % 2 else {"a": value}
    return value


@pytest.mark.parametrize("raw", [False, True])
def test_a_hundred_levels_and_not_one_more(store: Store, raw: bool) -> None:
    def made(levels: int) -> Any:
        return json.dumps(nested(levels)).encode() if raw else nested(levels)

    events.append(store, "Stream", "a", "E", made(100), metadata=made(100))
    (event,) = events.read(store, "Stream", "a")
    assert event.event_data == event.metadata == nested(100)
    for levels in (101, 102, 150, 900):
        with pytest.raises(InvalidInput, match="data: may be nested at most 100 levels deep"):
            events.append(store, "Stream", "a", "E", made(levels))


def test_brackets_in_text_and_side_by_side_are_no_levels(store: Store) -> None:
    data = {
        "a": "[{" * 200,
        'b\\"{{[': ['\\"[' * 200, "\\\\", "]" * 200],
        "c": [[{}, []] for _ in range(200)],
    }
    events.append(store, "Stream", "a", "E", data)
    (event,) = events.read(store, "Stream", "a")
    assert event.event_data == data


def test_the_bytes_of_a_batch_count_not_its_characters(store: Store) -> None:
    # 1 MiB less a little each, in characters of four bytes: 16 MiB of characters, 65 MiB of bytes.
    event = NewEvent("E", {"a": "\N{GRINNING FACE}" * (events.MAX_PAYLOAD_BYTES // 4 - 4)})
    with pytest.raises(InvalidInput, match="events: may hold at most 67108864 bytes of data in one call"):
        events.append_many(store, "T", "a", [event] * 65)


def test_raw_json_comes_back_as_jsonb_keeps_it(store: Store) -> None:
    events.append(store, "Stream", "a", "E", b'{"a": 1, "b": 1e16, "a": 2}')
    (event,) = events.read(store, "Stream", "a")
    assert event.event_data == {"a": 2, "b": 10**16}
