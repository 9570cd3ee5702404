"""The header and functions.def, read from their text: structs for ctypes, constants, the lines of calls."""

from __future__ import annotations

import ctypes
import functools
import re
from typing import Any, NamedTuple

from .native import CAPI

__all__ = ["Function", "constants", "functions", "header_text", "structs"]


class Function(NamedTuple):
    """A line of functions.def, or a prototype of the header."""

    path: str
    arguments: list[tuple[str, str]]
    """(letter, name in Python)"""
    result: str


@functools.cache
def header_text() -> str:
    """Without comments."""
    return re.sub(r"/\*.*?\*/", "", (CAPI / "rootstream_store.h").read_text(), flags=re.DOTALL)


@functools.cache
def constants() -> dict[str, int]:
    """The numbers that the header defines."""
    found = re.findall(r"^#define (RSS_\w+) \(?(-?\d+)\)?\s*$", header_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}


@functools.cache
def functions() -> dict[str, Function]:
    """functions.def, by name."""
    text = re.sub(r"/\*.*?\*/", "", (CAPI / "functions.def").read_text(), flags=re.DOTALL)
    options = re.search(r"#define OPTIONS(.*?)\nF\(", text, re.DOTALL)
    assert options is not None
    text = text.replace('" OPTIONS,', f'"{options[1].replace(chr(92), "")},')
    found = {}
    for line in re.findall(r"^F\((.*?)\)$", text, re.MULTILINE | re.DOTALL):
        name, _, rest = line.partition(",")
        path, arguments, result = (
            "".join(re.findall(r'"([^"]*)"', part)) for part in re.split(r'(?<="),\s*(?=")', rest.strip())
        )
        pairs = [pair.split() for pair in re.split(r"[,;]", arguments) if pair.strip()]
        found[name] = Function(path, [(letter, given) for letter, given in pairs], result)
    return found


_PLAIN = {
    "size_t": ctypes.c_size_t,
    "uint32_t": ctypes.c_uint32,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "double": ctypes.c_double,
    "const char *": ctypes.c_char_p,
}


@functools.cache
def structs() -> dict[str, type[ctypes.Structure]]:
    """The structs, by name."""
    made = {}
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", header_text(), re.DOTALL):
        fields: list[tuple[str, Any]] = []
        for kind, field, size in re.findall(r"((?:const |unsigned )?\w+ \*?)\s*(\w+)(?:\[(\w+)\])?;", body):
            if size:
                count = int(size) if size.isdigit() else constants()[size]
                item = ctypes.c_ubyte if kind.startswith("unsigned") else ctypes.c_char
                fields.append((field, item * count))
            else:
                fields.append((field, _PLAIN[kind.strip()]))
        made[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
    return made
