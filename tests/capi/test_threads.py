"""Threads of the host in the library: many, short-lived, cancelled, racing with a close."""

from __future__ import annotations

import pytest

from .native import PROGRAMS, compile_program, environment, run

TESTS = [
    "many_threads",
    "short_threads",
    "starts_race",
    "cancelled_threads",
    "closed_in_flight",
    "closed_while_stuck",
    "slow_and_fast",
    "stale_handles",
]


@pytest.mark.parametrize("test", TESTS)
def test_threads(test: str, database_url: str, redis_url: str) -> None:
    env = environment(DATABASE_URL=database_url, REDIS_URL=redis_url)
    done = run(compile_program(PROGRAMS / "threads.c"), test, env=env)
    assert (done.returncode, done.stdout.splitlines()[-1:], done.stderr) == (0, ["ok"], ""), done
