"""Where the library and its headers are: shipped in the wheel, or built in the checkout."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rootstream_store.capi import _layout

__all__ = ["NotBuilt", "cflags", "find", "install", "libs"]

_PACKAGE = Path(__file__).resolve().parent


class NotBuilt(Exception):  # named for what happened
    """This installation has no C library; says how to get one."""


def find() -> Path:
    """The prefix of the library: below it are lib/ and include/. Raises NotBuilt."""
    checkout = _PACKAGE.parents[1]
    for prefix in (_PACKAGE / "native", checkout / "build" / "capi"):
        if _layout.library_in(prefix).exists():
            return prefix
    if (checkout / "build_capi.py").exists():
        raise NotBuilt("the C library is not built yet: run make capi, or python build_capi.py")
    raise NotBuilt(
        "this installation has no C library: where the wheel was made there was no C compiler or no shared "
        "libpython; build it in a checkout with python build_capi.py --install PREFIX"
    )


def cflags(prefix: Path) -> str:
    """What a compiler needs."""
    return shlex.join([f"-I{prefix / 'include'}"])


def libs(prefix: Path) -> str:
    """What a linker needs; the program will find the library where it is now."""
    lib = prefix / "lib"
    return shlex.join([f"-L{lib}", f"-Wl,-rpath,{lib}", "-lrootstream_store"])


def install(source: Path, target: Path) -> Sequence[Path]:
    """Copies library, headers, pkg-config and CMake files below `target`. The library there takes the
    packages of this environment. Raises OSError."""
    headers = [source / "include" / name for name in _layout.HEADERS]
    return _layout.install(_layout.library_in(source), headers, target, python=sys.executable)
