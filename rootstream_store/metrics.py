"""Metrics of a store for Prometheus: what its calls cost, and how its servers are doing.

    metrics = Metrics(store, prometheus_client.REGISTRY)    # in an application that has metrics of its own
    with serve(store, 9187): ...                            # or served by itself

Units are seconds and bytes. The operating notes list every name.
"""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import prometheus_client
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import start_http_server
from prometheus_client.registry import Collector, CollectorRegistry

from rootstream_store import _server_metrics
from rootstream_store.errors import SettingsError

if TYPE_CHECKING:
    from rootstream_store.store import Store

__all__ = ["BUCKETS", "Metrics", "MetricsServer", "generate", "serve"]

BUCKETS: Final = (
    *(50e-6, 100e-6, 250e-6, 500e-6),
    *(1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds of the histogram of query times, in seconds."""


class Metrics(Collector):
    """Measures the queries of `store` until it is closed, and looks at its servers at each scrape.

    `registry`: where to appear, such as prometheus_client.REGISTRY; None: in one of its own. A store has one
    Metrics at a time. Raises SettingsError when it has one already, and when the registry has those of
    another store.
    """

    def __init__(self, store: Store, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._store = weakref.ref(store)  # so that a registry keeps no store alive
        self._series: dict[str, _Series] = {}
        self._lock = threading.Lock()
        with _of_store_lock:
            if store in _of_store:
                raise SettingsError("this store has its Metrics already: use those, or close() them first")
            try:
                self.registry.register(self)
            except ValueError as error:
                raise SettingsError(
                    "the registry has the metrics of another store: give each store a registry of its own"
                ) from error
            _of_store[store] = self
        store.observe(self._observe)
        store._on_close.append(self.close)

    def close(self) -> None:
        """Stops measuring and leaves the registry. Closing twice does nothing."""
        store = self._store()
        with _of_store_lock:
            if store is None or _of_store.get(store) is not self:
                return
            del _of_store[store]
        store.observe(None)
        self.registry.unregister(self)

    def generate(self) -> bytes:
        """Everything in the registry, in Prometheus' text format."""
        return prometheus_client.generate_latest(self.registry)

    def describe(self) -> Iterable[Metric]:
        """The names, without asking a server: for the registry, which refuses a name that it has."""
        return [*self._queries(), *_server_metrics.describe()]

    def collect(self) -> Iterable[Metric]:
        """One scrape. Never raises because a server is down."""
        store = self._store()
        if store is None:
            return
        yield from self._queries()
        yield from _server_metrics.collect(store._pool, store._cache, store._flushes)

    def _observe(self, name: str, action: Callable[[], Any]) -> Any:
        started = perf_counter()
        try:
            return action()
        except Exception as error:
            self._of(name).count_error(type(error).__name__)
            raise
        finally:
            # Written out here, a call and a look-up less: this runs around every query.
            seconds = perf_counter() - started
            series = self._series.get(name) or self._of(name)
            with series.lock:
                series.counts[bisect_left(BUCKETS, seconds)] += 1
                series.seconds += seconds

    def _of(self, name: str) -> _Series:
        with self._lock:
            return self._series.setdefault(name, _Series())

    def _queries(self) -> list[Metric]:
        times = HistogramMetricFamily(
            "rootstream_query_seconds",
            "Time of a query as its caller sees it, the wait for a connection included.",
            labels=["query"],
        )
        errors = CounterMetricFamily(
            "rootstream_query_errors",
            "Queries that ended with an error, by its class; NotFound is an answer and no error.",
            labels=["query", "error"],
        )
        with self._lock:
            series = sorted(self._series.items())
        for name, one in series:
            counts, seconds, failed = one.read()
            total = 0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, total))
            times.add_metric([name], buckets, seconds)
            for error, count in sorted(failed.items()):
                errors.add_metric([name, error], count)
        return [times, errors]


class _Series:
    """What was measured of one query. prometheus_client's own histogram takes several times as long."""

    __slots__ = ("counts", "errors", "lock", "seconds")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.errors: dict[str, int] = {}

    def count_error(self, name: str) -> None:
        with self.lock:
            self.errors[name] = self.errors.get(name, 0) + 1

    def read(self) -> tuple[list[int], float, dict[str, int]]:
        with self.lock:
            return list(self.counts), self.seconds, dict(self.errors)


class MetricsServer:
    """An HTTP server that answers each request with the metrics; made by `serve`. A context manager."""

    def __init__(self, metrics: Metrics, port: int, addr: str) -> None:
        for name, value, kind in (("port", port, int), ("addr", addr, str)):
            if type(value) is not kind:
                raise SettingsError(
                    f"{name} of the metrics must be {kind.__name__}, not {type(value).__name__}"
                )
        try:
            self._server, self._thread = start_http_server(port, addr, metrics.registry)
        except (OSError, OverflowError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"metrics cannot be served on {addr} port {port}: {reason}") from error
        self.port: int = self._server.server_port
        """The TCP port; the one that was free where 0 was asked for."""

    def close(self) -> None:
        """Stops serving. Closing twice does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def generate(store: Store) -> bytes:
    """The metrics of `store` in Prometheus' text format. Queries are measured from the first call on, or from
    when its Metrics were made."""
    return _metrics_of(store).generate()


def serve(store: Store, port: int, addr: str = "127.0.0.1") -> MetricsServer:
    """Serves the metrics of `store` over HTTP until the result is closed. `port` 0: any that is free.

    There is no login: on another address than this machine's own, whoever reaches it reads them. Raises
    SettingsError when the port cannot be had."""
    return MetricsServer(_metrics_of(store), port, addr)


_of_store: weakref.WeakKeyDictionary[Store, Metrics] = weakref.WeakKeyDictionary()
_of_store_lock = threading.Lock()


def _metrics_of(store: Store) -> Metrics:
    with _of_store_lock:
        found = _of_store.get(store)
    return found if found is not None else Metrics(store)
