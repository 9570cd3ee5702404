"""Publishing messages."""

from __future__ import annotations

import msgspec

from rootstream_store.cache import Announce
from rootstream_store.db import Db, repository
from rootstream_store.errors import InvalidInput
from rootstream_store.live._messages import Message, StateChanged, StateDeleted

__all__ = ["announce", "encode_json", "publish"]


@repository
def publish(db: Db, *messages: Message, soon: bool = False) -> None:
    """Sends messages to all subscribers once the changes before them are committed, in one round trip.

    In a transaction: at its commit, never after a rollback. A Redis that is down raises nothing: the messages
    are counted as lost, and subscribers are told of a Gap when it is back. `soon`: a thread sends them,
    together with others and in their order, and the caller does not wait for a round trip; for what comes in
    hundreds a second. Raises InvalidInput for what could not be sent.
    """
    return db.after_commit(*(announce(message, soon=soon) for message in messages))


def announce(message: Message, *, soon: bool = False) -> Announce:
    """The effect that publishes the message. Raises InvalidInput."""
    if not isinstance(message, Message) or not message.__struct_fields__:
        raise InvalidInput("message", f"must be a live.Message with fields, not {type(message).__name__}")
    if isinstance(message, StateChanged | StateDeleted):
        raise InvalidInput("message", "is published by the change of a state itself", message.type)
    return Announce(message.topic, encode_json(message, "message"), None, soon)


def encode_json(value: object, field: str) -> bytes:
    """`value` as JSON. Raises InvalidInput."""
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidInput(field, f"must be what JSON can hold: {error}") from None
