"""redis-py's connections and pool, with the wait for a usable connection bounded as a whole.

redis-py bounds each step: the wait for a free connection, each address of a host, each reply of the
handshake. A slow server may use up all of them one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, Full
from typing import Any

import redis

from rootstream_store.cache._limits import left, require_time, within
from rootstream_store.cache._stack import Stack

__all__ = ["CONNECTIONS", "Address", "Locate", "Pool", "floating", "of_primary"]

Address = tuple[str, int]
"""Host and port."""

Locate = Callable[[], Address]
"""Says where to connect now. Raises redis.ConnectionError or redis.TimeoutError."""


class _Bounded:
    """Connecting, the handshake included, lasts at most `socket_connect_timeout`. A mixin for redis-py's
    connection classes, which type hardly anything."""

    locate: Locate | None = None
    shortened = False
    """Whether the socket's timeout was set below `socket_timeout` for one call."""

    must_be_primary = False
    """Whether to refuse a server that calls itself a replica; known only where RESP3 is spoken."""

    _sock: Any
    handshake_metadata: Any
    disconnect: Any
    host: Any
    port: Any
    socket_connect_timeout: Any
    socket_timeout: Any

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if self._sock:
            return
        parent: Any = super()
        self.handshake_metadata = None
        try:
            with within(require_time(self.socket_connect_timeout)):
                # Only for the handshake: it would cost every reply.
                self.__dict__["read_response"] = self._read_handshake
                if self.locate is not None:
                    self.host, self.port = self.locate()
                parent.connect_check_health(check_health, retry_socket_connect)
        finally:
            self.__dict__.pop("read_response", None)
        if self.must_be_primary and _role(self.handshake_metadata) == b"replica":
            # What it has may be behind, and what we remove there would be refused.
            self.disconnect()
            raise redis.ConnectionError("the server is a replica")
        self.restore()

    def restore(self) -> None:
        """Let replies take the whole `socket_timeout` again. The connection must be open."""
        self._sock.settimeout(self.socket_timeout)
        self.shortened = False

    def _connect(self) -> Any:
        # For each address of the host, and each step of TLS.
        configured = self.socket_connect_timeout, self.socket_timeout
        self.socket_connect_timeout = self.socket_timeout = require_time(self.socket_connect_timeout)
        parent: Any = super()
        try:
            return parent._connect()
        finally:
            self.socket_connect_timeout, self.socket_timeout = configured

    def _read_handshake(self, *arguments: Any, **options: Any) -> Any:
        if self._sock is not None:
            self._sock.settimeout(require_time(self.socket_connect_timeout))
        parent: Any = super()
        return parent.read_response(*arguments, **options)


class TcpConnection(_Bounded, redis.Connection):
    """Over TCP."""


class TlsConnection(_Bounded, redis.SSLConnection):
    """Over TLS."""


class UnixConnection(_Bounded, redis.UnixDomainSocketConnection):
    """Over a unix socket."""

    port: int | None = None
    """redis-py reads it when it counts an error, and raises AttributeError in place of that error."""


CONNECTIONS: dict[str, type[Any]] = {"redis": TcpConnection, "rediss": TlsConnection, "unix": UnixConnection}
"""By the scheme of a URL."""


def floating(scheme: str, locate: Locate) -> type[Any]:
    """A connection class whose objects ask `locate` where to go each time they connect."""
    # A function in a class would be taken for a method.
    return type("Floating", (CONNECTIONS[scheme],), {"locate": staticmethod(locate)})


def of_primary(kind: type[Any]) -> type[Any]:
    """The same connection class, but it refuses a replica."""
    return type(kind.__name__, (kind,), {"must_be_primary": True})


def _role(said: object) -> object:
    role = said.get(b"role") if isinstance(said, dict) else None
    return b"replica" if role == b"slave" else role


class Pool(redis.BlockingConnectionPool):
    """redis-py's blocking pool: most recently used connection first, waits for a free one, closes idle ones
    safely."""

    opened: Callable[[Any], None] | None = None
    """A method that is given each connection when it was opened, before anything else is asked on it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        parent: Any = super()
        parent.__init__(*arguments, **{"queue_class": Stack, **options})

    def make_connection(self) -> Any:
        parent: Any = super()
        connection = parent.make_connection()
        if self.opened is not None:
            connection.register_connect_callback(self.opened)
        return connection

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """A connection that is ready, within `timeout` in all. Its next reply may not last longer than what
        is left to the call."""
        with within(require_time(self.timeout)):
            parent: Any = super()
            connection = parent.get_connection()
        whole = connection.socket_timeout
        seconds = left(whole)
        if seconds < whole:
            if seconds <= 0:
                parent.release(connection)
            connection._sock.settimeout(require_time(whole))
            connection.shortened = True
        elif connection.shortened:
            connection.restore()
        return connection

    def close_idle(self) -> None:
        """Close the connections that nobody uses. Those in use go on; they are closed by the next call of
        this.

        redis-py's `disconnect()` closes sockets under the hands of other threads, which then fail with
        AttributeError; here each connection is first taken out of the pool.
        """
        taken = []
        while True:
            try:
                connection = self.pool.get_nowait()
            except Empty:
                break
            if connection is not None:
                connection.disconnect()
            taken.append(connection)
        for connection in taken:
            try:
                self.pool.put_nowait(connection)
            except Full:  # pragma: no cover - only when the pool was reset by a fork meanwhile
                break
