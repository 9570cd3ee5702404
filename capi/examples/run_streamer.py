"""Compiles streamer.c against the library, which is built first where it is not there, and runs it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import build_capi  # noqa: E402  # lies at the top of the checkout


def main() -> int:
    """Arguments are those of streamer.c. Where no C library can be built, for want of a compiler say, nothing
    is run, which is told and no error; code that does not compile is one."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        print(f"no C compiler ({compiler[0]}): the example in C, capi/examples/streamer.c, is not run")
        return 0
    try:
        library = build_capi.build()
    except build_capi.CannotBuild as error:
        print(f"the C library cannot be built here, so capi/examples/streamer.c is not run: {error}")
        return 0
    except build_capi.BuildError as error:
        sys.exit(f"error: {error}")
    program = library.parent.parent / "streamer"
    command = [*compiler, "-std=c99", "-Wall", "-Wextra", "-O2", str(HERE / "streamer.c"), "-o", str(program)]
    command += [f"-I{library.parent.parent / 'include'}", f"-L{library.parent}", "-lrootstream_store"]
    command += [f"-Wl,-rpath,{library.parent}", "-pthread"]
    subprocess.run(command, check=True)
    return subprocess.run([str(program), *sys.argv[1:]]).returncode


if __name__ == "__main__":
    sys.exit(main())
