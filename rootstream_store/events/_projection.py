"""Projections: tables that are a function of the log, kept by a handler in a PostgreSQL schema of their own.

The schema comes first in the search path while the handler runs, so that its statements name tables without
it, and do the same for a copy that is being rebuilt beside the one that serves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rootstream_store.db import Db
from rootstream_store.errors import InvalidInput
from rootstream_store.events._append import append, append_many
from rootstream_store.events._consumer import Handler
from rootstream_store.events._keys import id_text
from rootstream_store.events._new_event import NewEvent
from rootstream_store.events._read import read
from rootstream_store.events._subscription import Subscription
from rootstream_store.queries import Query, query
from rootstream_store.records import Appended, Event
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

__all__ = ["Inline", "Projection", "create_copy", "use_copy"]

_HAS_SCHEMA = query("projections/has_schema", bool)
_CREATE_SCHEMA = query("projections/create_schema", bool)
_USE_SCHEMA = query("projections/use_schema", str)
_RESTORE_PATH = query("projections/restore_path", str)
_GET_LAST_POSITION = query("projections/get_last_position", int)
_LOCK_AGGREGATE = query("projections/lock_aggregate", str)

_NAME = re.compile(r"[a-z](?:[a-z0-9]|_(?!_)){0,39}")
_PAGE = 1000


class Projection:
    """Tables made from events: `handler(tx, event)`, or with `batch=True` `handler(tx, events)`, writes them
    through `tx`, in the order of the log, and reads nothing but them and the events, so that a rebuild gives
    the same.

    `name`: 1 to 40 of a-z, 0-9 and single _, beginning with a letter; the schema is `projection_<name>`.
    `tables`: the statement, or statements, that make its tables, without a schema: `CREATE TABLE totals (…)`.
    `event_types`, `aggregate_type`: only these; None: all. Raises InvalidInput.
    """

    def __init__(
        self,
        name: str,
        handler: Handler,
        tables: Query[Any] | Sequence[Query[Any]],
        *,
        event_types: Sequence[str] | None = None,
        aggregate_type: str | None = None,
        batch: bool = False,
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInput(
                "name", "must be 1 to 40 of a-z, 0-9 and single _, beginning with a letter", name
            )
        self.name = name
        self.handler = handler
        self.tables: tuple[Query[Any], ...] = (tables,) if isinstance(tables, Query) else tuple(tables)
        for table in self.tables:
            if not isinstance(table, Query):
                raise InvalidInput("tables", f"must be queries, not {type(table).__name__}")
        if isinstance(event_types, str):
            raise InvalidInput("event_types", "must be a list of event types", event_types)
        self.event_types = None if event_types is None else tuple(event_types)
        self.aggregate_type = aggregate_type
        self.is_batch = batch

    @property
    def schema(self) -> str:
        """The PostgreSQL schema of its tables, for the queries that read them."""
        return f"projection_{self.name}"

    def create(self, db: Db) -> bool:
        """Makes the schema and its tables where they are not there, and tells whether it did. Raises
        PermissionDenied where the role may not create schemas in the database."""
        if db.one(_HAS_SCHEMA, projection=self.name, suffix=""):
            return False
        return create_copy(db, self, "")

    def subscription(self, store: Store, **options: Any) -> Subscription:
        """The subscription that keeps it up to date, some time after the appends; its name is the
        projection's. `options`: those of Subscription but what the projection says itself: partitions,
        batch_size, poll_interval, … Makes the schema when it starts."""
        return _ProjectionSubscription(store, self, **options)

    def matches(self, event: Event) -> bool:
        """Whether the event is one that it is made from."""
        return (self.event_types is None or event.event_type in self.event_types) and (
            self.aggregate_type is None or event.aggregate_type == self.aggregate_type
        )

    def __repr__(self) -> str:
        return f"<Projection {self.name}>"


class Inline:
    """Appends whose events are projected in the same transaction: what reads the tables never sees them
    behind the log, and no event is appended that a handler refuses. Writers of the same rows wait for each
    other. Make the tables first: `projection.create(db)`.

    All appends to the aggregates of such a projection must go this way; `rebuild(…, inline=True)` mends what
    did not.
    """

    def __init__(self, *projections: Projection) -> None:
        self.projections = projections

    def append(
        self,
        db: Db,
        aggregate_type: str,
        aggregate_id: str | int,
        event_type: str,
        data: object,
        **options: Any,
    ) -> Appended:
        """As `events.append`, with its `options`; what a handler raises takes the append back."""
        with db.transaction() as tx:
            before = _begin(tx, aggregate_type, aggregate_id)
            appended = append(tx, aggregate_type, aggregate_id, event_type, data, **options)
            self._project(tx, before, aggregate_type, aggregate_id, [appended])
        return appended

    def append_many(
        self,
        db: Db,
        aggregate_type: str,
        aggregate_id: str | int,
        events: Sequence[NewEvent],
        **options: Any,
    ) -> list[Appended]:
        """As `events.append_many`, with its `options`; what a handler raises takes the append back."""
        with db.transaction() as tx:
            before = _begin(tx, aggregate_type, aggregate_id)
            appended = append_many(tx, aggregate_type, aggregate_id, events, **options)
            self._project(tx, before, aggregate_type, aggregate_id, appended)
        return appended

    def apply(self, tx: Db, events: Sequence[Event]) -> None:
        """Hands events that were appended in this transaction by other means to the projections."""
        for projection in self.projections:
            wanted = [event for event in events if projection.matches(event)]
            if not wanted:
                continue
            previous = use_copy(tx, projection, "")
            for given in [wanted] if projection.is_batch else wanted:
                projection.handler(tx, given)  # type: ignore[arg-type]  # the transaction that db.transaction() gave
            tx.one(_RESTORE_PATH, previous=previous)

    def _project(
        self,
        tx: Db,
        before: int,
        aggregate_type: str,
        aggregate_id: str | int,
        appended: Sequence[Appended],
    ) -> None:
        # A repeated append answers with the events of the first time, which were projected then.
        new = [one.version for one in appended if one.position > before]
        after = min(new, default=1) - 1
        while new and after < new[-1]:
            # Read back, so that a handler sees what a reader of the log will: numbers and keys as in jsonb.
            page = read(
                tx, aggregate_type, aggregate_id, after_version=after, to_version=new[-1], limit=_PAGE
            )
            self.apply(tx, page)
            after = page[-1].version


def _begin(tx: Db, aggregate_type: str, aggregate_id: str | int) -> int:
    """The last position before this append. Alone on its aggregate: a repeat must not come between."""
    tx.one(_LOCK_AGGREGATE, aggregate_type=aggregate_type, aggregate_id=id_text(aggregate_id))
    return tx.one(_GET_LAST_POSITION)


class _ProjectionSubscription(Subscription):
    def __init__(self, store: Store, projection: Projection, **options: Any) -> None:
        super().__init__(
            store,
            projection.name,
            projection.handler,
            event_types=projection.event_types,
            aggregate_type=projection.aggregate_type,
            batch=projection.is_batch,
            **options,
        )
        self._projection = projection

    def register(self) -> None:
        super().register()
        self._projection.create(self._store)

    def _prepare(self, tx: Transaction) -> None:
        use_copy(tx, self._projection, "")


def create_copy(db: Db, projection: Projection, suffix: str) -> bool:
    """Makes a schema of a projection with its tables. False: it is there already."""
    with db.transaction() as tx:
        if not tx.one(_CREATE_SCHEMA, projection=projection.name, suffix=suffix):
            return False
        previous = use_copy(tx, projection, suffix)
        for table in projection.tables:
            tx.run(table)
        tx.one(_RESTORE_PATH, previous=previous)
    return True


def use_copy(tx: Db, projection: Projection, suffix: str) -> str:
    """Has the statements from here to the end of the transaction mean the tables of this copy. What the
    search path was."""
    return tx.one(_USE_SCHEMA, projection=projection.name, suffix=suffix)
