"""Users, login sessions, billing, usage."""

from __future__ import annotations

from datetime import UTC, datetime

from rootstream_store import billing, maintenance, sessions, usage, users
from rootstream_store.repositories.usage import UsageEntry

from ....factories import PASSWORD, make_user
from .._world import PAGE, World
from ._case import collect, fresh, steady

__all__ = ["ACCOUNTS"]

SINCE = datetime(2020, 1, 1, tzinfo=UTC)
UNTIL = datetime(2100, 1, 1, tzinfo=UTC)


def _number(_: object, world: World) -> int:
    return next(world.numbers)


ACCOUNTS = collect(
    steady("users.get", lambda db, w: users.get(db, w.user_id)),
    steady("users.get_many", lambda db, w: users.get_many(db, range(1, 101))),
    steady("users.get_by_username", lambda db, w: users.get_by_username(db, w.username)),
    steady("users.get_by_email", lambda db, w: users.get_by_email(db, w.email)),
    steady("users.find_by_username", lambda db, w: users.find_by_username(db, w.username)),
    steady("users.find_by_email", lambda db, w: users.find_by_email(db, w.email)),
    steady("users.list_", lambda db, w: users.list_(db, limit=PAGE)),
    fresh(
        "users.create",
        _number,
        lambda db, n: users.create(db, username=f"new{n}", email=f"new{n}@example.org", password=PASSWORD),
    ),
    steady("users.update_profile", lambda db, w: users.update_profile(db, w.other_id, display_name="Ann")),
    steady("users.set_email", lambda db, w: users.set_email(db, w.other_id, "other@example.org")),
    steady("users.set_password", lambda db, w: users.set_password(db, w.idle_id, PASSWORD)),
    steady("users.authenticate", lambda db, w: users.authenticate(db, login=w.username, password=PASSWORD)),
    steady("users.record_login", lambda db, w: users.record_login(db, w.other_id)),
    steady("users.verify", lambda db, w: users.verify(db, w.other_id)),
    steady("users.deactivate", lambda db, w: users.deactivate(db, w.idle_id)),
    steady("users.activate", lambda db, w: users.activate(db, w.idle_id)),
    fresh("users.delete", lambda tx, w: make_user(tx).id, users.delete),
    fresh("sessions.create", lambda tx, w: w.other_id, sessions.create),
    steady("sessions.validate", lambda db, w: sessions.validate(db, w.token)),
    steady("sessions.touch", lambda db, w: sessions.touch(db, w.token)),
    fresh("sessions.revoke", lambda tx, w: sessions.create(tx, w.other_id).token, sessions.revoke),
    fresh(
        "sessions.revoke_hash",
        lambda tx, w: sessions.create(tx, w.other_id).token_hash,
        sessions.revoke_hash,
    ),
    fresh(
        "sessions.revoke_all",
        lambda tx, w: sessions.create(tx, make_user(tx).id).user_id,
        sessions.revoke_all,
    ),
    steady("sessions.list_active", lambda db, w: sessions.list_active(db, w.user_id, limit=PAGE)),
    steady("sessions.delete_expired", lambda db, w: sessions.delete_expired(db)),
    fresh("billing.open", lambda tx, w: make_user(tx).id, billing.open),
    steady("billing.get", lambda db, w: billing.get(db, w.user_id)),
    steady("billing.set_tier", lambda db, w: billing.set_tier(db, w.user_id, "pro")),
    steady(
        "billing.set_payment_method", lambda db, w: billing.set_payment_method(db, w.user_id, "card 4242")
    ),
    steady("billing.get_quota", lambda db, w: billing.get_quota(db, w.user_id)),
    fresh("billing.delete", lambda tx, w: billing.open(tx, make_user(tx).id).user_id, billing.delete),
    steady(
        "usage.log",
        lambda db, w: usage.log(db, w.other_id, event_type="viewer_leave", bytes_transferred=1_000_000),
    ),
    steady(
        "usage.log_many",
        lambda db, w: usage.log_many(db, [UsageEntry(user_id=w.other_id, event_type="viewer_join")] * PAGE),
    ),
    steady("usage.total_by_user", lambda db, w: usage.total_by_user(db, w.user_id, since=SINCE, until=UNTIL)),
    steady(
        "usage.total_by_stream",
        lambda db, w: usage.total_by_stream(db, w.stream_id, since=SINCE, until=UNTIL),
    ),
    steady("usage.list_months", lambda db, w: usage.list_months(db, w.user_id)),
    steady("maintenance.run", lambda db, w: maintenance.run(db)),
)
