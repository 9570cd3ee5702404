"""The messages, one class for each type, and what a subscriber gets of them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, Final, Union

import msgspec

from rootstream_store.errors import InvalidInput

__all__ = [
    "MESSAGES",
    "Decoder",
    "Message",
    "RawMessage",
    "Received",
    "SessionCreated",
    "SessionRevoked",
    "StateChanged",
    "StateDeleted",
    "StreamStarted",
    "StreamStopped",
    "UserUpdated",
    "ViewerJoined",
    "ViewerLeft",
    "session_id",
]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all messages, also of your own:

        class GoalReached(live.Message, frozen=True, kw_only=True, tag="goal.reached"):
            stream_id: int

    The tag is the type; the first field says what the message is about. A new field of a class needs a
    default, so that messages of an older release can be read.
    """

    @property
    def type(self) -> str:
        """The type: `stream.started`."""
        return str(self.__struct_config__.tag)

    @property
    def topic(self) -> str:
        """What patterns are compared with: the type with the first field in it, `stream.7.started`."""
        kind, dot, what = self.type.partition(".")
        return f"{kind}.{getattr(self, self.__struct_fields__[0])}{dot}{what}"


class StreamStarted(Message, frozen=True, kw_only=True, tag="stream.started"):
    """A broadcast has begun."""

    stream_id: int
    session_id: int
    """The stream session, as in `stream_sessions.get`."""
    started_at: datetime


class StreamStopped(Message, frozen=True, kw_only=True, tag="stream.stopped"):
    """A broadcast has ended."""

    stream_id: int
    session_id: int | None = None
    """The stream session; this and the rest: None when the stream was deleted."""
    ended_at: datetime | None = None
    duration_seconds: int | None = None
    peak_viewers: int | None = None
    is_deleted: bool = False


class ViewerJoined(Message, frozen=True, kw_only=True, tag="viewer.joined"):
    """Someone began to watch a stream."""

    stream_id: int
    viewer_id: str
    viewers: int | None = None
    """How many watch now. None: not known."""


class ViewerLeft(Message, frozen=True, kw_only=True, tag="viewer.left"):
    """Someone no longer watches a stream."""

    stream_id: int
    viewer_id: str
    viewers: int | None = None
    """How many watch now. None: not known."""


class UserUpdated(Message, frozen=True, kw_only=True, tag="user.updated"):
    """An account was changed. What others may see of it is here; of the e-mail address only that it is
    another."""

    user_id: int
    change: str
    """profile, email, password, verified, activated, deactivated or deleted."""
    username: str | None = None
    """This and the rest: None when the user was deleted."""
    display_name: str | None = None
    avatar_url: str | None = None
    is_verified: bool | None = None
    is_active: bool | None = None
    updated_at: datetime | None = None


class SessionCreated(Message, frozen=True, kw_only=True, tag="session.created"):
    """Someone logged in."""

    user_id: int
    session_id: str
    """See `session_id`: neither the token nor its hash."""
    expires_at: datetime
    device_id: str | None = None


class SessionRevoked(Message, frozen=True, kw_only=True, tag="session.revoked"):
    """A login session was ended. Its token is refused from now on."""

    user_id: int
    session_id: str
    """See `session_id`."""


class StateChanged(Message, frozen=True, kw_only=True, tag="state.changed"):
    """The live state of a stream was changed. Versions of one epoch follow one another without a hole."""

    stream_id: int
    epoch: str
    """Another epoch is another state: the one before was deleted or lost."""
    version: int
    """The version that this change made."""
    changes: dict[str, Any]
    removed: tuple[str, ...] = ()


class StateDeleted(Message, frozen=True, kw_only=True, tag="state.deleted"):
    """The live state of a stream was deleted."""

    stream_id: int
    epoch: str
    version: int
    """The last one that it had."""


MESSAGES: Final[tuple[type[Message], ...]] = (
    StreamStarted,
    StreamStopped,
    ViewerJoined,
    ViewerLeft,
    UserUpdated,
    SessionCreated,
    SessionRevoked,
    StateChanged,
    StateDeleted,
)


class RawMessage(msgspec.Struct, frozen=True):
    """A message of a type that this release does not know, or that does not fit its class."""

    type: str | None
    """None: it has none."""
    data: Any
    """The decoded JSON. None: it is no JSON."""


class Received(msgspec.Struct, frozen=True, gc=False):
    """A message as a subscriber gets it."""

    id: str
    """Its place: `subscribe(…, since=id)` goes on behind it."""
    topic: str
    message: Message | RawMessage

    @property
    def time(self) -> datetime:
        """When it was published, by the clock of the Redis server."""
        return datetime.fromtimestamp(int(self.id.partition("-")[0]) / 1000, UTC)


class Decoder:
    """Makes objects of payloads. `types`: classes beside the library's own. Raises InvalidInput."""

    def __init__(self, types: tuple[type[Message], ...] = ()) -> None:
        named: dict[str, type[Message]] = {}
        for cls in dict.fromkeys((*MESSAGES, *types)):
            if not (isinstance(cls, type) and issubclass(cls, Message) and cls.__struct_fields__):
                raise InvalidInput("types", "must be classes of live.Message with at least one field", cls)
            tag = str(cls.__struct_config__.tag)
            if named.setdefault(tag, cls) is not cls:
                raise InvalidInput("types", "must have tags of their own", tag)
        try:
            self._decode = msgspec.json.Decoder(Union[tuple(named.values())]).decode  # noqa: UP007  # made at run time
        except TypeError as error:
            raise InvalidInput("types", f"cannot be decoded: {error}") from error

    def decode(self, payload: bytes) -> Message | RawMessage:
        """The message. Never fails: what is of a newer release comes raw."""
        try:
            message: Message = self._decode(payload)
        except msgspec.MsgspecError:
            return _raw(payload)
        return message


def session_id(token_hash: bytes) -> str:
    """What names a login session in messages: 32 hexadecimal digits made of its `token_hash`. Whoever has the
    token can make it too; nobody can make the hash of it, by which a session could be revoked."""
    return hashlib.sha256(b"session:" + token_hash).hexdigest()[:32]


def _raw(payload: bytes) -> RawMessage:
    try:
        data = msgspec.json.decode(payload)
    except msgspec.MsgspecError:
        return RawMessage(None, None)
    kind = data.get("type") if isinstance(data, dict) else None
    return RawMessage(kind if isinstance(kind, str) else None, data)
