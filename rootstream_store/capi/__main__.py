"""`python -m rootstream_store.capi`: how to compile and link a C program, and installing into a prefix.

cc $(python -m rootstream_store.capi --cflags) program.c $(python -m rootstream_store.capi --libs)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rootstream_store.capi import _find, _layout

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Prints what was asked for in one line. Ends with status 1 and a sentence where there is no library."""
    parser = argparse.ArgumentParser(
        prog="python -m rootstream_store.capi", description="The C library of rootstream_store."
    )
    parser.add_argument("--cflags", action="store_true", help="flags for the compiler")
    parser.add_argument("--libs", action="store_true", help="flags for the linker")
    parser.add_argument("--library", action="store_true", help="the library's file, for dlopen")
    parser.add_argument("--version", action="store_true", help="the library's version")
    parser.add_argument("--install", type=Path, metavar="PREFIX", help="copy everything below a prefix")
    given = parser.parse_args(arguments)
    try:
        prefix = _find.find()
        if given.install is not None:
            for path in _find.install(prefix, given.install):
                print(path)
            return
    except (_find.NotBuilt, OSError) as error:
        sys.exit(f"error: {error}")
    parts = []
    if given.version:
        parts.append(_layout.version_of(prefix / "include" / _layout.HEADERS[0]))
    if given.cflags:
        parts.append(_find.cflags(prefix))
    if given.libs:
        parts.append(_find.libs(prefix))
    if given.library:
        parts.append(str(_layout.library_in(prefix)))
    if not parts:
        parser.print_help()
        return
    print(" ".join(parts))


if __name__ == "__main__":
    main()
