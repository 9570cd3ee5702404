"""Every record comes back equal from the JSON that the cache keeps."""

from __future__ import annotations

import datetime as dt
import pickle
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootstream_store import records
from rootstream_store.cache import Invalidate
from rootstream_store.db import CachedQuery
from rootstream_store.queries import query
from rootstream_store.records import Record, Stream, User
from rootstream_store.secret import Secret
from rootstream_store.store import Store

from .factories import make_stream, make_user

RECORDS = [
    value
    for value in vars(records).values()
    if isinstance(value, type) and issubclass(value, Record) and value is not Record
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    str: st.text(),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bytes: st.binary(),
    dt.datetime: st.datetimes(timezones=st.just(dt.UTC)),
    dt.date: st.dates(),
    Any: json_values,
    Secret: st.text().map(Secret),
    typing.get_type_hints(records.Event)["event_id"]: st.uuids(),
}


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    if annotation in BY_TYPE:
        return BY_TYPE[annotation]
    return st.one_of(
        *(st.none() if part is type(None) else values_of(part) for part in typing.get_args(annotation))
    )


def instances(record: type[Any]) -> st.SearchStrategy[Any]:
    fields = {field.name: values_of(field.type) for field in msgspec.structs.fields(record)}
    return st.builds(record, **fields)


def has_secret(record: type[Any]) -> bool:
    return any(field.type is Secret for field in msgspec.structs.fields(record))


def test_all_records_are_exported() -> None:
    assert {record.__name__ for record in RECORDS} == set(records.__all__)


@pytest.mark.parametrize("record", [record for record in RECORDS if not has_secret(record)])
def test_a_record_comes_back_from_the_cache_equal(record: type[Any]) -> None:
    @settings(max_examples=50)
    @given(instances(record))
    def check(value: Any) -> None:
        encoded = msgspec.json.encode(value)
        again = msgspec.json.decode(encoded, type=record)
        assert again == value
        assert type(again) is record
        assert pickle.loads(pickle.dumps(value)) == value

    check()


@pytest.mark.parametrize("record", [record for record in RECORDS if has_secret(record)])
def test_a_record_with_a_secret_is_never_written_as_json(record: type[Any]) -> None:
    @settings(max_examples=10)
    @given(instances(record))
    def check(value: Any) -> None:
        with pytest.raises(TypeError):
            msgspec.json.encode(value)
        assert "Secret('***')" in repr(value)

    check()


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_frozen_and_by_keyword_only(record: type[Any]) -> None:
    assert record.__struct_config__.frozen
    with pytest.raises(TypeError):
        record(*range(len(record.__struct_fields__)))


def test_no_password_hash_leaves_the_library() -> None:
    for record in RECORDS:
        assert not {"password_hash", "password"} & set(record.__struct_fields__)
    assert "stream_key" not in Stream.__struct_fields__


def test_records_come_back_from_database_and_cache_equal(store: Store) -> None:
    user = make_user(store, display_name="Ånn \U0001f600", avatar_url=None)
    cached = CachedQuery(query("users/get", User), key="user:{user_id}".format, ttl=60)
    assert store.cached(cached, user_id=user.id) == user, "loaded"
    assert store.cached(cached, user_id=user.id) == user, "from Redis"
    store.after_commit(Invalidate(f"user:{user.id}"))
    created = make_stream(store, user.id)
    stream = store.one(query("streams/get", Stream), stream_id=created.id)
    assert msgspec.json.decode(msgspec.json.encode(stream), type=Stream) == stream
    assert {name: getattr(created, name) for name in Stream.__struct_fields__} == msgspec.structs.asdict(
        stream
    )
