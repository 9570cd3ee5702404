"""Archiving the old events of closed aggregates: packed into segments, read as before.

A segment holds up to a thousand events of one aggregate, compressed, in one row of event_segments. Every read
of this package finds archived events by itself; only the room that they take changes. Who archives is the
owner of the tables: the application's role may not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from rootstream_store._limit import check_limit
from rootstream_store.db import Db, repository
from rootstream_store.events._horizon import find_horizon
from rootstream_store.events._keys import LAST
from rootstream_store.flow import Flow, compute, one, rows
from rootstream_store.queries import query
from rootstream_store.records import ArchiveReport

__all__ = ["archive"]


class _Key(msgspec.Struct, frozen=True):
    aggregate_id: str
    aggregate_type: str


_LIST_ARCHIVABLE = query("events/list_archivable", _Key)
_ARCHIVE = query("events/archive", ArchiveReport)
_COUNT = query("events/count_events", int)

_AT_A_TIME = 100
"""Aggregates of one statement, which is one transaction on a Store."""


@repository
def archive(
    db: Db,
    *,
    before: datetime,
    aggregate_type: str | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    on_progress: Callable[[ArchiveReport], object] | None = None,
) -> ArchiveReport:
    """Archives the events of closed aggregates whose last event is older than `before`, each aggregate whole.

    `aggregate_type`: only of this type; None: of all. `limit`: the most aggregates, from 1; None: all there
    are. `dry_run`: only counts. `on_progress` is called after every 100 aggregates with what was done so far.

    On a Store each hundred is committed by itself; what was done before an error stays. Aggregates that are
    being changed are left for the next time, and so are events beyond the horizon. Subscriptions may be
    behind: they read archived events, too. An `event_id` is recognised as a repeat only while its event is
    not archived.

    Raises PermissionDenied for a role that is not the owner of the tables, Unavailable on a standby, Conflict
    in a transaction that is repeatable read or serializable.
    """
    if limit is not None:
        check_limit(limit, "limit", LAST)
    return db.flow(_archive(before, aggregate_type, LAST if limit is None else limit, dry_run, on_progress))


def _archive(
    before: datetime,
    aggregate_type: str | None,
    limit: int,
    dry_run: bool,
    on_progress: Callable[[ArchiveReport], object] | None,
) -> Flow[ArchiveReport]:
    bounds: dict[str, object] = {"before": before, "to_position": (yield from find_horizon()).position}
    total = ArchiveReport(aggregates=0, events=0, segments=0, bytes_before=0, bytes_after=0)
    after = _Key("", "")
    seen = 0
    while seen < limit:
        found = yield from rows(
            _LIST_ARCHIVABLE,
            **bounds,
            after_type=after.aggregate_type,
            after_id=after.aggregate_id,
            aggregate_type=aggregate_type,
            limit=min(_AT_A_TIME, limit - seen),
        )
        if not found:
            break
        keys = {
            "aggregate_ids": [key.aggregate_id for key in found],
            "aggregate_types": [key.aggregate_type for key in found],
        }
        if dry_run:
            count = yield from one(_COUNT, **keys)
            part = ArchiveReport(
                aggregates=len(found), events=count, segments=0, bytes_before=0, bytes_after=0
            )
        else:
            part = yield from one(_ARCHIVE, **keys, **bounds)
        total = _sum(total, part)
        seen += part.aggregates
        after = found[-1]
        if on_progress is not None:
            yield from compute(on_progress, total)
    return total


def _sum(one: ArchiveReport, other: ArchiveReport) -> ArchiveReport:
    return ArchiveReport(
        **{name: getattr(one, name) + getattr(other, name) for name in ArchiveReport.__struct_fields__}
    )
