"""Dead letters of native code: events that it has queued and that the log cannot take, kept until somebody
decides."""

from __future__ import annotations

from rootstream_store._limit import check_limit
from rootstream_store.db import Db, repository
from rootstream_store.queries import query
from rootstream_store.records import RejectedEvent

__all__ = ["discard_rejected", "list_rejected"]

_LIST = query("capi/list_rejected", RejectedEvent)
_DISCARD = query("capi/discard_rejected", RejectedEvent)


@repository
def list_rejected(db: Db, *, after_id: int = 0, limit: int = 100) -> list[RejectedEvent]:
    """The events that native code has queued and that the event log cannot take, the oldest first.

    `after_id`: the id of the last one of the page before. `limit`: 1 to 1000, else InvalidInput.
    """
    return db.all(_LIST, after_id=after_id, limit=check_limit(limit))


@repository
def discard_rejected(db: Db, rejected_id: int) -> RejectedEvent:
    """Takes a rejected event out of those kept, and returns it: mended, it can be appended again. Raises
    NotFound."""
    return db.one(_DISCARD, rejected_id=rejected_id)
