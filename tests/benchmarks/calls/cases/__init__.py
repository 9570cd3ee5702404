"""The calls that are measured: every repository function there is. A test compares the list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._case import Case, Cases
from .accounts import ACCOUNTS
from .broadcasts import BROADCASTS
from .events import EVENTS
from .live import LIVE

__all__ = ["CASES", "LIVE", "Case", "Cases", "name_of"]

CASES: Cases = {**ACCOUNTS, **BROADCASTS, **EVENTS}
"""Those answered by PostgreSQL."""


def name_of(function: Callable[..., Any]) -> str:
    """What callers write: "users.get", "events.append"."""
    parts = [part for part in function.__module__.split(".")[1:] if not part.startswith("_")]
    return f"{parts[-1]}.{function.__name__}"
