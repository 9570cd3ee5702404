"""Three ways to read a log that many write to: by bare positions, by transaction ids up to the oldest one
running, and by the horizon; and the checker that judges what a reader was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import psycopg

from rootstream_store import events
from rootstream_store.store import Store

__all__ = ["STRATEGIES", "Reader", "Seen", "judge"]

Connection = psycopg.Connection[Any]


class Seen(msgspec.Struct, frozen=True):
    """An event as a reader was given it."""

    position: int
    aggregate: str
    version: int


class Reader:
    """Polls the log; `received` is what it was given, in order."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self.store = store
        self.connection = connection
        self.received: list[Seen] = []

    def poll(self) -> list[Seen]:
        """What is new now."""
        found = self.read()
        self.received += found
        return found

    def read(self) -> list[Seen]:
        """The events after what was received."""
        raise NotImplementedError


class BarePosition(Reader):
    """Every position above the last one: what most home-made readers do."""

    def read(self) -> list[Seen]:
        last = max((one.position for one in self.received), default=0)
        found = self.connection.execute(
            "SELECT position, aggregate_id, version FROM event_log WHERE position > %s ORDER BY position",
            [last],
        )
        return [Seen(*row) for row in found.fetchall()]


class TransactionId(Reader):
    """By the id of the transaction that wrote the row, below the oldest one that still runs: what stores do
    that keep a xid8 column. Here it is taken from the row's xmin."""

    def __init__(self, store: Store, connection: Connection) -> None:
        super().__init__(store, connection)
        self.last = (0, 0)

    def read(self) -> list[Seen]:
        found = self.connection.execute(
            """
            SELECT xmin::text::bigint, position, aggregate_id, version
            FROM event_log
            WHERE (xmin::text::bigint, position) > (%s, %s)
                AND xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
            ORDER BY 1, 2
            """,
            self.last,
        ).fetchall()
        if found:
            self.last = found[-1][0], found[-1][1]
        return [Seen(*row[1:]) for row in found]


class Horizon(Reader):
    """This library's: positions up to the horizon, read by the statement after the one that found it."""

    def read(self) -> list[Seen]:
        last = max((one.position for one in self.received), default=0)
        page = events.read_all(self.store, after_position=last)
        return [Seen(event.position, event.aggregate_id, event.version) for event in page]


STRATEGIES: dict[str, Callable[[Store, Connection], Reader]] = {
    "bare": BarePosition,
    "xmin": TransactionId,
    "horizon": Horizon,
}


def judge(received: list[Seen], committed: list[Seen]) -> list[str]:
    """What is wrong with what a reader was given, where these events were committed: the words lost,
    doubled, phantom, inverted (an aggregate's versions) and backwards (positions), each once."""
    faults = []
    if set(committed) - set(received):
        faults.append("lost")
    if len(set(received)) < len(received):
        faults.append("doubled")
    if set(received) - set(committed):
        faults.append("phantom")
    versions: dict[str, int] = {}
    inverted = False
    for one in received:
        inverted = inverted or one.version <= versions.get(one.aggregate, 0)
        versions[one.aggregate] = max(versions.get(one.aggregate, 0), one.version)
    if inverted:
        faults.append("inverted")
    if received != sorted(received, key=lambda one: one.position):
        faults.append("backwards")
    return faults
