"""What redis-py raises, told without secrets and as errors of ours."""

from __future__ import annotations

import re

import redis

from rootstream_store.cache._url import passwords
from rootstream_store.errors import PermissionDenied, RootStreamError, SettingsError, Timeout, Unavailable

__all__ = ["describe_error", "to_error"]


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
    for secret in passwords(url):
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
