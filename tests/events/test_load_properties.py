"""Whatever happened, was loaded and saved before: a load gives what folding all that `read` gives does."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootstream_store import events
from rootstream_store.events import EventTypes, Fold, NewEvent, TypedEvent, Upcaster
from rootstream_store.store import Store

_numbers = itertools.count(1)


class Joined(msgspec.Struct, frozen=True):
    viewer: int
    tags: frozenset[str] = frozenset()
    weights: dict[int, float] = {}


class Left(msgspec.Struct, tag="viewer_left"):
    viewer: int


TYPES = EventTypes[Joined | Left](
    Joined,
    Left,
    upcasters=[
        Upcaster("Entered", "Came", lambda data: {"viewer": data["id"]}),
        Upcaster("Came", "Joined", lambda data: {**data, "tags": ["old"]}),
        Upcaster(
            "Joined",
            "Joined",
            lambda data: {"viewer": data["viewer_id"]},
            when=lambda data: "viewer_id" in data,
        ),
    ],
    unknown="skip",
)


class Room(msgspec.Struct):
    inside: dict[int, Joined] = {}
    left: list[Left] = []
    last: int = 0


def apply(room: Room, event: TypedEvent[Joined | Left]) -> Room:
    match event.data:
        case Joined() as joined:
            room.inside[joined.viewer] = joined
        case Left() as left:
            room.inside.pop(left.viewer, None)
            room.left.append(left)
    room.last = event.version
    return room


IDS = st.integers(-(2**63), 2**64 - 1)
EVENTS = (
    st.builds(
        TYPES.new,
        st.builds(
            Joined,
            IDS,
            st.frozensets(st.sampled_from(["a", "\u00e9", '"'])),
            st.dictionaries(st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False), max_size=2),
        )
        | st.builds(Left, IDS),
    )
    | st.builds(NewEvent, st.just("Entered"), st.fixed_dictionaries({"id": IDS}))
    | st.builds(NewEvent, st.just("Came"), st.fixed_dictionaries({"viewer": IDS}))
    | st.builds(NewEvent, st.just("Joined"), st.fixed_dictionaries({"viewer_id": IDS}))
    | st.builds(NewEvent, st.just("Stranger"), st.dictionaries(st.text("ab"), st.none()))
)
FOLDS = st.builds(
    Fold,
    st.just(apply),
    st.just(Room),
    types=st.just(TYPES),
    schema_version=st.none() | st.integers(1, 2),
    snapshot_every=st.none() | st.integers(1, 7),
    keep_snapshots=st.integers(1, 3),
)


# The store is shared by the examples on purpose: each has an aggregate of its own.
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(st.lists(EVENTS, max_size=9), FOLDS, st.none() | st.integers(0, 30)), max_size=9)
)
def test_a_load_is_the_fold_of_all_events(
    store: Store, steps: list[tuple[list[NewEvent], Fold[Room], int | None]]
) -> None:
    aggregate_id = next(_numbers)
    for batch, fold, to_version in steps:
        events.append_many(store, "room", aggregate_id, batch)
        for until in (to_version, None):
            read: list[Any] = events.read(store, "room", aggregate_id, to_version=until)
            room = Room()
            for event in TYPES.decode_all(read):
                room = apply(room, event)
            loaded = events.load(store, "room", aggregate_id, fold, to_version=until)
            assert loaded.state == room
            assert (loaded.version, loaded.position) == (
                (read[-1].version, read[-1].position) if read else (0, 0)
            )
