"""Billing accounts: how a user pays, and how much the tier allows."""

from __future__ import annotations

from datetime import date

from rootstream_store.db import Db, repository
from rootstream_store.flow import Flow, one
from rootstream_store.queries import query
from rootstream_store.records import BillingAccount, QuotaUsage
from rootstream_store.repositories._unset import UNSET, Unset

__all__ = ["delete", "get", "get_quota", "open", "set_payment_method", "set_tier"]

_OPEN = query("billing/open", BillingAccount)
_GET = query("billing/get", BillingAccount)
_SET_TIER = query("billing/set_tier", BillingAccount)
_SET_PAYMENT_METHOD = query("billing/set_payment_method", BillingAccount)
_GET_QUOTA = query("billing/get_quota", QuotaUsage)
_DELETE = query("billing/delete", int)


@repository
def open(  # noqa: A001  # read as billing.open(…); this module opens no file
    db: Db,
    user_id: int,
    *,
    subscription_tier: str = "free",
    payment_method: str | None = None,
    monthly_limit_gb: int | None = None,
) -> BillingAccount:
    """Opens the billing account of a user; each has one at most.

    `subscription_tier`: free, pro or enterprise. `payment_method`: a label of the payment provider, never a
    card number. `monthly_limit_gb`: in units of 10^9 bytes a calendar month (UTC), 0 to 10^9; None: no limit.
    Raises AlreadyExists, NotFound for an unknown user, InvalidInput.
    """
    return db.one(
        _OPEN,
        user_id=user_id,
        subscription_tier=subscription_tier,
        payment_method=payment_method,
        monthly_limit_gb=monthly_limit_gb,
    )


@repository
def get(db: Db, user_id: int) -> BillingAccount:
    """The billing account of a user. Raises NotFound."""
    return db.one(_GET, user_id=user_id)


@repository
def set_tier(
    db: Db, user_id: int, subscription_tier: str, *, monthly_limit_gb: int | Unset | None = UNSET
) -> BillingAccount:
    """Moves a user to another tier. `monthly_limit_gb`: as in `open`; left out: stays as it is.

    Raises NotFound, InvalidInput.
    """
    given = monthly_limit_gb is not UNSET
    return db.one(
        _SET_TIER,
        user_id=user_id,
        subscription_tier=subscription_tier,
        set_monthly_limit_gb=given,
        monthly_limit_gb=monthly_limit_gb if given else None,
    )


@repository
def set_payment_method(db: Db, user_id: int, payment_method: str | None) -> BillingAccount:
    """Changes how a user pays; None: no way is known. Raises NotFound, InvalidInput."""
    return db.one(_SET_PAYMENT_METHOD, user_id=user_id, payment_method=payment_method)


@repository
def get_quota(db: Db, user_id: int, *, month: date | None = None) -> QuotaUsage:
    """A user's transfer in the calendar month (UTC) that `month` is a day of, against the limit.

    None: the current month. A user is over the limit with the first byte above it. Raises NotFound when the
    user has no billing account.
    """
    return db.one(_GET_QUOTA, user_id=user_id, month=month)


@repository
def delete(db: Db, user_id: int) -> None:
    """Deletes the billing account of a user; the usage log stays. Raises NotFound."""
    return db.flow(_delete(user_id))


def _delete(user_id: int) -> Flow[None]:
    yield from one(_DELETE, user_id=user_id)
