"""The queue's C, compiled once a run."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from .helpers import compile_c, load


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """cffi's ffi and lib of the queue."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    library = tmp_path_factory.mktemp("queue") / "libqueue.so"
    return load(compile_c(library, options=("-O2", "-shared", "-fPIC")))
