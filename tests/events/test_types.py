"""Typed events: a class for each type, old events made new ones, and errors that say where."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any, assert_never
from uuid import uuid4

import msgspec
import pytest

from rootstream_store import events
from rootstream_store.errors import InvalidInput
from rootstream_store.events import EventTypes, Fold, NewEvent, TypedEvent, Upcaster
from rootstream_store.store import Store


class StreamStarted(msgspec.Struct):
    quality: str
    bitrate_kbps: int = 6000


class ViewerJoined(msgspec.Struct, tag="viewer.joined"):
    viewer_id: int
    at: datetime | None = None


class Stopped(msgspec.Struct):
    pass


StreamEvent = StreamStarted | ViewerJoined | Stopped
TYPES = EventTypes[StreamEvent](StreamStarted, ViewerJoined, Stopped)


class State(msgspec.Struct):
    quality: str = ""
    viewers: set[int] = set()
    is_live: bool = False


def apply(state: State, event: TypedEvent[StreamEvent]) -> State:
    match event.data:
        case StreamStarted(quality=quality):
            state.quality, state.is_live = quality, True
        case ViewerJoined(viewer_id=viewer_id):
            state.viewers.add(viewer_id)
        case Stopped():
            state.is_live = False
        case never:
            assert_never(never)
    return state


FOLD = Fold(apply, State, types=TYPES, snapshot_every=3)


def load(store: Store, fold: Fold[Any] = FOLD) -> Any:
    return events.load(store, "Stream", "a", fold).state


def decoded(store: Store, types: EventTypes[Any]) -> list[Any]:
    """The data by way of `read`, which must be those that a fold sees."""
    read = [event.data for event in types.decode_all(events.read(store, "Stream", "a"))]
    seen = Fold(lambda all_, event: [*all_, event.data], list, types=types, schema_version=None)
    assert load(store, seen) == read
    return read


def test_what_is_appended_comes_back_as_its_class(store: Store) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    id_ = uuid4()
    data: list[StreamEvent] = [StreamStarted("1080p"), ViewerJoined(2**63, at), ViewerJoined(8), Stopped()]
    new = [TYPES.new(data[0], metadata={"ip": "::1"}, user_id=7, event_id=id_)]
    new += [TYPES.new(item) for item in data[1:]]
    events.append_many(store, "Stream", "a", new)
    read = events.read(store, "Stream", "a")
    assert [event.event_type for event in read] == [
        "StreamStarted",
        "viewer.joined",
        "viewer.joined",
        "Stopped",
    ]
    first = TYPES.decode(read[0])
    assert first == TypedEvent(
        data=StreamStarted("1080p"),
        event_type="StreamStarted",
        version=1,
        position=read[0].position,
        aggregate_type="Stream",
        aggregate_id="a",
        event_id=id_,
        metadata={"ip": "::1"},
        user_id=7,
        timestamp=read[0].timestamp,
    )
    assert decoded(store, TYPES) == data
    for _ in range(2):  # the second time from the snapshot
        assert load(store) == State("1080p", {2**63, 8}, is_live=False)
    seen: Fold[list[Any]] = Fold(lambda all_, event: [*all_, event], list, types=TYPES, schema_version=None)
    assert load(store, seen) == list(TYPES.decode_all(read))


def test_new_refuses_what_is_of_no_class() -> None:
    class Other(msgspec.Struct):
        pass

    for stranger in (Other(), {"quality": "1080p"}):
        with pytest.raises(InvalidInput, match="must be one of StreamStarted, "):
            TYPES.new(stranger)  # type: ignore[arg-type]  # on purpose


# --- upcasters


def first_data(data: dict[str, Any]) -> dict[str, Any]:
    return {"resolution": data["height"]}


UPCASTERS = [
    # Twice renamed, and once more its data changed under the same name.
    Upcaster("Began", "Started", first_data),
    Upcaster("Started", "StreamStarted", lambda data: {"quality": data["resolution"]}),
    Upcaster(
        "StreamStarted",
        "StreamStarted",
        lambda data: {**data, "quality": f"{data['quality']}p"},
        when=lambda data: isinstance(data["quality"], int),
    ),
]


def test_old_events_become_new_ones(store: Store) -> None:
    for event_type, data in (
        ("Began", {"height": 480}),
        ("Started", {"resolution": 720}),
        ("StreamStarted", {"quality": 1080}),
        ("StreamStarted", {"quality": "1440p", "bitrate_kbps": 9000}),
    ):
        events.append(store, "Stream", "a", event_type, data)
    types = EventTypes(StreamStarted, upcasters=UPCASTERS)
    assert decoded(store, types) == [
        StreamStarted("480p"),
        StreamStarted("720p"),
        StreamStarted("1080p"),
        StreamStarted("1440p", 9000),
    ]
    began = events.get(store, "Stream", "a", 1)
    assert (types.decode(began).event_type, began.event_type) == ("StreamStarted", "Began")
    assert began.event_data == {"height": 480}


def _same(data: Any) -> Any:
    return data


@pytest.mark.parametrize(
    ("ways", "rule"),
    [
        ([("A", "B"), ("B", "A")], "circle"),
        ([("A", "B"), ("B", "C"), ("C", "A"), ("C", "Stopped")], "circle"),
        ([("A", "A")], "circle"),
        ([("A", "Gone")], "lead to one of the classes"),
        ([("Stopped", "StreamStarted")], "must say `when`"),
    ],
)
def test_upcasters_that_cannot_work_are_refused(ways: list[tuple[str, str]], rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as caught:
        EventTypes(StreamStarted, Stopped, upcasters=[Upcaster(old, new, _same) for old, new in ways])
    assert caught.value.field == "upcasters"


def test_an_upcaster_that_never_ends_is_told(store: Store) -> None:
    events.append(store, "Stream", "a", "Stopped", {})
    types = EventTypes(Stopped, upcasters=[Upcaster("Stopped", "Stopped", _same, when=lambda _: True)])
    with pytest.raises(InvalidInput, match="still holds") as caught:
        load(store, Fold(lambda state, _: state, dict, types=types))
    assert "upcasting version 1 of Stream 'a'" in caught.value.__notes__


def test_an_error_of_an_upcaster_names_the_event(store: Store) -> None:
    events.append(store, "Stream", "a", "Began", {"width": 1})
    types = EventTypes(StreamStarted, upcasters=UPCASTERS)
    with pytest.raises(KeyError, match="height") as caught:
        types.decode(events.get(store, "Stream", "a", 1))
    assert caught.value.__notes__ == ["upcasting version 1 of Stream 'a'"]


# --- what does not fit


def test_a_fold_goes_past_erased_events(store: Store) -> None:
    """What does not fit its class any more is left out; what still fits is seen; what is wrong without an
    erasure is an error as before."""
    upcast = EventTypes[StreamEvent](
        StreamStarted,
        ViewerJoined,
        Stopped,
        upcasters=[Upcaster("Began", "StreamStarted", lambda data: {"quality": f"{data['height']}p"})],
    )
    events.append(store, "Stream", "a", "StreamStarted", {"quality": "1080p"})
    events.append(store, "Stream", "a", "Began", {"height": 720}, user_id=7)
    events.append(store, "Stream", "a", "viewer.joined", {"viewer_id": 7}, user_id=7)
    events.append(store, "Stream", "a", "viewer.joined", {"viewer_id": 8})
    events.append(store, "Stream", "a", "Stopped", {}, user_id=7)
    assert events.erase(store, user_id=7, reason="art. 17").events == 3
    fold = Fold(apply, State, types=upcast, snapshot_every=None)
    assert load(store, fold) == State("1080p", {8}, is_live=False)
    typed = [event.version for event in upcast.decode_all(events.read(store, "Stream", "a"))]
    assert typed == [1, 4, 5]
    events.append(store, "Stream", "a", "viewer.joined", {})
    with pytest.raises(InvalidInput):
        load(store, fold)


def test_an_unknown_type_is_an_error_or_left_out(store: Store) -> None:
    events.append_many(
        store, "Stream", "a", [NewEvent("Stopped", {}), NewEvent("Renamed", {"name": "secret"})]
    )
    for attempt in (
        lambda: load(store),
        lambda: TYPES.decode(events.get(store, "Stream", "a", 2)),
        lambda: list(TYPES.decode_all(events.read(store, "Stream", "a"))),
    ):
        with pytest.raises(InvalidInput) as caught:
            attempt()
        assert caught.value.message == (
            "event_type: must be one of StreamStarted, viewer.joined, Stopped in version 2 of Stream 'a', "
            "not 'Renamed'"
        )
    lenient = EventTypes(Stopped, unknown="skip")
    assert decoded(store, lenient) == [Stopped()]
    with pytest.raises(InvalidInput, match="Renamed"):
        lenient.decode(events.get(store, "Stream", "a", 2))
    counted: Fold[int] = Fold(lambda total, _: total + 1, int, types=lenient, schema_version=9)
    assert events.load(store, "Stream", "a", counted).version == 2, "it is passed all the same"


class Level(enum.Enum):
    LOW = "low"


class Nested(msgspec.Struct):
    items: list[StreamStarted]
    level: Level = Level.LOW


@pytest.mark.parametrize(
    ("data", "field", "rule"),
    [
        ({}, "event_data", "Object missing required field `items` in Nested, version 1 of Stream 'a'"),
        (
            {"items": [{"quality": "x"}, {"quality": 5, "note": "secret"}]},
            "event_data.items[1].quality",
            "Expected `str`, got `int` in Nested, version 1 of Stream 'a'",
        ),
        ([], "event_data", "Expected `object`, got `array` in Nested, version 1 of Stream 'a'"),
    ],
)
def test_data_that_do_not_fit_are_told_by_their_path(store: Store, data: Any, field: str, rule: str) -> None:
    events.append(store, "Stream", "a", "Nested", data)
    types = EventTypes(Nested)
    for attempt in (
        lambda: load(store, Fold(lambda state, _: state, dict, types=types)),
        lambda: types.decode(events.get(store, "Stream", "a", 1)),
    ):
        with pytest.raises(InvalidInput) as caught:
            attempt()
        assert (caught.value.field, caught.value.rule) == (field, rule)
        assert "secret" not in str(caught.value)


def test_a_long_value_is_not_told(store: Store) -> None:
    events.append(store, "Stream", "a", "Nested", {"items": [], "level": "x" * 5000})
    with pytest.raises(InvalidInput) as caught:
        EventTypes(Nested).decode(events.get(store, "Stream", "a", 1))
    assert caught.value.field == "event_data.level"
    assert len(str(caught.value)) < 300


def test_classes_that_cannot_work_are_refused() -> None:
    class Stopped2(msgspec.Struct, tag="Stopped"):
        pass

    for classes in ((Stopped, Stopped2), (dict,), (Stopped, Stopped())):
        with pytest.raises(InvalidInput, match="classes"):
            EventTypes(*classes)
    # Of two structs without tags nobody could tell which it is.
    impossible = msgspec.defstruct("Impossible", [("item", Stopped | StreamStarted)])
    with pytest.raises(InvalidInput, match="Impossible is none that msgspec can decode"):
        EventTypes(impossible)
    with pytest.raises(InvalidInput, match="state_type: is none that msgspec can decode"):
        Fold(lambda state, _: state, dict, state_type=impossible)
    with pytest.raises(InvalidInput, match="unknown"):
        EventTypes(Stopped, unknown="ignore")  # type: ignore[arg-type]  # on purpose
