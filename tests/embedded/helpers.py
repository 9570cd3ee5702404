"""What the tests of the embedded servers share."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import psycopg
import redis

from rootstream_store.embedded import EmbeddedServers, _directory

ROOT = Path(__file__).resolve().parent.parent.parent
AS_ROOT = os.geteuid() == 0


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits for a condition; fails when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def leftovers(place: Path) -> list[str]:
    """Temporary directories, and processes that work in one."""
    found = [
        entry.name for entry in (place / "tmp").iterdir() if not entry.name.startswith("rootstream-bin-")
    ]
    return found + [cwd for _, cwd in _directory._working_directories() if cwd.startswith(str(place))]


def sql(servers: EmbeddedServers, text: str) -> object:
    with psycopg.connect(servers.database_url) as connection:
        cursor = connection.execute(text.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def with_redis(servers: EmbeddedServers, *command: str) -> object:
    with redis.Redis.from_url(servers.redis_url) as client:
        return client.execute_command(*command)


def postmaster(path: Path) -> int:
    return int((path / "postgres" / "postmaster.pid").read_text().split()[0])


class Holder:
    """Another Python process that starts servers, prints their database URL, and then does as told."""

    _all: ClassVar[list[Holder]] = []

    def __init__(
        self, then: str, arguments: str = "", prefix: tuple[str, ...] = (), *, wait: bool = True
    ) -> None:
        script = f"""
            import os, sys
            from pathlib import Path
            from rootstream_store.embedded import EmbeddedServers
            servers = EmbeddedServers.start({arguments})
            print(servers.database_url, flush=True)
        """
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-W", "error", "-c", textwrap.dedent(script) + textwrap.dedent(then)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._all.append(self)
        self.database_url = self.line() if wait else ""

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> int:
        """Its exit status, waited for."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.communicate(timeout=60)
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.end()

    @classmethod
    def kill_all(cls) -> None:
        """Of those that a failed test left."""
        while cls._all:
            cls._all.pop().kill()


WAIT = "sys.stdin.read()"
