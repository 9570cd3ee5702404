"""The keys and channels of the domain in Redis, and how long their values live. Nothing else builds key
text."""

from __future__ import annotations

import re

from rootstream_store.errors import InvalidInput

__all__ = [
    "APPENDED",
    "LIVE_TTL",
    "MESSAGES",
    "MESSAGES_START",
    "SESSION_TTL",
    "VIEWERS_TTL",
    "events",
    "live",
    "session",
    "state",
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
VIEWERS_TTL = 300.0
"""Seconds that a viewer figure stays."""


def session(token_hash: bytes | str) -> str:
    """Key of a login session. `token_hash` is the SHA-256 of the token: 32 bytes, or 64 hexadecimal digits.

    Raises InvalidInput for anything else, without showing it: it may be the token itself.
    """
    text = token_hash.hex() if isinstance(token_hash, bytes) else token_hash
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise InvalidInput("token_hash", "must be a SHA-256: 32 bytes or 64 hexadecimal digits")
    return f"session:{text.lower()}"


def live(stream_id: int) -> str:
    """Key that says that this stream is live."""
    return f"stream:{_stream(stream_id)}:live"


def viewers(stream_id: int) -> str:
    """Key of the viewer figure of this stream."""
    return f"stream:{_stream(stream_id)}:viewers"


def events(stream_id: int) -> str:
    """Channel of the messages about this stream."""
    return f"stream:{_stream(stream_id)}:events"


def state(stream_id: int) -> str:
    """Key of the live state of this stream, in the slot of the messages."""
    return f"{{{MESSAGES}}}:state:{_stream(stream_id)}"


def _stream(stream_id: int) -> int:
    # A bool is an int to Python: live(True) would be stream 1. Ids below 1 are merely those of no stream.
    if type(stream_id) is not int or not -(2**63) <= stream_id < 2**63:
        raise InvalidInput("stream_id", "must be an integer from -2^63 to 2^63-1", stream_id)
    return stream_id
