"""redis-py's cluster client for `store.redis`, with its waits bounded and its repetitions off.

The store itself does not use it: see _cluster_wire.py.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, ClusterPipeline, PipelineStrategy
from redis.retry import Retry

from rootstream_store.cache._cluster import Nodes
from rootstream_store.cache._connections import CONNECTIONS, Address, Pool
from rootstream_store.cache._limits import within

__all__ = ["ClusterClient"]

_REDIRECTED = (redis.exceptions.AskError, redis.exceptions.TryAgainError)  # MOVED is an AskError


class _Pool(Pool):
    """redis-py closes the free connections of a failed node: done here without touching those in use."""

    def disconnect_free_connections(self, moving_address_src: str | None = None) -> None:
        self.close_idle()


class _Once(PipelineStrategy):
    """redis-py's pipeline sends again what got no answer; here only what a node redirected."""

    def _send_cluster_commands(
        self, stack: Any, raise_on_error: bool = True, allow_redirections: bool = True
    ) -> list[Any]:
        parent: Any = super()
        answered = parent._send_cluster_commands(stack, raise_on_error=False, allow_redirections=False)
        for place, command in enumerate(sorted(stack, key=lambda queued: queued.position)):
            if isinstance(command.result, _REDIRECTED):
                try:
                    pipe: Any = self._pipe
                    command.result = pipe.parent_execute_command(*command.args, **command.options)
                except redis.RedisError as error:
                    command.result = error
                answered[place] = command.result
        if raise_on_error:
            for reply in answered:
                if isinstance(reply, Exception):
                    raise reply
        return list(answered)


class ClusterClient(redis.RedisCluster):
    """Connects on first use, where redis-py does it when the object is made. Takes `nodes` along for the
    store's own traffic."""

    RedisClusterRequestTTL = 4

    def __init__(
        self,
        nodes: Nodes,
        scheme: str,
        seeds: Sequence[Address],
        *,
        timeout: float,
        max_connections: int,
        options: dict[str, Any],
    ) -> None:
        self.rootstream_nodes = nodes
        self.rootstream_scheme = scheme
        self.rootstream_options = options
        self._rootstream_start = threading.RLock()
        self._rootstream_started = self._rootstream_starting = False
        self._rootstream_longest = 2.2 * timeout
        node: Any = ClusterNode
        host = f"[{seeds[0][0]}]" if ":" in seeds[0][0] else seeds[0][0]
        self._rootstream_arguments: dict[str, Any] = {
            # By a URL, since only then redis-py takes our pool.
            "url": f"redis://{host}:{seeds[0][1]}",
            "startup_nodes": [node(*seed) for seed in seeds[1:]],
            "retry": Retry(NoBackoff(), 0),
            "require_full_coverage": False,
            "connection_pool_class": _Pool,
            "connection_class": CONNECTIONS[scheme],
            "max_connections": max_connections,
            "timeout": timeout,
            **{name: value for name, value in options.items() if name != "retry"},
        }

    def __getattr__(self, name: str) -> Any:
        # Called for what is not there: everything that the constructor of redis-py sets.
        if name.startswith("_rootstream") or self._rootstream_started:
            raise AttributeError(name)
        with self._rootstream_start:
            if self._rootstream_starting:  # by this very thread: the constructor looks for it in vain
                raise AttributeError(name)
            if not self._rootstream_started:
                self._rootstream_starting = True
                try:
                    with within(self._rootstream_longest):
                        super().__init__(**self._rootstream_arguments)
                except redis.exceptions.RedisClusterException as error:
                    raise redis.ConnectionError(str(error)) from error
                finally:
                    self._rootstream_starting = False
                self._rootstream_started = True
        return getattr(self, name)

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """One command, within 2.2 times the timeout in all."""
        parent: Any = super()
        with within(self._rootstream_longest):
            return parent.execute_command(*args, **kwargs)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> ClusterPipeline:
        """As redis-py's, but nothing that got no answer is sent again."""
        parent: Any = super()
        pipe: ClusterPipeline = parent.pipeline(transaction, shard_hint)
        if not transaction:
            pipe._execution_strategy = _Once(pipe)
        return pipe

    def close_idle(self) -> None:
        """Close the connections that nobody uses, those of the store's own traffic too."""
        pools: list[Any] = [node.client.connection_pool for node in self.rootstream_nodes.known()]
        if self._rootstream_started:
            manager: Any = self.nodes_manager
            clients = [node.redis_connection for node in list(manager.nodes_cache.values())]
            pools += [client.connection_pool for client in clients if client is not None]
        for pool in pools:
            pool.close_idle()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self.close_idle()

    def __repr__(self) -> str:
        return f"<ClusterClient of {self._rootstream_arguments['url']} and others>"
