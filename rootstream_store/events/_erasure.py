"""Erasing what the log holds of a person, by a logged operation that leaves versions and positions alone."""

from __future__ import annotations

from collections.abc import Sequence

from rootstream_store.db import Db, repository
from rootstream_store.errors import InvalidInput
from rootstream_store.events._keys import id_text
from rootstream_store.queries import query
from rootstream_store.records import ErasureReport

__all__ = ["erase"]

_ERASE = query("events/erase", ErasureReport)

_OWN = ("event_log", "erasures")
"""The aggregate whose events tell of erasures."""

_LONGEST_REASON = 1000


@repository
def erase(
    db: Db,
    *,
    user_id: int | None = None,
    aggregates: Sequence[tuple[str, str | int]] = (),
    reason: str,
    requested_by: str | None = None,
) -> ErasureReport:
    """Erases the data and the metadata of all events that a user caused and of all events of some aggregates,
    live and archived, and deletes the snapshots of every aggregate that has such events.

    Of an erased event the data is `{}` and the metadata `{"erased": {"operation": n, "at": "2026-…Z"}}`;
    position, version, type, ids, user id and time stay. Readers meet such events and must be able to go past
    them; EventTypes leaves those out that do not fit their class. Their appends repeated raise AlreadyExists.
    The operation is on record in event_erasures, and an event "EventsErased" of aggregate ("event_log",
    "erasures") tells of it. Seals made before stay valid.

    `user_id`: None: nobody's. `aggregates`: pairs of type and id. `reason`: 1 to 1000 characters, kept for
    good, so no personal data. `requested_by`: who asked for it, 1 to 255 characters; None: not told. Erasing
    again erases what came since. All or none, in one statement; events that others are appending meanwhile
    are not seen.

    Raises InvalidInput, and PermissionDenied for a role that is not the owner of the tables.
    """
    pairs = [_pair(index, pair) for index, pair in enumerate(aggregates)]
    if user_id is None and not pairs:
        raise InvalidInput("user_id", "must be there where no aggregates are")
    if isinstance(reason, str) and not 1 <= len(reason) <= _LONGEST_REASON:
        raise InvalidInput("reason", f"must be 1 to {_LONGEST_REASON} characters", reason)
    if _OWN in pairs:
        raise InvalidInput("aggregates", "must not name the one that tells of erasures", _OWN)
    return db.one(
        _ERASE,
        user_id=user_id,
        aggregate_types=[kind for kind, _ in pairs],
        aggregate_ids=[name for _, name in pairs],
        reason=reason,
        requested_by=requested_by,
    )


def _pair(index: int, pair: object) -> tuple[str, str]:
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
        raise InvalidInput(f"aggregates[{index}]", "must be a pair of type and id", pair)
    return pair[0], id_text(pair[1])
