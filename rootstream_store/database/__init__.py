"""PostgreSQL: a pool of connections, running one query, translating errors."""

from rootstream_store.database._connection import Connection, conninfo
from rootstream_store.database._deadline import settle
from rootstream_store.database._execute import (
    copy_rows,
    execute,
    fetch_all,
    fetch_one,
    fetch_rows,
    fetch_up_to_one,
    stream_rows,
)
from rootstream_store.database._loop_pool import LoopPool
from rootstream_store.database._pool import Pool
from rootstream_store.database._raw import RawRows, run_raw
from rootstream_store.database._translate import READ_ONLY, close_if_useless, translate

__all__ = [
    "READ_ONLY",
    "Connection",
    "LoopPool",
    "Pool",
    "RawRows",
    "close_if_useless",
    "conninfo",
    "copy_rows",
    "execute",
    "fetch_all",
    "fetch_one",
    "fetch_rows",
    "fetch_up_to_one",
    "run_raw",
    "settle",
    "stream_rows",
    "translate",
]
