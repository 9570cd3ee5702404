"""The same calls through Python and through C, each on a database of its own: the same results and the same
errors."""

from __future__ import annotations

import ctypes
import json
from typing import Any

from rootstream_store import Store, errors
from rootstream_store.capi._codes import CODES

from .binding import Native
from .cases import CASES
from .comparing import outcome, python_result, strip
from .header import constants, functions
from .native import CAPI


def test_the_same_calls_have_the_same_outcome(both: tuple[Store, Any], native: Native) -> None:
    store, opened = both
    differences = []
    for name, values in CASES:
        expected = outcome(lambda name=name, values=values: python_result(name, store, values))  # type: ignore[misc]  # bound now
        found = outcome(lambda name=name, values=values: native.call(name, opened, values))  # type: ignore[misc]  # bound now
        if expected[0] == "result" and found[0] == "result":
            if name in ("session_create", "stream_create"):
                assert len(found[1][1]) == len(expected[1][1]) == 43
                expected, found = ("result", expected[1][0]), ("result", found[1][0])
            if name == "event_load_snapshot" and expected[1] is not None:
                assert json.loads(expected[1][1]) == json.loads(found[1][1])
                expected, found = ("result", expected[1][0]), ("result", found[1][0])
            expected = "result", strip(name, expected[1], found[1])
        if expected != found:
            differences.append(f"{name} {values}\n  Python {expected}\n  C      {found}")
    assert not differences, "\n".join(differences)


def test_every_function_of_a_repository_is_compared() -> None:
    compared = {name for name, _ in CASES}
    areas = ("user_", "session_", "stream_", "recording_", "usage_", "billing_", "event_", "viewer_")
    assert {name for name in functions() if name.startswith(areas)} - compared == set()


def test_every_class_of_errors_has_a_code_of_its_own() -> None:
    classes = {getattr(errors, name) for name in errors.__all__}
    assert set(CODES) == classes
    assert len(set(CODES.values())) == len(CODES)
    header = (CAPI / "rootstream_store.h").read_text()
    for kind, code in CODES.items():
        name = next(name for name, number in constants().items() if number == code and "_E_" in name)
        assert kind.__name__ in next(line for line in header.splitlines() if f"#define {name} " in line)


def test_codes_have_names(native: Native) -> None:
    native.c.rss_code_name.restype = ctypes.c_char_p
    codes = {name: number for name, number in constants().items() if name.startswith("RSS_E_")}
    codes |= {"RSS_OK": 0, "RSS_NOTHING": 1}
    for name, number in codes.items():
        assert native.c.rss_code_name(number) == name.encode()
    assert native.c.rss_code_name(-999) == b"RSS_E_?"
