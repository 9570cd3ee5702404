"""PostgreSQL: a pool of connections, running one query, translating errors."""

from rootstream_store.database._connection import Connection, conninfo
from rootstream_store.database._deadline import settle
from rootstream_store.database._execute import (
    copy_rows,
    execute,
    fetch_all,
    fetch_one,
    fetch_up_to_one,
    rows_of,
    stream_rows,
)
from rootstream_store.database._loop_pool import LoopPool
from rootstream_store.database._pool import Pool
from rootstream_store.database._prepared import Exchange, Prepared, exchange_by
from rootstream_store.database._raw import RawRows, run_raw
from rootstream_store.database._together import Together
from rootstream_store.database._translate import READ_ONLY, close_if_useless, translate

__all__ = [
    "READ_ONLY",
    "Connection",
    "Exchange",
    "LoopPool",
    "Pool",
    "Prepared",
    "RawRows",
    "Together",
    "close_if_useless",
    "conninfo",
    "copy_rows",
    "exchange_by",
    "execute",
    "fetch_all",
    "fetch_one",
    "fetch_up_to_one",
    "rows_of",
    "run_raw",
    "settle",
    "stream_rows",
    "translate",
]
