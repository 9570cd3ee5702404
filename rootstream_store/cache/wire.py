"""Commands to Redis and their replies: one, a script, or several in one round trip.

Scripts are sent by their SHA-1, and in full where the server does not know them: after a restart, or first of
all. How long a call may wait is the client's affair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import redis

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
    reply. A write among these is not repeated after a lost answer.
    """

    __slots__ = ("arguments", "keys", "read", "script")

    def __init__(
        self,
        script: Script,
        keys: Sequence[str | bytes],
        arguments: Sequence[bytes | str | int | float],
        read: Callable[[Any], T],
    ) -> None:
        self.script = script
        self.keys = keys
        self.arguments = arguments
        self.read = read


class Wire:
    """Thread-safe. Raises redis-py's errors."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._command: Callable[..., Any] = client.execute_command

    def command(self, *command: bytes | str | int | float) -> Any:
        """The reply of one command."""
        return self._command(*command)

    def script(
        self, script: Script, keys: Sequence[str | bytes], arguments: Sequence[bytes | str | int | float]
    ) -> Any:
        """The reply of a script."""
        try:
            return self._command("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except redis.exceptions.NoScriptError:
            return self._command("EVAL", script.source, len(keys), *keys, *arguments)

    def commands(self, commands: Sequence[Command]) -> list[Any]:
        """The replies of several commands in one round trip, not one transaction. An error reply is among
        them, not raised."""
        with self._client.pipeline(transaction=False) as pipe:
            queue: Callable[..., Any] = pipe.execute_command
            for command in commands:
                queue(*command)
            return pipe.execute(raise_on_error=False)
