"""Streams, where the repository gives a Secret."""

from __future__ import annotations

from typing import Any

from rootstream_store.db import Db
from rootstream_store.records import Stream
from rootstream_store.repositories import streams

__all__ = ["create", "get_key", "rotate_key"]


def create(db: Db, user_id: int, **values: Any) -> tuple[Stream, str]:
    """As streams.create; the key apart."""
    made = streams.create(db, user_id, **values)
    return made, made.stream_key.reveal()


def get_key(db: Db, stream_id: int) -> str:
    """As streams.get_key."""
    return streams.get_key(db, stream_id).reveal()


def rotate_key(db: Db, stream_id: int) -> str:
    """As streams.rotate_key."""
    return streams.rotate_key(db, stream_id).reveal()
