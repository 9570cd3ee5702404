"""One repository function and what it is called with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rootstream_store.db import Db

from .._world import World

__all__ = ["Case", "Cases", "collect", "fresh", "steady"]


@dataclass(frozen=True)
class Case:
    """`call` is given a Db, and the world or what `make` made."""

    name: str
    call: Callable[[Any, Any], object]
    make: Callable[[Db, World], Any] | None
    """Makes, in a transaction, what one call uses up. None: every call may be the same."""


Cases = dict[str, Case]


def steady(name: str, call: Callable[[Any, World], object]) -> Case:
    """One that may be called again and again in the same way."""
    return Case(name, call, None)


def fresh(name: str, make: Callable[[Any, World], Any], call: Callable[[Any, Any], object]) -> Case:
    """One that uses up what it is called with."""
    return Case(name, call, make)


def collect(*cases: Case) -> Cases:
    """By name."""
    found = {case.name: case for case in cases}
    assert len(found) == len(cases), "a name is there twice"
    return found
