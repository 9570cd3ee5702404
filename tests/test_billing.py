"""Billing accounts and quotas."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from rootstream_store.errors import AlreadyExists, InvalidInput, NotFound, RootStreamError
from rootstream_store.records import BillingAccount
from rootstream_store.repositories import billing, usage
from rootstream_store.store import Store

from .factories import make_user

GB = 10**9


def test_open_and_get(store: Store) -> None:
    user = make_user(store)
    opened = billing.open(
        store, user.id, subscription_tier="pro", payment_method="invoice", monthly_limit_gb=500
    )
    assert billing.get(store, user.id) == opened
    assert opened == BillingAccount(
        user_id=user.id,
        payment_method="invoice",
        subscription_tier="pro",
        monthly_limit_gb=500,
        created_at=opened.created_at,
        updated_at=opened.created_at,
    )


def test_open_is_free_and_without_limit_by_default(store: Store) -> None:
    opened = billing.open(store, make_user(store).id)
    assert (opened.subscription_tier, opened.payment_method, opened.monthly_limit_gb) == ("free", None, None)


def test_one_account_a_user(store: Store) -> None:
    user = make_user(store)
    billing.open(store, user.id)
    with pytest.raises(AlreadyExists) as caught:
        billing.open(store, user.id, subscription_tier="pro")
    assert (caught.value.entity, caught.value.field) == ("billing account", "user_id")
    assert caught.value.value == user.id
    assert caught.value.query == "sql/billing/open.sql"
    assert billing.get(store, user.id).subscription_tier == "free"


def test_of_many_who_open_one_account_one_succeeds(store: Store) -> None:
    user = make_user(store)

    def attempt(_: int) -> bool:
        try:
            billing.open(store, user.id)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(8))) == [False] * 7 + [True]


@pytest.mark.parametrize(
    "call",
    [
        lambda db, id_: billing.get(db, id_),
        lambda db, id_: billing.set_tier(db, id_, "pro"),
        lambda db, id_: billing.set_payment_method(db, id_, "card"),
        lambda db, id_: billing.get_quota(db, id_),
        lambda db, id_: billing.delete(db, id_),
        lambda db, id_: billing.open(db, 2**40),
    ],
)
def test_what_is_not_there_is_not_found(store: Store, call: Any) -> None:
    user = make_user(store)
    with pytest.raises(NotFound) as caught:
        call(store, user.id)
    assert caught.value.key in ({"user_id": user.id}, {"user_id": 2**40})
    assert not caught.value.retryable


BAD: list[tuple[str, Any]] = [
    ("subscription_tier", "gold"),
    ("subscription_tier", "Pro"),
    ("subscription_tier", ""),
    ("subscription_tier", "free\0"),
    ("subscription_tier", None),
    ("subscription_tier", 1),
    ("monthly_limit_gb", -1),
    ("monthly_limit_gb", 10**9 + 1),
    ("monthly_limit_gb", 2**63),
    ("monthly_limit_gb", 1.5),
    ("monthly_limit_gb", "5"),
    ("monthly_limit_gb", True),
    ("payment_method", ""),
    ("payment_method", "x" * 65),
    ("payment_method", b"card"),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_bad_values_are_refused_by_name(store: Store, field: str, value: Any) -> None:
    fresh, opened = make_user(store), make_user(store)
    before = billing.open(store, opened.id, subscription_tier="pro", monthly_limit_gb=7)
    with pytest.raises(InvalidInput) as caught:
        billing.open(store, fresh.id, **{field: value})
    assert caught.value.field == field
    change: Any = billing.set_payment_method if field == "payment_method" else billing.set_tier
    others = {} if field == "payment_method" else {"subscription_tier": "pro"}
    with pytest.raises(InvalidInput) as caught:
        change(store, opened.id, **{**others, field: value})
    assert caught.value.field == field
    assert billing.get(store, opened.id) == before


def test_set_tier_leaves_the_limit_unless_told(store: Store) -> None:
    user = make_user(store)
    opened = billing.open(store, user.id, monthly_limit_gb=10, payment_method="card")
    changed = billing.set_tier(store, user.id, "pro")
    assert (changed.subscription_tier, changed.monthly_limit_gb, changed.payment_method) == (
        "pro",
        10,
        "card",
    )
    assert changed.updated_at > opened.updated_at
    assert changed.created_at == opened.created_at
    assert billing.set_tier(store, user.id, "enterprise", monthly_limit_gb=0).monthly_limit_gb == 0
    assert billing.set_tier(store, user.id, "free", monthly_limit_gb=None).monthly_limit_gb is None
    assert billing.get(store, user.id).subscription_tier == "free"


def test_set_payment_method(store: Store) -> None:
    user = make_user(store)
    billing.open(store, user.id)
    assert billing.set_payment_method(store, user.id, "SEPA ···1234").payment_method == "SEPA ···1234"
    assert billing.set_payment_method(store, user.id, None).payment_method is None


def test_delete(store: Store) -> None:
    user = make_user(store)
    billing.open(store, user.id)
    billing.delete(store, user.id)
    with pytest.raises(NotFound):
        billing.delete(store, user.id)
    billing.open(store, user.id)


def test_quota_counts_one_calendar_month_in_utc(store: Store) -> None:
    user, other = make_user(store), make_user(store)
    billing.open(store, user.id, monthly_limit_gb=1)
    billing.open(store, other.id, monthly_limit_gb=1)
    february = datetime(2026, 2, 1, tzinfo=UTC)
    march = datetime(2026, 3, 1, tzinfo=UTC)
    for moment, bytes_ in (
        (february - timedelta(microseconds=1), GB),
        (february, GB - 1),
        (march - timedelta(microseconds=1), 1),
        (march, GB + 1),
    ):
        usage.log(store, user.id, event_type="viewer_leave", bytes_transferred=bytes_, created_at=moment)
    for day in (date(2026, 2, 1), date(2026, 2, 28)):
        quota = billing.get_quota(store, user.id, month=day)
        assert (quota.bytes_transferred, quota.is_over_limit) == (GB, False)
        assert (quota.user_id, quota.subscription_tier, quota.monthly_limit_gb) == (user.id, "free", 1)
    quota = billing.get_quota(store, user.id, month=date(2026, 3, 31))
    assert (quota.bytes_transferred, quota.is_over_limit) == (GB + 1, True)
    quota = billing.get_quota(store, other.id, month=date(2026, 3, 31))
    assert (quota.bytes_transferred, quota.is_over_limit) == (0, False)


def test_quota_of_the_current_month_by_default(store: Store) -> None:
    user = make_user(store)
    billing.open(store, user.id, monthly_limit_gb=0)
    usage.log(
        store, user.id, event_type="x", bytes_transferred=5, created_at=datetime(2001, 1, 1, tzinfo=UTC)
    )
    assert billing.get_quota(store, user.id).bytes_transferred == 0
    assert not billing.get_quota(store, user.id).is_over_limit
    usage.log(store, user.id, event_type="x", bytes_transferred=1)
    assert billing.get_quota(store, user.id).is_over_limit


def test_without_a_limit_none_is_over_it(store: Store) -> None:
    user = make_user(store)
    billing.open(store, user.id)
    usage.log(store, user.id, event_type="x", bytes_transferred=2**62)
    quota = billing.get_quota(store, user.id)
    assert (quota.monthly_limit_gb, quota.bytes_transferred, quota.is_over_limit) == (None, 2**62, False)


def test_the_largest_limit_is_not_beyond_counting(store: Store) -> None:
    user = make_user(store)
    billing.open(store, user.id, monthly_limit_gb=10**9)
    usage.log(store, user.id, event_type="x", bytes_transferred=10**18 + 1)
    assert billing.get_quota(store, user.id).is_over_limit


@pytest.mark.parametrize("month", ["2026-01", datetime(2026, 1, 1, tzinfo=UTC), 202601])
def test_a_month_that_is_no_date_is_refused(store: Store, month: Any) -> None:
    user = make_user(store)
    billing.open(store, user.id)
    with pytest.raises(InvalidInput) as caught:
        billing.get_quota(store, user.id, month=month)
    assert caught.value.field == "month"


@pytest.mark.parametrize("month", [date.min, date.max, date(1, 12, 31), date(9999, 12, 1)])
def test_the_ends_of_the_calendar_are_months_too(store: Store, month: date) -> None:
    user = make_user(store)
    billing.open(store, user.id)
    assert billing.get_quota(store, user.id, month=month).bytes_transferred == 0


def test_rollback_leaves_the_account_as_it_was(store: Store) -> None:
    user = make_user(store)
    before = billing.open(store, user.id)
    with contextlib.suppress(KeyError), store.transaction() as transaction:
        billing.set_tier(transaction, user.id, "pro", monthly_limit_gb=3)
        billing.set_payment_method(transaction, user.id, "card")
        assert billing.get(transaction, user.id).monthly_limit_gb == 3
        billing.delete(transaction, user.id)
        with pytest.raises(NotFound):
            billing.get(transaction, user.id)
        raise KeyError
    assert billing.get(store, user.id) == before


def test_the_account_goes_with_its_user(store: Store, database_url: str) -> None:
    from rootstream_store.repositories import users

    user = make_user(store)
    billing.open(store, user.id)
    users.delete(store, user.id)
    with pytest.raises(RootStreamError):
        billing.get(store, user.id)
