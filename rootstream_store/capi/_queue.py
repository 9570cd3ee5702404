"""The writers of the queues that stores have, as capi/async.c calls them."""

from __future__ import annotations

import importlib

from rootstream_store.capi._writer import Writer
from rootstream_store.store import Store

__all__ = ["abort", "start"]

_writers: dict[int, Writer] = {}
"""By the address of the queue."""


def start(store: Store, pointer: int) -> None:
    """Starts the writer of the queue at this address, of which it gives up one holder at its end."""
    # Made by cffi inside the library, which is the only one that calls this.
    native = importlib.import_module("_rootstream_store_capi")
    queue = native.ffi.cast("rssq_queue *", pointer)
    writer = _writers[pointer] = Writer(
        native.ffi, native.lib, queue, store, ended=lambda: _writers.pop(pointer, None)
    )
    try:
        writer.start()
    except BaseException:
        del _writers[pointer]
        raise


def abort(store: Store, pointer: int) -> None:
    """Makes the writer of the queue at this address, if it still runs, stop waiting for a server."""
    writer = _writers.get(pointer)
    if writer is not None:
        writer.abort()
