"""The queue as C programs see it: codes, policies, forks, closing, and a server that does not answer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest

from rootstream_store.capi import _queue
from rootstream_store.errors import AlreadyExists

from ..faults.proxy import Proxy
from .binding import Failed, Native
from .native import ROOT, compile_program, environment, library, run

PROGRAM = Path(__file__).parent / "programs" / "queued.c"


@pytest.fixture
def env(database_url: str, redis_url: str) -> dict[str, str]:
    """Of a program that opens a store on the test's servers."""
    return environment(DATABASE_URL=database_url, REDIS_URL=redis_url)


@pytest.mark.parametrize(
    "test", ["basic", "refuses", "policies", "allocates_nothing", "forked", "waits_for_ages"]
)
def test_a_program(env: dict[str, str], test: str) -> None:
    done = run(compile_program(PROGRAM), test, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_what_was_taken_in_before_a_close_is_stored_and_nothing_else(
    env: dict[str, str], database_url: str
) -> None:
    done = run(compile_program(PROGRAM), "closes_in_flight", env=env, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    accepted = int(done.stdout.split()[0])
    assert accepted > 100
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM event_log").fetchone() == (accepted,)
        versions = connection.execute(
            "SELECT count(*), max(version) FROM event_log GROUP BY aggregate_id"
        ).fetchall()
        assert all(count == highest for count, highest in versions)
        assert connection.execute("SELECT count(*) FROM queue_writers").fetchone() == (0,)


def test_a_program_may_exit_with_its_writer_at_work(env: dict[str, str]) -> None:
    for _ in range(5):
        done = run(compile_program(PROGRAM), "exits_without_close", env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_a_frozen_server_holds_up_neither_flush_nor_close(database_url: str) -> None:
    with Proxy(database_url) as proxy:
        program = subprocess.Popen(
            [compile_program(PROGRAM), "frozen"],
            env=environment(DATABASE_URL=proxy.database_url, REDIS_URL=None),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert program.stdout is not None
        line = program.stdout.readline()
        assert line == "ready\n", line
        proxy.deaf()
        output, errors = program.communicate("go\n", timeout=60)
        assert (program.returncode, output, errors) == (0, "ok\n", "")


def test_the_calls_of_real_time_threads_know_nothing_of_python() -> None:
    library()
    objects = [
        path
        for name in ("ring", "park", "queue")
        for path in (ROOT / "build" / "capi" / "objects").glob(f"{name}-*.o")
    ]
    assert len(objects) >= 3
    symbols = subprocess.run(["nm", "-u", *objects], capture_output=True, text=True, check=True).stdout
    assert "Py" not in symbols


def test_why_a_store_has_no_queue_is_told_whole(
    native: Native, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the store is closed again first."""

    def fail(*_: object, **__: object) -> None:
        error = AlreadyExists("writer", "id", 7, sqlstate="23505", constraint="writers_pkey")
        error.retryable = True
        raise error

    monkeypatch.setattr(_queue, "Writer", fail)
    with pytest.raises(Failed) as caught:
        native.open(database_url, "")
    told = caught.value.details
    assert (told["field"], told["sqlstate"], told["constraint"]) == ("id", "23505", "writers_pkey")
    assert told["retryable"]
    assert told["message"].startswith("writer with id")
