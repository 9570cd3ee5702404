"""The wheel holds what it must and nothing else, and serves on its own in a fresh environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


# Of the C library; a wheel holds no symbolic links.
NATIVE = [
    "include/rootstream_legacy.h",
    "include/rootstream_store.h",
    "lib/cmake/rootstream_store/rootstream_store-config-version.cmake",
    "lib/cmake/rootstream_store/rootstream_store-config.cmake",
    "lib/librootstream_store.so",
    "lib/librootstream_store.so.1",
    "lib/pkgconfig/rootstream_store.pc",
]


def run(*command: str | Path, cwd: Path | None = None, answer: str = "") -> None:
    """Runs it with the checkout not on its path; fails with what it printed when the status is not 0."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        input=answer,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def sql_files() -> list[str]:
    """All of the checkout's, as git would take them."""
    return sorted(path.relative_to(ROOT / "sql").as_posix() for path in (ROOT / "sql").rglob("*.*"))


@pytest.fixture
def outside() -> Iterator[Path]:
    """A directory away from the checkout that the servers' account may enter."""
    with tempfile.TemporaryDirectory(prefix="rs-wheel-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def build_wheel(directory: Path, capi: str = "1") -> Path:
    """`capi`: "1" fails where the C library cannot be built, "0" leaves it out."""
    run(
        "env",
        f"ROOTSTREAM_STORE_CAPI={capi}",
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        directory,
        ROOT,
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


def test_the_wheel_holds_package_sql_and_licence_and_no_more(outside: Path) -> None:
    with zipfile.ZipFile(build_wheel(outside)) as wheel:
        names = wheel.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = wheel.read(metadata).decode()
    package = [name for name in names if not name.startswith(metadata.rpartition("/")[0])]
    modules = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "rootstream_store").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    ]
    native = [f"rootstream_store/capi/native/{name}" for name in NATIVE]
    sql = [f"rootstream_store/sql/{name}" for name in sql_files()]
    assert sorted(package) == sorted(modules + sql + native)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "Requires-Python: >=3.11" in text
    assert "Provides-Extra: embedded" in text


def test_a_wheel_with_the_library_fits_one_platform_and_one_without_it_all(outside: Path) -> None:
    (outside / "with").mkdir()
    (outside / "without").mkdir()
    assert build_wheel(outside / "without", "0").name.endswith("-py3-none-any.whl")
    name = build_wheel(outside / "with").name
    assert f"-cp{sys.version_info[0]}{sys.version_info[1]}-" in name
    assert "none-any" not in name


@pytest.mark.timeout(600)  # downloads the dependencies where pip has them not yet
def test_an_installed_wheel_serves_in_a_fresh_environment(
    outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(outside))
    wheel = build_wheel(outside)
    run(sys.executable, "-m", "venv", outside / "venv")
    python = outside / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[embedded]")
    smoke = ROOT / "tests" / "packaging_smoke.py"
    run(python, "-I", "-W", "error", smoke, cwd=outside, answer=json.dumps(sql_files()))
