"""Text as Redis takes it."""

from __future__ import annotations

from rootstream_store.errors import InvalidInput

__all__ = ["encode"]


def encode(text: str, field: str) -> bytes:
    """The bytes of a key or channel, whole: NUL, spaces and every character are kept. Raises InvalidInput."""
    if not isinstance(text, str):
        raise InvalidInput(field, f"must be text, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(
            field, "must be text that UTF-8 can hold (it has a lone surrogate)", text
        ) from None
