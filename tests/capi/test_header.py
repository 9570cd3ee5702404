"""The headers by themselves: every C and C++ that a caller may use takes them without a word."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from .header import functions
from .native import CAPI, WARNINGS, have, library

COMPILERS = [
    *(("gcc", f"-std={standard}", "c") for standard in ("c89", "gnu89", "c99", "c11", "c17")),
    *(("g++", f"-std={standard}", "c++") for standard in ("c++11", "c++14", "c++17", "c++20")),
    *(("clang", f"-std={standard}", "c") for standard in ("c89", "c99", "c11")),
    *(("clang++", f"-std={standard}", "c++") for standard in ("c++11", "c++20")),
]
HEADERS = ["rootstream_store.h", "rootstream_legacy.h"]


def text_of(header: str) -> str:
    """Without comments."""
    return re.sub(r"/\*.*?\*/", "", (CAPI / header).read_text(), flags=re.DOTALL)


def compiles(tmp_path: Path, compiler: tuple[str, str, str], source: str) -> None:
    if not have(compiler[0]):
        pytest.skip(f"no {compiler[0]} on this machine")
    file = tmp_path / "caller"
    file.write_text(source)
    done = subprocess.run(
        [*compiler[:2], *WARNINGS, "-fsyntax-only", f"-I{CAPI}", "-x", compiler[2], str(file)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("compiler", COMPILERS, ids=" ".join)
@pytest.mark.parametrize("header", HEADERS)
def test_a_header_alone_compiles(tmp_path: Path, compiler: tuple[str, str, str], header: str) -> None:
    compiles(tmp_path, compiler, f'#include "{header}"\n#include "{header}"\nint caller(void);\n')


@pytest.mark.parametrize("compiler", COMPILERS, ids=" ".join)
def test_every_struct_has_an_initialiser(tmp_path: Path, compiler: tuple[str, str, str]) -> None:
    text = text_of("rootstream_store.h")
    structs = re.findall(r"^typedef struct (\w+) \{", text, re.MULTILINE)
    # Read by callers only, who are given a pointer.
    structs.remove("rss_error")
    assert len(structs) > 15
    lines = [f"    {name} a_{name} = {name.upper()}_INIT;" for name in structs]
    uses = [f"    size += a_{name}.struct_size;" for name in structs]
    values = (
        "    const char *keep = RSS_KEEP;\n    int64_t none = RSS_NONE, keep_int = RSS_KEEP_INT;\n"
        "    double none_f64 = RSS_NONE_F64, keep_f64 = RSS_KEEP_F64;\n"
    )
    body = "\n".join(lines) + "\n" + values + "\n    size_t size = 0;\n" + "\n".join(uses)
    compiles(
        tmp_path,
        compiler,
        f'#include "rootstream_store.h"\nsize_t caller(void);\nsize_t caller(void)\n{{\n{body}\n'
        "    return size + (keep != 0) + (none != keep_int) + (none_f64 < keep_f64) + RSS_KEEP_FLAG;\n}\n",
    )


def test_headers_map_and_library_name_the_same_functions() -> None:
    declared = {
        name
        for header in HEADERS
        for name in re.findall(r"^(?:const )?\w+ \*?(\w+)\(", text_of(header), re.MULTILINE)
    }
    script = re.sub(r"/\*.*?\*/", "", (CAPI / "exports.map").read_text(), flags=re.DOTALL)
    mapped = set(re.findall(r"^    (\w+);", script, re.MULTILINE))
    shown = subprocess.check_output(["nm", "-D", "--defined-only", str(library())], text=True)
    symbols = {line.split()[-1] for line in shown.splitlines()} - {"ROOTSTREAM_STORE_1"}
    assert all(symbol.endswith("@@ROOTSTREAM_STORE_1") for symbol in symbols), symbols
    assert declared == mapped == {symbol.partition("@")[0] for symbol in symbols}
    legacy = {name for name in declared if not name.startswith("rss_")}
    assert len(legacy) == 12


# The letters of functions.def, by the parameters of the header that may stand for them. C does not check what
# is passed through "...": a letter that says int64_t where an int comes would read something else.
LETTERS = {
    "int64_t": "lnktmwe",
    "double": "fh",
    "int": "bg",
    "const char *": "svju",
    "const void *": "y",
    "size_t": "y",
    "const unsigned char *": "z",
    "const rss_new_event *": "NE",
    "const rss_usage_entry *": "U",
}


def test_the_letters_fit_the_parameters() -> None:
    checked = 0
    special = {
        "session_list_active",
        "viewer_top",
        "query",
        "migration_status",
        "event_append_many",
        "usage_log_many",
    }
    for name, parameters in re.findall(
        r"^\w+ \*?rss_(\w+)\(rss_\w+ \*\w+(?:, )?([^)]*)\);", text_of("rootstream_store.h"), re.MULTILINE
    ):
        function = functions().get(name)
        if function is None or name in special:
            continue
        given = [parameter.strip() for parameter in " ".join(parameters.split()).split(",")]
        for letter, argument in function.arguments:
            kind = re.sub(r"\w+$", "", given.pop(0)).strip()
            assert letter in LETTERS[kind], (name, argument, kind)
            if letter == "y":
                assert re.sub(r"\w+$", "", given.pop(0)).strip() == "size_t", name
        # What is left are outputs: pointers to what is not const, and the sizes of buffers.
        for parameter in given:
            assert (
                parameter == "" or ("*" in parameter and "const" not in parameter) or "_size" in parameter
            ), name
        checked += 1
    assert checked > 80


def test_the_library_names_itself_and_stays_loaded() -> None:
    shown = subprocess.check_output(["readelf", "-d", str(library())], text=True)
    assert "Library soname: [librootstream_store.so.1]" in shown
    assert "NODELETE" in shown
    assert "TEXTREL" not in shown


def test_the_manual_tells_of_every_function() -> None:
    """A declaration follows a comment, its own or that of the ones before it in the same block."""
    text = (CAPI / "rootstream_store.h").read_text()
    blocks = re.split(r"\n\s*\n", text)
    bare = [
        name
        for block in blocks
        for name in re.findall(r"^(?:const )?\w+ \*?(rss_\w+)\(", block, re.MULTILINE)
        if "/*" not in block
    ]
    assert bare == []
