"""Running the tests of one module once more, with the fixtures of another folder."""

from __future__ import annotations

from types import ModuleType
from typing import Any

__all__ = ["again"]


def again(module: ModuleType) -> dict[str, Any]:
    """Everything in a module of tests, its fixtures too, for a module that has no tests of its own."""
    return {name: value for name, value in vars(module).items() if not name.startswith("__")}
