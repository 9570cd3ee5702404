"""Secrets that cannot slip into a log: a string that shows itself only when asked."""

from __future__ import annotations

import hmac
import secrets

from rootstream_store.errors import InvalidInput

__all__ = ["SECRET_NAMES", "Secret"]

SECRET_NAMES = frozenset({"password", "password_hash", "stream_key", "token", "token_hash"})
"""Columns and parameters whose values no error shows."""


class Secret:
    """A password, login token or stream key. `repr`, `str` and f-strings show stars; `reveal()` gives the
    text. Raises InvalidInput for what is no string, without showing it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise InvalidInput("secret", f"must be a string, not a {type(text).__name__}")
        self._text = text

    @classmethod
    def generate(cls) -> Secret:
        """256 random bits from the operating system, as 43 URL-safe characters."""
        return cls(secrets.token_urlsafe(32))

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(_bytes(self._text), _bytes(other._text))

    def __hash__(self) -> int:
        return hash(self._text)


def _bytes(text: str) -> bytes:
    # What a client sent may hold lone surrogates: different, but no reason to fail.
    return text.encode("utf-8", "surrogatepass")
