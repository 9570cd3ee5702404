"""`rootstream-store events`: what each command prints."""

from __future__ import annotations

import json

import psycopg
import pytest

from rootstream_store import events
from rootstream_store.cli import main
from rootstream_store.store import Store


def run(store: Store, *arguments: str) -> int:
    return main(["events", *arguments, "--database-url", store.settings.database_url])


def test_show(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    events.append(store, "stream", "7", "StreamStarted", {"quality": "1080p"}, user_id=3)
    events.append(store, "stream", "7", "Renamed", {"name": "bell \x07"}, metadata={"ip": "::1"})
    events.append(store, "stream", "8", "StreamStarted", {})
    assert run(store, "show", "stream", "7") == 0
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first.startswith("1 20")
    assert first.endswith('stream 7 v1 StreamStarted by user 3 {"quality":"1080p"}')
    assert second.endswith('stream 7 v2 Renamed {"name":"bell \\u0007"} {"ip":"::1"}')
    assert err == "stream '7' is at version 2\n"


def test_show_as_json_and_from_a_version(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        events.append(store, "stream", "7", "Counted", {"number": number})
    assert run(store, "show", "stream", "7", "--json", "--after-version", "1") == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(event["version"], event["event_data"]) for event in shown] == [
        (2, {"number": 1}),
        (3, {"number": 2}),
    ]


def test_show_of_an_aggregate_that_has_no_event(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store, "show", "stream", "7") == 1
    assert capsys.readouterr().err == "stream '7' has no event\n"


def test_rejected(store: Store, database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO rejected_events "
            "(writer, aggregate_type, aggregate_id, event_type, event_data, metadata, user_id, error_text) "
            "VALUES (gen_random_uuid(), 'stream', %s, 'E', %s, '{}', 7, 'data is not JSON (byte 1)'), "
            "(gen_random_uuid(), 'stream', '8', 'E', %s, NULL, NULL, 'no')",
            ["7\x1b[31m", b"{\xff", b"{"],
        )
    assert run(store, "rejected") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split("  ")[2:] == ["'stream 7\\x1b[31m'", "E", "user 7", "data is not JSON (byte 1)"]
    assert second.split("  ")[2:] == ["stream 8", "E", "system", "no"]
    assert run(store, "rejected", "--json", "-n", "1") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["event_data"] == {"base64": "e/8="}
    assert (shown["metadata"], shown["user_id"]) == ("{}", 7)
    assert run(store, "rejected", "--discard", str(shown["id"])) == 0
    assert capsys.readouterr().out == first + "\n"
    assert run(store, "rejected", "--after-id", str(shown["id"])) == 0
    assert capsys.readouterr().out == second + "\n"
    assert [row.aggregate_id for row in events.list_rejected(store)] == ["8"]
