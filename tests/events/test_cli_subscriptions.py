"""`rootstream-store events lag` and `rebuild`: what they print."""

from __future__ import annotations

import json

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.cli import main
from rootstream_store.errors import Timeout
from rootstream_store.events import Subscription
from rootstream_store.store import Store

from .projected import totals
from .readers import append_some


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def run(store: Store, *arguments: str) -> int:
    return main(["events", *arguments, "--database-url", store.settings.database_url])


def fail(*_: object) -> None:
    raise ValueError("bell \x07 [red]")


def test_lag_with_nothing_to_tell(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store, "lag") == 0
    assert capsys.readouterr().out == "the log is complete up to 0 of 0\nthere is no subscription\n"


def test_lag(store: Store, connection: psycopg.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    append_some(store, 3)
    Subscription(store, "mails", fail, max_attempts=1, batch_size=1).catch_up()
    append_some(store, 4)
    with psycopg.connect(store.settings.database_url, application_name="slow one") as other:
        other.execute(
            "INSERT INTO event_log (aggregate_id, aggregate_type, version, event_type, event_data) "
            "VALUES ('x', 'X', 1, 'E', '{}')"
        )
        append_some(store, 2)
        assert run(store, "lag") == 0
        out = capsys.readouterr().out
        assert "the log is complete up to 7 of 10" in out
        (line,) = (line for line in out.splitlines() if "mails" in line)
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells[:4] == ["mails", "0 of 1", "3", "4"]
        assert float(cells[4]) >= 0
        assert (cells[5], cells[7]) == ("nobody", "3")
        assert "slow one" in out
        pid = other.info.backend_pid
        assert f" {pid} " in out

        assert run(store, "lag", "--json") == 0
        shown = json.loads(capsys.readouterr().out)
    assert shown["horizon"]["position"] == 7
    (lag,) = shown["subscriptions"]
    assert (lag["name"], lag["positions_behind"], lag["parked"]) == ("mails", 4, 3)
    assert [one["pid"] for one in shown["in_flight"]] == [pid]


def test_lag_of_one_that_tries_again(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    append_some(store, 2)
    with pytest.raises(Timeout, match="caught up"):
        Subscription(store, "mails", fail, retry_pause=3600).catch_up(timeout=0.5)
    assert run(store, "lag") == 0
    out = capsys.readouterr().out
    assert "1 at 1" in out
    assert "ValueError: bell   [red]" in out, "no control character, and no markup"


def test_rebuild(store: Store, connection: psycopg.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    for amount in (1, 2):
        events.append(store, "T", "a", "Added", {"amount": amount})
    where = "tests.events.projected:totals_projection"
    assert run(store, "rebuild", where, "--keep-old") == 0
    assert capsys.readouterr().out == "projection_totals is rebuilt from 2 events\n"
    assert totals(connection) == {"a": (3, 2)}
    assert run(store, "rebuild", where, "--inline") == 0


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("nothing", "write MODULE:ATTRIBUTE"),
        (".relative:totals", "write MODULE:ATTRIBUTE"),
        ("no_such_module:x", "cannot be imported"),
        ("tests.events.projected:TABLES", "is no Projection but a Query"),
        ("tests.events.projected:none", "is no Projection but a NoneType"),
    ],
)
def test_rebuild_of_what_is_no_projection(
    store: Store, capsys: pytest.CaptureFixture[str], where: str, told: str
) -> None:
    assert run(store, "rebuild", where) == 2
    assert told in capsys.readouterr().err


# --- list_lag


def test_lag_of_each_partition(store: Store) -> None:
    for aggregate in "abcdefgh":
        append_some(store, 2, aggregate)
    Subscription(store, "s", lambda tx, event: None, partitions=4).catch_up()
    assert {lag.seconds_behind for lag in events.list_lag(store)} == {None}
    append_some(store, 3, "a")
    lags = events.list_lag(store)
    assert [lag.partition for lag in lags] == [0, 1, 2, 3]
    behind = [lag for lag in lags if lag.seconds_behind is not None]
    assert len(behind) == 1, "only the partition of the aggregate has something to do"
    assert {lag.positions_behind for lag in lags} == {3}
    assert {(lag.horizon, lag.last_position) for lag in lags} == {(19, 19)}
