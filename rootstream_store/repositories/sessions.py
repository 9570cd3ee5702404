"""Login sessions. The client has the token, the database only its SHA-256.

Times are those of the database's clock.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from ipaddress import ip_address as parse_ip_address
from typing import Final

import msgspec

from rootstream_store import live
from rootstream_store._limit import check_limit
from rootstream_store.cache import keys
from rootstream_store.db import CachedQuery, Db, repository
from rootstream_store.errors import AuthenticationFailed, InvalidInput, PermissionDenied
from rootstream_store.flow import Flow, after_commit, cached, maybe, one, rows, run
from rootstream_store.queries import Query, query
from rootstream_store.records import CreatedSession, Session, User
from rootstream_store.repositories import _live
from rootstream_store.secret import Secret

__all__ = [
    "DEFAULT_LIFETIME",
    "MAX_LIFETIME",
    "create",
    "delete_expired",
    "list_active",
    "revoke",
    "revoke_all",
    "revoke_hash",
    "touch",
    "validate",
]

DEFAULT_LIFETIME: Final = timedelta(hours=24)
MAX_LIFETIME: Final = timedelta(days=3650)

_CREATE = query("sessions/create", Session)
_GET_USER = query("users/get", User)
_VALIDATE = CachedQuery(
    query("sessions/validate", Session),
    key=keys.session,
    ttl=keys.SESSION_TTL,
    expires=lambda session: session.expires_at,
)
_TOUCH = query("sessions/touch", Session)
_REVOKE = query("sessions/revoke", int)
_REVOKE_ALL = query("sessions/revoke_all", bytes)
_LIST_ACTIVE = query("sessions/list_active", Session)
_DELETE_EXPIRED: Query[None] = query("sessions/delete_expired")


@repository
def create(
    db: Db,
    user_id: int,
    *,
    lifetime: timedelta = DEFAULT_LIFETIME,
    device_id: str | None = None,
    user_agent: str | None = None,
    ip_address: str | IPv4Address | IPv6Address | None = None,
) -> CreatedSession:
    """A new login session, with the token that its client presents from now on; it can never be shown again.

    `lifetime`: above 0, at most 3650 days. Raises NotFound for an unknown user, PermissionDenied for an
    inactive one, InvalidInput.
    """
    if not isinstance(lifetime, timedelta) or not timedelta(0) < lifetime <= MAX_LIFETIME:
        raise InvalidInput(
            "lifetime", f"must be a time span above 0 of at most {MAX_LIFETIME.days} days", lifetime
        )
    return db.flow(_create(user_id, lifetime, device_id, user_agent, _address(ip_address)))


def _create(
    user_id: int,
    lifetime: timedelta,
    device_id: str | None,
    user_agent: str | None,
    address: IPv4Address | IPv6Address | None,
) -> Flow[CreatedSession]:
    token = Secret.generate()
    session = yield from maybe(
        _CREATE,
        user_id=user_id,
        token_hash=_digest(token),
        lifetime=lifetime,
        device_id=device_id,
        user_agent=user_agent,
        ip_address=address,
    )
    if session is None:
        user = yield from one(_GET_USER, user_id=user_id)
        raise PermissionDenied(f"user {user.id} is inactive and may not log in", query=_CREATE.file)
    created = live.SessionCreated(
        user_id=user_id,
        session_id=live.session_id(session.token_hash),
        expires_at=session.expires_at,
        device_id=device_id,
    )
    yield from after_commit(live.announce(created))
    return CreatedSession(**msgspec.structs.asdict(session), token=token)


@repository
def validate(db: Db, token: str | Secret) -> Session:
    """The session of this token, from Redis where it is known there.

    Its `last_activity` is then as of when it was cached. Raises AuthenticationFailed when the token is
    unknown, expired or revoked or its user inactive, never saying which.
    """
    return db.flow(_validate(_digest(token)))


def _validate(token_hash: bytes) -> Flow[Session]:
    session = yield from cached(_VALIDATE, token_hash=token_hash)
    if session is not None and session.expires_at <= datetime.now(UTC):
        # Redis may keep it a little longer than it lives, or our clock is wrong: the database decides.
        session = yield from maybe(_VALIDATE.query, token_hash=token_hash)
    return _accepted(session)


@repository
def touch(db: Db, token: str | Secret) -> Session:
    """Notes that the session is in use now. Raises AuthenticationFailed as `validate` does.

    What `validate` has cached is not dropped for it: a touch for each request would leave nothing cached.
    """
    return db.flow(_touch(_digest(token)))


def _touch(token_hash: bytes) -> Flow[Session]:
    return _accepted((yield from maybe(_TOUCH, token_hash=token_hash)))


@repository
def revoke(db: Db, token: str | Secret) -> None:
    """Ends the session. Raises NotFound when there is none with this token, or it was ended before."""
    return revoke_hash(db, _digest(token))


@repository
def revoke_hash(db: Db, token_hash: bytes) -> None:
    """Ends the session with this `token_hash`, such as `list_active` shows of another device. Raises
    NotFound."""
    return db.flow(_revoke(token_hash), invalidates=[keys.session(token_hash)])


def _revoke(token_hash: bytes) -> Flow[None]:
    user_id = yield from one(_REVOKE, token_hash=token_hash)
    message = live.SessionRevoked(user_id=user_id, session_id=live.session_id(token_hash))
    yield from after_commit(live.announce(message))


@repository
def revoke_all(db: Db, user_id: int, *, except_token: str | Secret | None = None) -> int:
    """Ends all sessions of the user but that of `except_token`; returns how many."""
    kept_hash = None if except_token is None else _digest(except_token, "except_token")
    return db.flow(_revoke_all(user_id, kept_hash), atomic=True)


def _revoke_all(user_id: int, kept_hash: bytes | None) -> Flow[int]:
    ended = yield from rows(_REVOKE_ALL, user_id=user_id, kept_hash=kept_hash)
    yield from after_commit(*(effect for token in ended for effect in _live.revoked(user_id, token)))
    return len(ended)


@repository
def list_active(db: Db, user_id: int, *, before: Session | None = None, limit: int = 100) -> list[Session]:
    """The good sessions of a user, newest first, at most `limit` (1 to 1000). Empty for an unknown or
    inactive user. `before`: the last one of the page before; None: from the newest. Raises InvalidInput."""
    if before is not None and not isinstance(before, Session):
        # Not shown: it may be a token.
        raise InvalidInput("before", "must be a Session")
    return db.all(
        _LIST_ACTIVE,
        user_id=user_id,
        before_created_at=before.created_at if before else None,
        before_hash=before.token_hash if before else None,
        limit=check_limit(limit),
    )


@repository
def delete_expired(db: Db, *, batch: int = 1000) -> int:
    """Deletes all expired sessions, `batch` (1 to 10000) in a statement; returns how many. On a Store each
    batch is committed by itself."""
    return db.flow(_delete_expired(check_limit(batch, "batch", 10_000)))


def _delete_expired(batch: int) -> Flow[int]:
    total = 0
    while True:
        deleted = yield from run(_DELETE_EXPIRED, batch=batch)
        total += deleted
        # Not at the first batch that is not full: another process may have taken a part of it.
        if not deleted:
            return total


def _accepted(session: Session | None) -> Session:
    if session is None:
        raise AuthenticationFailed("the token is not that of a good session")
    return session


def _digest(token: str | Secret, field: str = "token") -> bytes:
    """The SHA-256 that names a session. Any text has one, so that a strange token is merely unknown."""
    text = token.reveal() if isinstance(token, Secret) else token
    if not isinstance(text, str):
        raise InvalidInput(field, "must be text or a Secret")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _address(given: object) -> IPv4Address | IPv6Address | None:
    if given is None:
        return None
    if isinstance(given, str | IPv4Address | IPv6Address):
        try:
            address = parse_ip_address(str(given))
        except ValueError:
            pass
        else:
            # A zone ("%eth0") means something on the machine it came from only, and PostgreSQL refuses it.
            if getattr(address, "scope_id", None) is None:
                return address
    raise InvalidInput("ip_address", "must be an IPv4 or IPv6 address", given)
