"""The queue by itself: its C compiled without the library around it, and its writer in this process."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from cffi import FFI

from rootstream_store import Store
from rootstream_store.capi._writer import Writer

__all__ = ["CAPI", "HERE", "SOURCES", "Queue", "compile_c", "load"]

HERE = Path(__file__).parent
CAPI = HERE.parents[2] / "capi"
SOURCES = [
    CAPI / f"{name}.c"
    for name in ("ring", "park", "queue", "queue_writer", "batch", "copy", "payload", "coalesce")
]
_STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g")

_PRODUCERS = """
typedef struct { const void *data; size_t size; } rssq_part;
typedef struct {
    int64_t user_id; uint32_t data_size; uint32_t metadata_size; uint16_t type_size; uint16_t id_size;
    uint16_t event_type_size; uint8_t has_user; uint8_t has_metadata;
} rssq_event;
typedef struct {
    uint64_t events_accepted, events_stored, events_rejected, events_dropped, events_refused, events_waiting;
    uint64_t stats_accepted, stats_stored, stats_rejected, stats_dropped, stats_refused, stats_waiting;
    uint64_t batches, reconnects, events_room, events_used;
    int32_t is_failing;
    int32_t is_cut;
    char error[256];
} rssq_counts;
rssq_queue *rssq_queue_new(size_t event_bytes, size_t stats_bytes, int policy, int64_t block_us);
void rssq_queue_hold(rssq_queue *queue);
void rssq_queue_let_go(rssq_queue *queue);
void rssq_queue_close(rssq_queue *queue);
int rssq_queue_put_event(rssq_queue *queue, const rssq_part *parts, int count);
int rssq_queue_put_stats(rssq_queue *queue, const rssq_stats *stats);
int rssq_queue_flush(rssq_queue *queue, int64_t timeout_us);
void rssq_queue_count(rssq_queue *queue, rssq_counts *counts);
void rssq_queue_stop(rssq_queue *queue);
int rssq_queue_wait_gone(rssq_queue *queue, int64_t timeout_us);
"""


def compile_c(output: Path, *sources: Path, options: Sequence[str] = ("-O2",)) -> Path:
    """A program, or with -shared a library, of these and of the queue. Warnings are errors."""
    command = ["gcc", *_STRICT, *options, f"-I{CAPI}", *sources, *SOURCES, "-lpthread", "-o", output]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


def load(library: Path) -> tuple[Any, Any]:
    """cffi's view of a library of the queue."""
    ffi = FFI()
    ffi.cdef((CAPI / "queue.cdef").read_text())
    ffi.cdef(_PRODUCERS)
    return ffi, ffi.dlopen(str(library))


class Queue:
    """A queue with a writer on `store`, or without one. A context manager."""

    def __init__(
        self,
        native: tuple[Any, Any],
        store: Store | None,
        *,
        event_bytes: int = 1 << 20,
        policy: int = 1,
        block: float = 30.0,
    ) -> None:
        self.ffi, self.lib = native
        self.pointer = self.lib.rssq_queue_new(event_bytes, 1 << 16, policy, round(block * 1e6))
        self.writer: Writer | None = None
        if store is not None:
            self.start(store)

    def start(self, store: Store) -> None:
        self.lib.rssq_queue_hold(self.pointer)
        self.writer = Writer(self.ffi, self.lib, self.pointer, store)
        self.writer.start()

    def put(
        self,
        aggregate_id: str | bytes,
        data: object,
        *,
        aggregate_type: str | bytes = "stream",
        event_type: str | bytes = "Tick",
        metadata: object = None,
        user_id: int | None = None,
    ) -> int:
        """0, or the code of the queue. `data` and `metadata`: bytes as they are, else as JSON."""
        texts = [
            text.encode() if isinstance(text, str) else text
            for text in (aggregate_type, aggregate_id, event_type)
        ]
        texts += [data if isinstance(data, bytes) else msgspec.json.encode(data)]
        if metadata is not None:
            texts += [metadata if isinstance(metadata, bytes) else msgspec.json.encode(metadata)]
        sizes = [len(text) for text in texts]
        head = self.ffi.new(
            "rssq_event *",
            {
                "user_id": user_id or 0,
                "has_user": user_id is not None,
                "type_size": sizes[0],
                "id_size": sizes[1],
                "event_type_size": sizes[2],
                "data_size": sizes[3],
                "has_metadata": metadata is not None,
                "metadata_size": sizes[4] if metadata is not None else 0,
            },
        )
        kept = [self.ffi.from_buffer(text) for text in texts]
        parts = self.ffi.new(
            "rssq_part[]", [(head, self.ffi.sizeof(head[0])), *zip(kept, sizes, strict=True)]
        )
        code: int = self.lib.rssq_queue_put_event(self.pointer, parts, len(parts))
        return code

    def report(
        self, stream_id: int, *, viewers: int = -1, bitrate: int = -1, fps: float = 0.0, count: int = 0
    ) -> int:
        """Stats of a stream. 0, or the code of the queue."""
        stats = self.ffi.new("rssq_stats *", (stream_id, viewers, bitrate, fps, count))
        code: int = self.lib.rssq_queue_put_stats(self.pointer, stats)
        return code

    def flush(self, seconds: float = 30.0) -> bool:
        """Whether all that was put in came to its end in time."""
        return bool(self.lib.rssq_queue_flush(self.pointer, round(seconds * 1e6)) == 0)

    def counts(self) -> Mapping[str, Any]:
        counts = self.ffi.new("rssq_counts *")
        self.lib.rssq_queue_count(self.pointer, counts)
        found = {name: getattr(counts, name) for name, _ in self.ffi.typeof(counts[0]).fields}
        return found | {"error": self.ffi.string(counts.error).decode()}

    def stop(self, seconds: float = 10.0) -> bool:
        """Stops the writer, whatever is left; whether it went in time."""
        self.lib.rssq_queue_close(self.pointer)
        self.lib.rssq_queue_stop(self.pointer)
        return self.writer is None or self.lib.rssq_queue_wait_gone(self.pointer, round(seconds * 1e6)) == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.stop(0.5 if kind else 10.0):
            assert self.writer is not None
            self.writer.abort()
            assert self.lib.rssq_queue_wait_gone(self.pointer, 10_000_000) == 0, "the writer hangs"
        self.lib.rssq_queue_let_go(self.pointer)
