"""What a `redis_url` says: one server, a primary that sentinels know, or a cluster. And how it is shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
import redis
from redis.connection import parse_url

from rootstream_store.cache._connections import Address
from rootstream_store.errors import SettingsError

__all__ = ["Target", "parse", "passwords", "safe_url"]

_SCHEMES = {
    "redis": ("one", "redis"),
    "rediss": ("one", "rediss"),
    "unix": ("one", "unix"),
    "redis+sentinel": ("sentinel", "redis"),
    "rediss+sentinel": ("sentinel", "rediss"),
    "redis+cluster": ("cluster", "redis"),
    "rediss+cluster": ("cluster", "rediss"),
}
_PORTS = {"one": 6379, "sentinel": 26379, "cluster": 6379}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A checked `redis_url`."""

    kind: Literal["one", "sentinel", "cluster"]
    scheme: str
    """redis, rediss or unix: how a server is spoken to."""
    plain_url: str
    """What redis-py's `from_url` would take for one server; for the others without a host."""
    nodes: tuple[Address, ...] = ()
    """The sentinels, or some nodes of the cluster."""
    service: str = ""
    """The name by which the sentinels know the primary."""
    options: dict[str, Any] = {}
    """Options of the connections to the servers, by redis-py's names."""
    sentinel_options: dict[str, Any] = {}
    """Those to the sentinels."""


def parse(url: str) -> Target:
    """What the URL says. Raises SettingsError, which does not show a password."""
    shown = safe_url(url)
    try:
        parts = urlsplit(url)
        path = unquote(parts.path)
        if "," not in parts.netloc:
            _ = parts.port
    except ValueError:
        raise SettingsError(
            f"redis_url is not a URL: {shown}; a / ? # or @ in a password must be percent-encoded"
        ) from None
    if parts.scheme not in _SCHEMES:
        raise SettingsError(
            "redis_url must begin with redis://, rediss:// or unix://, or with redis+sentinel:// or "
            f"redis+cluster:// (rediss+ for TLS), not {shown}"
        )
    kind, scheme = _SCHEMES[parts.scheme]
    if scheme == "unix" and not path:
        raise SettingsError(f"redis_url has no socket path: {shown}")
    if kind == "one":
        # redis-py takes database 0 for a path that is not a number: someone else's data.
        if scheme != "unix" and not re.fullmatch(r"/?|/[0-9]+", path):
            raise SettingsError(f"redis_url has a path that is not a database number: {shown}")
        _check_host(parts.hostname or "", shown)
        return Target(kind="one", scheme=scheme, plain_url=url)
    return _parse_several(parts, kind, scheme, path, shown)


def _parse_several(parts: SplitResult, kind: str, scheme: str, path: str, shown: str) -> Target:
    user, _, hosts = parts.netloc.rpartition("@")
    nodes = tuple(_address(host, _PORTS[kind], shown) for host in hosts.split(","))
    service, database = "", ""
    if kind == "sentinel":
        found = re.fullmatch(r"/([^/]+)(?:/([0-9]+)?)?", path)
        if not found:
            raise SettingsError(
                "redis_url must name the service after the sentinels, and after it at most a database number "
                f"(redis+sentinel://host:26379/service/0), not {shown}"
            )
        service, database = found[1], found[2] or ""
    elif not re.fullmatch(r"/?|/0", path):
        raise SettingsError(f"redis_url has a path, but a cluster has one database only: {shown}")
    at = f"{user}@" if user else ""
    query = f"?{parts.query}" if parts.query else ""
    plain = f"{scheme}://{at}/{database}{query}"
    parse: Callable[[str], dict[str, Any]] = parse_url
    try:
        options = parse(plain)
    except (ValueError, TypeError, redis.RedisError):
        raise SettingsError(f"redis_url has an option that cannot work: {shown}") from None
    options.pop("connection_class", None)
    if kind == "cluster" and options.pop("db", 0):
        raise SettingsError(f"redis_url has a database number, but a cluster has one database only: {shown}")
    sentinel_options = {
        name: options.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in options
    }
    sentinel_options |= {name: value for name, value in options.items() if name.startswith("ssl_")}
    return Target(
        kind="sentinel" if kind == "sentinel" else "cluster",
        scheme=scheme,
        plain_url=plain,
        nodes=nodes,
        service=service,
        options=options,
        sentinel_options=sentinel_options,
    )


def _address(text: str, port: int, shown: str) -> Address:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?", unquote(text))
    if not found or not 0 < int(found[2] or port) < 65536:
        raise SettingsError(f"redis_url must list host:port, separated by commas, not {shown}")
    _check_host(found[1], shown)
    return found[1].strip("[]"), int(found[2] or port)


def _check_host(host: str, shown: str) -> None:
    try:
        host.encode("idna")
    except UnicodeError:  # the socket would raise it at every call
        raise SettingsError(f"redis_url has a host that can be no name: {shown}") from None


def safe_url(url: str) -> str:
    """The URL fit for logs and errors, with no password in it, also where the URL is malformed."""
    # Up to the last @: an unescaped / ? # or @ in a password makes urllib see the rest of it as a path.
    text = re.sub(r"://(?:([^/?#@:]*)(:))?.*@", _mask_userinfo, url, flags=re.DOTALL)
    # The scheme or its slashes were forgotten.
    text = re.sub(r"\A(/*[^/?#@:]*):(?!//).*@", r"\1:***@", text, flags=re.DOTALL)
    return re.sub(r"(password=)[^&#]*", r"\1***", text, flags=re.IGNORECASE)


def passwords(url: str | None) -> list[str]:
    """The passwords in the URL, as they are written there and as they are meant."""
    if url is None:
        return []
    found = re.findall(r"://[^/?#@:]*:(.*)@", url, flags=re.DOTALL) + re.findall(
        r"password=([^&#]*)", url, flags=re.IGNORECASE
    )
    return [text for raw in found for text in {raw, unquote(raw)} if text]


def _mask_userinfo(match: re.Match[str]) -> str:
    # Without a colon it is a user, but also a password that someone forgot the colon for: hidden.
    return f"://{match.group(1)}:***@" if match.group(2) else "://***@"
