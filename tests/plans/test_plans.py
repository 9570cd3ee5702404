"""Every query has the plan that `expected` tells, on a database where another one would read far more, and
every index has a query that needs it."""

from __future__ import annotations

from typing import Any, Final

import psycopg
import pytest
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from rootstream_store.queries import Query, catalogue, query

from .expected import EXEMPT, PLANS, Plan, values_of
from .observe import Mode, Observed, indexes_of, observe

Connection = psycopg.Connection[TupleRow]

CASES: Final = [
    pytest.param(name, plan, id=f"{name}-{number}" if number else name)
    for name, plans in PLANS.items()
    for number, plan in enumerate(plans)
]
# Index → the queries that use it.
USERS: Final = {
    index: [(name, plan) for name, plans in PLANS.items() for plan in plans if index in plan.indexes]
    for index in {index for plans in PLANS.values() for plan in plans for index in plan.indexes}
}
# Indexes that no query uses, and that are there all the same.
UNIQUE_ONLY: Final = {"recordings_file_path_key", "event_erased_pkey"}
AHEAD: Final = {
    # Index → what it is for: a person looks for a time.
    "event_log_timestamp_idx": "SELECT count(*) FROM event_log WHERE timestamp > now() - interval '1 hour'",
}
OF_THE_LEDGER: Final = {"schema_migrations_pkey"}


def observed(connection: Connection, name: str, plan: Plan, mode: Mode = "force_generic_plan") -> Observed:
    """By default under the plan that the server makes for all values, once it knows the query."""
    asked: Query[Any] = query(name)
    return observe(connection, asked, values_of(plan, asked.parameters), mode)


def faults(seen: Observed, plan: Plan) -> list[str]:
    """What is read that need not be."""
    found = []
    if seen.whole:
        found.append(f"reads whole: {sorted(seen.whole)}")
    if seen.rows_of_whole:
        found.append(f"a trigger reads {seen.rows_of_whole} rows without an index")
    if seen.rows > plan.rows:
        found.append(f"reads {seen.rows} rows, not {plan.rows}")
    if seen.pages > 10 + 2 * plan.rows:
        found.append(f"reads {seen.pages} pages for {plan.rows} rows")
    if plan.tables is not None and len(seen.tables) > plan.tables:
        found.append(f"scans {sorted(seen.tables)}, not {plan.tables} of them")
    return found


def test_every_query_is_guarded_or_exempt() -> None:
    exempt = tuple(EXEMPT)
    assert sorted(PLANS) == [name for name in catalogue() if not name.startswith(exempt)]
    for prefix in exempt:
        assert any(name.startswith(prefix) for name in catalogue()), f"there is no {prefix}"


@pytest.mark.parametrize(("name", "plan"), CASES)
def test_plan(populated: Connection, name: str, plan: Plan) -> None:
    seen = observed(populated, name, plan)
    assert seen.indexes == plan.indexes
    assert not faults(seen, plan)


@pytest.mark.parametrize(("name", "plan"), CASES)
def test_no_plan_for_one_value_reads_a_table_whole(populated: Connection, name: str, plan: Plan) -> None:
    """The server makes such plans for the first five calls. The cheapest index may then vary by value."""
    assert not observed(populated, name, plan, "force_custom_plan").whole


def test_every_index_is_used(populated: Connection) -> None:
    excused = UNIQUE_ONLY | set(AHEAD) | OF_THE_LEDGER
    assert set(indexes_of(populated).values()) == USERS.keys() | excused
    assert not USERS.keys() & excused, "a query uses it: no excuse is needed"


def test_an_excused_index_does_what_it_is_for(populated: Connection) -> None:
    unique = populated.execute(
        "SELECT relname FROM pg_class, pg_index WHERE indexrelid = oid AND indisunique AND relname = ANY(%s)",
        [list(UNIQUE_ONLY)],
    )
    assert {name for (name,) in unique} == UNIQUE_ONLY
    for index, text in AHEAD.items():
        assert observe(populated, Query("test", text, None), {}, "force_generic_plan").indexes == {index}


@pytest.mark.parametrize("index", sorted(USERS))
def test_without_the_index_more_is_read(populated: Connection, index: str) -> None:
    with populated.transaction(force_rollback=True):
        _drop(populated, index)
        for name, plan in USERS[index]:
            try:
                if faults(observed(populated, name, plan), plan):
                    return
            except psycopg.errors.InvalidColumnReference:  # ON CONFLICT without its unique index
                return
    pytest.fail(f"{', '.join(name for name, _ in USERS[index])}: do as well without")


def _drop(connection: Connection, index: str) -> None:
    """Drops an index, or the constraint that it belongs to with the foreign keys that refer to it."""
    constraint = connection.execute(
        "SELECT conrelid::regclass::text FROM pg_constraint WHERE conname = %s AND contype IN ('p', 'u')",
        [index],
    ).fetchone()
    if constraint is None:
        connection.execute(SQL("DROP INDEX {}").format(Identifier(index)))
    else:
        connection.execute(
            SQL("ALTER TABLE {} DROP CONSTRAINT {} CASCADE").format(
                Identifier(constraint[0]), Identifier(index)
            )
        )


def test_every_foreign_key_has_an_index(populated: Connection) -> None:
    """Else the deletion of a row that is referred to would read the table whole that refers to it."""
    keys = populated.execute(
        """
        SELECT
            conname,
            EXISTS (
                SELECT 1
                FROM pg_index
                WHERE indrelid = conrelid
                    AND indpred IS NULL
                    AND ARRAY(SELECT unnest((indkey::smallint[])[:cardinality(conkey) - 1]) ORDER BY 1)
                    = ARRAY(SELECT unnest(conkey) ORDER BY 1)
            )
        FROM pg_constraint
        -- A partition has its own copies.
        WHERE contype = 'f' AND conparentid = 0
        """
    ).fetchall()
    assert len(keys) >= 8
    assert not [name for name, has_index in keys if not has_index]
