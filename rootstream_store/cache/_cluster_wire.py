"""Commands to a Redis Cluster: each goes to the node that serves its key.

Nothing is sent twice, but for what a node redirected and thus did not do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.crc import key_slot

from rootstream_store.cache._cluster import Node, Nodes, NodeSkipped
from rootstream_store.cache.breaker import Breaker, State
from rootstream_store.cache.wire import Command, Script, Wire

__all__ = ["ClusterBreaker", "ClusterWire"]

_Key = bytes | str | int | float

_SUMMED = {"UNLINK", "DEL", "EXISTS", "TOUCH"}
"""Commands whose every argument is a key, and whose replies on several nodes add up."""

_SECOND = {"OBJECT", "XINFO", "XGROUP", "MEMORY"}
_COUNTED = {"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"}
_AFTER_STREAMS = {"XREAD", "XREADGROUP"}
_KEYLESS = {"PING", "INFO", "TIME", "SCRIPT", "CONFIG", "CLIENT", "CLUSTER", "ECHO", "DBSIZE"}


class ClusterWire(Wire):
    """Thread-safe. Raises redis-py's errors."""

    several_servers = True

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def take_idle(self) -> Any:
        """None: which node is asked depends on the key."""
        return None

    def unlink(self, keys: list[bytes]) -> list[bytes]:
        """Removes keys. Returns those on nodes that do not answer or refuse. Raised when all are."""
        replies = self.commands([("UNLINK", key) for key in keys])
        return [key for key, reply in zip(keys, replies, strict=True) if isinstance(reply, redis.RedisError)]

    def command(self, *command: bytes | str | int | float) -> Any:
        """The reply of one command. UNLINK, DEL, EXISTS, TOUCH and MGET may name keys of several slots."""
        if len(command) > 2 and _name(command) in _SUMMED | {"MGET"}:
            return self._of_many_keys(command)
        return self._send(self._node(command), command)

    def script(self, script: Script, keys: Sequence[str | bytes], arguments: Sequence[_Key]) -> Any:
        """The reply of a script, whose keys must be in one slot."""
        node = self._nodes.at(_slot(keys[0])) if keys else self._any()
        try:
            return self._send(node, ("EVALSHA", script.sha, len(keys), *keys, *arguments))
        except redis.exceptions.NoScriptError:
            return self._send(node, ("EVAL", script.source, len(keys), *keys, *arguments))

    def commands(self, commands: Sequence[Command]) -> list[Any]:
        """The replies of several commands, in one round trip to each node. Not one transaction. What a node
        that does not answer was sent has its error as the reply; raised when no node answers."""
        replies: list[Any] = [None] * len(commands)
        batches: dict[int, tuple[Node, list[int]]] = {}
        for position, command in enumerate(commands):
            try:
                node = self._node(command)
            except redis.RedisError as error:
                replies[position] = error
                continue
            batches.setdefault(id(node), (node, []))[1].append(position)
        for node, positions in batches.values():
            for position, reply in zip(
                positions, self._batch(node, [commands[position] for position in positions]), strict=True
            ):
                replies[position] = reply
        if replies and all(_is_unanswered(reply) for reply in replies):
            raise replies[0]
        return replies

    def everywhere(self, commands: Sequence[Command]) -> dict[Any, list[Any]]:
        found: dict[Any, list[Any]] = {}
        problem: redis.RedisError | None = None
        for node in self._nodes.primaries():
            try:
                found[node.address] = self._nodes.run(node, lambda client, _: _pipeline(client, commands))
            except redis.RedisError as error:
                problem = error
        if not found and problem is not None:
            raise problem
        return found

    def place_of(self, connection: Any) -> Any:
        return connection.host, connection.port

    def places(self) -> list[Any]:
        return [node.address for node in self._nodes.serving()]

    def _batch(self, node: Node, commands: list[Command]) -> list[Any]:
        def send(client: redis.Redis, _: bool) -> list[Any]:
            return _pipeline(client, commands)

        try:
            replies = self._nodes.run(node, send)
        except redis.RedisError as error:
            return [error] * len(commands)
        for position, reply in enumerate(replies):
            if isinstance(reply, redis.exceptions.AskError):
                try:
                    replies[position] = self._redirected(node, reply, commands[position])
                except redis.RedisError as error:
                    replies[position] = error
        return replies

    def _redirected(self, node: Node, error: redis.exceptions.AskError, command: Command) -> Any:
        target, asking = self._nodes.redirect(node, error)
        return self._send(target, command, asking=asking)

    def _send(self, node: Node, command: Command, *, asking: bool = False) -> Any:
        def send(client: redis.Redis, told_to_ask: bool) -> Any:
            if asking or told_to_ask:
                reply = _pipeline(client, [("ASKING",), command])[1]
                if isinstance(reply, redis.RedisError):
                    raise reply
                return reply
            execute: Callable[..., Any] = client.execute_command
            return execute(*command)

        return self._nodes.run(node, send)

    def _of_many_keys(self, command: Command) -> Any:
        name = _name(command)
        by_slot: dict[int, list[_Key]] = {}
        for key in command[1:]:
            by_slot.setdefault(_slot(key), []).append(key)
        groups = list(by_slot.values())
        if len(groups) == 1:
            return self._send(self._node(command), command)
        replies = self.commands([(name, *group) for group in groups])
        for reply in replies:
            if isinstance(reply, redis.RedisError):
                raise reply
        if name in _SUMMED:
            return sum(replies)
        found = {
            key: value
            for group, values in zip(groups, replies, strict=True)
            for key, value in zip(group, values, strict=True)
        }
        return [found[key] for key in command[1:]]

    def _node(self, command: Command) -> Node:
        key = _key(command)
        return self._any() if key is None else self._nodes.at(_slot(key))

    def _any(self) -> Node:
        return min(self._nodes.primaries(), key=lambda node: node.breaker.state != "closed")


class ClusterBreaker(Breaker):
    """Counts for all nodes, and never opens: each node has a breaker of its own, which also logs."""

    def __init__(self, retry_after: float, url: str | None, nodes: Nodes, *, limit: float) -> None:
        super().__init__(retry_after, url, limit=limit)
        self._nodes = nodes

    @property
    def state(self) -> State:
        """open: at least one node has failed, and calls that need it are answered from PostgreSQL."""
        states = {node.breaker.state for node in self._nodes.known()}
        return "open" if "open" in states else "half-open" if "half-open" in states else "closed"

    @property
    def open_for(self) -> float:
        """0: of no node is known here when it failed."""
        return 0.0

    @property
    def refuses(self) -> bool:
        """Whether a node has refused a command in the last ten seconds."""
        return any(node.breaker.refuses for node in self._nodes.known())

    def _opened_elsewhere(self) -> int:
        return sum(node.breaker.counters.opened for node in self._nodes.known())

    def _record(self, error: BaseException, probe: bool) -> None:
        self._count(error, skipped=isinstance(error, NodeSkipped))


def _pipeline(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    with client.pipeline(transaction=False) as pipe:
        queue: Callable[..., Any] = pipe.execute_command
        for command in commands:
            queue(*command)
        return pipe.execute(raise_on_error=False)


def _is_unanswered(reply: object) -> bool:
    return isinstance(reply, redis.RedisError) and not isinstance(reply, redis.ResponseError)


def _name(command: Command) -> str:
    name = command[0]
    return (name.decode() if isinstance(name, bytes) else str(name)).upper()


def _key(command: Command) -> _Key | None:
    """The first key of the command; None: any node can do it."""
    name = _name(command)
    first = name.split(" ", 1)[0]
    if first in _KEYLESS or len(command) < 2:
        return None
    if name in _COUNTED:
        return command[3] if int(command[2]) else None
    if name in _AFTER_STREAMS:
        words = [word.upper() if isinstance(word, str) else word for word in command]
        return command[(words.index("STREAMS") if "STREAMS" in words else words.index(b"STREAMS")) + 1]
    return command[2] if name in _SECOND else command[1]


def _slot(key: _Key) -> int:
    return key_slot(key if isinstance(key, bytes) else str(key).encode())
