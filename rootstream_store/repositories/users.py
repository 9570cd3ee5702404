"""Accounts. Usernames and e-mail addresses are the same whatever their case."""

from __future__ import annotations

from collections.abc import Collection

from rootstream_store import live
from rootstream_store._limit import check_ids, check_limit
from rootstream_store.cache import Invalidate, keys
from rootstream_store.db import CachedQuery, Db, repository
from rootstream_store.errors import AuthenticationFailed, NotFound
from rootstream_store.flow import (
    Flow,
    after_commit,
    atomically,
    cached,
    compute,
    invalidating,
    maybe,
    one,
    rows,
)
from rootstream_store.queries import Query, query
from rootstream_store.records import Record, User
from rootstream_store.repositories import _live
from rootstream_store.repositories._passwords import (
    check_password,
    configure_passwords,
    hash_password,
    is_weaker,
)
from rootstream_store.repositories._unset import UNSET, Unset
from rootstream_store.secret import Secret

__all__ = [
    "activate",
    "authenticate",
    "configure_passwords",
    "create",
    "deactivate",
    "delete",
    "find_by_email",
    "find_by_username",
    "get",
    "get_by_email",
    "get_by_username",
    "get_many",
    "list_",
    "record_login",
    "set_email",
    "set_password",
    "update_profile",
    "verify",
]


class _Credentials(Record, frozen=True, kw_only=True):
    """What a login is checked against."""

    id: int
    password_hash: str
    is_active: bool

    def __repr__(self) -> str:
        return f"_Credentials(id={self.id})"


class _StreamState(Record, frozen=True, kw_only=True):
    """What is cached of a stream hangs on it."""

    id: int
    is_live: bool
    key_hash: bytes
    """SHA-256 of its stream key."""


_CREATE = query("users/create", User)
_GET = query("users/get", User)
_GET_MANY = query("users/get_many", User)
_GET_CACHED = CachedQuery(_GET, key=keys.user, ttl=keys.USER_TTL)
_GET_BY_USERNAME = query("users/get_by_username", User)
_GET_BY_EMAIL = query("users/get_by_email", User)
_LIST = query("users/list", User)
_UPDATE_PROFILE = query("users/update_profile", User)
_SET_EMAIL = query("users/set_email", User)
_SET_PASSWORD = query("users/set_password", User)
_SET_ACTIVE = query("users/set_active", User)
_VERIFY = query("users/verify", User)
_RECORD_LOGIN = query("users/record_login", User)
_FIND_CREDENTIALS = query("users/find_credentials", _Credentials)
_FINISH_LOGIN = query("users/finish_login", User)
_LOCK = query("users/lock", int)
_LOCK_STREAMS = query("users/lock_streams", int)
_LIST_STREAMS = query("users/list_streams", _StreamState)
_DELETE = query("users/delete", bytes)
_REVOKE_SESSIONS = query("sessions/revoke_all", bytes)

# A login starts again when the password's hash changed while it was being checked.
_LOGIN_ATTEMPTS = 3


@repository
def create(
    db: Db,
    *,
    username: str,
    email: str,
    password: str | Secret,
    display_name: str | None = None,
    avatar_url: str | None = None,
) -> User:
    """A new account, active and not verified.

    `username`: 1 to 64 characters. `password`: 8 to 1024 characters. Raises InvalidInput, AlreadyExists with
    the field `username` or `email`.
    """
    return db.flow(_create(username, email, password, display_name, avatar_url))


def _create(
    username: str, email: str, password: str | Secret, display_name: str | None, avatar_url: str | None
) -> Flow[User]:
    password_hash = yield from compute(hash_password, password)
    user = yield from one(
        _CREATE,
        username=username,
        email=email,
        password_hash=password_hash,
        display_name=display_name,
        avatar_url=avatar_url,
    )
    # Someone may have asked for this id before it was taken, and the cache knows for a while that it is not
    # there.
    yield from after_commit(Invalidate(keys.user(user.id)))
    return user


@repository
def get(db: Db, user_id: int) -> User:
    """The user with this id; from Redis for up to an hour, where each change renews it. Raises NotFound."""

    if not db.has_cache:  # by the short way, without steps
        return db.one(_GET, user_id=user_id)

    def steps() -> Flow[User]:
        user = yield from cached(_GET_CACHED, user_id=user_id)
        if user is None:
            raise NotFound("user", {"user_id": user_id}, query=_GET.file)
        return user

    return db.flow(steps())


@repository
def get_many(db: Db, user_ids: Collection[int]) -> list[User]:
    """The users with these ids, at most 1000, in order of id, in one round trip; ids that are not there are
    left out, and those that are given twice come once. From PostgreSQL. Raises InvalidInput."""
    return db.all(_GET_MANY, user_ids=check_ids(user_ids, "user_ids"))


@repository
def get_by_username(db: Db, username: str) -> User:
    """The user with this username. Raises NotFound."""
    return db.one(_GET_BY_USERNAME, username=username)


@repository
def get_by_email(db: Db, email: str) -> User:
    """The user with this e-mail address. Raises NotFound."""
    return db.one(_GET_BY_EMAIL, email=email)


@repository
def find_by_username(db: Db, username: str) -> User | None:
    """The user with this username, or None."""
    return db.maybe(_GET_BY_USERNAME, username=username)


@repository
def find_by_email(db: Db, email: str) -> User | None:
    """The user with this e-mail address, or None."""
    return db.maybe(_GET_BY_EMAIL, email=email)


@repository
def list_(db: Db, *, after_id: int = 0, limit: int = 100) -> list[User]:
    """Users by id, at most `limit` (1 to 1000). `after_id`: the last one's of the page before; 0: the
    first."""
    return db.all(_LIST, after_id=after_id, limit=check_limit(limit))


@repository
def update_profile(
    db: Db,
    user_id: int,
    *,
    display_name: str | Unset | None = UNSET,
    avatar_url: str | Unset | None = UNSET,
) -> User:
    """Changes what is given; None clears it. Raises NotFound, InvalidInput."""
    steps = _change(
        "profile",
        _UPDATE_PROFILE,
        user_id=user_id,
        set_display_name=display_name is not UNSET,
        display_name=None if display_name is UNSET else display_name,
        set_avatar_url=avatar_url is not UNSET,
        avatar_url=None if avatar_url is UNSET else avatar_url,
    )
    return _changed(db, user_id, steps)


@repository
def set_email(db: Db, user_id: int, email: str) -> User:
    """Changes the address; a new one is not verified. Raises NotFound, InvalidInput, AlreadyExists."""
    return _changed(db, user_id, _change("email", _SET_EMAIL, user_id=user_id, email=email))


@repository
def set_password(db: Db, user_id: int, password: str | Secret) -> User:
    """Changes the password and revokes every login session of the user.

    `password`: 8 to 1024 characters. Raises NotFound, InvalidInput.
    """
    return db.flow(_set_password(user_id, password))


def _set_password(user_id: int, password: str | Secret) -> Flow[User]:
    password_hash = yield from compute(hash_password, password)
    steps = _change_and_revoke("password", _SET_PASSWORD, user_id, password_hash=password_hash)
    return (yield from atomically(steps))


@repository
def authenticate(db: Db, *, login: str, password: str | Secret) -> User:
    """The active user with this password, whose login is noted. `login`: username or e-mail address.

    Raises AuthenticationFailed for an unknown login, a wrong password and an inactive user, never saying
    which: each takes the time of one hash. A hash that took less work than is now set is replaced on the way.
    Raises InvalidInput for text that no password or login can be (a NUL in it).
    """
    return db.flow(_authenticate(login, password))


def _authenticate(login: str, password: str | Secret) -> Flow[User]:
    for _ in range(_LOGIN_ATTEMPTS):
        found = yield from maybe(_FIND_CREDENTIALS, login=login)
        right = yield from compute(check_password, found.password_hash if found else None, password)
        if found is None or not right or not found.is_active:
            break
        stronger = None
        if is_weaker(found.password_hash):
            stronger = yield from compute(hash_password, password)
        # Only where the checked hash is still the stored one, so that a password set meanwhile stays.
        login_to_note = maybe(
            _FINISH_LOGIN, user_id=found.id, checked_hash=found.password_hash, stronger_hash=stronger
        )
        user = yield from invalidating([keys.user(found.id)], login_to_note)
        if user is not None:
            return user
    raise AuthenticationFailed("login or password is wrong")


@repository
def record_login(db: Db, user_id: int) -> User:
    """Notes a login now, one that `authenticate` had no part in. Raises NotFound."""
    return _changed(db, user_id, one(_RECORD_LOGIN, user_id=user_id))


@repository
def verify(db: Db, user_id: int) -> User:
    """Notes that the e-mail address was confirmed. Raises NotFound."""
    return _changed(db, user_id, _change("verified", _VERIFY, user_id=user_id))


@repository
def activate(db: Db, user_id: int) -> User:
    """Lets the user log in again; sessions that were revoked stay so. Raises NotFound."""
    return _changed(db, user_id, _change("activated", _SET_ACTIVE, user_id=user_id, is_active=True))


@repository
def deactivate(db: Db, user_id: int) -> User:
    """Refuses every login of the user from now on, and revokes their sessions. Raises NotFound."""
    return db.flow(_change_and_revoke("deactivated", _SET_ACTIVE, user_id, is_active=False), atomic=True)


@repository
def delete(db: Db, user_id: int) -> None:
    """Deletes the user with sessions, streams, usage and billing account; the event log stays. A broadcast on
    air ends: "ended" is published on its stream's channel. Raises NotFound."""
    return db.flow(_delete(user_id), atomic=True)


def _delete(user_id: int) -> Flow[None]:
    # Several statements: the later ones see what was made until the lock was there. The streams first: who
    # starts or stops one locks the user last, and each would wait for the other.
    yield from rows(_LOCK_STREAMS, user_id=user_id)
    yield from one(_LOCK, user_id=user_id)
    yield from after_commit(Invalidate(keys.user(user_id)))
    for stream in (yield from rows(_LIST_STREAMS, user_id=user_id)):
        known = (*_live.cached_of(stream.id), keys.stream_key(stream.key_hash))
        yield from after_commit(*map(Invalidate, known))
        if stream.is_live:
            yield from after_commit(*_live.deleted_on_air(stream.id))
    ended = yield from rows(_DELETE, user_id=user_id)
    yield from after_commit(*(effect for token in ended for effect in _live.revoked(user_id, token)))
    yield from after_commit(live.announce(live.UserUpdated(user_id=user_id, change="deleted")))


def _changed(db: Db, user_id: int, steps: Flow[User]) -> User:
    return db.flow(steps, invalidates=[keys.user(user_id)])


def _change_and_revoke(change: str, statement: Query[User], user_id: int, **params: object) -> Flow[User]:
    # In this order, as in _delete: once the change locks the row, no session can be made that is not seen
    # here.
    user = yield from _change(change, statement, user_id=user_id, **params)
    yield from after_commit(Invalidate(keys.user(user_id)))
    ended = yield from rows(_REVOKE_SESSIONS, user_id=user_id, kept_hash=None)
    yield from after_commit(*(effect for token in ended for effect in _live.revoked(user_id, token)))
    return user


def _change(change: str, statement: Query[User], **params: object) -> Flow[User]:
    """The user as changed by the statement, and all are told."""
    user = yield from one(statement, **params)
    message = live.UserUpdated(
        user_id=user.id,
        change=change,
        username=user.username,
        display_name=user.display_name,
        avatar_url=user.avatar_url,
        is_verified=user.is_verified,
        is_active=user.is_active,
        updated_at=user.updated_at,
    )
    yield from after_commit(live.announce(message))
    return user
