"""The embedded servers start, and leave nothing behind however they end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from rootstream_store.embedded import EmbeddedServers, _directory
from rootstream_store.errors import SettingsError

from .helpers import WAIT, Holder, leftovers, sql, until, with_redis


def test_both_start_answer_and_are_gone_after_stop(place: Path) -> None:
    with EmbeddedServers.start() as servers:
        assert sql(servers, "SELECT lower('É') || current_setting('fsync')") == "éon"
        assert sql(servers, "SHOW listen_addresses") == ""
        assert with_redis(servers, "PING") is True
        assert with_redis(servers, "CONFIG", "GET", "port") == {b"port": b"0"}
        sockets = Path(unquote(servers.database_url.partition("host=")[2]))
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        account = _directory.unprivileged_account()
        assert sockets.stat().st_uid == (account.uid if account else os.geteuid())
        assert len(leftovers(place)) >= 3  # the check below can see them
    assert leftovers(place) == []
    servers.stop()


def test_settings_and_durability_reach_the_server(place: Path) -> None:
    with EmbeddedServers.start(durable=False, redis=False, settings={"work_mem": "7MB"}) as servers:
        assert sql(servers, "SHOW fsync") == "off"
        assert sql(servers, "SHOW work_mem") == "7MB"
        with pytest.raises(SettingsError, match="Valkey was not started"):
            _ = servers.redis_url


def test_four_at_once_are_four_different_pairs(place: Path) -> None:
    started: list[EmbeddedServers] = []
    threads = [threading.Thread(target=lambda: started.append(EmbeddedServers.start())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        systems = {sql(servers, "SELECT system_identifier FROM pg_control_system()") for servers in started}
        assert len(systems) == 4
        assert len({with_redis(servers, "INFO", "server")["run_id"] for servers in started}) == 4  # type: ignore[index]  # a dict
    finally:
        for servers in started:
            servers.stop()
    assert leftovers(place) == []


def test_nothing_is_left_of_a_killed_process(place: Path) -> None:
    holder = Holder(WAIT)
    assert len(leftovers(place)) >= 3
    holder.kill()
    until(lambda: leftovers(place) == [])


@pytest.mark.parametrize("entries", [2, 3, 5, 30])
def test_nothing_is_left_of_a_process_killed_while_it_starts(place: Path, entries: int) -> None:
    """Killed at several moments, told by how many files there are: before, in and after initdb.

    With one file, the lock, there is no supervisor yet; the next start deletes that (tested below).
    """
    holder = Holder(WAIT, wait=False)
    until(lambda: sum(len(names) for _, _, names in os.walk(place / "tmp")) >= entries)
    holder.kill()
    until(lambda: leftovers(place) == [])


def test_nothing_is_left_when_the_supervisor_is_killed(place: Path) -> None:
    servers = EmbeddedServers.start()
    servers._process.kill()
    until(lambda: not [cwd for _, cwd in _directory._working_directories() if cwd.startswith(str(place))])
    servers.stop()
    assert leftovers(place) == []


def test_ctrl_c_leaves_the_servers_up_for_the_clean_up(place: Path) -> None:
    holder = Holder("""
        import psycopg
        try:
            print("waiting", flush=True)
            sys.stdin.read()
        except KeyboardInterrupt:
            with servers, psycopg.connect(servers.database_url) as connection:
                print(connection.execute("SELECT 'still here'").fetchone()[0], flush=True)
    """)
    assert holder.line() == "waiting"
    os.killpg(holder.process.pid, signal.SIGINT)
    assert holder.line() == "still here"
    assert holder.end() == 0
    assert leftovers(place) == []


def test_a_quit_from_the_terminal_reaches_only_the_process_itself(place: Path) -> None:
    holder = Holder(WAIT)
    os.killpg(holder.process.pid, signal.SIGQUIT)
    holder.end()
    until(lambda: leftovers(place) == [])


def test_a_forked_process_neither_stops_the_servers_nor_keeps_them(place: Path) -> None:
    holder = Holder("""
        import psycopg, time
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            servers.stop()
            os.write(writing, b"x")
            sys.stdin.read()
            os._exit(0)
        os.read(reading, 1)
        psycopg.connect(servers.database_url).close()
        started = time.monotonic()
        servers.stop()
        print("stopped", time.monotonic() - started, flush=True)
        sys.stdin.read()
        os.waitpid(child, 0)
    """)
    word, seconds = holder.line().split()
    assert (word, float(seconds) < 30) == ("stopped", True)
    assert leftovers(place) == []
    assert holder.end() == 0


def test_a_server_that_refuses_to_start_shows_its_log(place: Path) -> None:
    with pytest.raises(
        SettingsError, match=r'(?s)PostgreSQL ended with status 1.*"no_such_setting"'
    ) as caught:
        EmbeddedServers.start(settings={"no_such_setting": "on"})
    assert not caught.value.retryable
    assert leftovers(place) == []


@pytest.mark.parametrize("name", ["port", "Listen_Addresses", "a=b", "", "x\0y"])
def test_settings_that_cannot_be_given_are_refused(place: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(repr(name))):
        EmbeddedServers.start(settings={name: "1"})


@pytest.mark.parametrize(
    "settings",
    ["x", [], 5, {1: 1}, {"": "x"}, {"work_mem": 7}, {"work_mem": "\0"}, {"work_mem": "\ud800"}],
)
def test_settings_of_the_wrong_kind_are_refused(settings: Any) -> None:
    with pytest.raises(SettingsError, match="setting"):
        EmbeddedServers.start(settings=settings)


@pytest.mark.parametrize("path", ["\0", "a\0b", "\ud800", 5, b"bytes"])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(SettingsError, match="path must be"):
        EmbeddedServers.start(path)


def test_nothing_to_start_is_refused() -> None:
    with pytest.raises(SettingsError, match="nothing to start"):
        EmbeddedServers.start(postgres=False, redis=False)


def test_a_start_deletes_what_killed_supervisors_left(place: Path) -> None:
    def temporary(age: float) -> Path:
        directory = Path(tempfile.mkdtemp(prefix="rootstream-run-", dir=place / "tmp"))
        (directory / "rootstream.lock").touch()
        os.utime(directory, (time.time() - age,) * 2)
        return directory

    old, new, held = temporary(3600), temporary(0), temporary(3600)
    lock = os.open(held / "rootstream.lock", os.O_RDWR)
    assert _directory._try_lock(lock)
    with EmbeddedServers.start(postgres=False):
        assert (old.exists(), new.exists(), held.exists()) == (False, True, True)
    os.close(lock)
    shutil.rmtree(new)
    shutil.rmtree(held)
