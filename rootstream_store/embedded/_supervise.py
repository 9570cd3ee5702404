"""Runs the embedded servers for as long as the process that asked for them lives.

A script of its own, run by path with the standard library only, so that it starts in milliseconds. Standard
input is a pipe from the parent: its first line says what to run, and its end (a word more, a close, the
parent's death) stops the servers and deletes what was temporary. So nothing is left running even when the
parent is killed with SIGKILL.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_POLL = 0.005
_TAIL = 4000


class _Failed(Exception):
    """A server cannot be started; `retryable` when a slower machine, not a setting, may be the reason."""

    def __init__(self, server: _Server, reason: str, *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.report = {
            "server": server.name,
            "reason": reason,
            "retryable": retryable,
            "log": server.log_tail(),
        }


class _Server:
    """One server: an optional step that makes its data directory, then the process itself."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.name: str = spec["name"]
        self._spec = spec
        self._log = Path(spec["log"])
        self._process: subprocess.Popen[bytes] | None = None
        self._preparing = False

    def start(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # the first run here
            self._log.replace(self._log.with_suffix(".log.previous"))
        self._preparing = self._spec["prepare"] is not None
        self._run(self._spec["prepare"] or self._spec["command"])

    def ready(self) -> bool:
        """Goes on with what is next; True when the server answers. Raises _Failed."""
        if self._process is None:
            return False
        status = self._process.poll()
        if status is not None:
            if not self._preparing or status != 0:
                raise _Failed(self, f"ended with status {status}")
            fresh, data = self._spec["prepared"]
            Path(fresh).rename(data)
            self._preparing = False
            self._run(self._spec["command"])
            return False
        return not self._preparing and bool(_PROBES[self._spec["probe"]](self._spec, self._process.pid))

    def reap(self) -> bool:
        """True when nothing of it runs."""
        return self._process is None or self._process.poll() is not None

    def stop(self, number: int) -> None:
        if self._process is None or self.reap():
            return
        if self._preparing or number == signal.SIGKILL:
            # Each server leads a group of its own; initdb's helpers are in it. Killed at once they would
            # leave their shared memory behind.
            with contextlib.suppress(ProcessLookupError):  # it ended in between
                forced = number == signal.SIGKILL
                os.killpg(self._process.pid, signal.SIGKILL if forced else signal.SIGTERM)
        else:
            self._process.send_signal(number)

    def stop_signals(self) -> Sequence[tuple[int, float]]:
        return [*self._spec["stop"], (signal.SIGKILL, 10.0)]

    def log_tail(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL))
                return log.read().decode(errors="replace").strip()
        except FileNotFoundError:  # it never ran
            return ""

    def _run(self, command: list[str]) -> None:
        # As root this writes into another account's directory: no link may lead it elsewhere.
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        account: dict[str, Any] = {}
        if self._spec["uid"] is not None:
            account = {"user": self._spec["uid"], "group": self._spec["gid"], "extra_groups": []}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",  # the caller's may be out of the account's reach
                start_new_session=True,
                preexec_fn=_dies_with_parent(self._spec["stop"][0][0]),
                **account,
            )
        except OSError as error:
            raise _Failed(self, f"{command[0]} cannot be run: {error}") from error
        finally:
            os.close(log)


def _dies_with_parent(number: int) -> Callable[[], None] | None:
    """On Linux, has the kernel stop the server when this script itself is killed; None elsewhere."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes
    except ImportError:  # a Python built without libffi; this is only the second line of defence
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(1, number, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel


def _postgres_ready(spec: dict[str, Any], pid: int) -> bool:
    # The lines of postmaster.pid are a documented interface; pg_ctl waits on the same one.
    try:
        lines = Path(spec["probe_path"]).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def _redis_ready(spec: dict[str, Any], _pid: int) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(spec["probe_path"])
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")  # -LOADING while it reads its data
        except (FileNotFoundError, ConnectionError, TimeoutError):
            return False


_PROBES: dict[str, Callable[[dict[str, Any], int], bool]] = {
    "postgres": _postgres_ready,
    "redis": _redis_ready,
}


class _Parent:
    """What reaches this script from outside: the parent's pipe and SIGTERM, which both mean stop."""

    def __init__(self) -> None:
        # The calling thread may have blocked signals, and a mask is inherited.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._signals, writing = os.pipe()
        os.set_blocking(self._signals, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        # Handlers, not SIG_IGN, which the servers would inherit. SIGINT is the parent's, SIGCHLD wakes.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)

    @staticmethod
    def read_spec() -> dict[str, Any] | None:
        """What to run; None when the parent died before it said so."""
        text = b""
        while not text.endswith(b"\n"):
            part = os.read(0, 65536)
            if not part:
                return None
            text += part
        spec: dict[str, Any] = json.loads(text)
        return spec

    @staticmethod
    def tell(report: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it died: the end of standard input says the same
            os.write(1, json.dumps(report).encode() + b"\n")

    def wants_stop(self, timeout: float | None) -> bool:
        """Waits up to `timeout` seconds (None: for ever) for news; True when the servers have to stop."""
        readable, _, _ = select.select([0, self._signals], [], [], timeout)
        if self._signals in readable and signal.SIGTERM in os.read(self._signals, 4096):
            return True
        return 0 in readable


def _stop(servers: Sequence[_Server]) -> None:
    """Signals all at once, then waits for each, with stronger signals for what stays."""
    running = {server: list(server.stop_signals()) for server in servers}
    limits: dict[_Server, float] = {}
    while running:
        for server, signals in list(running.items()):
            if server.reap():
                del running[server]
            elif time.monotonic() >= limits.get(server, 0.0):
                if not signals:
                    del running[server]  # not even SIGKILL helped: it hangs in the kernel
                    continue
                number, seconds = signals.pop(0)
                server.stop(number)
                limits[server] = time.monotonic() + seconds
        if running:
            time.sleep(_POLL)


def _remove(directories: Sequence[str]) -> None:
    """Deletes directories; tries for a while, since orphaned backends may still be writing."""
    deadline = time.monotonic() + 5.0
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
        while Path(directory).exists() and time.monotonic() < deadline:
            time.sleep(_POLL)
            shutil.rmtree(directory, ignore_errors=True)


def _start(parent: _Parent, servers: Sequence[_Server], timeout: float) -> bool:
    """Starts all side by side. False: the parent wants a stop before they were ready. Raises _Failed."""
    deadline = time.monotonic() + timeout
    for server in servers:
        server.start()
    waiting = list(servers)
    while waiting:
        waiting = [server for server in waiting if not server.ready()]
        if waiting and time.monotonic() > deadline:
            raise _Failed(waiting[0], f"was not ready within {timeout:g} s", retryable=True)
        if waiting and parent.wants_stop(_POLL):
            return False
    return True


def _main() -> None:
    os.umask(0o077)
    parent = _Parent()
    spec = parent.read_spec()
    if spec is None:
        return
    servers = [_Server(server) for server in spec["servers"]]
    try:
        try:
            if not _start(parent, servers, spec["timeout"]):
                return
        except _Failed as failure:
            parent.tell(failure.report)
            return
        parent.tell({"ready": True})
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        while not parent.wants_stop(None):
            for server in servers:
                server.reap()
    finally:
        _stop(servers)
        _remove(spec["remove"])


if __name__ == "__main__":
    _main()
