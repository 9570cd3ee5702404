"""Building the C library once, and C programs against it; both are kept while nothing they are made of
changes."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

__all__ = ["CAPI", "PROGRAMS", "ROOT", "build_capi", "compile_program", "environment", "library", "run"]

ROOT = Path(__file__).resolve().parents[2]
CAPI = ROOT / "capi"
PROGRAMS = Path(__file__).resolve().parent / "programs"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")


@functools.cache
def build_capi() -> ModuleType:
    """The module build_capi.py, which lies outside the package."""
    spec = importlib.util.spec_from_file_location("build_capi", ROOT / "build_capi.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_capi"] = module  # Annotated names are looked up there
    spec.loader.exec_module(module)
    return module


@functools.cache
def library() -> Path:
    """The library, built now where a source has changed."""
    return Path(build_capi().build())


def compile_program(
    source: Path, *, standard: str = "c99", linked: bool = True, flags: Sequence[str] = ()
) -> Path:
    """The program made of one C or C++ source; with `linked` against the library."""
    path = library()
    compiler = "g++" if standard.startswith(("c++", "gnu++")) else "gcc"
    command = [compiler, f"-std={standard}", "-g", "-O1", "-D_GNU_SOURCE", *WARNINGS, *flags, f"-I{CAPI}"]
    command += ["-x", "c++" if compiler == "g++" else "c", str(source), "-x", "none"]
    if linked:
        command += [f"-L{path.parent}", "-lrootstream_store", f"-Wl,-rpath,{path.parent}"]
    command += ["-pthread", "-ldl"]
    digest = hashlib.sha256("\0".join(command).encode())
    for part in (source, *sorted(PROGRAMS.glob("*.h")), *sorted(CAPI.glob("rootstream_*.h"))):
        digest.update(part.read_bytes())
    target = path.parent.parent / "programs" / f"{source.stem}-{digest.hexdigest()[:16]}"
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        beside = target.with_name(f"{target.name}.{os.getpid()}")
        done = subprocess.run([*command, "-o", str(beside)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        beside.replace(target)
    return target


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment without what would help a library to find its Python; with changes."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "PYTEST", "COV_"))
    }
    kept.update({name: value for name, value in changes.items() if value is not None})
    return {name: value for name, value in kept.items() if changes.get(name, "") is not None}


def run(
    program: Path | str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """What the program printed and how it ended."""
    return subprocess.run(
        [str(program), *arguments],
        env=environment() if env is None else env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
    )


def have(tool: str) -> bool:
    """Whether a tool is on this machine."""
    return shutil.which(tool) is not None
