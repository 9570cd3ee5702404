"""The keys and channels of the domain in Redis, and how long their values live. Nothing else builds key
text but the triggers of sql/migrations/0009, which name the same ones."""

from __future__ import annotations

import functools
import re

from rootstream_store.errors import InvalidInput

__all__ = [
    "APPENDED",
    "BY_VIEWERS",
    "LIVE_TTL",
    "MESSAGES",
    "MESSAGES_START",
    "SESSION_TTL",
    "STREAM_TTL",
    "USER_TTL",
    "VIEWERS_TTL",
    "ViewerKeys",
    "events",
    "live",
    "on_air",
    "session",
    "state",
    "stream",
    "stream_key",
    "user",
    "viewer_keys",
    "viewers",
]

APPENDED = "events:appended"
"""Channel that says that events were appended; the message is the last position. Readers look for themselves:
a message may be lost, or overtake the horizon."""

MESSAGES = "live:messages"
"""The capped stream of all live messages, and the channel that wakes its readers with the newest id."""
MESSAGES_START = "{live:messages}:start"
"""The number that the stream began with: one that comes back empty begins with another."""

SESSION_TTL = 24 * 3600.0
"""Seconds that a login session stays cached."""
LIVE_TTL = 3600.0
"""Seconds that a stream counts as live without being told so again."""
STREAM_TTL = 3600.0
"""Seconds that a stream, and which stream has a key, stay cached."""
USER_TTL = 3600.0
"""Seconds that a user stays cached."""
VIEWERS_TTL = 300.0
"""Seconds that a viewer figure stays."""
BY_VIEWERS = "streams:by_viewers"
"""Key of the streams on air by their viewers."""


def session(token_hash: bytes | str) -> str:
    """Key of a login session. `token_hash` is the SHA-256 of the token: 32 bytes, or 64 hexadecimal digits.

    Raises InvalidInput for anything else, without showing it: it may be the token itself.
    """
    return f"session:{_digest(token_hash, 'token_hash')}"


def user(user_id: int) -> str:
    """Key of a user."""
    return f"user:{_id(user_id, 'user_id')}"


def stream(stream_id: int) -> str:
    """Key of what describes this stream."""
    return f"stream:{_id(stream_id)}:info"


def stream_key(key_hash: bytes | str) -> str:
    """Key of the id of the stream with a stream key. `key_hash` is the SHA-256 of that; as for `session`."""
    return f"stream_key:{_digest(key_hash, 'key_hash')}"


def live(stream_id: int) -> str:
    """Key that says that this stream is live."""
    return f"stream:{_id(stream_id)}:live"


def viewers(stream_id: int) -> str:
    """Key of the number of viewers of this stream, a plain integer."""
    return f"stream:{_id(stream_id)}:viewers"


def on_air(stream_id: int) -> str:
    """Key of the cached answer which session of this stream is open."""
    return _viewer_keys(_id(stream_id))[0]


ViewerKeys = tuple[str, str, str, str, str, str]
"""All that is in Redis of the viewers of a stream: which session is open, the counter, who was seen, the
sketch of different ones, the plain number, what sources have told."""


def viewer_keys(stream_id: int) -> ViewerKeys:
    """The keys of the viewers of this stream. A cluster keeps them together: what stands in braces is the
    plain key."""
    # Looked up, since all six are needed for each heartbeat of each viewer.
    return _viewer_keys(_id(stream_id))


@functools.lru_cache(4096)
def _viewer_keys(stream_id: int) -> ViewerKeys:
    plain = f"stream:{stream_id}:viewers"
    slot = f"{{{plain}}}"
    return f"{slot}:session", f"{slot}:counter", f"{slot}:seen", f"{slot}:unique", plain, f"{slot}:sources"


def events(stream_id: int) -> str:
    """Channel of the messages about this stream."""
    return f"stream:{_id(stream_id)}:events"


def state(stream_id: int) -> str:
    """Key of the live state of this stream, in the slot of the messages."""
    return f"{{{MESSAGES}}}:state:{_id(stream_id)}"


def _digest(given: bytes | str, field: str) -> str:
    text = given.hex() if isinstance(given, bytes) else given
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise InvalidInput(field, "must be a SHA-256: 32 bytes or 64 hexadecimal digits")
    return text.lower()


def _id(given: int, field: str = "stream_id") -> int:
    # A bool is an int to Python: live(True) would be stream 1. Ids below 1 are merely those of no stream.
    if type(given) is not int or not -(2**63) <= given < 2**63:
        raise InvalidInput(field, "must be an integer from -2^63 to 2^63-1", given)
    return given
