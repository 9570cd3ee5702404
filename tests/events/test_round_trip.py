"""Any JSON comes back from the log as it went in."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootstream_store import events
from rootstream_store.events import NewEvent
from rootstream_store.store import Store

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
PAYLOADS = st.dictionaries(TEXT, VALUES, max_size=4) | st.lists(VALUES, max_size=4)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=255)


# The store is shared by the examples on purpose: each appends to the same log.
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=NAMES,
    id_=NAMES,
    data=PAYLOADS,
    metadata=st.none() | PAYLOADS,
    user_id=st.integers(-(2**63), 2**63 - 1),
)
def test_an_event_comes_back_equal(
    store: Store, kind: str, id_: str, data: Any, metadata: Any, user_id: int
) -> None:
    version = events.append(store, kind, id_, kind, data, metadata=metadata, user_id=user_id).version
    many = [NewEvent(kind, data, metadata=metadata, user_id=user_id)] * 2
    assert len(events.append_many(store, kind, id_, many, expected=version)) == 2
    for event in events.read(store, kind, id_, after_version=version - 1):
        assert (event.aggregate_type, event.aggregate_id, event.event_type) == (kind, id_, kind)
        assert same(event.event_data, data)
        assert same(event.metadata, metadata)
        assert event.user_id == user_id
    state = events.save_snapshot(store, kind, id_, version=version, state=data).state
    assert same(state, data)


def same(found: Any, given: Any) -> bool:
    """Equal, and of one kind, but for large floats: jsonb writes them out, and they come back as integers."""
    if isinstance(given, float) and not isinstance(given, bool):
        return isinstance(found, int | float) and float(found) == given
    if isinstance(given, dict):
        return (
            isinstance(found, dict)
            and found.keys() == given.keys()
            and all(same(found[key], given[key]) for key in given)
        )
    if isinstance(given, list):
        return len(found) == len(given) and all(map(same, found, given))
    return type(found) is type(given) and bool(found == given)
