"""`rootstream-store events`: what each command prints."""

from __future__ import annotations

import json

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
