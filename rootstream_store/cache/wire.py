"""Commands to Redis and their replies: one, a script, or several in one round trip.

Scripts are sent by their SHA-1, and in full where the server does not know them: after a restart, or first of
all. How long a call may wait is the client's affair.

The client's pool keeps, opens and mends the connections; what redis-py puts between the pool and the socket
(retries, metrics, a pipeline object) is left out here, since it takes as long as the round trip itself. Where
the client is of another kind, a cluster's say, commands go through it: slower, with the same replies.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from queue import Empty, Full
from typing import Any, Generic, Literal, TypeVar

import hiredis
import redis

from rootstream_store.cache._limits import LIMITS
from rootstream_store.cache.breaker import Unreached
from rootstream_store.cache.client import Pool

__all__ = ["Ask", "Command", "Script", "Wire"]

T = TypeVar("T")

Command = tuple[bytes | str | int | float, ...]


class Script:
    """A Lua script and the SHA-1 by which a server knows it once it has seen it."""

    __slots__ = ("sha", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class Ask(Generic[T]):
    """One call of a script, as data: what a function that lives in Redis asks for. Runs as one step.

    The keys must be in one slot of a cluster: give them a common {hash tag}. `read` makes the answer of the
    reply, or UNREACHED where the script could not tell. A write among these is not repeated after a lost
    answer.

    `is_stamped`: for a script that reads an answer of the lease cache. The stamp of the server, which such an
    answer must have, is added to the arguments. Where it is not known, or turns out to be another one, the
    answer is UNREACHED, although the script may have run: it must be one that may run twice. `insists`: it is
    worth a wait where the breaker has only just opened, as a removal is.
    """

    __slots__ = ("arguments", "insists", "is_stamped", "keys", "read", "script")

    def __init__(
        self,
        script: Script,
        keys: Sequence[str | bytes],
        arguments: Sequence[bytes | str | int | float],
        read: Callable[[Any], T | Literal[Unreached.UNREACHED]],
        *,
        is_stamped: bool = False,
        insists: bool = False,
    ) -> None:
        self.script = script
        self.keys = keys
        self.arguments = arguments
        self.read = read
        self.is_stamped = is_stamped
        self.insists = insists


class Wire:
    """Thread-safe. Raises redis-py's errors. Replies are what redis-py makes of them."""

    several_servers = False
    """Whether some keys can be away while others are not."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._through_client: Callable[..., Any] = client.execute_command
        # A pool of another class may do more in between than is done here.
        pool: Any = client.connection_pool if type(client) is redis.Redis else None
        self._pool: Any = pool if type(pool) is Pool and pool.cache is None else None
        self._enough = 0.0 if self._pool is None else 0.8 * (pool.connection_kwargs["socket_timeout"] or 0.0)
        # A dict of its own: redis-py's looks up in Python, and is only asked for what is spelled in capitals.
        self._readers: dict[Any, Callable[[Any], Any]] = dict(client.response_callbacks)

    def command(self, *command: bytes | str | int | float) -> Any:
        """The reply of one command. Its name is written in capitals, in one word."""
        if self._pool is None:
            return self._through_client(*command)
        reply = self._exchange(_packed(command))
        read = self._readers.get(command[0])
        return reply if read is None else read(reply)

    def script(
        self, script: Script, keys: Sequence[str | bytes], arguments: Sequence[bytes | str | int | float]
    ) -> Any:
        """The reply of a script."""
        try:
            return self.command("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except redis.exceptions.NoScriptError:
            return self.command("EVAL", script.source, len(keys), *keys, *arguments)

    def unlink(self, keys: list[bytes]) -> list[bytes]:
        """Removes keys. Returns those that were not, where not all of them are on one server."""
        self.command("UNLINK", *keys)
        return []

    def scripts(
        self, calls: Sequence[tuple[Script, Sequence[str | bytes], Sequence[bytes | str | int | float]]]
    ) -> list[Any]:
        """The replies of several scripts in one round trip, each a step of its own. An error reply is among
        them, not raised."""
        replies = self.commands(
            [("EVALSHA", script.sha, len(keys), *keys, *arguments) for script, keys, arguments in calls]
        )
        # What the server does not know it has not run.
        unknown = [
            number
            for number, reply in enumerate(replies)
            if isinstance(reply, redis.exceptions.NoScriptError)
        ]
        if unknown:
            in_full = [(calls[number][0].source, *calls[number][1:]) for number in unknown]
            known = self.commands(
                [("EVAL", source, len(keys), *keys, *rest) for source, keys, rest in in_full]
            )
            for number, reply in zip(unknown, known, strict=True):
                replies[number] = reply
        return replies

    def commands(self, commands: Sequence[Command]) -> list[Any]:
        """The replies of several commands in one round trip, not one transaction. An error reply is among
        them, not raised."""
        if self._pool is None:
            return self._through_pipeline(commands)
        if not commands:
            return []
        replies = self._exchange(b"".join(map(_packed, commands)), len(commands))
        readers = [self._readers.get(command[0]) for command in commands]
        return [
            reply if read is None or isinstance(reply, redis.ResponseError) else read(reply)
            for reply, read in zip(replies, readers, strict=True)
        ]

    def everywhere(self, commands: Sequence[Command]) -> dict[Any, list[Any]]:
        """The replies of each server, by its place; those that do not answer are left out. Raises when none
        does."""
        return {self.place_of(None): self.commands(commands)}

    def place_of(self, connection: Any) -> Any:
        """What tells the server of this connection from others that serve at the same time. None: there are
        no others."""
        return None

    def places(self) -> list[Any]:
        """Of all servers that serve now, as far as is known."""
        return [None]

    def take_idle(self) -> Any:
        """A connection that nobody uses, to be returned with `give_back`; nothing is left to be read on it.
        None: there is none at hand, or the client is of another kind."""
        return None if self._pool is None else self._idle()

    def _exchange(self, packed: bytes, several: int = 0) -> Any:
        """Send, and receive one reply, or a list of `several`."""
        connection = self._take()
        is_clean = False
        try:
            connection.send_packed_command([packed])
            if several:
                reply: Any = [_reply_or_error(connection) for _ in range(several)]
            else:
                reply = connection.read_response()
            is_clean = True
            return reply
        except redis.ResponseError:
            # An answer like any other: nothing is left to be read.
            is_clean = True
            raise
        finally:
            self.give_back(connection, is_clean)

    def _take(self) -> Any:
        """A connection that nobody else uses, open, with nothing left to be read on it."""
        connection = self._idle()
        # To be waited for or opened, closed by the server, after a fork, or with little time left: the pool
        # sees to that.
        return self._pool.get_connection() if connection is None else connection

    def _idle(self) -> Any:
        if self._pool.pid != os.getpid():
            return None
        idle = self._pool.pool
        try:
            connection = idle.get_nowait()
        except Empty:
            return None
        is_ready = False
        try:
            is_ready = connection is not None and self._is_ready(connection)
        finally:
            if not is_ready:
                idle.put_nowait(connection)
        return connection if is_ready else None

    def _is_ready(self, connection: Any) -> bool:
        # A call that has nearly all of its time, as most have, may take the whole timeout for its reply: to
        # set another one costs more than that.
        if not connection.is_connected or LIMITS.end - time.monotonic() < self._enough:
            return False
        if _is_readable(connection):
            return False
        if connection.shortened:
            connection.restore()
        return True

    def give_back(self, connection: Any, is_clean: bool) -> None:
        """Return what `take_idle` gave. `is_clean`: everything that was asked on it was answered."""
        # Not clean, whyever, KeyboardInterrupt too: an answer may still come, and the next command on this
        # connection would take it for its own. Another one comes in its place if it cannot even be closed.
        try:
            if not is_clean:
                connection.disconnect()
                is_clean = True
        finally:
            try:
                self._pool.pool.put_nowait(connection if is_clean else None)
            except Full:  # pragma: no cover - only when the pool was emptied by a fork meanwhile
                connection.disconnect()

    def _through_pipeline(self, commands: Sequence[Command]) -> list[Any]:
        with self._client.pipeline(transaction=False) as pipe:
            queue: Callable[..., Any] = pipe.execute_command
            for command in commands:
                queue(*command)
            return pipe.execute(raise_on_error=False)


def _packed(command: Command) -> bytes:
    try:
        packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub says one argument
    except TypeError as error:
        raise redis.DataError(*error.args) from None
    return packed


def _is_readable(connection: Any) -> bool:
    try:
        readable: bool = connection.can_read()
    except redis.RedisError:  # closed by the server
        return True
    return readable


def _reply_or_error(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
