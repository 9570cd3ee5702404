"""The settings of a store, with the reason for each default. One place, checked when they are made."""

from __future__ import annotations

import math
import os
import re
from typing import Any

import msgspec

from rootstream_store.errors import SettingsError

__all__ = ["Settings", "redact"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a store reaches its servers. All times in seconds.

    The defaults bound the waits: libpq's own leave a thread blocked for more than 40 s on a silent network,
    and for ever on a server that is frozen while its kernel still acknowledges; redis-py's for 59 s.

    Raises SettingsError, naming the setting, for a value that cannot work.
    """

    database_url: str
    """PostgreSQL connection string (URL or key=value form, libpq manual "Connection Strings")."""
    redis_url: str | None = None
    """redis://, rediss:// or unix:// URL of a server, redis+sentinel:// of sentinels, redis+cluster:// URL
    of a cluster. None: no Redis, every answer comes from PostgreSQL."""
    application_name: str = "rootstream_store"
    """Shown in pg_stat_activity, and names the pool in errors."""

    pool_min_size: int = 1
    """Connections kept open when idle."""
    pool_size: int = 8
    """Most connections this process opens."""
    pool_timeout: float = 5.0
    """Longest wait for a free connection before Timeout."""
    pool_max_idle: float = 300.0
    """Connections above pool_min_size close after this long unused."""
    pool_check_after: float = 1.0
    """A connection unused for longer is checked before it is handed out; checking each time costs 5x as
    much."""

    connect_timeout: int = 2
    """Longest attempt to reach one server address (libpq's own default is no limit)."""
    statement_timeout: float = 30.0
    """The server cancels a longer statement. 0: no limit."""
    answer_timeout: float | None = None
    """Longest wait for the answer to one statement, for a server that is frozen and cancels nothing; this
    side then closes the connection and raises Timeout, or Unavailable where a write may have been applied.
    None: 5 s more than the statement_timeout that the session has, also by SET LOCAL or the URL's options; no
    limit where it has none. A number: so long, whatever the session has. 0: no limit."""
    lock_timeout: float = 0.0
    """The server cancels a statement that waits longer for a lock. 0: only statement_timeout bounds it."""
    idle_in_transaction_timeout: float = 60.0
    """The server ends a session that leaves a transaction open and idle for longer. 0: no limit."""
    tcp_user_timeout: float = 5.0
    """A sent request that the network has not acknowledged for this long fails (Linux)."""
    keepalives_idle: int = 5
    """Seconds of silence before the first TCP keepalive; two more follow 2 s apart, the third missing one
    fails."""
    pgbouncer: bool = False
    """True behind PgBouncer in transaction pooling: nothing is prepared and no startup option is sent."""
    retry_deadline: float = 5.0
    """How long `Store.transact` and single statements go on trying after a failure that a retry can help and
    that applied nothing. 0: never."""

    redis_timeout: float = 0.25
    """Longest wait for one Redis reply or connection."""
    redis_pool_size: int = 64
    """Most Redis connections this process opens."""
    redis_retry_after: float = 1.0
    """After a Redis failure no call waits for it again until this long has passed, but for the removal of a
    cached answer after a write."""

    live_kept_messages: int = 100_000
    """Live messages that Redis keeps for subscribers that come back, about."""
    live_kept_seconds: float = 86_400.0
    """No live message is kept for much longer than this. 0: no limit."""
    near_cache_entries: int = 0
    """Most cached answers kept in this process, in front of Redis. 0: none, since with them a change that
    another process makes is seen a moment later: as a rule 0.2 ms, at most 1 s when the network is dead."""
    near_cache_bytes: int = 32 * 2**20
    """Most bytes of them, as long as they are in Redis. 0: none."""
    near_cache_sessions: bool = False
    """Whether login sessions are kept there too. False: a session that another process revokes is refused
    from that moment on, with no exception for a dead network."""

    @classmethod
    def create(cls, **values: Any) -> Settings:
        """Settings from keyword arguments, checked; database_url and redis_url come from the environment
        variables DATABASE_URL and REDIS_URL when not given. Raises SettingsError naming the setting."""
        values = {name: value for name, value in values.items() if value is not None}
        unknown = sorted(set(values) - set(cls.__struct_fields__))
        if unknown:
            raise SettingsError(
                f"unknown setting {unknown[0]!r}; there are: {', '.join(cls.__struct_fields__)}"
            )
        values.setdefault("database_url", os.environ.get("DATABASE_URL") or None)
        values.setdefault("redis_url", os.environ.get("REDIS_URL") or None)
        if values["database_url"] is None:
            raise SettingsError("database_url is missing: pass it or set DATABASE_URL")
        return cls(**values)

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            value = _of_type(field.name, getattr(self, field.name), field.type)
            if isinstance(value, str):
                _check_text(field.name, value)
            msgspec.structs.force_setattr(self, field.name, value)
        if self.pool_size < 1:
            raise SettingsError(f"pool_size must be at least 1, not {self.pool_size}")
        if not 0 <= self.pool_min_size <= self.pool_size:
            raise SettingsError(
                f"pool_min_size must be between 0 and pool_size ({self.pool_size}), not {self.pool_min_size}"
            )
        if self.redis_pool_size < 1:
            raise SettingsError(f"redis_pool_size must be at least 1, not {self.redis_pool_size}")
        if not 1 <= self.live_kept_messages <= 2**31:
            raise SettingsError(f"live_kept_messages must be from 1 to 2^31, not {self.live_kept_messages}")
        for name in ("near_cache_entries", "near_cache_bytes"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} must not be negative, not {getattr(self, name)}")
        for names, zero in ((_BOUNDS, False), (_TIMES, True)):
            for name in names:
                _check_seconds(name, getattr(self, name), zero=zero)
        if self.answer_timeout is not None:
            _check_seconds("answer_timeout", self.answer_timeout, zero=True)
            if 0 < self.answer_timeout <= self.statement_timeout and not self.pgbouncer:
                raise SettingsError(
                    f"answer_timeout must be longer than statement_timeout ({self.statement_timeout} s), not "
                    f"{self.answer_timeout}: the server would still be at work"
                )

    def __repr__(self) -> str:
        return (
            f"Settings(database_url={redact(self.database_url)!r}, "
            f"redis_url={redact(self.redis_url) if self.redis_url else None!r}, pool_size={self.pool_size})"
        )

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # rich asks msgspec's own otherwise, which shows the passwords.
        return [
            ("database_url", redact(self.database_url)),
            ("redis_url", redact(self.redis_url) if self.redis_url else None),
            ("pool_size", self.pool_size),
        ]


# A wait needs a bound: 0 would not wait at all, or for ever.
_BOUNDS = ("pool_timeout", "pool_max_idle", "connect_timeout", "keepalives_idle", "redis_timeout")
_TIMES = (
    "pool_check_after",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_timeout",
    "tcp_user_timeout",
    "retry_deadline",
    "redis_retry_after",
    "live_kept_seconds",
)
# PostgreSQL and libpq keep times as 32-bit integers of milliseconds.
_LONGEST = (2**31 - 1) // 1000


def _of_type(name: str, value: object, wanted: Any) -> object:
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        # msgspec's text names the types, never the value.
        reason = str(error)
        raise SettingsError(f"{name}: {reason[:1].lower()}{reason[1:]}") from None


def _check_text(name: str, value: str) -> None:
    if "\0" in value:
        raise SettingsError(f"{name} must not contain NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        # Python puts bytes of an environment variable that are no UTF-8 into a string in this way. The error
        # would show all of the value.
        raise SettingsError(f"{name} has a character that cannot be written as UTF-8") from None


def _check_seconds(name: str, value: float, *, zero: bool) -> None:
    if not math.isfinite(value):
        raise SettingsError(f"{name} must be a finite number of seconds, not {value}")
    if value < 0:
        raise SettingsError(f"{name} must not be negative, not {value}")
    if value == 0 and not zero:
        raise SettingsError(f"{name} must be above 0 s, not {value}: a wait needs a bound")
    if value > _LONGEST:
        raise SettingsError(f"{name} must be at most {_LONGEST} s, not {value}")


_URL_USERINFO = re.compile(r"(\w+://)([^/?#@:\s]*)(:)?.*@", re.DOTALL)
# A URL whose scheme or slashes were forgotten; "FATAL: …" at the start of a message is none.
_BARE_USERINFO = re.compile(r"\A(/*[^/?#@:\s=']*):(?!//)(?=\S).*@", re.DOTALL)
_URL_PASSWORD = re.compile(r"([?&]\w*password=)[^&#\s]*", re.IGNORECASE)
_PAIR_PASSWORD = re.compile(
    r"(?<![?&\w])(\w*password\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:\\.|[^\s\\])+)", re.IGNORECASE | re.DOTALL
)


def redact(text: str) -> str:
    """A connection string, or a message about one, fit for logs: each password in it is replaced by ***.

    In URL and in key=value form, also where the string is malformed: what could be a password is hidden."""
    # Up to the last @: an unescaped / ? # or @ in a password would make a URL parser see the rest as a path.
    text = _URL_USERINFO.sub(_mask_userinfo, text)
    text = _BARE_USERINFO.sub(r"\1:***@", text)
    text = _URL_PASSWORD.sub(r"\1***", text)
    return _PAIR_PASSWORD.sub(r"\1***", text)


def _mask_userinfo(match: re.Match[str]) -> str:
    scheme, user, colon = match.groups()
    if colon:
        return f"{scheme}{user}:***@"
    # No colon: all of it is a user, unless a strange character says that it was meant to be more.
    whole = match.group()
    return whole if whole == f"{scheme}{user}@" else f"{scheme}***@"
