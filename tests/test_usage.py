"""The usage log: single entries, bulk loads, sums, and the partitions beneath."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from rootstream_store.errors import InvalidInput, NotFound
from rootstream_store.queries import query, sql_root
from rootstream_store.repositories import billing, usage
from rootstream_store.repositories.usage import UsageEntry
from rootstream_store.store import Store

from .factories import make_user

_CREATE_PARTITIONS = query("maintenance/create_usage_partitions", int)

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)
ALWAYS: Any = {"since": LONG_AGO, "until": FAR_AHEAD}
HUGE = 2**53 + 1


@pytest.fixture
def sql(database_url: str) -> Any:
    """Runs plain SQL beside the store and returns its rows."""
    with psycopg.connect(database_url, autocommit=True) as connection:

        def run(text: str, *params: object) -> list[tuple[Any, ...]]:
            cursor = connection.execute(text.encode(), params or None)
            return cursor.fetchall() if cursor.description else []

        yield run


def partition_of(sql: Any, user_id: int) -> list[str]:
    rows = sql(
        "SELECT tableoid::regclass::text FROM usage_logs WHERE user_id = %s ORDER BY created_at, id", user_id
    )
    return [name for (name,) in rows]


# --- log


def test_log_keeps_every_field(store: Store, sql: Any) -> None:
    user = make_user(store)
    moment = datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    id_ = usage.log(
        store,
        user.id,
        event_type="viewer_join",
        stream_id=2**40,
        bytes_transferred=HUGE,
        duration_seconds=2**33,
        created_at=moment,
    )
    rows = sql(
        "SELECT user_id, id, stream_id, event_type, bytes_transferred, duration_seconds, created_at "
        "FROM usage_logs"
    )
    assert rows == [(user.id, id_, 2**40, "viewer_join", HUGE, 2**33, moment)]


def test_log_now_by_the_servers_clock_into_this_months_partition(store: Store, sql: Any) -> None:
    user = make_user(store)
    ((before,),) = sql("SELECT clock_timestamp()")
    usage.log(store, user.id, event_type="stream_start")
    ((created_at, after),) = sql("SELECT created_at, clock_timestamp() FROM usage_logs")
    assert before <= created_at <= after
    assert partition_of(sql, user.id) == [f"usage_logs_y{created_at:%Y}m{created_at:%m}"]


def test_log_for_an_unknown_user_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        usage.log(store, 2**40, event_type="stream_start")
    assert caught.value.entity == "user"
    assert caught.value.key == {"user_id": 2**40}
    assert caught.value.query == "sql/usage/log.sql"


BAD_FIELDS: list[tuple[str, object]] = [
    ("event_type", ""),
    ("event_type", "Stream start"),
    ("event_type", "a" * 65),
    ("event_type", "1st"),
    ("event_type", "stream_start\n"),
    ("event_type", "x\0y"),
    ("event_type", "x'; DELETE FROM usage_logs; --"),
    ("event_type", None),
    ("event_type", 7),
    ("bytes_transferred", -1),
    ("bytes_transferred", 2**63),
    ("bytes_transferred", 1.5),
    ("bytes_transferred", True),
    ("bytes_transferred", None),
    ("duration_seconds", -1),
    ("duration_seconds", None),
    ("stream_id", "7"),
    ("stream_id", -(2**63) - 1),
    ("created_at", datetime(2026, 1, 1)),  # the fault that is tested
    ("created_at", "2026-01-01"),
    ("user_id", None),
    ("user_id", "1"),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_bad_values_are_refused_alike_alone_and_in_bulk(
    store: Store, sql: Any, field: str, value: object
) -> None:
    user = make_user(store)
    good: dict[str, Any] = {"user_id": user.id, "event_type": "viewer_join"}
    bad = {**good, field: value}
    with pytest.raises(InvalidInput) as alone:
        usage.log(store, **bad)
    with pytest.raises(InvalidInput) as in_bulk:
        usage.log_many(store, [UsageEntry(**good), UsageEntry(**bad), UsageEntry(**good)])
    assert alone.value.field == field
    assert in_bulk.value.field == f"entries[1].{field}"
    assert in_bulk.value.rule == alone.value.rule
    assert in_bulk.value.query == "sql/usage/copy_logs.sql"
    assert not in_bulk.value.retryable
    assert sql("SELECT count(*) FROM usage_logs") == [(0,)]


# --- log_many


def test_log_many_writes_what_was_given(store: Store, sql: Any) -> None:
    first, second = make_user(store), make_user(store)
    ((before,),) = sql("SELECT clock_timestamp()")
    moment = datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=UTC)
    entries = (
        UsageEntry(
            user_id=first.id if number % 2 else second.id,
            event_type="viewer_leave",
            stream_id=number if number % 3 else None,
            bytes_transferred=number * 2**32,
            duration_seconds=number,
            created_at=moment if number % 5 else None,
        )
        for number in range(1000)
    )
    assert usage.log_many(store, entries) == 1000
    rows = sql(
        "SELECT user_id, event_type, stream_id, bytes_transferred, duration_seconds, created_at "
        "FROM usage_logs ORDER BY duration_seconds"
    )
    now = rows[0][-1]
    assert before <= now <= sql("SELECT clock_timestamp()")[0][0]
    assert rows == [
        (
            first.id if number % 2 else second.id,
            "viewer_leave",
            number if number % 3 else None,
            number * 2**32,
            number,
            moment if number % 5 else now,
        )
        for number in range(1000)
    ]
    assert len(sql("SELECT DISTINCT id FROM usage_logs")) == 1000


def test_log_many_of_nothing_writes_nothing(store: Store) -> None:
    assert usage.log_many(store, []) == 0


def test_log_many_names_the_entry_of_an_unknown_user_and_leaves_the_transaction_usable(
    store: Store, sql: Any
) -> None:
    user = make_user(store)
    good, bad = UsageEntry(user_id=user.id, event_type="x"), UsageEntry(user_id=2**40, event_type="x")
    with store.transaction() as transaction:
        with pytest.raises(NotFound) as caught:
            usage.log_many(transaction, [good, good, bad, bad])
        assert usage.log_many(transaction, [good]) == 1
    assert caught.value.key == {"user_id": 2**40, "entry": 2}
    assert sql("SELECT count(*) FROM usage_logs") == [(1,)]


def test_rollback_takes_entries_back(store: Store, sql: Any) -> None:
    user = make_user(store)
    with contextlib.suppress(KeyError), store.transaction() as transaction:
        usage.log(transaction, user.id, event_type="stream_start")
        usage.log_many(transaction, [UsageEntry(user_id=user.id, event_type="stream_end")] * 10)
        assert usage.total_by_user(transaction, user.id, **ALWAYS).events == 11
        raise KeyError
    assert sql("SELECT count(*) FROM usage_logs") == [(0,)]


# --- sums


def test_totals_are_half_open_and_per_user_and_stream(store: Store) -> None:
    user, other = make_user(store), make_user(store)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    end = start + timedelta(days=40)
    for moment, bytes_ in (
        (start - timedelta(microseconds=1), 1),
        (start, 10),
        (end - timedelta(microseconds=1), 100),
        (end, 1000),
    ):
        usage.log(
            store,
            user.id,
            event_type="viewer_leave",
            stream_id=5,
            bytes_transferred=bytes_,
            duration_seconds=bytes_ * 2,
            created_at=moment,
        )
    usage.log(store, other.id, event_type="viewer_leave", stream_id=5, bytes_transferred=7, created_at=start)
    usage.log(store, user.id, event_type="viewer_leave", stream_id=6, bytes_transferred=9, created_at=start)

    by_user = usage.total_by_user(store, user.id, since=start, until=end)
    assert (by_user.events, by_user.bytes_transferred, by_user.duration_seconds) == (3, 119, 220)
    by_stream = usage.total_by_stream(store, 5, since=start, until=end)
    assert (by_stream.events, by_stream.bytes_transferred, by_stream.duration_seconds) == (3, 117, 220)


def test_totals_of_nothing_are_zeros(store: Store) -> None:
    for total in (usage.total_by_user(store, 1, **ALWAYS), usage.total_by_stream(store, 1, **ALWAYS)):
        assert (total.events, total.bytes_transferred, total.duration_seconds) == (0, 0, 0)


def test_sums_above_32_and_53_bits_are_exact(store: Store) -> None:
    user = make_user(store)
    usage.log_many(
        store, [UsageEntry(user_id=user.id, event_type="x", bytes_transferred=HUGE, stream_id=3)] * 7
    )
    assert usage.total_by_user(store, user.id, **ALWAYS).bytes_transferred == 7 * HUGE
    assert usage.total_by_stream(store, 3, **ALWAYS).bytes_transferred == 7 * HUGE
    assert usage.list_months(store, user.id)[0].bytes_transferred == 7 * HUGE


@pytest.mark.parametrize(
    ("since", "until", "field"),
    [
        (FAR_AHEAD, LONG_AGO, "until"),
        (LONG_AGO, LONG_AGO, "until"),
        (datetime(2026, 1, 1), FAR_AHEAD, "since"),  # the fault that is tested
        (LONG_AGO, date(2026, 1, 1), "until"),
        (None, FAR_AHEAD, "since"),
    ],
)
def test_a_span_that_is_none_is_refused(store: Store, since: Any, until: Any, field: str) -> None:
    for total in (usage.total_by_user, usage.total_by_stream):
        with pytest.raises(InvalidInput) as caught:
            total(store, 1, since=since, until=until)
        assert caught.value.field == field


def test_months_are_calendar_months_in_utc(store: Store, sql: Any) -> None:
    user = make_user(store)
    ((this_month,),) = sql("SELECT date_trunc('month', now() AT TIME ZONE 'UTC')::date")
    start = datetime(this_month.year, this_month.month, 1, tzinfo=UTC)
    last_month = (start - timedelta(days=1)).date().replace(day=1)
    for moment, bytes_ in (
        (start, 1),
        # the first of the month already where the user lives, but not in UTC
        ((start - timedelta(minutes=1)).astimezone(timezone(timedelta(hours=12))), 10),
        (datetime(last_month.year, last_month.month, 1, tzinfo=UTC), 100),
        (start.replace(year=start.year - 1), 1000),  # 12 months ago: the 13th
    ):
        usage.log(
            store,
            user.id,
            event_type="viewer_leave",
            bytes_transferred=bytes_,
            duration_seconds=2,
            created_at=moment,
        )
    found = [
        (m.month, m.events, m.bytes_transferred, m.duration_seconds)
        for m in usage.list_months(store, user.id)
    ]
    assert found == [(this_month, 1, 1, 2), (last_month, 2, 110, 4)]
    assert [m.month for m in usage.list_months(store, user.id, months=1)] == [this_month]
    assert [m.bytes_transferred for m in usage.list_months(store, user.id, months=13)] == [1, 110, 1000]


@pytest.mark.parametrize("months", [0, -1, 1201, 2**40, "3", None, True, 1.0])
def test_list_months_refuses_a_number_that_is_none(store: Store, months: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        usage.list_months(store, 1, months=months)
    assert caught.value.field == "months"


def test_usage_outlives_its_stream_and_goes_with_its_user(store: Store, sql: Any) -> None:
    user = make_user(store)
    ((stream_id,),) = sql(
        "INSERT INTO streams (user_id, name, stream_key) VALUES (%s, 'x', repeat('k', 43)) RETURNING id",
        user.id,
    )
    usage.log(store, user.id, event_type="stream_start", stream_id=stream_id, bytes_transferred=5)
    sql("DELETE FROM streams WHERE id = %s", stream_id)
    assert usage.total_by_stream(store, stream_id, **ALWAYS).bytes_transferred == 5
    sql("DELETE FROM users WHERE id = %s", user.id)
    assert usage.total_by_user(store, user.id, **ALWAYS).events == 0


@pytest.mark.parametrize("field", ["bytes_transferred", "duration_seconds"])
def test_sums_beyond_a_bigint_can_still_be_read(store: Store, field: str) -> None:
    # Two entries that are allowed once made every sum of the user fail for ever.
    most = 2**63 - 1
    user = make_user(store)
    values: Any = {field: most}
    for _ in range(2):
        usage.log(store, user.id, event_type="x", stream_id=7, **values)
    usage.log_many(store, [UsageEntry(user_id=user.id, event_type="x", stream_id=7, **values)])
    assert getattr(usage.total_by_user(store, user.id, **ALWAYS), field) == most
    assert getattr(usage.total_by_stream(store, 7, **ALWAYS), field) == most
    (month,) = usage.list_months(store, user.id)
    assert (getattr(month, field), month.events) == (most, 3)
    billing.open(store, user.id, monthly_limit_gb=10**9)
    quota = billing.get_quota(store, user.id)
    assert quota.bytes_transferred == (most if field == "bytes_transferred" else 0)
    assert quota.is_over_limit == (field == "bytes_transferred")


@pytest.mark.parametrize(
    ("entries", "field"), [(None, "entries"), (1, "entries"), ([1], "entries[0]"), ("x", "entries[0]")]
)
def test_what_is_no_list_of_entries_is_refused(store: Store, entries: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        usage.log_many(store, entries)
    assert caught.value.field == field


# --- partitions


def test_an_entry_without_a_partition_is_kept_and_moves_when_its_month_is_made(
    store: Store, sql: Any
) -> None:
    user = make_user(store)
    ahead = datetime(2055, 5, 17, tzinfo=UTC)
    for moment in (ahead, ahead.replace(day=1, hour=0), ahead.replace(month=6, day=1)):
        usage.log(store, user.id, event_type="x", bytes_transferred=1, created_at=moment)
    assert partition_of(sql, user.id) == ["usage_logs_default"] * 3
    assert sql("SELECT usage_logs_create_partitions('2055-05-31', 1)") == [(1,)]
    assert partition_of(sql, user.id) == ["usage_logs_y2055m05"] * 2 + ["usage_logs_default"]
    assert usage.total_by_user(store, user.id, **ALWAYS).bytes_transferred == 3
    assert sql("SELECT usage_logs_create_partitions('2055-05-01', 1)") == [(0,)]


def test_faults_in_any_partition_name_the_field(store: Store, sql: Any) -> None:
    user = make_user(store)
    sql("SELECT usage_logs_create_partitions('2055-05-01', 1)")
    for moment in (datetime(2055, 5, 1, tzinfo=UTC), datetime(2056, 5, 1, tzinfo=UTC), None):
        with pytest.raises(InvalidInput) as invalid:
            usage.log(store, user.id, event_type="x", bytes_transferred=-1, created_at=moment)
        assert (invalid.value.field, invalid.value.value) == ("bytes_transferred", -1)
        assert invalid.value.constraint == "usage_logs_bytes_transferred_range"
        with pytest.raises(NotFound) as missing:
            usage.log(store, 2**40, event_type="x", created_at=moment)
        assert missing.value.key == {"user_id": 2**40}


def test_nothing_is_lost_while_a_month_is_made_under_writers(store: Store, sql: Any) -> None:
    user = make_user(store)
    moment = datetime(2055, 5, 17, tzinfo=UTC)
    stop = threading.Event()

    def write() -> int:
        written = 0
        while not stop.is_set():
            usage.log(store, user.id, event_type="x", created_at=moment + timedelta(days=31 * (written % 12)))
            written += 1
        return written

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write) for _ in range(4)]
        try:
            for month in range(1, 13):
                while not sql("SELECT 1 FROM usage_logs_default LIMIT 1"):
                    assert not any(writer.done() for writer in writers)
                assert sql(f"SELECT usage_logs_create_partitions('2055-{month:02}-01', 1)") == [(1,)]
        finally:
            stop.set()
        written = sum(writer.result() for writer in writers)
    assert usage.total_by_user(store, user.id, **ALWAYS).events == written


def test_two_at_once_make_each_month_once(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: store.one(_CREATE_PARTITIONS, months=9), range(4)))
    assert sorted(made) == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("usage/total_by_user", {"user_id": 1, "since": "2055-02-01 00:00Z", "until": "2055-03-01 00:00Z"}),
        (
            "usage/total_by_stream",
            {"stream_id": 1, "since": "2055-02-01 00:00Z", "until": "2055-03-01 00:00Z"},
        ),
        ("usage/list_months", {"user_id": 1, "months": 1}),
        ("billing/get_quota", {"user_id": 1, "month": "2055-02-10"}),
    ],
)
@pytest.mark.parametrize("generic", [False, True])
def test_plans_read_only_the_partitions_of_the_span(
    store: Store, sql: Any, name: str, params: dict[str, object], generic: bool
) -> None:
    assert [make_user(store).id for _ in range(30)] == list(range(1, 31))
    sql("SELECT usage_logs_create_partitions('2055-01-01', 6)")
    sql("INSERT INTO billing_accounts (user_id) VALUES (1)")
    sql(
        "INSERT INTO usage_logs (user_id, stream_id, event_type, created_at) "
        "SELECT 1 + i % 30, 1 + i % 50, 'x', TIMESTAMPTZ '2055-01-01 00:00Z' + i * interval '5 minutes' "
        "FROM generate_series(0, 40000) AS i"
    )
    sql("ANALYZE usage_logs")
    sql("SET plan_cache_mode = " + ("force_generic_plan" if generic else "force_custom_plan"))
    text = (sql_root() / f"{name}.sql").read_text()
    for number, parameter in enumerate(params, 1):
        text = text.replace(f"%({parameter})s", f"${number}")
    sql(f"PREPARE tested AS {text}")
    values = ", ".join(f"'{value}'" for value in params.values())
    rows = sql(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE tested ({values})")
    plan = [row[0] for row in rows]
    scans = [line for line in plan if " on usage_logs_" in line and "Bitmap Index Scan" not in line]
    assert len(scans) == 1, "\n".join(plan)
    if name != "usage/list_months":  # which reads the month of today, empty here
        assert "usage_logs_y2055m02" in scans[0], "\n".join(plan)
        assert "Seq Scan" not in scans[0], "\n".join(plan)
