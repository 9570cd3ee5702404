"""Values on their way through C: texts, times, tokens, and the layout of the structs."""

from __future__ import annotations

import ctypes
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from rootstream_store import Store

from .. import naughty
from .binding import Failed, Native, microseconds
from .cases import ANN, APPEND, NOW, RECORDING, SESSION, STREAM
from .comparing import outcome, python_result
from .header import constants, functions, structs
from .native import compile_program, run


def test_texts_of_all_kinds_come_back_whole(both: tuple[Store, Any], native: Native) -> None:
    store, opened = both
    python_result("user_create", store, ANN)
    native.call("user_create", opened, ANN)
    for text in naughty.TEXTS:
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            continue
        values = {"user_id": 1, "display_name": text, "avatar_url": None}
        expected = outcome(lambda values=values: python_result("user_update_profile", store, values))  # type: ignore[misc]  # bound now
        found = outcome(lambda values=values: native.call("user_update_profile", opened, values))  # type: ignore[misc]  # bound now
        assert expected == found, text


@pytest.mark.parametrize("text", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\x80"])
def test_bytes_that_are_no_utf8_are_refused(both: tuple[Store, Any], native: Native, text: bytes) -> None:
    _, opened = both
    with pytest.raises(Failed) as failed:
        native.call("user_create", opened, {**ANN, "username": text})
    assert failed.value.code == constants()["RSS_E_INVALID_INPUT"]
    assert failed.value.details["field"] == "username"
    for name, values in (
        ("user_get_by_username", {"username": text}),
        ("event_append", {**APPEND, "aggregate_id": text}),
        ("user_create", {**ANN, "password": b"12345678" + text}),
    ):
        with pytest.raises(Failed) as failed:
            native.call(name, opened, values)
        assert failed.value.code == constants()["RSS_E_INVALID_INPUT"]
    with pytest.raises(Failed) as failed:  # any text is a token, only a wrong one
        native.call("session_validate", opened, {"token": text})
    assert failed.value.code == constants()["RSS_E_AUTHENTICATION"]


def test_times_at_the_ends_of_the_calendar(both: tuple[Store, Any], native: Native) -> None:
    _, opened = both
    native.call("user_create", opened, ANN)
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert native.call("usage_total_by_user", opened, {"user_id": 1, "since": first, "until": last}) == {
        "events": 0,
        "bytes_transferred": 0,
        "duration_seconds": 0,
    }
    total = structs()["rss_usage_total"]()
    total.struct_size = ctypes.sizeof(total)
    for since, until in ((microseconds(first) - 1, 0), (0, microseconds(last) + 1), (1 - 2**63, 2**63 - 1)):
        code = native.c.rss_usage_total_by_user(
            opened, ctypes.c_int64(1), ctypes.c_int64(since), ctypes.c_int64(until), ctypes.byref(total)
        )
        assert code == constants()["RSS_E_INVALID_INPUT"]
        assert b"must be a time in the years 1 to 9999" in native.c.rss_last_error().contents.message


def test_times_are_told_to_the_microsecond(both: tuple[Store, Any], native: Native) -> None:
    _, opened = both
    native.call("user_create", opened, ANN)
    moments = [
        NOW,
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2024, 2, 29, tzinfo=UTC),
        datetime(2, 1, 1, tzinfo=UTC),
        datetime(9998, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        *(datetime(1899, 12, 31, 1, 2, 3, 4, tzinfo=UTC) + timedelta(days=977 * day) for day in range(100)),
    ]
    native.call("stream_create", opened, STREAM)
    native.call(
        "recording_create", opened, {"stream_id": 1, **RECORDING, "session_id": None, "expires_at": None}
    )
    for at in moments:
        sql = b"UPDATE recordings SET created_at = $1, expires_at = $2"
        parameters = [(at - timedelta(days=1)).isoformat(), at.isoformat()]
        native.call("query", opened, {"sql": sql, "parameters_json": parameters})
        (found,) = native.call("recording_list_expired", opened, {"now": at, "limit": 10})
        assert found["expires_at"] == microseconds(at)
        assert found["created_at"] == microseconds(at - timedelta(days=1))
        before = {"now": microseconds(at) - 1, "limit": 10}
        assert native.call("recording_list_expired", opened, before) == []


def test_a_session_is_told_from_its_token(both: tuple[Store, Any], native: Native) -> None:
    _, opened = both
    native.call("user_create", opened, ANN)
    made = [native.call("session_create", opened, {**SESSION, "device_id": device}) for device in "abc"]
    first, token = made[0]
    assert native.call("session_validate", opened, {"token": token})["token_hash"] == first["token_hash"]
    page = {"user_id": 1, "before_created_at": None, "before_hash": None, "limit": 2}
    newest = native.call("session_list_active", opened, page)
    assert [session["device_id"] for session in newest] == ["c", "b"]
    last = {"before_created_at": newest[-1]["created_at"], "before_hash": newest[-1]["token_hash"]}
    assert [
        session["device_id"] for session in native.call("session_list_active", opened, {**page, **last})
    ] == ["a"]
    assert native.call("session_revoke_all", opened, {"user_id": 1, "except_token": token}) == 2
    native.call("session_revoke", opened, {"token": token})
    with pytest.raises(Failed):
        native.call("session_validate", opened, {"token": token})


def test_ctypes_and_the_compiler_agree_on_the_structs(tmp_path: Path) -> None:
    lines = []
    for name, struct in structs().items():
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        lines += [
            f'printf("{name}.{field[0]} %zu\\n", offsetof({name}, {field[0]}));' for field in struct._fields_
        ]
    source = tmp_path / "layout.c"
    body = "\n    ".join(lines)
    includes = '#include <stdio.h>\n#include "rootstream_store.h"\n'
    source.write_text(f"{includes}int main(void)\n{{\n    {body}\n    return 0;\n}}\n")
    shown = run(compile_program(source, linked=False)).stdout
    expected = []
    for name, struct in structs().items():
        expected.append(f"{name} {ctypes.sizeof(struct)}")
        expected += [f"{name}.{field[0]} {getattr(struct, field[0]).offset}" for field in struct._fields_]
    assert shown.splitlines() == expected


def test_the_store_of_c_uses_the_same_cache(database_url: str, redis_url: str, native: Native) -> None:
    opened = native.open(database_url, redis_url)
    client = redis.Redis.from_url(redis_url)
    native.call("user_create", opened, ANN)
    native.call("stream_create", opened, STREAM)
    assert native.call("stream_is_live", opened, {"stream_id": 1}) == 0
    assert client.exists("stream:1:live")
    client.close()
    native.close(opened)


def test_nothing_is_exported_that_python_calls_by_another_name() -> None:
    """Each line of functions.def has letters that are known, and a name in Python."""
    for name, function in functions().items():
        module, _, attribute = function.path.partition(":")
        assert hasattr(__import__(f"rootstream_store.{module}", fromlist=["_"]), attribute), name
        for letter, argument in function.arguments:
            assert letter in "lnkfhbgsvjutmwyzeNEU", (name, argument)
