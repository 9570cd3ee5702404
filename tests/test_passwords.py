"""Password hashes, without a database."""

from __future__ import annotations

import statistics
import time
import traceback
import unicodedata
from collections.abc import Iterator

import argon2
import pytest

from rootstream_store.errors import DatabaseError, InvalidInput, SettingsError
from rootstream_store.repositories._passwords import (
    check_password,
    configure_passwords,
    hash_password,
    is_weaker,
)
from rootstream_store.secret import Secret

from .factories import PASSWORD, PASSWORD_HASH

CHEAP = {"time_cost": 1, "memory_cost": 8, "parallelism": 1}


@pytest.fixture(autouse=True)
def _cheap() -> Iterator[None]:
    configure_passwords(**CHEAP)
    yield
    configure_passwords()


def test_the_default_is_the_low_memory_choice_of_rfc_9106() -> None:
    configure_passwords()
    had = argon2.extract_parameters(hash_password(PASSWORD))
    assert (had.type, had.version) == (argon2.Type.ID, 19)
    assert (had.time_cost, had.memory_cost, had.parallelism) == (3, 65536, 4)
    assert (had.salt_len, had.hash_len) == (16, 32)


@pytest.mark.parametrize(
    "password", ["12345678", "a" * 1024, "пароль и соль", "🗝️" * 4, " leading and trailing ", "tab\tnew\nline"]
)
def test_a_password_matches_its_hash_and_no_other(password: str) -> None:
    stored = hash_password(password)
    assert check_password(stored, password)
    assert check_password(stored, Secret(password))
    assert not check_password(stored, "x" + password[1:])
    assert not check_password(stored, password[:-1])


def test_each_hash_has_its_own_salt() -> None:
    assert hash_password(PASSWORD) != hash_password(PASSWORD)


def test_composed_and_decomposed_letters_are_one_password() -> None:
    composed = "pässwörter"
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    assert check_password(hash_password(composed), decomposed)


@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("", "8 to 1024"),
        ("sesame7", "8 to 1024"),
        ("s" * 1025, "8 to 1024"),
        ("secret\0tail", "NUL"),
        ("secret\ud800tail", "UTF-8"),
        (b"secret tail", "text or a Secret"),
        (None, "text or a Secret"),
        (12345678, "text or a Secret"),
    ],
)
def test_what_is_no_password_is_refused_and_not_shown(password: object, rule: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        hash_password(password)  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.field == "password"
    assert rule in caught.value.rule
    assert caught.value.value is None
    assert not caught.value.retryable
    text = "".join(traceback.format_exception(caught.value)).partition("InvalidInput")[2]
    if password:
        assert str(password) not in text
    assert "secret" not in text


def test_a_short_password_is_only_wrong_when_it_is_checked() -> None:
    """A hash may be older than the rule."""
    stored = argon2.PasswordHasher(1, 8, 1).hash("short")
    assert check_password(stored, "short")
    assert not check_password(stored, "shor")


@pytest.mark.parametrize("password", ["alice secret\0garbage", "x" * 1025, "\udfff" * 8])
def test_what_is_no_password_is_refused_when_it_is_checked(password: str) -> None:
    stored = hash_password("alice secret")
    for known in (stored, None):
        with pytest.raises(InvalidInput, match="password"):
            check_password(known, password)


def test_nobody_has_no_password() -> None:
    assert not check_password(None, PASSWORD)


@pytest.mark.parametrize("stored", ["plain text", "$argon2id$v=19$" + "a" * 30, PASSWORD_HASH[:-50]])
def test_a_damaged_hash_is_told_and_not_shown(stored: str) -> None:
    with pytest.raises(DatabaseError, match="cannot be checked") as caught:
        check_password(stored, PASSWORD)
    text = "".join(traceback.format_exception(caught.value))
    assert stored not in text
    assert PASSWORD not in text


def test_an_unknown_user_takes_as_long_as_a_wrong_password() -> None:
    configure_passwords(time_cost=2, memory_cost=8192, parallelism=1)
    stored = hash_password(PASSWORD)

    def seconds(known: str | None) -> float:
        started = time.process_time()
        assert not check_password(known, "not the password")
        return time.process_time() - started

    pairs = [(seconds(stored), seconds(None)) for _ in range(9)]
    known, unknown = (statistics.median(column) for column in zip(*pairs, strict=True))
    # The faults this is for make one of them a thousand times the other.
    assert 0.5 < known / unknown < 2, (known, unknown)


@pytest.mark.parametrize(
    ("cost", "weaker"),
    [
        ({"time_cost": 1, "memory_cost": 8}, False),
        ({"time_cost": 2, "memory_cost": 8}, True),
        ({"time_cost": 1, "memory_cost": 64}, True),
    ],
)
def test_a_hash_that_took_less_work_is_weaker(cost: dict[str, int], weaker: bool) -> None:
    stored = hash_password(PASSWORD)
    configure_passwords(**cost, parallelism=1)
    assert is_weaker(stored) is weaker
    assert not is_weaker(hash_password(PASSWORD))


def test_two_processes_with_other_settings_do_not_replace_each_others_hashes_for_ever() -> None:
    settings = [
        {"time_cost": 1, "memory_cost": 64, "parallelism": 1},
        {"time_cost": 4, "memory_cost": 16, "parallelism": 2},
    ]
    judged = []
    for own, other in (settings, settings[::-1]):
        configure_passwords(**own)
        stored = hash_password(PASSWORD)
        configure_passwords(**other)
        judged.append(is_weaker(stored))
    assert judged == [False, False]


@pytest.mark.parametrize(
    ("cost", "name"),
    [
        ({"time_cost": 0}, "time_cost"),
        ({"time_cost": True}, "time_cost"),
        ({"memory_cost": "65536"}, "memory_cost"),
        ({"memory_cost": 31, "parallelism": 4}, "memory_cost"),
        ({"parallelism": 2**24, "memory_cost": 2**28}, "parallelism"),
        ({"parallelism": -1}, "parallelism"),
    ],
)
def test_a_cost_that_cannot_work_is_refused_and_changes_nothing(cost: dict[str, int], name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        configure_passwords(**cost)
    assert argon2.extract_parameters(hash_password(PASSWORD)).memory_cost == CHEAP["memory_cost"]
