"""Password hashes: argon2id (RFC 9106) in its encoded form, at a cost that can be set for the process."""

from __future__ import annotations

import base64
import os
import threading
import unicodedata
from typing import Final

import argon2
from argon2.exceptions import HashingError, InvalidHashError, VerificationError, VerifyMismatchError

from rootstream_store.errors import DatabaseError, InvalidInput, SettingsError, Unavailable
from rootstream_store.secret import Secret

__all__ = ["MAX_LENGTH", "MIN_LENGTH", "check_password", "configure_passwords", "hash_password", "is_weaker"]

MIN_LENGTH: Final = 8
MAX_LENGTH: Final = 1024
"""In characters. A bound, so that nobody keeps the server busy with a password of a gigabyte."""

# RFC 9106, section 4: the second recommended choice, 64 MiB for each hash.
_hasher = argon2.PasswordHasher.from_parameters(argon2.profiles.RFC_9106_LOW_MEMORY)
# Each hash takes its own 64 MiB: a storm of logins must cost time, not all memory.
_gate = threading.BoundedSemaphore(os.cpu_count() or 1)


def configure_passwords(*, time_cost: int = 3, memory_cost: int = 65536, parallelism: int = 4) -> None:
    """Sets what a password hash costs, for this process, from the next hash on.

    `time_cost`: passes over the memory. `memory_cost`: in KiB, at least 8 for each lane. `parallelism`:
    lanes, each a thread. Without arguments: the defaults, the low-memory choice of RFC 9106. A user whose
    stored hash took less work gets a new one at the next login. Raises SettingsError.
    """
    values = {"time_cost": time_cost, "memory_cost": memory_cost, "parallelism": parallelism}
    for name, value in values.items():
        if type(value) is not int or not 1 <= value < 2**32:
            raise SettingsError(f"{name} must be an integer from 1 to {2**32 - 1}, not {value!r}")
    if parallelism >= 2**24:
        raise SettingsError(f"parallelism must be below {2**24}, not {parallelism}")
    if memory_cost < 8 * parallelism:
        raise SettingsError(
            f"memory_cost must be at least 8 KiB for each lane ({8 * parallelism}), not {memory_cost}"
        )
    global _hasher
    _hasher = argon2.PasswordHasher(time_cost, memory_cost, parallelism)


def hash_password(password: str | Secret) -> str:
    """The hash to store. Takes about 0.1 s of one processor at the default cost.

    Raises InvalidInput, without the password, when it has fewer than 8 or more than 1024 characters or a NUL,
    and Unavailable when there is no memory for it.
    """
    data = _encode(password, MIN_LENGTH)
    try:
        with _gate:
            return _hasher.hash(data)
    except HashingError as error:
        raise Unavailable(f"the password cannot be hashed: {error}") from error


def check_password(stored: str | None, password: str | Secret) -> bool:
    """Whether `stored` is the hash of `password`. None, for a user who does not exist: False, in the same
    time.

    Raises InvalidInput for what is no password at all (NUL, more than 1024 characters, not text),
    DatabaseError when `stored` is no hash.
    """
    data = _encode(password, 0)
    try:
        with _gate:
            return _hasher.verify(stored or _hash_of_nothing(), data)
    except VerifyMismatchError:
        return False
    except (InvalidHashError, VerificationError) as error:
        raise DatabaseError(f"a stored password hash cannot be checked: {error}") from error


def is_weaker(stored: str) -> bool:
    """Whether `stored` took less work than a hash made now. Not merely another cost: two processes with
    different settings would replace each other's hashes for ever."""
    had = argon2.extract_parameters(stored)
    return (
        had.memory_cost * had.time_cost < _hasher.memory_cost * _hasher.time_cost
        or had.version < argon2.low_level.ARGON2_VERSION
        or had.hash_len < _hasher.hash_len
        or had.salt_len < _hasher.salt_len
    )


def _hash_of_nothing() -> str:
    """What looks like a hash made now, but of no password that anybody knows."""

    def field(length: int) -> str:
        return base64.b64encode(os.urandom(length)).rstrip(b"=").decode()

    cost = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2id$v=19${cost}${field(_hasher.salt_len)}${field(_hasher.hash_len)}"


def _encode(password: object, shortest: int) -> bytes:
    text = password.reveal() if isinstance(password, Secret) else password
    if not isinstance(text, str):
        raise InvalidInput("password", "must be text or a Secret")
    if not shortest <= len(text) <= MAX_LENGTH:
        raise InvalidInput("password", f"must have {MIN_LENGTH} to {MAX_LENGTH} characters")
    if "\0" in text:
        raise InvalidInput("password", "must not contain NUL")
    if any("\ud800" <= character <= "\udfff" for character in text):
        # Asked beforehand: the error of encode() would stay chained to ours, and it shows the text.
        raise InvalidInput("password", "must be text that UTF-8 can hold (it has a lone surrogate)")
    # One keyboard sends "é" as one character, another as two (RFC 8265, section 4.2).
    return unicodedata.normalize("NFC", text).encode()
