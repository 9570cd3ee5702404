"""What the parts of the event log share: how an aggregate is named, and the end of all ranges."""

from __future__ import annotations

from rootstream_store.errors import InvalidInput

__all__ = ["LAST", "id_text"]

LAST = 2**63 - 1
"""Above every version and position."""


def id_text(aggregate_id: str | int) -> str:
    """The id as it is stored: ids that are numbers elsewhere are text in the log. Raises InvalidInput."""
    if isinstance(aggregate_id, str):
        return aggregate_id
    # Neither bool, nor numbers that no table has as an id: from 4301 digits on Python writes none out.
    if type(aggregate_id) is not int or not -(2**63) <= aggregate_id <= LAST:
        raise InvalidInput("aggregate_id", "must be text or an integer from -2^63 to 2^63-1", aggregate_id)
    return str(aggregate_id)
