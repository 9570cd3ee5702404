"""The command lines of the embedded servers, as the supervisor takes them."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rootstream_store.embedded._binaries import Postgres
from rootstream_store.embedded._directory import Home
from rootstream_store.errors import SettingsError

__all__ = ["can_be_argument", "check_settings", "postgres_server", "redis_server"]

_OURS = {"data_directory", "listen_addresses", "port", "unix_socket_directories", "logging_collector"}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def check_settings(settings: object) -> None:
    """Raises SettingsError for a server setting that cannot be given. PostgreSQL itself judges the rest."""
    if not isinstance(settings, Mapping):
        raise SettingsError(f"settings must be a mapping of names to values, not {type(settings).__name__}")
    for name, value in settings.items():
        if not isinstance(name, str):
            raise SettingsError(f"{name!r} is not the name of a PostgreSQL setting")
        if not isinstance(value, str):
            raise SettingsError(
                f"PostgreSQL setting {name!r} must be given as text, not {type(value).__name__}"
            )
        if not can_be_argument(value):
            raise SettingsError(f"PostgreSQL setting {name!r} has a value that no program can be given")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name):
            raise SettingsError(f"{name!r} is not the name of a PostgreSQL setting")
        if name.lower() in _OURS:
            raise SettingsError(
                f"PostgreSQL setting {name!r} cannot be given: the embedded server depends on it"
            )


def postgres_server(
    home: Home, programs: Postgres, settings: Mapping[str, str], *, durable: bool, temporary: bool
) -> dict[str, Any]:
    """The supervisor's description of PostgreSQL; its cluster is made when there is none yet."""
    data = home.root / "postgres"
    prepare: list[str] | None = None
    prepared: list[str] = []
    if not data.exists():
        # Under another name until it is whole: a killed initdb leaves nothing that looks like a cluster.
        fresh = home.fresh("postgres.new")
        prepare = _initdb(programs, fresh, sync=durable and not temporary)
        prepared = [str(fresh), str(data)]
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(home.sockets),
        "unix_socket_permissions": "0700",
        "port": "5432",
        "logging_collector": "off",
        # The log is shown in errors: no statements and no rows, which may carry secrets.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "timezone": "UTC",
        "log_timezone": "UTC",
        **({} if durable else _NOT_DURABLE),
        **settings,
    }
    command = [str(programs.server), "-D", str(data)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    # Fast shutdown; at once where the data go anyway.
    fast = [] if temporary else [(int(signal.SIGINT), 60.0)]
    return {
        "name": "PostgreSQL",
        "prepare": prepare,
        "prepared": prepared,
        "command": command,
        "log": str(home.root / "postgres.log"),
        "probe": "postgres",
        "probe_path": str(data / "postmaster.pid"),
        "stop": [*fast, (int(signal.SIGQUIT), 10.0)],
        **_account(home),
    }


def redis_server(home: Home, program: Path, *, temporary: bool) -> dict[str, Any]:
    """The supervisor's description of Valkey. Its data survive a stop where the home is not temporary."""
    socket = home.sockets / "redis.sock"
    command = [str(program), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
    command += ["--dir", str(home.private("redis")), "--daemonize", "no", "--logfile", ""]
    command += ["--appendonly", "no", "--save", "" if temporary else "3600 1 300 100 60 10000"]
    return {
        "name": "Valkey",
        "prepare": None,
        "prepared": [],
        "command": command,
        "log": str(home.root / "redis.log"),
        "probe": "redis",
        "probe_path": str(socket),
        "stop": [(int(signal.SIGTERM), 30.0)],
        **_account(home),
    }


def can_be_argument(text: str | os.PathLike[str]) -> bool:
    """Whether the system can take this as a path or as an argument of a program."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _initdb(programs: Postgres, data: Path, *, sync: bool) -> list[str]:
    command = [str(programs.initdb), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8"]
    command += [] if sync else ["--no-sync"]
    # C.UTF-8 knows the cases of all letters on every machine; PostgreSQL has one of its own since 17.
    if programs.version >= 17:
        return [*command, "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    return [*command, "--locale=C.UTF-8"]


def _account(home: Home) -> dict[str, int | None]:
    account = home.account
    return {"uid": account.uid if account else None, "gid": account.gid if account else None}
