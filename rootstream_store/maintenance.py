"""What has to be done from time to time, by a timer: partitions ahead, retention, expired sessions, old
invalidations."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from rootstream_store import flow
from rootstream_store._limit import check_limit
from rootstream_store.db import Db, repository
from rootstream_store.flow import Flow, one
from rootstream_store.queries import query
from rootstream_store.repositories import sessions

__all__ = ["MaintenanceReport", "run"]

_CREATE_USAGE_PARTITIONS = query("maintenance/create_usage_partitions", int)
_DROP_USAGE_PARTITIONS = query("maintenance/drop_usage_partitions", int)
_DELETE_OUTDATED_INVALIDATIONS = query("cache/delete_outdated_invalidations")

# 100 years. PostgreSQL plans queries over so many partitions well enough, but nobody means more.
_MAX_MONTHS = 1200
_OLDEST_INVALIDATION = timedelta(days=2)
"""No answer stays cached for so long, so nothing is left to be removed for it."""
_BATCH = 10_000


class MaintenanceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did."""

    usage_partitions_created: int
    usage_partitions_dropped: int
    """0 where all usage is kept."""
    sessions_deleted: int
    """Expired login sessions."""
    invalidations_deleted: int
    """Of the cache, so old that nothing can be cached any more that they are for: nobody with a Redis was
    there to take them."""


@repository
def run(db: Db, *, months_ahead: int = 3, keep_usage_months: int | None = None) -> MaintenanceReport:
    """Makes the usage partitions of the current month and of `months_ahead` more (1 to 1200, UTC), drops old
    usage, and deletes expired sessions and outdated invalidations of the cache. To be run daily; several at
    once do no harm.

    `keep_usage_months`: how many full months before the current one stay, 1 to 1200; older usage is lost.
    None: all of it stays. On a Store each partition is committed by itself, so that nobody waits for long;
    in a transaction logins wait until it ends. Raises Timeout, retryable, when a table stays locked for
    `lock_timeout`, or 2 seconds where that is 0; what was done before stays.
    """
    check_limit(months_ahead, "months_ahead", _MAX_MONTHS)
    if keep_usage_months is not None:
        check_limit(keep_usage_months, "keep_usage_months", _MAX_MONTHS)
    return db.flow(_run(months_ahead, keep_usage_months))


def _run(months_ahead: int, keep_usage_months: int | None) -> Flow[MaintenanceReport]:
    created = dropped = 0
    for months in range(months_ahead + 1):
        created += yield from one(_CREATE_USAGE_PARTITIONS, months=months)
    if keep_usage_months is not None:
        while (yield from one(_DROP_USAGE_PARTITIONS, months=keep_usage_months)):
            dropped += 1
    deleted: int = yield lambda db: sessions.delete_expired(db)
    outdated = 0
    while gone := (
        yield from flow.run(_DELETE_OUTDATED_INVALIDATIONS, age=_OLDEST_INVALIDATION, batch=_BATCH)
    ):
        outdated += gone
    return MaintenanceReport(
        usage_partitions_created=created,
        usage_partitions_dropped=dropped,
        sessions_deleted=deleted,
        invalidations_deleted=outdated,
    )
