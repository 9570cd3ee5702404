"""What the parts of the event log share: how an aggregate is named, and the end of all ranges."""

from __future__ import annotations

from rootstream_store.errors import InvalidInput

__all__ = ["LAST", "MAX_NAME_LENGTH", "check_name", "id_text", "is_name"]

LAST = 2**63 - 1
"""Above every version and position."""


MAX_NAME_LENGTH = 255
"""Most characters of an aggregate's type and id and of an event's type."""


def is_name(value: object) -> bool:
    """Whether it has a length that such a name can have; what is no text at all, the statement refuses."""
    return not isinstance(value, str) or 1 <= len(value) <= MAX_NAME_LENGTH


def check_name(value: object, field: str) -> None:
    """Raises InvalidInput for a name that is empty or too long. The tables do not check it: see migration
    0005."""
    if not is_name(value):
        raise InvalidInput(field, f"must be 1 to {MAX_NAME_LENGTH} characters", value)


def id_text(aggregate_id: str | int) -> str:
    """The id as it is stored: ids that are numbers elsewhere are text in the log. Raises InvalidInput."""
    if isinstance(aggregate_id, str):
        return aggregate_id
    # Neither bool, nor numbers that no table has as an id: from 4301 digits on Python writes none out.
    if type(aggregate_id) is not int or not -(2**63) <= aggregate_id <= LAST:
        raise InvalidInput("aggregate_id", "must be text or an integer from -2^63 to 2^63-1", aggregate_id)
    return str(aggregate_id)
