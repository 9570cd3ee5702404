"""What the groups share: the servers, a store on them, and the programs in C."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rootstream_store import Store
from rootstream_store.embedded import EmbeddedServers

from .._suite import Suite

__all__ = ["Bench", "Windows"]

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[2]


@dataclass(kw_only=True)
class Bench(Suite):
    """One run, on one pair of servers."""

    servers: EmbeddedServers
    store: Store
    user_id: int
    """Of a user that is there."""
    library: Path = field(default_factory=lambda: _build())

    def compile(self, name: str) -> Path:
        """The program of a C file beside this one."""
        prefix = self.library.parent.parent
        program = prefix / "programs" / f"bench_{name}"
        program.parent.mkdir(exist_ok=True)
        command = ["cc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", str(_HERE / f"{name}.c")]
        command += ["-o", str(program), f"-I{prefix / 'include'}", f"-L{self.library.parent}"]
        command += ["-lrootstream_store", f"-Wl,-rpath,{self.library.parent}", "-pthread", "-ldl"]
        subprocess.run(command, check=True)
        return program

    def run(self, name: str, *arguments: object) -> dict[str, float]:
        """What the program of this name measures."""
        done = subprocess.run(
            [str(self.compile(name)), *map(str, arguments)],
            env=self.environment,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        found: dict[str, float] = json.loads(done.stdout)
        return found

    @property
    def environment(self) -> dict[str, str]:
        """Of the programs."""
        urls = {"DATABASE_URL": self.servers.database_url, "REDIS_URL": self.servers.redis_url or ""}
        return {**os.environ, **urls}


class Windows:
    """A program that measures a window of time whenever it is asked. A context manager."""

    def __init__(self, bench: Bench, name: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [str(bench.compile(name)), *map(str, arguments)],
            env=bench.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *words: object) -> dict[str, float]:
        """One window."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(*words, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the program ended with {self._process.wait()}")
        found: dict[str, float] = json.loads(line)
        return found

    def __enter__(self) -> Windows:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _build() -> Path:
    spec = importlib.util.spec_from_file_location("build_capi", _ROOT / "build_capi.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules["build_capi"] = module
    spec.loader.exec_module(module)
    return Path(module.build())
