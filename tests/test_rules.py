"""Every CHECK of the schema is told in words, and no rule is told of a check that is gone."""

from __future__ import annotations

import psycopg
import pytest

from rootstream_store import InvalidInput, Store, billing, users
from rootstream_store._rules import RULES

from .factories import PASSWORD, make_user


def test_every_check_of_the_schema_has_its_sentence(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT DISTINCT conname FROM pg_constraint "
            "JOIN pg_namespace ON pg_namespace.oid = connamespace "
            "WHERE contype = 'c' AND nspname = 'public' AND conrelid <> 'schema_migrations'::regclass"
        ).fetchall()
    assert {name for (name,) in found} == set(RULES)


def test_invalid_input_says_what_is_asked_for(store: Store) -> None:
    with pytest.raises(InvalidInput) as caught:
        users.create(store, username="ann", email="a@b.c|", password=PASSWORD)
    assert (caught.value.field, caught.value.value) == ("email", "a@b.c|")
    assert caught.value.rule == "must be an e-mail address, such as ann@example.org"
    with pytest.raises(InvalidInput, match="subscription_tier: must be free, pro or enterprise, not 'gold'"):
        billing.open(store, make_user(store).id, subscription_tier="gold")
