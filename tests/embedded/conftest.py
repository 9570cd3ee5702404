"""A place of a test's own, checked for nothing left behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .helpers import Holder, leftovers, until


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory that any account may enter (pytest's own are private to root). Temporary files go
    there too, so that what is left over can be seen: nothing may be at the end."""
    directory = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp")).resolve()
    directory.chmod(0o755)
    (directory / "tmp").mkdir()
    (directory / "tmp").chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(directory / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield directory
    Holder.kill_all()
    until(lambda: leftovers(directory) == [])
    shutil.rmtree(directory)
