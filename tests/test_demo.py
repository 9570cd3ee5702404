"""The evening of `rootstream-store demo`: it plays, it is checked, and the checks can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest

from rootstream_store import Store
from rootstream_store.cache import keys
from rootstream_store.demo import Check, Evening, Played, check_evening, write_script
from rootstream_store.repositories import streams

_NAMES = [
    "no event is missing or doubled",
    "a subscription got each event once and in order",
    "state rebuilt from the event log equals the tables",
    "usage sums equal what was sent",
    "peak and total viewers equal what the script did",
    "viewers in Redis and PostgreSQL agree",
    "listeners got each start and stop once",
    "recordings have the size and length of the script",
    "no live stream is left in Redis",
    "logged-out tokens are refused",
]


def _failing(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.ok]


@pytest.fixture
def evening(store: Store) -> tuple[Evening, list[Played]]:
    evening = Evening(store, write_script(streams=3, minutes=6, seed=3), run_id="test", threads=2)
    return evening, evening.play(seconds=0.1, advance=lambda: None)


def test_all_checks_hold_after_an_evening(evening: tuple[Evening, list[Played]]) -> None:
    checks = check_evening(*evening)
    assert [check.name for check in checks] == _NAMES
    assert _failing(checks) == []


def _lose_usage(database: psycopg.Connection, one: Played) -> None:
    database.execute(
        "DELETE FROM usage_logs WHERE user_id = %s AND event_type = 'stream_end'", (one.user_id,)
    )


def _miscount_peak(database: psycopg.Connection, one: Played) -> None:
    database.execute("UPDATE stream_sessions SET peak_viewers = 0 WHERE stream_id = %s", (one.stream_id,))


def _lose_event(database: psycopg.Connection, one: Played) -> None:
    database.execute("ALTER TABLE event_log DISABLE TRIGGER event_log_append_only")
    database.execute("DELETE FROM event_log WHERE version = 1 AND aggregate_id = %s", (str(one.stream_id),))


def _double_event(database: psycopg.Connection, one: Played) -> None:
    database.execute(
        "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data) "
        "VALUES (%s, 'stream', 1000000, 'StreamCreated', '{}')",
        (str(one.stream_id),),
    )


def _lose_bytes(database: psycopg.Connection, one: Played) -> None:
    database.execute("UPDATE stream_sessions SET total_bytes_sent = 1 WHERE stream_id = %s", (one.stream_id,))


def _leave_live(database: psycopg.Connection, one: Played) -> None:
    database.execute("UPDATE streams SET is_live = TRUE WHERE id = %s", (one.stream_id,))


def _revive_token(database: psycopg.Connection, one: Played) -> None:
    database.execute("UPDATE sessions SET is_active = TRUE WHERE user_id = %s", (one.user_id,))


def _shorten_recording(database: psycopg.Connection, one: Played) -> None:
    database.execute("UPDATE recordings SET duration_seconds = 1 WHERE stream_id = %s", (one.stream_id,))


@pytest.mark.parametrize(
    ("harm", "noticed"),
    [
        (_lose_usage, ["usage sums equal what was sent"]),
        (
            _miscount_peak,
            [
                "state rebuilt from the event log equals the tables",
                "peak and total viewers equal what the script did",
                "viewers in Redis and PostgreSQL agree",
            ],
        ),
        (_lose_event, ["no event is missing or doubled"]),
        (_lose_bytes, ["state rebuilt from the event log equals the tables"]),
        (_double_event, ["no event is missing or doubled"]),
        (
            _leave_live,
            ["state rebuilt from the event log equals the tables", "no live stream is left in Redis"],
        ),
        (_revive_token, ["logged-out tokens are refused"]),
        (_shorten_recording, ["recordings have the size and length of the script"]),
    ],
)
def test_a_check_notices_harm(
    evening: tuple[Evening, list[Played]],
    database_url: str,
    harm: Callable[[psycopg.Connection, Played], None],
    noticed: list[str],
) -> None:
    with psycopg.connect(database_url, autocommit=True) as database:
        for one in evening[1]:
            harm(database, one)
    assert _failing(check_evening(*evening)) == noticed


@pytest.mark.parametrize("harm", [lambda versions: versions.pop(), lambda versions: versions.reverse()])
def test_a_subscription_that_misses_an_event_is_noticed(
    evening: tuple[Evening, list[Played]], harm: Callable[[list[int]], object]
) -> None:
    harm(evening[0].delivered[str(evening[1][0].stream_id)])
    assert _failing(check_evening(*evening)) == ["a subscription got each event once and in order"]


@pytest.mark.parametrize("harm", [lambda heard: heard.pop(), lambda heard: heard.append(heard[0])])
def test_a_listener_that_misses_a_stop_or_gets_a_start_twice_is_noticed(
    evening: tuple[Evening, list[Played]], harm: Callable[[list[tuple[str, int | None]]], object]
) -> None:
    harm(evening[0].heard[evening[1][0].stream_id])
    assert _failing(check_evening(*evening)) == ["listeners got each start and stop once"]


def test_a_gap_of_the_listener_is_noticed(evening: tuple[Evening, list[Played]]) -> None:
    evening[0].gaps.append("restarted")
    assert _failing(check_evening(*evening)) == ["listeners got each start and stop once"]


def test_a_counter_left_in_redis_is_noticed(evening: tuple[Evening, list[Played]]) -> None:
    evening[0].store.redis.set(keys.viewers(evening[1][0].stream_id), 3)
    assert _failing(check_evening(*evening)) == ["viewers in Redis and PostgreSQL agree"]


def test_a_live_status_left_in_redis_is_noticed(evening: tuple[Evening, list[Played]]) -> None:
    one = evening[1][0]
    # What is_live keeps of a stream on air, as a lost invalidation would leave it.
    evening[0].store.redis.set(keys.live(one.stream_id), b"vtrue")
    assert _failing(check_evening(*evening)) == ["no live stream is left in Redis"]


def test_same_seed_same_script() -> None:
    assert write_script(streams=20, minutes=30, seed=7) == write_script(streams=20, minutes=30, seed=7)
    assert write_script(streams=20, minutes=30, seed=7) != write_script(streams=20, minutes=30, seed=8)


def test_audience_is_heavy_tailed() -> None:
    audiences = sorted(broadcast.total_viewers for broadcast in write_script(streams=300, minutes=30, seed=1))
    assert audiences[-30] > 4 * audiences[150]


def test_an_error_ends_the_evening_and_is_raised(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the encoder caught fire")

    monkeypatch.setattr(streams, "start", broken)
    evening = Evening(store, write_script(streams=3, minutes=6, seed=3), run_id="test", threads=2)
    with pytest.raises(RuntimeError, match="caught fire"):
        evening.play(seconds=0.1, advance=lambda: None)


def _demo(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    command = [sys.executable, "-W", "error", "-m", "rootstream_store.cli", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=kept | env, timeout=150, check=False)


def test_command_on_given_servers_twice(database_url: str, redis_url: str) -> None:
    for _ in range(2):
        done = _demo(
            "--streams", "2", "--seconds", "1", "--json", DATABASE_URL=database_url, REDIS_URL=redis_url
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["streams"] == 2
        assert result["cache_hits"] > 0
        assert [check["ok"] for check in result["checks"]] == [True] * len(_NAMES)
        assert {"users.create", "streams.start", "events.append"} <= {
            row["name"] for row in result["timings"]
        }


def test_command_prints_a_table_and_the_checks() -> None:
    done = _demo("--streams", "2", "--seconds", "1")
    assert done.returncode == 0, done.stderr
    assert "p99 ms" in done.stdout
    assert done.stdout.count("ok  ") == len(_NAMES)


@pytest.mark.parametrize(
    "arguments", [("--streams", "0"), ("--seconds", "x"), ("--database-url", "postgres:///x?nonsense=1")]
)
def test_bad_arguments_are_refused(arguments: tuple[str, str]) -> None:
    done = _demo(*arguments)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert done.stderr
