"""Where embedded servers keep their files: accounts, temporary directories, the lock on a data directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rootstream_store.errors import SettingsError

__all__ = ["Account", "Home", "open_home", "temporary_base", "unprivileged_account"]

_PREFIX = "rootstream-run-"
_LOCK = "rootstream.lock"
_MEMORY = Path("/dev/shm")
_MEMORY_ROOM = 2 << 30
"""Bytes free that make /dev/shm worth using: a new cluster is 40 MB, its write-ahead log grows to 1 GB."""
_HANDOVER = 15.0
"""Seconds that the servers of a killed process get to stop."""
_SOCKET_LIMIT = 100
"""Bytes; sun_path holds 108 on Linux and 104 on macOS."""
_SOCKET_NAME = "/.s.PGSQL.5432"


class Account(NamedTuple):
    """The account the servers run under when this process is root, which PostgreSQL refuses to be."""

    name: str
    uid: int
    gid: int

    def options(self) -> dict[str, Any]:
        """The arguments that make subprocess run something under this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True)
class Home:
    """The directories of one set of servers."""

    root: Path
    sockets: Path
    temporary: tuple[Path, ...]
    """Deleted when the servers stop."""
    lock: int
    """Descriptor of the locked file. Whoever holds it last, parent or supervisor, ends the lock."""
    account: Account | None

    def private(self, name: str) -> Path:
        """A directory under root that only the servers' account enters, made when missing."""
        return _private(self.root / name, self.account)

    def fresh(self, name: str) -> Path:
        """The same, empty: what an interrupted run left there is deleted."""
        if (self.root / name).exists():
            shutil.rmtree(self.root / name)
        return self.private(name)


def unprivileged_account() -> Account | None:
    """The account for the servers; None when this process is not root and they run as it does."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise SettingsError("embedded servers cannot run as root, and there is no account 'postgres' or 'nobody'")


def open_home(path: Path | None, account: Account | None, *, in_memory: bool) -> Home:
    """Makes and locks the directories: under `path`, or temporary ones when it is None.

    `in_memory`: temporary ones go to /dev/shm if there is room. Raises SettingsError naming a path that
    cannot serve or that another process holds.
    """
    if path is None:
        base = temporary_base(account, in_memory=in_memory)
        _sweep(base)
        root = _temporary(base, account)
        return Home(root, root, (root,), _acquire(root), account)
    root = Path(path).expanduser().resolve()
    with _errors_name(root):
        _check(root, account)
        lock = _acquire(root)
        try:
            _wait_for_orphans(root)
            shutil.rmtree(root / "run", ignore_errors=True)  # sockets of a killed run
            if _fits_socket(root / "run"):
                return Home(root, _private(root / "run", account), (), lock, account)
            sockets = _temporary(temporary_base(account, in_memory=False), account)
            return Home(root, sockets, (sockets,), lock, account)
        except BaseException:
            os.close(lock)
            raise


def temporary_base(account: Account | None, *, in_memory: bool) -> Path:
    """A directory for temporary files that the account reaches and whose sockets have short names."""
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    if in_memory and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_ROOM:
        candidates.insert(0, _MEMORY)
    for base in candidates:
        if os.access(base, os.W_OK) and _fits_socket(base / f"{_PREFIX}12345678") and _reaches(account, base):
            return base
    who = f"account {account.name!r}" if account else "this process"
    raise SettingsError(
        f"no temporary directory for embedded servers: tried {', '.join(map(str, candidates))}; "
        f"one must be writable, within reach of {who} and short"
    )


def _fits_socket(directory: Path) -> bool:
    # libpq and PostgreSQL read a comma as the end of a path, and valkey splits its arguments itself.
    text = str(directory) + _SOCKET_NAME
    return len(os.fsencode(text)) < _SOCKET_LIMIT and re.fullmatch(r"[\w./+-]+", text, re.ASCII) is not None


def _reaches(account: Account | None, directory: Path) -> bool:
    # Asked of the kernel as that account, since mode bits do not tell of access lists.
    if account is None:
        return os.access(directory, os.X_OK)
    command = ["/bin/sh", "-c", 'cd "$1"', "sh", str(directory)]
    return (
        subprocess.run(
            command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, **account.options()
        ).returncode
        == 0
    )


@contextlib.contextmanager
def _errors_name(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingsError(f"path {str(root)!r} cannot hold embedded servers: {error}") from error


def _check(root: Path, account: Account | None) -> None:
    if root.exists() and not root.is_dir():
        raise SettingsError(f"path {str(root)!r} is not a directory")
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        _private(root, account)
    others = [entry.name for entry in root.iterdir() if entry.name != "lost+found"]
    if others and _LOCK not in others:
        raise SettingsError(
            f"path {str(root)!r} holds other files ({min(others)!r}): embedded servers need an empty "
            f"directory, or one that they made"
        )
    if account is not None and not _reaches(account, root):
        raise SettingsError(
            f"path {str(root)!r} is out of reach of account {account.name!r}, which the servers run under "
            f"because this process is root: choose a path whose parents others may enter"
        )


def _private(directory: Path, account: Account | None) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    return directory


def _temporary(base: Path, account: Account | None) -> Path:
    return _private(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base)), account)


def _acquire(root: Path) -> int:
    """Locks the directory.

    A killed owner's lock lasts until its supervisor has stopped the servers, so that one is waited for.
    """
    lock = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + _HANDOVER
    try:
        while not _try_lock(lock):
            owner = _read_pid(os.pread(lock, 32, 0))
            if _alive(owner) or time.monotonic() > deadline:
                whose = "this process" if owner == os.getpid() else f"another process (pid {owner})"
                raise SettingsError(f"path {str(root)!r} is in use: {whose} holds it")
            time.sleep(0.02)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(text: bytes) -> int:
    """The number on the first line, 0 when there is none."""
    first = text.split(b"\n", 1)[0].strip()
    return int(first) if first.isdigit() else 0


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A killed process that nobody has waited for is dead too.
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # no /proc on this system, or it ended just now
        return True
    return state != "Z"


def _wait_for_orphans(root: Path) -> None:
    """Waits until no server of a killed run is left under `root`, then clears the trace it left.

    Both servers work in their data directory, so /proc tells. PostgreSQL itself only asks whether the pid in
    postmaster.pid is alive, and after a reboot or in a container that number may belong to somebody else.
    """
    if not Path("/proc/self/cwd").exists():
        return
    used = {str(root / "postgres"), str(root / "redis")}
    deadline = time.monotonic() + _HANDOVER
    while pids := [pid for pid, cwd in _working_directories() if cwd in used]:
        if time.monotonic() > deadline:
            raise SettingsError(
                f"path {str(root)!r} is in use: servers of an earlier run are there, pids {pids}; stop them"
            )
        time.sleep(0.02)
    pid_file = root / "postgres" / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError):  # a clean stop removed it
        if _alive(_read_pid(pid_file.read_bytes())):
            pid_file.unlink()


def _working_directories() -> Iterator[tuple[int, str]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended, or is not ours to see
                yield int(entry.name), str(Path(entry.path, "cwd").readlink())


def _sweep(base: Path) -> None:
    """Deletes temporary directories whose supervisor was killed too, as when a whole container is."""
    for directory in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # not ours to read, or another sweep was faster
            status = directory.lstat()
            # A minute's grace: a directory exists for an instant before its lock does.
            if not stat.S_ISDIR(status.st_mode) or time.time() - status.st_mtime < 60:
                continue
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if _try_lock(lock):
                    shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(lock)
