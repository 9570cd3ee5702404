"""The ring and the queue under sanitizers: every order of events that they find, and every count."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .helpers import HERE, compile_c

SANITIZERS = ("thread", "address,undefined")


@pytest.fixture(scope="module", params=SANITIZERS)
def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs, compiled with a sanitizer."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    folder = tmp_path_factory.mktemp("sanitized")
    options = ("-O1", f"-fsanitize={request.param}", "-fno-sanitize-recover=all")
    probe = folder / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    if subprocess.run(["gcc", options[1], str(probe), "-o", str(folder / "probe")]).returncode != 0:
        pytest.skip(f"gcc has no {request.param} sanitizer here")
    for name in ("check_ring", "check_queue"):
        compile_c(folder / name, HERE / f"{name}.c", options=options)
    return folder


def run(program: Path, *arguments: object) -> str:
    done = subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("producers", [1, 3, 8])
def test_every_record_comes_out_once_whole_and_in_the_order_of_its_producer(
    programs: Path, producers: int
) -> None:
    assert f"{16_000 // producers * producers} taken, 0 dropped" in run(
        programs / "check_ring", producers, 1, 16_000 // producers, 0
    )


def test_several_consumers_share_the_records(programs: Path) -> None:
    run(programs / "check_ring", 4, 3, 4_000, 0)


@pytest.mark.parametrize(("producers", "consumers"), [(1, 1), (8, 2)])
def test_what_is_dropped_is_counted_and_nothing_else_is_lost(
    programs: Path, producers: int, consumers: int
) -> None:
    run(programs / "check_ring", producers, consumers, 16_000 // producers, 1)


@pytest.mark.parametrize("producers", [1, 8])
def test_policies_waits_flush_and_close(programs: Path, producers: int) -> None:
    run(programs / "check_queue", producers, 12_000 // producers)


def test_no_wake_up_is_lost(tmp_path: Path) -> None:
    # Without a sanitizer: none of them follows the two stacks of the program.
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    assert run(compile_c(tmp_path / "check_park", HERE / "check_park.c")) == ""


def test_nothing_is_taken_in_after_the_flush_of_a_close(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    options = ("-O2", "-Wl,--wrap=rssq_ring_put")
    assert run(compile_c(tmp_path / "check_close", HERE / "check_close.c", options=options)) == ""


def test_no_event_is_lost_where_memory_is_short(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    options = ("-O1", "-Wl,--wrap=realloc")
    assert run(compile_c(tmp_path / "check_memory", HERE / "check_memory.c", options=options)) == ""
