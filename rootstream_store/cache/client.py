"""The plain redis-py client behind `store.redis`, with every wait bounded.

redis-py's own defaults hang for 59 s on a frozen server: eleven attempts of 5 s each. Nothing is repeated
here, since a lost reply followed by a retry counts an INCR twice. A pooled connection that the server has
closed meanwhile (a restart) is noticed when it is taken from the pool and replaced, so that a restart is not
seen as an error.
"""

from __future__ import annotations

import re
from queue import Empty, Full
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from rootstream_store.errors import PermissionDenied, RootStreamError, SettingsError, Timeout, Unavailable
from rootstream_store.settings import Settings

__all__ = ["Pool", "connect", "describe_error", "safe_url", "to_error"]

_HEALTH_CHECK_INTERVAL = 30
"""A connection unused for this many seconds is proved by a PING first: a dropped network path then costs the
PING and not a command that might have been applied."""


class Pool(redis.BlockingConnectionPool):
    """redis-py's blocking pool: most recently used connection first, waits for a free one, closes idle ones
    safely."""

    def close_idle(self) -> None:
        """Close the connections that nobody uses. Those in use go on; they are closed by the next call of
        this.

        redis-py's `disconnect()` closes sockets under the hands of other threads, which then fail with
        AttributeError; here each connection is first taken out of the pool.
        """
        taken = []
        while True:
            try:
                connection = self.pool.get_nowait()
            except Empty:
                break
            if connection is not None:
                connection.disconnect()
            taken.append(connection)
        for connection in taken:
            try:
                self.pool.put_nowait(connection)
            except Full:  # pragma: no cover - only when the pool was reset by a fork meanwhile
                break


def connect(settings: Settings) -> redis.Redis:
    """A redis-py client for `settings.redis_url`. Connects on first use, not here.

    Answers are bytes (`decode_responses=False`); RESP3, so the server must be Redis 6 or Valkey. Every reply,
    every connection attempt and every wait for a free connection lasts at most `settings.redis_timeout`.
    Blocking commands (BLPOP, XREAD BLOCK) that wait longer need a client of their own. The client raises
    redis-py's errors.

    Raises SettingsError, which names the setting and never shows the password.
    """
    url = settings.redis_url
    if url is None:
        raise SettingsError("redis_url is missing: pass it or set REDIS_URL")
    if settings.redis_pool_size < 1:
        raise SettingsError(f"redis_pool_size must be at least 1, not {settings.redis_pool_size}")
    _check_url(url)
    try:
        pool = Pool.from_url(
            url,
            max_connections=settings.redis_pool_size,
            timeout=settings.redis_timeout,
            socket_timeout=settings.redis_timeout,
            socket_connect_timeout=settings.redis_timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=3,
            decode_responses=False,
            health_check_interval=_HEALTH_CHECK_INTERVAL,
            client_name=_client_name(settings.application_name),
            # Two round trips fewer on each new connection.
            driver_info=None,
            # Its "auto" costs a round trip a connection and relaxes the timeouts to 10 s when the server says
            # so.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        # redis-py looks at most options only when it connects. Building one connection checks them now.
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, redis.RedisError):
        # The cause is dropped: its text may hold a part of the URL, password included.
        raise SettingsError(
            f"redis_url has an option that cannot work: {safe_url(url)} (redis-py's from_url lists them)"
        ) from None
    return redis.Redis(connection_pool=pool)


def safe_url(url: str) -> str:
    """The URL fit for logs and errors, with no password in it, also where the URL is malformed."""
    # Up to the last @: an unescaped / ? # or @ in a password makes urllib see the rest of it as a path.
    text = re.sub(r"://(?:([^/?#@:]*)(:))?.*@", _mask_userinfo, url, flags=re.DOTALL)
    # The scheme or its slashes were forgotten.
    text = re.sub(r"\A(/*[^/?#@:]*):(?!//).*@", r"\1:***@", text, flags=re.DOTALL)
    return re.sub(r"(password=)[^&#]*", r"\1***", text, flags=re.IGNORECASE)


def describe_error(error: BaseException, url: str | None = None) -> str:
    """One line about a failure, fit for logs: no password, no key and no value.

    A connection error is told in full. Of an error reply only the class and the code: the rest may quote
    arguments.
    """
    name = type(error).__name__
    if isinstance(error, redis.ResponseError):
        code = re.match(r"[A-Z]+(?=\s|$)", str(error))
        return f"{name} {code.group()}" if code else name
    text = " ".join(str(error).split())
    for secret in _passwords(url):
        text = text.replace(secret, "***")
    return f"{name}: {text}" if text else name


def to_error(error: redis.RedisError, doing: str, url: str | None) -> RootStreamError:
    """Our error for a redis-py one. `doing` says what was tried ("subscribing to Redis")."""
    what = f"{doing} failed: {describe_error(error, url)}"
    if isinstance(error, redis.AuthenticationError):
        return SettingsError(f"redis_url: {what}; check the user and the password")
    if isinstance(error, redis.exceptions.NoPermissionError):
        return PermissionDenied(what)
    if isinstance(error, redis.TimeoutError):
        return Timeout(what)
    return Unavailable(what)


def _check_url(url: str) -> None:
    shown = safe_url(url)
    try:
        parts = urlsplit(url)
        scheme, path, _port = parts.scheme, unquote(parts.path), parts.port
    except ValueError:
        raise SettingsError(
            f"redis_url is not a URL: {shown}; a / ? # or @ in a password must be percent-encoded"
        ) from None
    if scheme not in ("redis", "rediss", "unix"):
        raise SettingsError(f"redis_url must begin with redis://, rediss:// or unix://, not {shown}")
    if scheme == "unix" and not path:
        raise SettingsError(f"redis_url has no socket path: {shown}")
    # redis-py takes database 0 for a path that is not a number: someone else's data.
    if scheme != "unix" and not re.fullmatch(r"/?|/[0-9]+", path):
        raise SettingsError(f"redis_url has a path that is not a database number: {shown}")


def _passwords(url: str | None) -> list[str]:
    if url is None:
        return []
    found = re.findall(r"://[^/?#@:]*:(.*)@", url, flags=re.DOTALL) + re.findall(r"password=([^&#]*)", url)
    return [text for raw in found for text in {raw, unquote(raw)} if text]


def _mask_userinfo(match: re.Match[str]) -> str:
    # Without a colon it is a user, but also a password that someone forgot the colon for: hidden.
    return f"://{match.group(1)}:***@" if match.group(2) else "://***@"


def _client_name(application_name: str) -> str | None:
    # CLIENT SETNAME refuses spaces and everything outside printable ASCII.
    return re.sub(r"[^!-~]+", "-", application_name) or None


def pool_of(client: redis.Redis) -> Pool:
    """The pool of a client made by `connect`."""
    return cast("Pool", client.connection_pool)


def connection_options(client: redis.Redis) -> dict[str, Any]:
    """The options of the client's connections, for a connection outside its pool."""
    return dict(client.connection_pool.connection_kwargs)
