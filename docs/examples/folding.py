"""State from events: a fold with typed events, an upcaster, and snapshots that come by themselves."""

from typing import assert_never

import msgspec

from rootstream_store import Store, events
from rootstream_store.events import EventTypes, Fold, TypedEvent, Upcaster


class Started(msgspec.Struct):
    quality: str


class Joined(msgspec.Struct):
    viewer_id: int


class Left(msgspec.Struct):
    viewer_id: int


# The union is told once more, so that a type checker sees that `apply` forgets no event.
Broadcast = Started | Joined | Left
TYPES = EventTypes[Broadcast](
    Started,
    Joined,
    Left,
    # Written before the event had its name and its field.
    upcasters=[Upcaster("BroadcastBegan", "Started", lambda data: {"quality": f"{data['height']}p"})],
)


class Room(msgspec.Struct):
    quality: str = ""
    inside: set[int] = set()
    peak: int = 0


def apply(room: Room, event: TypedEvent[Broadcast]) -> Room:
    match event.data:
        case Started(quality=quality):
            room.quality = quality
        case Joined(viewer_id=viewer_id):
            room.inside.add(viewer_id)
            room.peak = max(room.peak, len(room.inside))
        case Left(viewer_id=viewer_id):
            room.inside.discard(viewer_id)
        case never:
            assert_never(never)
    return room


# Once for each type of aggregate. When Room or `apply` changes, so does the schema_version.
ROOM = Fold(apply, Room, types=TYPES, schema_version=1, snapshot_every=100)


def join(store: Store, stream_id: int, viewer_id: int) -> None:
    """A decision on the state: nobody joins twice, not even from two processes at once."""
    room = events.load(store, "stream", stream_id, ROOM)
    if viewer_id not in room.state.inside:
        joined = TYPES.new(Joined(viewer_id), user_id=viewer_id)
        events.append_many(store, "stream", stream_id, [joined], expected=room.version)


if __name__ == "__main__":
    with Store.embedded() as store:
        events.append(store, "stream", 7, "BroadcastBegan", {"height": 1080})  # an old program's
        for viewer_id in range(1, 121):
            join(store, 7, viewer_id)
            join(store, 7, viewer_id)
        left = [TYPES.new(Left(viewer_id)) for viewer_id in range(1, 100)]
        events.append_many(store, "stream", 7, left)

        room = events.load(store, "stream", 7, ROOM)  # one round trip: a snapshot and the events after it
        print(f"version {room.version}: {len(room.state.inside)} of {room.state.peak} are still there")
        noon = events.load(store, "stream", 7, ROOM, to_version=50)
        print(f"version {noon.version}: {len(noon.state.inside)} were there")

        events.close(store, "stream", 7, expected=room.version)  # no further event is accepted
        snapshot = events.load_snapshot(store, "stream", 7)
        print(f"the newest snapshot is of version {snapshot.version if snapshot else 0}")
