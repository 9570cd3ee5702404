"""Opening, closing and health, as capi/store.c calls them."""

from __future__ import annotations

from typing import Any

import msgspec

from rootstream_store.capi._entry import to_json
from rootstream_store.errors import SettingsError
from rootstream_store.settings import Settings
from rootstream_store.store import Store

__all__ = ["close_store", "get_health", "get_health_json", "noop", "open_embedded", "open_store"]

_OFF = -1  # RSS_OFF


class _Health(msgspec.Struct, frozen=True):
    """The fields of rss_health."""

    status: int
    postgres_reachable: bool
    redis_enabled: bool
    redis_reachable: bool
    postgres_latency_ms: float | None
    pool_size: int
    pool_in_use: int
    pool_waiting: int
    migrations_pending: int
    reasons: str


def open_store(database_url: str | None, redis_url: str | None, **options: Any) -> Store:
    """Store.open with the fields of rss_options. `redis_url`: "": no Redis, whatever REDIS_URL says."""
    values = {"database_url": database_url, "redis_url": redis_url or None, **_settings(**options)}
    settings = Settings.create(**values)
    if redis_url == "":
        settings = msgspec.structs.replace(settings, redis_url=None)
    return Store(settings)


def open_embedded(path: str | None, **options: Any) -> Store:
    """Store.embedded with the fields of rss_options."""
    return Store.embedded(path, **_settings(**options))


def close_store(store: Store, timeout_ms: int) -> None:
    """Closes it; waits so long, at most 5 s, for the pool's own threads."""
    store.close(timeout=5.0 if timeout_ms < 0 else min(5.0, timeout_ms / 1000))


def noop(store: Store) -> None:
    """Nothing: for measuring what the way here costs."""


def get_health(store: Store) -> _Health:
    """As Store.health, in the fields of rss_health."""
    health = store.health()
    return _Health(
        status=("ok", "degraded", "down").index(health.status),
        postgres_reachable=health.postgres.reachable,
        redis_enabled=health.redis.enabled,
        redis_reachable=bool(health.redis.reachable),
        postgres_latency_ms=health.postgres.latency_ms,
        pool_size=health.pool.size,
        pool_in_use=health.pool.in_use,
        pool_waiting=health.pool.waiting,
        migrations_pending=len(health.migrations.pending),
        reasons="\n".join(health.reasons),
    )


def get_health_json(store: Store) -> bytes:
    """As Store.health."""
    return to_json(store.health())


def _settings(
    *, application_name: str | None, pgbouncer: bool, settings_json: bytes | None, **numbers: int
) -> dict[str, Any]:
    settings: dict[str, Any] = {"application_name": application_name, "pgbouncer": pgbouncer or None}
    for name, value in numbers.items():
        if not value:
            continue
        number = 0 if value == _OFF else value
        if name.endswith("_ms"):
            settings[name.removesuffix("_ms")] = number / 1000
        else:
            settings[name] = number
    if settings_json is not None:
        settings |= _more(settings_json)
    return settings


def _more(settings_json: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(settings_json, type=dict[str, Any])
    except msgspec.DecodeError:
        # Not the reason: it may quote a password.
        raise SettingsError("settings_json must be a JSON object") from None
