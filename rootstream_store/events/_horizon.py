"""Up to where the log is complete: what makes a position a cursor that a reader can trust.

Positions are drawn in order but committed in any. Whoever appends holds a shared lock, until its transaction
ends, that is named for the last position drawn before; a reader takes the lowest of these for its horizon and
reads up to it in the next statement (in the same one it would miss what was committed in between). Nobody
waits for anybody, and transactions that append nothing do not matter, however long they are.
"""

from __future__ import annotations

from rootstream_store.db import Db, repository
from rootstream_store.errors import Conflict, Unavailable
from rootstream_store.flow import Flow, one
from rootstream_store.queries import query
from rootstream_store.records import Horizon, InFlightAppend

__all__ = ["find_horizon", "get_horizon", "list_in_flight"]

_GET = query("events/get_horizon", Horizon)
_LIST_IN_FLIGHT = query("events/list_in_flight", InFlightAppend)


@repository
def get_horizon(db: Db, *, known: int = 0) -> Horizon:
    """How far the log is complete now. `known`: the horizon found before, 0 when there is none; where nothing
    was appended since, the locks are not looked at.

    Raises Unavailable on a standby, and Conflict in a transaction that is repeatable read or serializable:
    there the horizon would promise what cannot be seen.
    """
    return db.flow(find_horizon(known))


@repository
def list_in_flight(db: Db) -> list[InFlightAppend]:
    """The transactions that have appended and not ended; the first holds readers back."""
    return db.all(_LIST_IN_FLIGHT)


def find_horizon(known: int = 0) -> Flow[Horizon]:
    """The steps of `get_horizon`. What is read up to it must be read by a later step."""
    horizon = yield from one(_GET, known=known)
    if not horizon.is_primary:
        raise Unavailable(
            "the log as a whole is read on the primary: a standby does not know who is still appending",
            query=_GET.file,
        )
    if not horizon.is_fresh:
        raise Conflict(
            "the log as a whole is read in read committed: an older snapshot would miss events",
            query=_GET.file,
        )
    return horizon
