"""Real-time messages and the live state of streams, on Redis.

    live.publish(db, GoalReached(stream_id=7, goal=100))
    with live.subscribe(store, "stream.7.*", since=last_id) as messages:
        for received in messages:  # a Gap in between: messages are missing there
            ...

What is here is live: Redis keeps the last messages and the states, and neither survives it.
"""

from rootstream_store.live._follow import StateFollower, follow_state
from rootstream_store.live._messages import (
    Message,
    RawMessage,
    Received,
    SessionCreated,
    SessionRevoked,
    StateChanged,
    StateDeleted,
    StreamStarted,
    StreamStopped,
    UserUpdated,
    ViewerJoined,
    ViewerLeft,
    session_id,
)
from rootstream_store.live._publish import announce, publish
from rootstream_store.live._state import (
    ENDED_STATE_TTL,
    STATE_TTL,
    StateSnapshot,
    delete_state,
    get_state,
    push_state,
    update_state,
)
from rootstream_store.live._subscription import Gap, LiveSubscription, subscribe

__all__ = [
    "ENDED_STATE_TTL",
    "STATE_TTL",
    "Gap",
    "LiveSubscription",
    "Message",
    "RawMessage",
    "Received",
    "SessionCreated",
    "SessionRevoked",
    "StateChanged",
    "StateDeleted",
    "StateFollower",
    "StateSnapshot",
    "StreamStarted",
    "StreamStopped",
    "UserUpdated",
    "ViewerJoined",
    "ViewerLeft",
    "announce",
    "delete_state",
    "follow_state",
    "get_state",
    "publish",
    "push_state",
    "session_id",
    "subscribe",
    "update_state",
]
