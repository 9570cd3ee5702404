"""The recorded steps of a call once more, by the bare drivers: psycopg in Python, and libpq in C."""

from __future__ import annotations

import ctypes.util
import importlib
import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.numeric import Int8BinaryDumper

from rootstream_store.queries import Query

from ._recording import Copy, Plain, Statement, Step, Stream
from ._ways import Sample

__all__ = ["Bare", "Native", "find_libpq"]

_HERE = Path(__file__).resolve().parent
_BUILD = _HERE.parents[2] / "build" / "bench"
_INT8 = 20


class Bare:
    """psycopg on a connection that is held: one cursor, used again and again; binary answers, prepared
    statements, rows as tuples. A context manager."""

    def __init__(self, database_url: str) -> None:
        self.connection = psycopg.connect(database_url, autocommit=True)
        # Above the number of queries there are, so that none is prepared twice.
        self.connection.prepared_max = 1000
        self.cursor = self.connection.cursor(binary=True)

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def compiled(self, steps: list[Step]) -> Callable[[], object]:
        """What takes these steps, with as little around them as can be."""
        actions = [self._action(step) for step in steps]
        if len(actions) == 1:
            return actions[0]

        def run() -> None:
            for action in actions:
                action()

        return run

    def _action(self, step: Step) -> Callable[[], object]:
        cursor = self.cursor
        match step:
            case Statement(query, params, verb="run"):
                return partial(cursor.execute, query.text, params, prepare=True)
            case Statement(query, params):
                text = query.text
                return lambda: cursor.execute(text, params, prepare=True).fetchall()
            case Plain(text):
                return partial(cursor.execute, text, prepare=False)
            case Stream():
                return partial(self._stream, step)
            case Copy():
                return partial(self._copy, step)

    def _stream(self, step: Stream) -> None:
        with self.connection.transaction(), self.connection.cursor(name="bench") as cursor:
            cursor.itersize = step.size
            cursor.execute(step.query.text, step.params, binary=True)
            for _ in cursor:
                pass

    def _copy(self, step: Copy) -> None:
        with self.connection.cursor() as cursor, cursor.copy(step.query.text) as copy:
            copy.set_types(step.types)
            for row in step.rows:
                copy.write_row(row)


class Native:
    """A program in C that takes the steps by PQexecPrepared and decodes nothing. A context manager."""

    def __init__(self, database_url: str, libpq: str) -> None:
        self._process = subprocess.Popen(
            [str(_compiled()), database_url, libpq], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._numbers: dict[bytes, int] = {}
        self._connection = psycopg.connect(database_url)
        # As the library sends it, and libpq's callers as a rule: one type, whatever the value.
        self._connection.adapters.register_dumper(int, Int8BinaryDumper)

    def __enter__(self) -> Native:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        with self._process:  # its input ends, and so does it
            pass

    @staticmethod
    def can(steps: list[Step]) -> bool:
        """Whether these are statements only: the program knows neither COPY nor server-side cursors."""
        return all(isinstance(step, Statement | Plain) for step in steps)

    def measure(self, calls: list[list[Step]]) -> Sample:
        """Each of `calls` once."""
        parts = [b"C %d\n" % len(calls)]
        seen: dict[int, bytes] = {}
        for steps in calls:
            if id(steps) not in seen:
                seen[id(steps)] = b"".join([b"%d\n" % len(steps), *map(self._encoded, steps)])
            parts.append(seen[id(steps)])
        found = json.loads(self._exchange(b"".join(parts)))
        return Sample(found["p50_us"], found["cpu_us"])

    def _exchange(self, request: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request)
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the program in C ended with {self._process.wait()}")
        return line

    def _encoded(self, step: Step) -> bytes:
        if isinstance(step, Plain):
            return b"%d 0\n" % self._number(step.text.encode(), [])
        assert isinstance(step, Statement)
        values, formats, types = self._dumped(step.query, step.params)
        parts = [b"%d %d\n" % (self._number(step.query.sent_text, types), len(values))]
        for value, form in zip(values, formats, strict=True):
            if value is None:
                parts.append(b"%d -1\n" % form)
            else:
                parts.append(b"%d %d\n%b" % (form, len(value), bytes(value)))
        return b"".join(parts)

    def _dumped(self, query: Query[Any], params: dict[str, Any]) -> tuple[list[Any], list[int], list[int]]:
        transformer = Transformer(self._connection)
        values = [params[name] for name in query.parameters]
        dumped = list(transformer.dump_sequence(values, [PyFormat.AUTO] * len(values)))
        # The server takes the types from the casts, but for numbers, which would be read as another number.
        types = [_INT8 if oid == _INT8 else 0 for oid in transformer.types or ()]
        return dumped, [int(form) for form in transformer.formats or ()], types

    def _number(self, sql: bytes, types: list[int]) -> int:
        """Of the prepared statement."""
        head = b"P %d %d" % (len(sql), len(types)) + b"".join(b" %d" % oid for oid in types)
        request = head + b"\n" + sql
        if request not in self._numbers:
            assert self._process.stdin is not None
            self._process.stdin.write(request)
            self._numbers[request] = len(self._numbers)
        return self._numbers[request]


def find_libpq() -> str | None:
    """The one that psycopg brings, else the system's; None where there is none, or no C compiler."""
    if shutil.which("cc") is None:
        return None
    try:
        brought = Path(str(importlib.import_module("psycopg_binary").__file__)).parent.parent
    except ImportError:
        return ctypes.util.find_library("pq")
    found = next((brought / "psycopg_binary.libs").glob("libpq-*.so*"), None)
    return str(found) if found is not None else ctypes.util.find_library("pq")


def _compiled() -> Path:
    program = _BUILD / "replay"
    program.parent.mkdir(parents=True, exist_ok=True)
    command = ["cc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run([*command, str(_HERE / "replay.c"), "-o", str(program), "-ldl"], check=True)
    return program
