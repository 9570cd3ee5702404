"""rootstream_store: raw SQL in files behind typed Python functions, on PostgreSQL and Redis.

from rootstream_store import Store, users

with Store.open("postgresql:///app", "redis://localhost/0", pool_size=20) as store:
    user = users.create(store, username="ann", email="ann@example.org", password="correct horse")
"""

from rootstream_store import events, live, records
from rootstream_store.async_store import AsyncStore, AsyncTransaction
from rootstream_store.errors import (
    AlreadyExists,
    AuthenticationFailed,
    Conflict,
    DatabaseError,
    InvalidInput,
    MigrationError,
    NotFound,
    PermissionDenied,
    QueryError,
    RootStreamError,
    SettingsError,
    StoreClosed,
    Timeout,
    TooManyRows,
    Unavailable,
    VersionConflict,
)
from rootstream_store.queries import query
from rootstream_store.repositories import (
    billing,
    recordings,
    sessions,
    stream_sessions,
    streams,
    usage,
    users,
    viewers,
)
from rootstream_store.repositories._unset import UNSET
from rootstream_store.secret import Secret
from rootstream_store.settings import Settings
from rootstream_store.store import Store
from rootstream_store.transaction import Transaction
from rootstream_store.work import WorkQueue

__all__ = [
    "UNSET",
    "AlreadyExists",
    "AsyncStore",
    "AsyncTransaction",
    "AuthenticationFailed",
    "Conflict",
    "DatabaseError",
    "InvalidInput",
    "MigrationError",
    "NotFound",
    "PermissionDenied",
    "QueryError",
    "RootStreamError",
    "Secret",
    "Settings",
    "SettingsError",
    "Store",
    "StoreClosed",
    "Timeout",
    "TooManyRows",
    "Transaction",
    "Unavailable",
    "VersionConflict",
    "WorkQueue",
    "billing",
    "events",
    "live",
    "query",
    "recordings",
    "records",
    "sessions",
    "stream_sessions",
    "streams",
    "usage",
    "users",
    "viewers",
]
