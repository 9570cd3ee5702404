"""Which node of a Redis Cluster serves a slot, kept up to date beside the calls.

No call waits for a map that is being looked up again: it fails, is answered from PostgreSQL, and finds the
new map later. Each node has a breaker of its own, so that one that is down costs the others nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis

from rootstream_store.cache._connections import Address
from rootstream_store.cache._limits import LIMITS, require_time, within
from rootstream_store.cache.breaker import Breaker

__all__ = ["Node", "NodeSkipped", "Nodes"]

_T = TypeVar("_T")
_SLOTS = 16384
_REDIRECTIONS = 4
_ClusterDown = redis.exceptions.ClusterDownError
_PAUSE = 0.2
"""Seconds between two looks at the map while a node is down."""


class NodeSkipped(redis.ConnectionError):
    """The node has failed a moment ago and is not tried now."""


class Node:
    """One server, its connections and its breaker."""

    def __init__(self, address: Address, client: redis.Redis, retry_after: float) -> None:
        self.address = address
        self.client = client
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        self.breaker = Breaker(retry_after, f"redis://{host}:{address[1]}")


class Nodes:
    """Thread-safe. `make` makes a client for an address; `timeout` and `retry_after` in seconds."""

    def __init__(
        self,
        seeds: Sequence[Address],
        make: Callable[[Address], redis.Redis],
        *,
        timeout: float,
        retry_after: float,
    ) -> None:
        self._seeds = tuple(seeds)
        self._make = make
        self._timeout = timeout
        self._retry_after = retry_after
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._nodes: dict[Address, Node] = {}
        self._owners: list[Node | None] = [None] * _SLOTS
        self._known = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self.opened: Callable[[Any], None] | None = None
        """As that of a Pool, for the pools of all nodes."""

    def serving(self) -> list[Node]:
        """The nodes that serve slots, as far as is known without asking."""
        return list({id(node): node for node in self._owners if node is not None}.values())

    def primaries(self) -> list[Node]:
        """The nodes that serve slots, as far as is known. Looks the map up first where nothing is. Raises
        redis.ConnectionError."""
        self._require_map()
        return self.serving()

    def known(self) -> list[Node]:
        """All nodes that were ever spoken to."""
        with self._lock:
            return list(self._nodes.values())

    def uncovered(self) -> int:
        """How many slots nobody serves, as far as is known."""
        return sum(node is None for node in self._owners)

    def locate(self) -> Address:
        """The address of a node that works, for what may be done on any node. Raises
        redis.ConnectionError."""
        nodes = self.primaries()
        return min(nodes, key=lambda node: node.breaker.state != "closed").address

    def at(self, slot: int) -> Node:
        """The node that serves this slot. Raises redis.ConnectionError when nobody does or nobody says."""
        self._require_map()
        node = self._owners[slot]
        if node is None:
            self.look_soon()
            raise redis.ConnectionError(f"no node of the cluster serves slot {slot}")
        return node

    def run(self, node: Node, attempt: Callable[[redis.Redis, bool], _T]) -> _T:
        """What `attempt` returns on this node, or on the one it is redirected to: what was redirected was not
        done. The second argument of `attempt`: whether ASKING has to be sent before it. Raises redis-py's
        errors."""
        asking = False
        for _ in range(_REDIRECTIONS):
            try:
                return self._once(node, attempt, asking)
            except redis.exceptions.AskError as error:
                node, asking = self.redirect(node, error)
        raise redis.ConnectionError("the nodes of the cluster redirect to each other")

    def redirect(self, node: Node, error: redis.exceptions.AskError) -> tuple[Node, bool]:
        """The node that the error (a MOVED or an ASK of `node`) points to, and whether to send ASKING there.
        A MOVED is remembered."""
        target = self._node((error.host or node.address[0], error.port))
        if isinstance(error, redis.exceptions.MovedError):
            self._owners[error.slot_id] = target
            self.look_soon()
            return target, False
        return target, True

    def _once(self, node: Node, attempt: Callable[[redis.Redis, bool], _T], asking: bool) -> _T:
        permit = node.breaker.enter(insist=LIMITS.insist)
        if permit is None:
            raise NodeSkipped(f"{node.address[0]}:{node.address[1]} has failed: {node.breaker.last_error}")
        try:
            result = attempt(node.client, asking)
        except (redis.exceptions.AskError, redis.exceptions.NoScriptError):
            permit.succeeded()
            raise
        except redis.RedisError as error:
            permit.failed(error)
            if not isinstance(error, redis.ResponseError) or isinstance(error, _ClusterDown):
                self.look_soon()
            raise
        except BaseException:
            permit.abandoned()
            raise
        permit.succeeded()
        return result

    # Looking at the map

    def _require_map(self) -> None:
        if not self._known:
            if not self._looking.acquire(timeout=require_time(self._timeout)):
                raise redis.TimeoutError("the map of the cluster is being looked up")
            try:
                if not self._known:
                    self._look()
            finally:
                self._looking.release()

    def look_soon(self) -> None:
        """Have the map looked up again, beside the calls."""
        with self._lock:
            if self._closed.is_set() or (
                self._thread is not None and self._thread.is_alive() and self._process == os.getpid()
            ):
                return
            thread = threading.Thread(target=self._keep_looking, name="rootstream-cluster", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # No more threads, or the interpreter is ending: the next failure asks again.
            self._thread, self._process = thread, os.getpid()

    def close(self) -> None:
        """Stop looking. May be repeated."""
        self._closed.set()
        thread = self._thread if self._process == os.getpid() else None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _keep_looking(self) -> None:
        while not self._closed.is_set():
            try:
                with self._looking, within(4 * self._timeout):
                    self._look()
            except redis.RedisError:
                well = False  # told by whoever calls
            else:
                well = all(node is not None and node.breaker.state == "closed" for node in self._owners)
            if well or self._closed.wait(_PAUSE):
                return

    def _look(self) -> None:
        """Ask one node after the other for the map, those that work first."""
        with self._lock:
            nodes = sorted(self._nodes.values(), key=lambda node: node.breaker.state != "closed")
        nodes += [node for seed in self._seeds if (node := self._node(seed)) not in nodes]
        problem: redis.RedisError | None = None
        for number, node in enumerate(nodes, 1):
            whole = require_time(self._timeout)
            command: Callable[..., Any] = node.client.execute_command
            try:
                with within(whole if number == len(nodes) else max(whole / 2, 0.001)):
                    reply = command("CLUSTER SLOTS")
            except redis.ResponseError as error:
                problem = redis.ConnectionError(f"no map of the cluster: {type(error).__name__} {error}")
                continue
            except redis.RedisError as error:
                problem = error
                continue
            self._take(node, reply)
            return
        assert problem is not None
        raise problem

    def _take(self, teller: Node, reply: Any) -> None:
        owners: list[Node | None] = [None] * _SLOTS
        for first, last, primary, *_ in reply:
            host = primary[0].decode() if isinstance(primary[0], bytes) else primary[0]
            # A node that does not know its own address leaves it out.
            known = host if host and host != "?" else teller.address[0]
            node = self._node((known, int(primary[1])))
            owners[first : last + 1] = [node] * (last - first + 1)
        self._owners = owners
        self._known = True

    def _node(self, address: Address) -> Node:
        with self._lock:
            node = self._nodes.get(address)
            if node is None:
                client: Any = self._make(address)
                client.connection_pool.opened = self.opened
                node = self._nodes[address] = Node(address, client, self._retry_after)
            return node
