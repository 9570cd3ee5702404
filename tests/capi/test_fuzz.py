"""Calls with made-up arguments to every function, and the whole library under sanitizers: no crash, no error
without a name, no leak."""

from __future__ import annotations

import functools
import os
import random
import subprocess
from pathlib import Path

import pytest

from .fuzz import driver
from .native import CAPI, PROGRAMS, ROOT, build_capi, compile_program, environment, library, run

CALLS = 100_000
SANITIZED_CALLS = 10_000
HEADERS = [CAPI / "rootstream_store.h", CAPI / "rootstream_legacy.h"]
_OUTPUT = ROOT / "build" / "capi-asan"


@pytest.fixture
def env(database_url: str, redis_url: str) -> dict[str, str]:
    """Of a program that opens a store on the test's servers."""
    return environment(
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
        ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:exitcode=99",
        UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1",
    )


def _write(folder: Path) -> Path:
    source = folder / "fuzz.c"
    source.write_text(driver(HEADERS))
    return source


def _check(done: subprocess.CompletedProcess[str], calls: int) -> None:
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    made, _, rest = done.stdout.partition(" calls, ")
    assert int(made) >= calls
    assert rest.startswith("0 internal errors"), done.stderr
    # Most codes were met: the values are not refused at the door.
    assert rest.count("RSS_E_") >= 8, rest


@pytest.mark.timeout(600)
def test_made_up_arguments_crash_nothing(env: dict[str, str], tmp_path: Path) -> None:
    program = compile_program(
        _write(tmp_path), standard="c11", flags=[f"-I{PROGRAMS}", "-Wno-overlength-strings"]
    )
    seed = random.randrange(1, 2**31)
    print(f"seed {seed}")
    _check(run(program, str(CALLS), "4", str(seed), env=env, timeout=500), CALLS)


@functools.cache
def sanitized_library() -> Path:
    """The library with AddressSanitizer, which finds leaks at the end, and UndefinedBehaviorSanitizer."""
    return Path(build_capi().build(_OUTPUT, sanitize="address,undefined"))


def sanitized(source: Path) -> Path:
    """A program against it."""
    path = sanitized_library()
    program = _OUTPUT / source.stem
    # Other test processes may be running it: it is put in its place whole.
    beside = _OUTPUT / f"{source.stem}.{os.getpid()}"
    command = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-fsanitize=address,undefined", f"-I{CAPI}"]
    command += [f"-I{PROGRAMS}", str(source), f"-L{path.parent}", "-lrootstream_store", "-pthread", "-ldl"]
    command += [f"-Wl,-rpath,{path.parent}", "-o", str(beside)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    beside.replace(program)
    return program


def run_sanitized(program: Path, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What it printed, and whether it leaked."""
    env = {**env, "ROOTSTREAM_STORE_ALLOCATOR": "malloc"}
    for _ in range(3):
        done = run(program, *arguments, env=env, timeout=500)
        # LeakSanitizer itself fails now and then, where a thread ends while it looks.
        if "LeakSanitizer has encountered a fatal error" not in done.stderr:
            break
    return done


@pytest.mark.timeout(600)
def test_made_up_arguments_under_sanitizers(env: dict[str, str], tmp_path: Path) -> None:
    """Python takes its memory from malloc here, so that a leak of its objects is found, too."""
    library()  # before: both are built from the same sources
    program = sanitized(_write(tmp_path))
    seed = random.randrange(1, 2**31)
    print(f"seed {seed}")
    _check(run_sanitized(program, str(SANITIZED_CALLS), "2", str(seed), env=env), SANITIZED_CALLS)


@pytest.mark.parametrize("test", ["basic", "refuses", "policies"])
def test_the_queue_under_sanitizers(env: dict[str, str], test: str) -> None:
    done = run_sanitized(sanitized(PROGRAMS / "queued.c"), test, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", ""), done.stdout + done.stderr


def test_a_leak_would_be_found(env: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "leaks.c"
    source.write_text(
        """
#include "check.h"
int main(void)
{
    rss_store *store = open_store(1);
    char *text = NULL;

    EXPECT(RSS_OK, rss_get_health_json(store, &text));
    text = NULL; /* never given back */
    return rss_close(store, 5000);
}
"""
    )
    done = run_sanitized(sanitized(source), env=env)
    assert done.returncode == 99
    assert "detected memory leaks" in done.stderr
