"""Finding the primary through sentinels: each new connection asks them, so that it goes where writes go now.

A failover closes the connections to the old primary, or they time out; the next ones lead to the new one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import redis

from rootstream_store.cache._connections import CONNECTIONS, Address, Pool, floating, of_primary
from rootstream_store.cache._limits import left, require_time, within

__all__ = ["SentinelPool", "Sentinels"]


class Sentinels:
    """Thread-safe. `options` are those of the connections to the sentinels; `timeout` in seconds."""

    def __init__(
        self, scheme: str, nodes: Sequence[Address], service: str, timeout: float, options: dict[str, Any]
    ) -> None:
        self._connection_class: type[Any] = CONNECTIONS[scheme]
        self._nodes = list(nodes)
        self._service = service
        self._timeout = timeout
        self._options = options
        self._lock = threading.Lock()

    def primary(self) -> Address:
        """Where the primary is, by the first sentinel that knows. Raises redis.ConnectionError.

        A sentinel that does not answer is asked last from then on, and may take half of the time only: a
        host that is gone must not keep us from the others.
        """
        with self._lock:
            nodes = list(self._nodes)
        problem = "none was asked"
        for number, node in enumerate(nodes, 1):
            whole = require_time(self._timeout)
            try:
                with within(whole if number == len(nodes) else whole / 2):
                    return self._ask(node)
            except redis.RedisError as error:
                problem = f"{node[0]}:{node[1]}: {type(error).__name__} {error}"
                self.demote(node)
        raise redis.ConnectionError(f"no sentinel knows a primary of {self._service!r} ({problem})")

    def demote(self, node: Address) -> None:
        """Ask this sentinel last from now on."""
        with self._lock:
            if node in self._nodes:
                self._nodes.remove(node)
                self._nodes.append(node)

    def _ask(self, node: Address) -> Address:
        connection = self._connection_class(
            host=node[0], port=node[1], **{**self._options, "socket_timeout": left(self._timeout)}
        )
        try:
            connection.connect()
            connection.send_command("SENTINEL", "MASTER", self._service, check_health=False)
            reply = connection.read_response()
        finally:
            connection.disconnect()
        state = {reply[i]: reply[i + 1] for i in range(0, len(reply), 2)}
        flags = state[b"flags"].split(b",")
        if b"s_down" in flags or b"o_down" in flags or b"master" not in flags:
            raise redis.ConnectionError(f"the primary is down ({state[b'flags'].decode()})")
        return state[b"ip"].decode(), int(state[b"port"])


class SentinelPool(Pool):
    """Connections to the primary, wherever it is. `scheme` is redis or rediss."""

    def __init__(self, scheme: str, sentinels: Sentinels, **options: Any) -> None:
        self.sentinels = sentinels
        self._primary: Address | None = None
        parent: Any = super()
        parent.__init__(connection_class=of_primary(floating(scheme, self._locate)), **options)

    def owns_connection(self, connection: Any) -> bool:
        """False for one to a primary of before: it is closed when it is given back."""
        owned = bool(super().owns_connection(connection))
        return owned and self._primary in (None, (connection.host, connection.port))

    def _locate(self) -> Address:
        address = self.sentinels.primary()
        if address != self._primary:
            first, self._primary = self._primary is None, address
            if not first:
                # They lead to a server that may not even know that it is no primary any more.
                self.close_idle()
        return address
