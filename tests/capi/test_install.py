"""Installed below a prefix: found by pkg-config and by CMake, wherever the prefix is moved."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .native import ROOT, build_capi, environment, have, library, run

PROGRAM = """
#include <rootstream_store.h>
#include <stdio.h>
int main(void)
{
    if (rss_init(NULL) != RSS_OK)
        return printf("%s\\n", rss_last_error()->message);
    return printf("%s %d\\n", rss_version(), rss_version_number()) < 0;
}
"""


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    build_capi().install_to(tmp_path / "first", library())
    return (tmp_path / "first").rename(tmp_path / "a prefix")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    source = tmp_path / "program.c"
    source.write_text(PROGRAM)
    return source


def shown(*command: str | Path, **changes: str) -> str:
    return subprocess.check_output([str(part) for part in command], text=True, env=environment(**changes))


def assert_runs(binary: Path, lib: Path) -> None:
    done = run(binary, env=environment(LD_LIBRARY_PATH=str(lib)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1.0.0 10000\n", "")


def test_the_files_below_a_prefix(prefix: Path) -> None:
    files = {path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if not path.is_dir()}
    assert files == {
        "include/rootstream_legacy.h",
        "include/rootstream_store.h",
        "lib/librootstream_store.so",
        "lib/librootstream_store.so.1",
        "lib/librootstream_store.so.1.python",
        "lib/cmake/rootstream_store/rootstream_store-config-version.cmake",
        "lib/cmake/rootstream_store/rootstream_store-config.cmake",
        "lib/pkgconfig/rootstream_store.pc",
    }
    assert (prefix / "lib" / "librootstream_store.so").readlink() == Path("librootstream_store.so.1")


@pytest.mark.skipif(not have("pkg-config"), reason="no pkg-config on this machine")
def test_pkg_config(prefix: Path, program: Path, tmp_path: Path) -> None:
    path = {"PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    assert shown("pkg-config", "--modversion", "rootstream_store", **path) == "1.0.0\n"
    flags = shlex.split(shown("pkg-config", "--cflags", "--libs", "rootstream_store", **path))
    subprocess.run(["gcc", str(program), "-o", str(tmp_path / "program"), *flags], check=True)
    assert_runs(tmp_path / "program", prefix / "lib")


@pytest.mark.skipif(not have("cmake"), reason="no cmake on this machine")
def test_cmake(prefix: Path, program: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(program C)\n"
        "find_package(rootstream_store 1.0 REQUIRED)\n"
        f"add_executable(program {program})\n"
        "target_link_libraries(program rootstream_store::rootstream_store)\n"
    )
    build = project / "build"
    where = f"-DCMAKE_PREFIX_PATH={prefix}"
    subprocess.run(["cmake", "-S", project, "-B", build, where], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
    assert_runs(build / "program", prefix / "lib")
    (project / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(program C)\n"
        "find_package(rootstream_store 2.0 REQUIRED)\n"
    )
    done = subprocess.run(["cmake", "-S", project, "-B", build, where], capture_output=True, text=True)
    assert done.returncode != 0
    assert "rootstream_store" in done.stderr


def test_the_command_tells_how_to_compile(program: Path, tmp_path: Path) -> None:
    library()
    command = (sys.executable, "-m", "rootstream_store.capi")
    flags = shlex.split(shown(*command, "--cflags", "--libs"))
    subprocess.run(["gcc", str(program), "-o", str(tmp_path / "program"), *flags], check=True)
    done = run(tmp_path / "program")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1.0.0 10000\n", "")
    assert shown(*command, "--version") == "1.0.0\n"
    listed = shown(*command, "--install", tmp_path / "prefix").split()
    assert str(tmp_path / "prefix" / "lib" / "librootstream_store.so.1") in listed
    assert all(Path(path).exists() for path in listed)


def test_a_library_that_is_not_built_is_told(tmp_path: Path) -> None:
    """In a copy of the package that has none."""
    (tmp_path / "rootstream_store").mkdir()
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from rootstream_store.capi import _find, __main__\n"
        f"_find._PACKAGE = Path({str(tmp_path / 'site' / 'rootstream_store' / 'capi')!r})\n"
        "__main__.main(['--libs'])\n"
    )
    done = run(sys.executable, "-c", script)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: this installation has no C library")
