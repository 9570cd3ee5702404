"""Embedded servers on a path of the user's: data stay, nobody shares them, a killed run is made good."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rootstream_store.embedded import EmbeddedServers, _directory
from rootstream_store.errors import SettingsError

from .helpers import AS_ROOT, WAIT, Holder, leftovers, postmaster, sql, with_redis


@contextlib.contextmanager
def stranger() -> Iterator[int]:
    """The pid of a process of the servers' account that is no server."""
    account = _directory.unprivileged_account()
    process = subprocess.Popen(["sleep", "60"], cwd="/", **(account.options() if account else {}))
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_data_in_a_path_stay(place: Path) -> None:
    path = place / "new" / "data"
    with EmbeddedServers.start(path) as servers:
        sql(servers, "CREATE TABLE kept AS SELECT 42 AS answer")
        with_redis(servers, "SET", "kept", "42")
    with EmbeddedServers.start(path) as servers:
        assert sql(servers, "SELECT answer FROM kept") == 42
        assert with_redis(servers, "GET", "kept") == b"42"
    assert leftovers(place) == []


def test_a_path_in_use_is_refused_with_its_holder(place: Path) -> None:
    path = place / "data"
    holder = Holder(WAIT, f"Path({str(path)!r})")
    started = time.monotonic()
    with pytest.raises(SettingsError, match=rf"{path}.*another process \(pid {holder.process.pid}\)"):
        EmbeddedServers.start(path)
    assert time.monotonic() - started < 5, "a living holder is not waited for"
    with psycopg.connect(holder.database_url):
        pass  # and the holder was not disturbed
    assert holder.end() == 0
    with (
        EmbeddedServers.start(path, redis=False),
        pytest.raises(SettingsError, match="this process holds it"),
    ):
        EmbeddedServers.start(path)


def test_a_path_recovers_from_a_killed_process_at_once(place: Path) -> None:
    path = place / "data"
    holder = Holder(WAIT, f"Path({str(path)!r})")
    with psycopg.connect(holder.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    holder.process.kill()
    # Its servers are still stopping, and it is a zombie until waited for.
    with EmbeddedServers.start(path) as servers:
        assert sql(servers, "SELECT answer FROM kept") == 42
    holder.end()


def test_a_path_recovers_from_a_killed_postmaster(place: Path) -> None:
    path = place / "data"
    with EmbeddedServers.start(path) as servers:
        sql(servers, "CREATE TABLE kept AS SELECT 42 AS answer")
        os.kill(postmaster(path), signal.SIGKILL)
    assert (path / "postgres" / "postmaster.pid").exists()
    with EmbeddedServers.start(path) as servers:
        assert sql(servers, "SELECT answer FROM kept") == 42


def test_a_path_recovers_when_the_old_pid_belongs_to_somebody_else(place: Path) -> None:
    path = place / "data"
    with EmbeddedServers.start(path, redis=False):
        left_behind = (path / "postgres" / "postmaster.pid").read_text().split("\n")
    with stranger() as other:
        (path / "postgres" / "postmaster.pid").write_text("\n".join([str(other), *left_behind[1:]]))
        with EmbeddedServers.start(path, redis=False) as servers:
            assert sql(servers, "SELECT 1") == 1
        os.kill(other, 0)


def test_a_path_recovers_from_an_interrupted_initdb(place: Path) -> None:
    path = place / "data"
    with EmbeddedServers.start(path, postgres=False):
        pass
    (path / "postgres.new").mkdir()
    (path / "postgres.new" / "PG_VERSION").write_text("18\n")
    with EmbeddedServers.start(path, redis=False) as servers:
        assert sql(servers, "SELECT 1") == 1


@pytest.mark.parametrize("name", ["with space, comma", "Ünïcode'\"%", "long" * 30])
def test_any_name_of_a_path_serves(place: Path, name: str) -> None:
    path = place / name
    with EmbeddedServers.start(path) as servers:
        assert sql(servers, "SHOW data_directory") == str(path / "postgres")
        with_redis(servers, "SET", "kept", "42")
    with EmbeddedServers.start(path, postgres=False) as servers:
        assert with_redis(servers, "GET", "kept") == b"42"
    assert leftovers(place) == []


def test_a_path_that_cannot_serve_is_refused(place: Path) -> None:
    file = place / "file"
    file.write_text("")
    with pytest.raises(SettingsError, match="is not a directory"):
        EmbeddedServers.start(file)
    foreign = place / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("")
    with pytest.raises(SettingsError, match=r"holds other files \('thesis.txt'\)"):
        EmbeddedServers.start(foreign)
    assert [entry.name for entry in foreign.iterdir()] == ["thesis.txt"]
    with pytest.raises(SettingsError, match="cannot hold embedded servers"):
        EmbeddedServers.start(file / "below")


@pytest.mark.skipif(not AS_ROOT, reason="only root starts servers under another account")
def test_root_is_told_of_a_path_out_of_reach(place: Path) -> None:
    (place / "private").mkdir(mode=0o700)
    with pytest.raises(SettingsError, match="is out of reach of account"):
        EmbeddedServers.start(place / "private" / "data")
    assert stat.S_IMODE((place / "private").stat().st_mode) == 0o700


def test_a_leftover_socket_file_is_no_obstacle(place: Path) -> None:
    path = place / "data"
    with EmbeddedServers.start(path, postgres=False):
        pass
    (path / "run").mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path / "run" / "redis.sock"))
    with stranger() as other:
        (path / "run" / ".s.PGSQL.5432.lock").write_text(f"{other}\n")
        with EmbeddedServers.start(path) as servers:
            assert with_redis(servers, "PING") is True
