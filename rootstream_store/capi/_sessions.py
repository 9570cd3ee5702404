"""Login sessions, where C's arguments or results are not those of the repository."""

from __future__ import annotations

from datetime import datetime, timedelta

from rootstream_store.db import Db
from rootstream_store.records import Session
from rootstream_store.repositories import sessions

__all__ = ["create", "list_active"]


def create(
    db: Db,
    user_id: int,
    *,
    lifetime: timedelta,
    device_id: str | None,
    user_agent: str | None,
    ip_address: str | None,
) -> tuple[Session, str]:
    """As sessions.create; the token apart."""
    made = sessions.create(
        db,
        user_id,
        lifetime=lifetime,
        device_id=device_id,
        user_agent=user_agent,
        ip_address=ip_address,
    )
    return made, made.token.reveal()


def list_active(
    db: Db, user_id: int, before_created_at: datetime | None, before_hash: bytes | None, limit: int
) -> list[Session]:
    """As sessions.list_active, with what names the last session of the page before."""
    before = None
    if before_created_at is not None and before_hash is not None:
        # Only these two are looked at.
        before = Session(
            token_hash=before_hash,
            user_id=user_id,
            device_id=None,
            user_agent=None,
            ip_address=None,
            created_at=before_created_at,
            expires_at=before_created_at,
            last_activity=before_created_at,
            is_active=True,
        )
    return sessions.list_active(db, user_id, before=before, limit=limit)
