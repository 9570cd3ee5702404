"""`rootstream-store events tail`: the newest events, and following the log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from rootstream_store import events, migrations
from rootstream_store.cache import keys
from rootstream_store.cli import main
from rootstream_store.embedded import EmbeddedServers
from rootstream_store.events import NewEvent
from rootstream_store.store import Store

from ..faults.proxy import Proxy
from ..waiting import until


def tail(store: Store, *arguments: str) -> int:
    return main(["events", "tail", *arguments, "--database-url", store.settings.database_url])


def counted(store: Store, count: int, aggregate_id: str = "7", kind: str = "Counted") -> None:
    events.append_many(store, "stream", aggregate_id, [NewEvent(kind, {"n": n}) for n in range(1, count + 1)])


# --- what is there


def test_the_newest_events_come_in_the_order_of_the_log(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    counted(store, 25)
    assert tail(store) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [str(position) for position in range(6, 26)]
    assert lines[-1].endswith('stream 7 v25 Counted {"n":25}')


@pytest.mark.parametrize(
    ("arguments", "positions"),
    [
        (["-n", "3"], [4, 5, 6]),
        (["-n", "0"], []),
        (["-n", "100"], [1, 2, 3, 4, 5, 6]),
        (["--type", "Opened"], [1, 2]),
        (["--type", "Opened", "--type", "Closed"], [1, 2, 5, 6]),
        (["--aggregate-type", "user"], [2, 4, 6]),
        (["--aggregate-type", "user", "--type", "Opened", "-n", "1"], [2]),
        (["--type", "opened"], []),
    ],
)
def test_how_many_and_which(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str], positions: list[int]
) -> None:
    for kind in ("Opened", "Renamed", "Closed"):
        events.append(store, "stream", "1", kind, {})
        events.append(store, "user", "1", kind, {})
    assert tail(store, "--json", *arguments) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["position"] for event in shown] == positions


def test_more_than_a_page(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    counted(store, 2500)
    assert tail(store, "-n", "2300") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(201, 2501))


def test_nothing_is_shown_beyond_the_horizon(
    store: Store, connection: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    events.append(store, "stream", "1", "First", {})
    with store.transaction() as open_one:
        events.append(open_one, "stream", "2", "Second", {})
        events.append(store, "stream", "3", "Third", {})
        assert tail(store) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1"]
    assert tail(store) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2", "3"]


@pytest.mark.parametrize("count", ["-1", "x"])
def test_a_number_that_is_none(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["events", "tail", "-n", count])
    assert error.value.code == 2
    assert "-n" in capsys.readouterr().err


def test_read_all_backward_pages(store: Store) -> None:
    counted(store, 10)
    seen: list[int] = []
    to_position: int | None = None
    while page := events.read_all(store, limit=4, to_position=to_position, backward=True, after_position=2):
        seen += [event.position for event in page]
        to_position = seen[-1] - 1
    assert seen == [10, 9, 8, 7, 6, 5, 4, 3]


# --- following


class Follower:
    """The command in a process of its own; a thread collects what it prints."""

    def __init__(self, database_url: str, *arguments: str, prelude: str = "", redis_url: str = "") -> None:
        script = f"import sys\nfrom rootstream_store.cli import main\n{prelude}\nsys.exit(main(sys.argv[1:]))"
        environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, "events", "tail", "--follow", "--json", *arguments],
            env=environment
            | {"DATABASE_URL": database_url}
            | ({"REDIS_URL": redis_url} if redis_url else {}),
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.shown: list[Any] = []
        self.errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._collect, args=(self.process.stdout, self.shown, json.loads)),
            threading.Thread(target=self._collect, args=(self.process.stderr, self.errors, str)),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def positions(self) -> list[int]:
        return [event["position"] for event in self.shown]

    def until_shown(self, position: int) -> None:
        until(lambda: position in self.positions, f"{position} in {self.positions[-3:]}, {self.errors}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """The exit code after a signal."""
        self.process.send_signal(number)
        code = self.process.wait(20)
        for thread in self._threads:
            thread.join(20)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()

    @staticmethod
    def _collect(stream: Any, found: list[Any], read: Callable[[str], Any]) -> None:
        with stream:
            for line in stream:
                found.append(read(line))  # noqa: PERF401  # seen while it grows


Follow = Callable[..., Follower]
_FOLLOWERS: LiteralString = """
FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'rootstream-store events tail'
"""


@pytest.fixture
def follow() -> Iterator[Follow]:
    with ExitStack() as stack:

        def start(*arguments: str, **more: str) -> Follower:
            follower = Follower(*arguments, **more)
            stack.callback(follower.kill)
            return follower

        yield start


def test_what_is_appended_is_shown_once_and_in_order(store: Store, follow: Follow) -> None:
    counted(store, 5)
    follower = follow(store.settings.database_url, "-n", "2")
    follower.until_shown(5)
    counted(store, 1500)
    writers = [
        threading.Thread(
            target=lambda name=name: [events.append(store, "stream", name, "Counted", {}) for _ in range(50)]
        )
        for name in ("a", "b", "c", "d")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    last = events.append(store, "stream", "last", "Ended", {}).position
    follower.until_shown(last)
    assert follower.end() == 0
    assert follower.positions == list(range(4, last + 1))
    assert follower.errors == []


def test_an_open_append_is_waited_for_and_not_missed(
    store: Store, connection: psycopg.Connection, follow: Follow
) -> None:
    events.append(store, "stream", "1", "First", {})
    follower = follow(store.settings.database_url)
    follower.until_shown(1)
    with store.transaction() as open_one:
        events.append(open_one, "stream", "2", "Late", {})
        after = events.append(store, "stream", "3", "Early", {}).position
        # It looks at the horizon again after these are committed.
        before = _looks(connection)
        until(lambda: _looks(connection) != before, "it looks again")
        assert follower.positions == [1]
    follower.until_shown(after)
    assert [event["event_type"] for event in follower.shown] == ["First", "Late", "Early"]
    assert follower.end() == 0


def _looks(connection: psycopg.Connection) -> object:
    """When a follower last asked for the horizon; None: none has."""
    row = connection.execute(f"SELECT max(query_start) {_FOLLOWERS}").fetchone()
    return row and row[0]


def until_following(connection: psycopg.Connection) -> None:
    """Until its first look at the horizon is over: what is appended now is not among the newest."""
    until(lambda: _looks(connection), "it has begun")
    _until_next_look(connection)  # the one that was seen may be under way still
    _until_next_look(connection)


def _until_next_look(connection: psycopg.Connection) -> None:
    last = _looks(connection)
    until(lambda: _looks(connection) != last, "it has looked")


def test_filters_hold_for_what_is_appended(
    store: Store, connection: psycopg.Connection, follow: Follow
) -> None:
    follower = follow(store.settings.database_url, "--type", "Wanted", "--aggregate-type", "stream")
    until_following(connection)
    for kind, aggregate_type in (("Other", "stream"), ("Wanted", "user"), ("Wanted", "stream")):
        events.append(store, aggregate_type, "1", kind, {})
    follower.until_shown(3)
    assert follower.positions == [3]
    assert follower.end() == 0


def test_none_to_begin_with(store: Store, connection: psycopg.Connection, follow: Follow) -> None:
    counted(store, 3)
    follower = follow(store.settings.database_url, "-n", "0")
    until_following(connection)
    counted(store, 1)
    follower.until_shown(4)
    assert follower.positions == [4]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_it(store: Store, follow: Follow, number: int, code: int) -> None:
    events.append(store, "stream", "1", "First", {})
    follower = follow(store.settings.database_url)
    follower.until_shown(1)
    assert follower.end(number) == code
    assert follower.errors == (["interrupted\n"] if number == signal.SIGINT else [])


@pytest.mark.parametrize("with_redis", [False, True])
def test_it_ends_when_nobody_reads_any_more(
    store: Store, redis_url: str, follow: Follow, with_redis: bool
) -> None:
    """Also when nothing is appended, so that nothing is written."""
    events.append(store, "stream", "1", "First", {})
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "rootstream_store.cli", "events", "tail", "--follow"],
        env=os.environ
        | {"DATABASE_URL": store.settings.database_url}
        | ({"REDIS_URL": redis_url} if with_redis else {}),
        cwd=Path(__file__).parents[2],
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    try:
        with os.fdopen(read, "rb") as stream:
            assert stream.readline().startswith(b"1 ")
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 141
    assert err == b""


def test_redis_wakes_it(store: Store, redis_url: str, follow: Follow) -> None:
    """With looks that are an hour apart nothing else would."""
    never = "import rootstream_store.cli.events.tail as t\nt._POLL_WITH_REDIS = t._POLL = 3600.0"
    events.append(store, "stream", "1", "First", {})
    follower = follow(store.settings.database_url, prelude=never, redis_url=redis_url)
    follower.until_shown(1)
    # Its first look of all is before it waits; a message before that is kept for it.
    for number in range(2, 5):
        events.append(store, "stream", "1", "Next", {})
        store.redis.publish(keys.APPENDED, str(number))
        follower.until_shown(number)
    assert follower.end() == 0


def test_a_redis_that_is_away_is_told_and_not_needed(store: Store, tmp_path: Path, follow: Follow) -> None:
    follower = follow(store.settings.database_url, redis_url=f"unix://{tmp_path}/none.sock")
    until(lambda: follower.errors, "the message")
    events.append(store, "stream", "1", "First", {})
    follower.until_shown(1)
    (error,) = follower.errors
    assert error.endswith("; looking every 0.25 s instead\n")
    assert follower.end() == 0


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the account of the server can reach, whichever that is."""
    with tempfile.TemporaryDirectory(prefix="rootstream-tail-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_it_outlives_a_restart_of_postgresql(place: Path, follow: Follow) -> None:
    with ExitStack() as stack:
        servers = stack.enter_context(EmbeddedServers.start(place / "data", redis=False))
        migrations.apply(servers.database_url)
        proxy = stack.enter_context(Proxy(servers.database_url))  # the address that stays
        with Store.open(servers.database_url) as store:
            counted(store, 2)
        follower = follow(proxy.database_url)
        follower.until_shown(2)
        servers.stop()
        until(lambda: follower.errors, "the message that it is away")
        servers = stack.enter_context(EmbeddedServers.start(place / "data", redis=False))
        proxy.go_to(servers.database_url)
        with Store.open(servers.database_url) as store:
            last = events.append(store, "stream", "7", "Back", {}).position
        follower.until_shown(last)
        until(lambda: len(follower.errors) > 1, "the message that it is back")
        assert follower.end() == 0
        assert [event["version"] for event in follower.shown] == [1, 2, 3]
        away, back = follower.errors
        assert away.endswith("; waiting for it\n")
        assert back == "PostgreSQL is back\n"


def test_a_killed_connection_costs_nothing(
    store: Store, connection: psycopg.Connection, follow: Follow
) -> None:
    follower = follow(store.settings.database_url)
    for position in range(1, 4):
        events.append(store, "stream", "1", "Next", {})
        follower.until_shown(position)
        connection.execute(f"SELECT pg_terminate_backend(pid) {_FOLLOWERS}")
    events.append(store, "stream", "1", "Last", {})
    follower.until_shown(4)
    assert follower.positions == [1, 2, 3, 4]
