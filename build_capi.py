"""Builds librootstream_store.so, the C library, with its headers and what pkg-config and CMake read.

    python build_capi.py                       into build/capi, laid out as a prefix: lib/, include/
    python build_capi.py --install /usr/local  into a prefix

Needs a C compiler (CC, else cc) and a Python with a shared libpython. What did not change is not compiled
again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import io
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Final

__all__ = ["BuildError", "CannotBuild", "build", "install_to"]

ROOT: Final = Path(__file__).resolve().parent
SOURCES: Final = ROOT / "capi"
OUTPUT: Final = ROOT / "build" / "capi"

_MODULE = "_rootstream_store_capi"
# Atomics came with C11.
_C11 = {"park", "queue", "queue_writer", "ring"}
_WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
    "-Wmissing-prototypes",
    "-Wstrict-prototypes",
)
# Exported is what the version script says; all else is hidden from the host.
_COMPILE = (
    "-D_GNU_SOURCE",
    "-O2",
    "-g",
    "-fPIC",
    "-fvisibility=hidden",
    "-pthread",
    "-fno-omit-frame-pointer",
)
# nodelete: threads of Python run code of the library, which a dlclose must not take away.
_LINK = shlex.split("-shared -pthread -Wl,-z,nodelete -Wl,--no-undefined -Wl,-z,relro -Wl,-z,now")

# cffi embeds: it keeps a thread's Python state until the thread ends, which saves making one at each call.
_INTERNAL = """
extern "Python+C" void rssi_attach(void);
"""
# What the queue's writer, in Python, calls.
_QUEUE = (SOURCES / "queue.cdef").read_text()
_PREAMBLE = """
#include "batch.h"
#include "coalesce.h"
#include "queue.h"
static int cffi_start_python(void);
int rssi_cffi_start(void);
int rssi_cffi_start(void) { return cffi_start_python(); }
"""
_START = f"""
from {_MODULE} import ffi

@ffi.def_extern()
def rssi_attach():
    pass
"""


class BuildError(Exception):
    """The library is not built; says why."""


class CannotBuild(BuildError):
    """Something is missing here that building needs."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Build the C library of rootstream_store.")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="folder to build into; default build/capi"
    )
    parser.add_argument("--install", type=Path, metavar="PREFIX", help="copy the library and its files")
    parser.add_argument("--sanitize", default="", metavar="NAMES", help="as -fsanitize: address,undefined")
    arguments = parser.parse_args()
    try:
        library = build(arguments.output, sanitize=arguments.sanitize)
        if arguments.install is not None:
            install_to(arguments.install, library)
            library = arguments.install / "lib" / library.name
    except BuildError as error:
        sys.exit(f"error: {error}")
    print(library)


def build(output: Path = OUTPUT, *, sanitize: str = "", debug: bool = True, links: bool = True) -> Path:
    """Builds into `output`, laid out as a prefix, and returns the library.

    `sanitize`: names for -fsanitize. `debug`: with debugging information. `links`: as for install. Raises
    BuildError, CannotBuild.
    """
    link_python, include = _python()
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        raise CannotBuild(f"no C compiler {compiler[0]!r}: install one, or name one in CC")
    extra = [f"-fsanitize={sanitize}"] if sanitize else []
    if not debug:
        extra.append("-g0")
    flags = [
        *_COMPILE,
        f"-ffile-prefix-map={ROOT}=.",
        *extra,
        f"-isystem{include}",
        f"-I{SOURCES}",
    ]
    objects = output / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    shared = b"".join(path.read_bytes() for path in sorted(SOURCES.glob("*.[hd]*")))

    def compile_one(source: Path, warnings: Sequence[str]) -> Path:
        standard = "-std=c11" if source.stem in _C11 else "-std=c99"
        # Sanitizers make gcc warn of what it would not see without them.
        quiet = ["-Wno-format-truncation"] if sanitize else []
        command = [*compiler, *flags, standard, *warnings, *quiet]
        digest = hashlib.sha256(shared + source.read_bytes() + "\0".join([*command, sys.version]).encode())
        target = objects / f"{source.stem}-{digest.hexdigest()[:16]}.o"
        if not target.exists():
            beside = target.with_suffix(f".{os.getpid()}.o")
            _run([*command, "-c", str(source), "-o", str(beside)])
            beside.replace(target)
        return target

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as workers:
        ours = [workers.submit(compile_one, path, _WARNINGS) for path in sorted(SOURCES.glob("*.c"))]
        made = workers.submit(compile_one, _cffi_source(objects), ("-w",))
        compiled = [job.result() for job in (*ours, made)]
    layout = _layout()
    library = output / "objects" / layout.SONAME
    script = SOURCES / "exports.map"
    command = [*compiler, *_LINK, *extra, f"-Wl,-soname,{layout.SONAME}", f"-Wl,--version-script,{script}"]
    command += [*map(str, compiled), *link_python]
    stamp = output / "objects" / "linked"
    digest = hashlib.sha256("\0".join(command).encode() + script.read_bytes()).hexdigest()
    if not library.exists() or not stamp.exists() or stamp.read_text() != digest:
        beside = library.with_name(f"{os.getpid()}.so")
        _run([*command, "-o", str(beside)])
        beside.replace(library)
        stamp.write_text(digest)
    install_to(output, library, links=links)
    return Path(layout.library_in(output))


def install_to(prefix: Path, library: Path, *, links: bool = True) -> None:
    """Copies the library and its headers below a prefix. Raises BuildError."""
    layout = _layout()
    headers = [SOURCES / name for name in layout.HEADERS]
    try:
        layout.install(library, headers, prefix, python=sys.executable if links else None, links=links)
    except OSError as error:
        raise BuildError(f"cannot install into {prefix}: {error}") from error


def _python() -> tuple[list[str], str]:
    """How to link with the shared libpython, and where its headers are."""
    settings = sysconfig.get_config_vars()
    if not settings.get("Py_ENABLE_SHARED"):
        raise CannotBuild(f"{sys.executable} has no shared libpython (built without --enable-shared)")
    directory, version = str(settings["LIBDIR"]), str(settings["LDVERSION"])
    include = sysconfig.get_paths()["include"]
    if not (Path(include) / "Python.h").exists():
        raise CannotBuild(f"no Python.h in {include}: install the development files of Python")
    return [f"-L{directory}", f"-Wl,-rpath,{directory}", f"-lpython{version}", "-ldl"], include


def _cffi_source(directory: Path) -> Path:
    """The C file that cffi makes of the embedding."""
    try:
        import cffi
    except ImportError:
        raise CannotBuild("cffi is not installed: pip install cffi") from None
    ffi = cffi.FFI()
    ffi.embedding_api("")
    ffi.cdef(_INTERNAL)
    ffi.cdef(_QUEUE)
    ffi.set_source(_MODULE, _PREAMBLE)
    ffi.embedding_init_code(_START)
    target = directory / f"{_MODULE}.c"
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        made = Path(temporary) / target.name
        with contextlib.redirect_stdout(io.StringIO()):  # it tells which file it makes
            ffi.emit_c_code(str(made))
        made.replace(target)
    return target


def _layout() -> ModuleType:
    # By its path: importing the package would need its dependencies, which a build environment has not.
    path = ROOT / "rootstream_store" / "capi" / "_layout.py"
    spec = importlib.util.spec_from_file_location("_rootstream_store_layout", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise BuildError(f"{shlex.join(command)}\n{done.stdout.decode(errors='replace')}")


if __name__ == "__main__":
    main()
