"""A connection outside the pool, to look at the server with, also while the pool is exhausted."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

import msgspec
import psycopg

from rootstream_store.database import Connection, conninfo
from rootstream_store.database._translate import connection_error
from rootstream_store.errors import RootStreamError, Timeout
from rootstream_store.settings import Settings

__all__ = ["deadline", "probe"]


@contextmanager
def probe(settings: Settings) -> Generator[Connection]:
    """A connection of its own, closed at the end of the block, for reads that last at most connect_timeout.

    Raises Unavailable, PermissionDenied or SettingsError when the server refuses it, Timeout when it does not
    answer.
    """
    limit = float(settings.connect_timeout)
    own = msgspec.structs.replace(
        settings,
        application_name=f"{settings.application_name} health",
        statement_timeout=limit,
        # A migration may hold a table; what can be told without it is told sooner.
        lock_timeout=limit / 4,
        answer_timeout=None,
    )
    try:
        connection = Connection.connect(conninfo(own), autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        told = connection_error(error, settings.database_url)
        if isinstance(error, psycopg.errors.ConnectionTimeout):
            raise Timeout(told.message) from error
        raise told from error
    with connection, deadline(connection, limit):
        yield connection


@contextmanager
def deadline(connection: Connection, seconds: float) -> Generator[None]:
    """Raises Timeout in place of the block's error when the block takes longer: its connection is then cut.

    The server's own limits are no help where it is frozen or the network is silent."""
    # A copy, so that the number is not another connection's by the time the limit is reached.
    line = socket.socket(fileno=os.dup(connection.fileno()))
    expired = threading.Event()

    def cut() -> None:
        expired.set()
        # The server may have been faster in closing it.
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except RootStreamError as error:
        if expired.is_set():
            raise Timeout(f"PostgreSQL did not answer within {seconds:g} s") from error
        raise
    finally:
        timer.cancel()
        timer.join()
        line.close()
