"""Where the files of the C library go below a prefix, and the text of those that name the prefix.

Imports nothing of the package: build_capi.py runs it where the package's dependencies are not installed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["HEADERS", "SHARED", "SONAME", "abi_of", "install", "library_in", "version_of"]

SHARED: Final = "librootstream_store.so"
SONAME: Final = f"{SHARED}.1"
HEADERS: Final = ("rootstream_store.h", "rootstream_legacy.h")


def version_of(header: Path) -> str:
    """The library's version as its header says: "1.0.0"."""
    text = header.read_text(encoding="utf-8")
    numbers = [re.search(rf"#define RSS_VERSION_{part} (\d+)", text) for part in ("MAJOR", "MINOR", "PATCH")]
    return ".".join(number[1] for number in numbers if number)


def abi_of(version: str) -> str:
    """The number of the ABI, which is part of the file's name."""
    return version.partition(".")[0]


def library_in(prefix: Path) -> Path:
    """The library below a prefix; it need not be there."""
    return prefix / "lib" / SONAME


def install(
    library: Path, headers: Sequence[Path], prefix: Path, *, python: str | None, links: bool = True
) -> list[Path]:
    """Copies library and headers below `prefix` and writes what pkg-config and CMake read. Returns the files.

    `python`: the interpreter whose packages the library takes where nothing else says so, kept in a file
    beside it; None: no such file. `links`: False where symbolic links cannot be kept (a wheel):
    librootstream_store.so is then a script of the linker that names the library. Raises OSError.
    """
    include, lib = prefix / "include", prefix / "lib"
    version = version_of(next(header for header in headers if header.name == HEADERS[0]))
    written = [include / header.name for header in headers]
    texts = {
        lib / "pkgconfig" / "rootstream_store.pc": _PKG_CONFIG,
        lib / "cmake" / "rootstream_store" / "rootstream_store-config.cmake": _CMAKE,
        lib / "cmake" / "rootstream_store" / "rootstream_store-config-version.cmake": _CMAKE_VERSION,
    }
    if python is not None:
        texts[lib / f"{SONAME}.python"] = f"{python}\n"
    for directory in {include, lib, *(path.parent for path in texts)}:
        directory.mkdir(parents=True, exist_ok=True)
    for header, target in zip(headers, written, strict=True):
        _replace(target, lambda path, source=header: shutil.copyfile(source, path))
    # Never written over: a running program may have it mapped.
    _replace(lib / SONAME, lambda path: shutil.copyfile(library, path))
    (lib / SONAME).chmod(0o755)
    if links:
        _replace(lib / SHARED, lambda path: path.symlink_to(SONAME))
    else:
        _replace(lib / SHARED, lambda path: path.write_text(f"INPUT({SONAME})\n"))
    for path, template in texts.items():
        text = template.replace("@VERSION@", version).replace("@ABI@", abi_of(version))
        _replace(path, lambda target, text=text: target.write_text(text))
    return [*written, lib / SONAME, lib / SHARED, *texts]


def _replace(path: Path, write: object) -> None:
    """Makes the file beside its place and moves it there, so that nobody sees half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    write(beside)  # type: ignore[operator]  # each of them takes a path
    beside.replace(path)


# Both find the prefix by their own place, so that a moved prefix goes on working.
_PKG_CONFIG = """\
prefix=${pcfiledir}/../..
includedir=${prefix}/include
libdir=${prefix}/lib

Name: rootstream_store
Description: users, streams, events and live state of RootStream for native code
Version: @VERSION@
Cflags: -I${includedir}
Libs: -L${libdir} -lrootstream_store
"""
_CMAKE = """\
# find_package(rootstream_store) gives the target rootstream_store::rootstream_store.
get_filename_component(_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET rootstream_store::rootstream_store)
  add_library(rootstream_store::rootstream_store SHARED IMPORTED)
  set_target_properties(rootstream_store::rootstream_store PROPERTIES
    IMPORTED_LOCATION "${_prefix}/lib/librootstream_store.so.@ABI@"
    IMPORTED_SONAME "librootstream_store.so.@ABI@"
    INTERFACE_INCLUDE_DIRECTORIES "${_prefix}/include")
endif()
unset(_prefix)
"""
_CMAKE_VERSION = """\
set(PACKAGE_VERSION "@VERSION@")
if(PACKAGE_FIND_VERSION_MAJOR STREQUAL "@ABI@" AND NOT PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
elseif(NOT PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
"""
