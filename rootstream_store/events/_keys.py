"""What the parts of the event log share: how an aggregate is named, and the end of all ranges."""

from __future__ import annotations

from typing import cast

__all__ = ["LAST", "id_text"]

LAST = 2**63 - 1
"""Above every version and position."""


def id_text(aggregate_id: str | int) -> str:
    """The id as it is stored: ids that are numbers elsewhere are text in the log."""
    # Anything else, a bool among it, goes on as it is, for the query's own check to refuse.
    return str(aggregate_id) if type(aggregate_id) is int else cast(str, aggregate_id)
