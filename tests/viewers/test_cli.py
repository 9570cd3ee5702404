"""`rootstream-store viewers`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from rootstream_store.cli import main
from rootstream_store.repositories import streams, viewers
from rootstream_store.store import Store

from ..cache.conftest import until


def urls(store: Store) -> list[str]:
    return ["--database-url", store.settings.database_url, "--redis-url", str(store.settings.redis_url)]


def test_flush_once_and_top(store: Store, live: int, capsys: pytest.CaptureFixture[str]) -> None:
    viewers.set(store, live, 1234)
    assert main(["viewers", "flush", *urls(store)]) == 0
    assert capsys.readouterr().out == "1 streams on air, figures of 1 changed\n"
    assert streams.get(store, live).viewer_count == 1234
    assert main(["viewers", "top", *urls(store)]) == 0
    assert capsys.readouterr().out.split() == ["viewers", "stream", "1,234", str(live)]
    assert main(["viewers", "top", "--json", *urls(store)]) == 0
    assert json.loads(capsys.readouterr().out) == [{"stream_id": live, "viewers": 1234}]
    assert main(["viewers", "top", "-n", "0", *urls(store)]) == 1


def test_flush_without_an_answer_of_redis_says_so(
    database_url: str, store: Store, live: int, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = ["--database-url", database_url, "--redis-url", "unix:///nowhere/at/all"]
    assert main(["viewers", "flush", *gone]) == 1
    assert "Redis did not answer" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_flush_goes_on_until_it_is_told_to_stop(store: Store, live: int, number: signal.Signals) -> None:
    viewers.join(store, live, "ann")
    command = [sys.executable, "-m", "rootstream_store.cli", "viewers", "flush", "--every", "0.05"]
    with subprocess.Popen([*command, *urls(store)], stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"flushing every 0.05 s\n"
            until(lambda: streams.get(store, live).viewer_count == 1, "a flush")
            running.send_signal(number)
            assert running.wait(20) == 0
        finally:
            running.kill()
