"""Snapshots: the folded state of an aggregate as of one version, so that only later events need be read."""

from __future__ import annotations

from rootstream_store.db import Db, repository
from rootstream_store.errors import Conflict, InvalidInput
from rootstream_store.events._keys import LAST, id_text
from rootstream_store.events._payload import to_json
from rootstream_store.flow import Flow, maybe, one
from rootstream_store.queries import query
from rootstream_store.records import Event, Snapshot

__all__ = ["load_snapshot", "prune_snapshots", "save_snapshot"]

_SAVE = query("events/save_snapshot", Snapshot)
_FIND_EQUAL = query("events/find_equal_snapshot", Snapshot)
_FIND_LATEST = query("events/find_latest_snapshot", Snapshot)
_PRUNE = query("events/prune_snapshots")
_GET_EVENT = query("events/get", Event)


@repository
def save_snapshot(
    db: Db,
    aggregate_type: str,
    aggregate_id: str | int,
    *,
    version: int,
    state: object,
    schema_version: int = 1,
) -> Snapshot:
    """Keeps `state` as what the events up to and including `version` fold to.

    `state`: a dict, list, dataclass or msgspec.Struct, or the bytes of a JSON object or array, of at most 1
    MiB and 100 levels. `schema_version`: of the shape of the state, from 1; raise it when the fold changes,
    and old snapshots are left alone. Saving the same again returns what is there.

    Raises NotFound when the aggregate has no event of that version, Conflict when that version has a snapshot
    with another state: it is never overwritten.
    """
    key: dict[str, object] = {
        "aggregate_id": id_text(aggregate_id),
        "aggregate_type": aggregate_type,
        "version": version,
    }
    return db.flow(_save(key, schema_version, to_json(state, "state")))


@repository
def load_snapshot(
    db: Db,
    aggregate_type: str,
    aggregate_id: str | int,
    *,
    schema_version: int = 1,
    to_version: int | None = None,
) -> Snapshot | None:
    """The newest snapshot whose state has this shape; None when there is none.

    Read on with `events.read(…, after_version=snapshot.version)`. `to_version`: none newer than this; None:
    any.
    """
    return db.maybe(
        _FIND_LATEST,
        aggregate_id=id_text(aggregate_id),
        aggregate_type=aggregate_type,
        schema_version=schema_version,
        to_version=LAST if to_version is None else to_version,
    )


@repository
def prune_snapshots(
    db: Db, aggregate_type: str, aggregate_id: str | int, *, keep: int = 2, schema_version: int | None = None
) -> int:
    """Deletes all but the `keep` newest snapshots of an aggregate, from 0, and tells how many were deleted.

    `schema_version`: only of this shape, such as an old one that no program reads any more, with keep=0.
    None: of each shape all but so many.
    """
    if type(keep) is not int or keep < 0:
        raise InvalidInput("keep", "must be a whole number from 0 on", keep)
    return db.run(
        _PRUNE,
        aggregate_id=id_text(aggregate_id),
        aggregate_type=aggregate_type,
        keep=keep,
        schema_version=schema_version,
    )


def _save(key: dict[str, object], schema_version: int, state: str) -> Flow[Snapshot]:
    saved = yield from maybe(_SAVE, **key, schema_version=schema_version, state=state)
    if saved is None:
        saved = yield from maybe(_FIND_EQUAL, **key, schema_version=schema_version, state=state)
    if saved is None:
        yield from one(_GET_EVENT, **key)
        raise Conflict(
            f"{key['aggregate_type']} {key['aggregate_id']!r} has another snapshot of version "
            f"{key['version']} (schema version {schema_version}); it is never overwritten",
            query=_SAVE.file,
        )
    return saved
