"""The live state of a stream: versions, conflicts, limits, and followers that converge to it."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootstream_store import live, streams
from rootstream_store.cache import keys
from rootstream_store.cache.messages import MOST_STATE_BYTES, MOST_STATE_FIELDS
from rootstream_store.errors import InvalidInput, Unavailable, VersionConflict
from rootstream_store.store import Store

from ..cache.conftest import OwnValkey
from ..factories import make_stream
from ..undo import rolled_back
from ..waiting import until
from .conftest import MakeStore

NAMES = st.sampled_from(["a", "b", "v", "e", "ü", ":"])
VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text("xyz", max_size=5)


def follow(follower: live.StateFollower, version: int) -> live.StateSnapshot:
    """Reads until the follower is at this version, checking that each change follows the one before."""
    state: live.StateSnapshot | None = None
    while state is None or state.version != version:
        item = follower.get(10)
        assert item is not None, f"stays at {state}"
        if isinstance(item, live.StateSnapshot):
            state = item
        else:
            assert state is not None
            state = state.after(item)  # raises where one is missing
    return state


def test_there_is_none_at_first(store: Store) -> None:
    assert live.get_state(store, 7) == live.StateSnapshot(stream_id=7, version=0, epoch=None, values={})
    assert live.delete_state(store, 7) is False


def test_fields_are_set_and_removed_and_the_last_writer_wins(store: Store) -> None:
    assert live.update_state(store, 7, {"scene": "intro", "volume": 3, "tags": ["a"]}) == 1
    assert live.update_state(store, 7, {"volume": 4.5, "none": None}, remove=["tags", "never there"]) == 2
    assert live.update_state(store, 7, remove=["none"]) == 3
    state = live.get_state(store, 7)
    assert (state.version, state.values) == (3, {"scene": "intro", "volume": 4.5})
    assert live.get_state(store, 8).version == 0


def test_each_change_is_told_in_the_same_step(store: Store) -> None:
    with live.subscribe(store, "state.7.*") as messages:
        live.update_state(store, 7, {"a": 1, "b": {"c": [1]}})
        live.update_state(store, 7, {"a": 2}, remove=["b", "x"])
        epoch = live.get_state(store, 7).epoch
        live.delete_state(store, 7)
        got = [messages.get(10) for _ in range(3)]
    assert epoch is not None
    assert [one.message for one in got if isinstance(one, live.Received)] == [
        live.StateChanged(stream_id=7, epoch=epoch, version=1, changes={"a": 1, "b": {"c": [1]}}),
        live.StateChanged(stream_id=7, epoch=epoch, version=2, changes={"a": 2}, removed=("b", "x")),
        live.StateDeleted(stream_id=7, epoch=epoch, version=2),
    ]


def test_a_version_that_is_another_is_a_conflict_and_nothing_is_applied(store: Store) -> None:
    assert live.update_state(store, 7, {"a": 1}, expected_version=0) == 1
    assert live.update_state(store, 7, {"a": 2}, expected_version=1) == 2
    for stale in (0, 1, 3):
        with pytest.raises(VersionConflict) as caught:
            live.update_state(store, 7, {"a": 9}, expected_version=stale)
        assert (caught.value.expected, caught.value.actual) == (stale, 2)
        assert not caught.value.retryable
        assert pickle.loads(pickle.dumps(caught.value)).actual == 2
        with pytest.raises(VersionConflict):
            live.delete_state(store, 7, expected_version=stale)
    assert live.get_state(store, 7).values == {"a": 2}
    with live.subscribe(store, "state.*", since="start") as messages:
        assert [messages.get(1) is not None for _ in range(2)] == [True, True]
        assert messages.get(0.05) is None
    assert live.delete_state(store, 7, expected_version=2) is True


def test_a_snapshot_of_a_state_that_is_gone_is_a_conflict_though_the_version_is_the_same(
    store: Store,
) -> None:
    live.update_state(store, 7, {"a": 1})
    old = live.get_state(store, 7)
    live.delete_state(store, 7)
    live.update_state(store, 7, {"a": 5})
    with pytest.raises(VersionConflict, match="epoch"):
        live.update_state(store, 7, {"a": 2}, expected_version=old)
    new = live.get_state(store, 7)
    assert new.version == old.version
    assert new.epoch != old.epoch
    assert live.update_state(store, 7, {"a": 2}, expected_version=new) == 2


def test_eight_threads_make_as_many_versions_as_they_succeed(store: Store) -> None:
    done, refused = [0] * 8, [0] * 8
    together = threading.Barrier(8)

    def work(mine: int) -> None:
        together.wait(10)
        for _ in range(60):
            state = live.get_state(store, 7)
            try:
                live.update_state(store, 7, {"sum": state.values.get("sum", 0) + 1}, expected_version=state)
            except VersionConflict as error:
                refused[mine] += error.actual is not None and error.actual > state.version
            else:
                done[mine] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    with live.follow_state(store, 7) as follower:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        state = live.get_state(store, 7)
        assert state.version == state.values["sum"] == sum(done)
        assert sum(done) + sum(refused) == 480
        assert sum(refused) > 0, "nobody was in anybody's way"
        assert follow(follower, state.version) == state


def test_changes_that_nobody_waits_for_keep_their_order(store: Store) -> None:
    with live.follow_state(store, 7) as follower:
        for number in range(2000):
            live.push_state(store, 7, {"n": number, f"f{number % 7}": number})
        state = follow(follower, 2000)
    assert state == live.get_state(store, 7)
    assert state.values["n"] == 1999


def test_pushed_changes_wait_for_the_commit(store: Store) -> None:
    with rolled_back(store) as tx:
        live.push_state(tx, 7, {"a": 1})
    with store.transaction() as tx:
        live.push_state(tx, 7, {"a": 2})
    until(lambda: live.get_state(store, 7).version == 1)
    assert live.get_state(store, 7).values == {"a": 2}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"changes": {}},
        {"changes": {"a": object()}},
        {"changes": {"a": "\ud800"}},
        {"changes": {"": 1}},
        {"changes": {5: 1}},
        {"changes": {"x" * 201: 1}},
        {"changes": [("a", 1)]},
        {"remove": "a"},
        {"remove": [5]},
        {"changes": {"a": 1}, "remove": ["a"]},
        {"changes": {"a": 1}, "expected_version": -1},
        {"changes": {"a": 1}, "expected_version": True},
        {"changes": {"a": 1}, "expected_version": "1"},
        {"changes": {"a": 1}, "ttl": 0},
        {"changes": {"a": 1}, "ttl": float("nan")},
        {"changes": {str(n): n for n in range(MOST_STATE_FIELDS + 1)}},
        {"changes": {"a": "x" * MOST_STATE_BYTES}},
    ],
)
def test_what_is_no_change_is_refused(store: Store, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        live.update_state(store, 7, **wrong)
    assert live.get_state(store, 7).version == 0


@pytest.mark.parametrize("wrong", [None, "7", True, 2**63])
def test_a_stream_that_is_none_is_refused(store: Store, wrong: Any) -> None:
    for call in (live.get_state, live.delete_state, lambda db, one: live.update_state(db, one, {"a": 1})):
        with pytest.raises(InvalidInput, match="stream_id"):
            call(store, wrong)


def test_a_state_is_bounded_in_fields_and_bytes(store: Store) -> None:
    live.update_state(store, 7, {str(n): n for n in range(MOST_STATE_FIELDS)})
    with pytest.raises(InvalidInput, match="256"):
        live.update_state(store, 7, {"more": 1})
    live.update_state(store, 7, {"more": 1}, remove=["0"])
    live.update_state(store, 7, {"more": 2})
    live.delete_state(store, 7)

    part = "x" * (MOST_STATE_BYTES // 3)
    for name in "ab":
        live.update_state(store, 7, {name: part})
    with pytest.raises(InvalidInput, match="65536"):
        live.update_state(store, 7, {"c": part})
    for _ in range(3):
        live.update_state(store, 7, {"a": part})  # in place of one as long
    live.update_state(store, 7, {"c": part}, remove=["a"])
    assert live.get_state(store, 7).version == 6


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.dictionaries(NAMES, VALUES, max_size=4), st.sets(NAMES, max_size=3))
        | st.sampled_from(["delete", "cut", "read", "follow"]),
        max_size=25,
    )
)
def test_a_follower_converges_to_what_a_dict_would_hold(store: Store, steps: list[Any]) -> None:
    live.delete_state(store, 7)
    model: dict[str, Any] = {}
    version = 0
    early, late = Copy(store), Copy(store)
    try:
        for step in steps:
            if step == "delete":
                live.delete_state(store, 7)
                model, version = {}, 0
            elif step == "cut":
                store.redis.client_kill_filter(_type="pubsub")
            elif step == "read":
                early.read()
            elif step == "follow":
                late.follower.close()
                late = Copy(store)
            else:
                changes, removed = step
                removed = [name for name in removed if name not in changes]
                if changes or removed:
                    version += 1
                    model = {k: v for k, v in {**model, **changes}.items() if k not in removed}
                    assert live.update_state(store, 7, changes, remove=removed) == version
        state = live.get_state(store, 7)
        assert (state.version, state.values) == (version, model)
        for copy in (early, late):
            until(lambda copy=copy: copy.read() == state)  # type: ignore[misc]  # a default of a lambda
    finally:
        early.follower.close()
        late.follower.close()


class Copy:
    """What a follower of stream 7 has made of what it was told; it begins with a snapshot."""

    def __init__(self, store: Store) -> None:
        self.follower = live.follow_state(store, 7)
        first = self.follower.get(10)
        assert isinstance(first, live.StateSnapshot)
        self.state = first

    def read(self) -> live.StateSnapshot:
        while (item := self.follower.get(0.02)) is not None:
            self.state = item if isinstance(item, live.StateSnapshot) else self.state.after(item)
        return self.state


def test_a_follower_is_told_of_a_deletion_and_of_what_comes_after_it(store: Store) -> None:
    live.update_state(store, 7, {"a": 1})
    with live.follow_state(store, 7) as follower:
        follow(follower, 1)
        live.delete_state(store, 7)
        assert follower.get(10) == live.StateSnapshot(stream_id=7, version=0, epoch=None, values={})
        live.update_state(store, 7, {"b": 1})
        assert follow(follower, 1).values == {"b": 1}


def test_a_follower_that_missed_changes_takes_a_snapshot(make_store: MakeStore) -> None:
    store = make_store(live_kept_messages=1)
    with live.follow_state(store, 7) as follower:
        first = follower.get(10)
        assert isinstance(first, live.StateSnapshot)
        for number in range(1000):
            live.update_state(store, 7, {"n": number})
        state = follow(follower, 1000)
        assert state.values == {"n": 999}
        assert follower.get(0.05) is None


def test_a_follower_is_told_that_redis_lost_the_state(make_store: MakeStore, own_valkey: OwnValkey) -> None:
    store = make_store()
    live.update_state(store, 7, {"a": 1})
    with live.follow_state(store, 7) as follower:
        old = follow(follower, 1)
        own_valkey.kill()
        assert follower.get(0.3) is None
        with pytest.raises(Unavailable) as caught:
            live.get_state(store, 7)
        assert caught.value.retryable
        with pytest.raises(Unavailable) as unknown:
            live.update_state(store, 7, {"a": 2})
        assert unknown.value.outcome_unknown
        own_valkey.start()
        assert follower.get(10) == live.StateSnapshot(stream_id=7, version=0, epoch=None, values={})
        until(lambda: _try(store))
        new = follow(follower, 1)
    assert new.values == {"a": 3}
    assert new.epoch != old.epoch


def _try(store: Store) -> bool:
    try:
        return live.update_state(store, 7, {"a": 3}, expected_version=0) == 1
    except Unavailable:
        return False


def test_without_redis_there_is_no_state(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    with Store.open(database_url) as bare:
        for call in (live.get_state, live.delete_state, lambda db, one: live.update_state(db, one, {"a": 1})):
            with pytest.raises(Unavailable, match="without it"):
                call(bare, 7)


def test_a_state_ends_with_its_time_its_broadcast_or_its_stream(store: Store) -> None:
    stream = make_stream(store).id
    key = keys.state(stream)
    live.update_state(store, stream, {"a": 1}, ttl=50)
    assert 40 < store.redis.ttl(key) <= 50
    streams.start(store, stream)
    live.update_state(store, stream, {"a": 2})
    assert 86_000 < store.redis.ttl(key) <= 86_400
    streams.stop(store, stream)
    assert 290 < store.redis.ttl(key) <= 300
    assert live.get_state(store, stream).values == {"a": 2}
    streams.start(store, stream)
    live.update_state(store, stream, {"a": 3})
    assert store.redis.ttl(key) > 86_000
    streams.delete(store, stream)
    assert live.get_state(store, stream).version == 0


def test_closing_a_follower_ends_it_at_once(store: Store) -> None:
    follower = live.follow_state(store, 7)
    got: list[object] = []
    reader = threading.Thread(target=lambda: got.extend(follower))
    reader.start()
    until(lambda: len(got) == 1)
    follower.close()
    reader.join(5)
    assert not reader.is_alive()
    assert follower.closed
    assert follower.get(1) is None
