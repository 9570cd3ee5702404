"""Rows that tests need but are not about. Each call makes a new one; keyword arguments say what matters."""

from __future__ import annotations

import itertools
from typing import Any, Final

from rootstream_store.db import Db
from rootstream_store.queries import query
from rootstream_store.records import CreatedStream, StreamSession, User

__all__ = ["PASSWORD", "PASSWORD_HASH", "make_stream", "make_stream_session", "make_user"]

PASSWORD: Final = "correct horse battery"
"""The password of every user made here, unless said otherwise."""
PASSWORD_HASH: Final = (
    "$argon2id$v=19$m=8,t=1,p=1$rgz8Y6FB5D+opBGcIOm8Lg$q8q04qdMdUjFDFTaSlyb+Kvuo4/H05aE+LRupTW+4uw"
)
"""PASSWORD at the least cost there is: a hash at full cost for each user would be most of a test's time."""

_CREATE_USER = query("users/create", User)
_numbers = itertools.count(1)


def make_user(db: Db, **over: Any) -> User:
    """An active user with a name of its own. `over`: username, email, display_name, avatar_url,
    password_hash."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "username": f"user{number}",
        "email": f"user{number}@example.com",
        "password_hash": PASSWORD_HASH,
        "display_name": None,
        "avatar_url": None,
    }
    return db.one(_CREATE_USER, **{**values, **over})


def make_stream(db: Db, user_id: int | None = None, **over: Any) -> CreatedStream:
    """A stream off air. None as `user_id`: of a user made for it. `over`: what streams.create takes."""
    from rootstream_store.repositories import streams

    owner = make_user(db).id if user_id is None else user_id
    return streams.create(db, owner, **{"name": f"stream {next(_numbers)}", **over})


def make_stream_session(db: Db, stream_id: int | None = None, **over: Any) -> StreamSession:
    """A time on air, still open. None as `stream_id`: of a stream made for it. `over`: what streams.start
    takes."""
    from rootstream_store.repositories import streams

    stream = make_stream(db).id if stream_id is None else stream_id
    return streams.start(db, stream, **over)
