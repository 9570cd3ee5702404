"""`rootstream-store status` and `metrics`: what they print and how they end, as a shell sees it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg.conninfo import make_conninfo

from rootstream_store import migrations
from rootstream_store.embedded import EmbeddedServers

_NOBODY = "redis://:geheim@127.0.0.1:1/0"
"""Nothing listens on port 1."""
_DEAD = "postgresql://someone:geheim@127.0.0.1:1/nothing"
_ROOT = Path(__file__).parent.parent


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rootstream_store.cli", *arguments]


def environment(database_url: str | None = None, redis_url: str | None = None) -> dict[str, str]:
    ours = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PYTHONPATH": str(_ROOT), "COLUMNS": "200"}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return inherited | {name: value for name, value in ours.items() if value is not None}


def run(
    *arguments: str, database_url: str | None = None, redis_url: str | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments),
        env=environment(database_url, redis_url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "geheim" not in done.stdout + done.stderr
    return done


def names(text: str) -> set[str]:
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_status_ok(database_url: str, redis_url: str) -> None:
    done = run("status", database_url=database_url, redis_url=redis_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok\n")
    for part in ("PostgreSQL", "primary", "Redis", "up to date", "0 of 1 in use"):
        assert part in done.stdout


def test_status_takes_urls_as_options(database_url: str) -> None:
    url = make_conninfo(database_url, password="geheim")
    done = run("status", "--database-url", url, database_url=_DEAD)
    assert done.returncode == 0
    assert "not configured" in done.stdout
    assert "***" in done.stdout


def test_status_json(database_url: str, redis_url: str) -> None:
    done = run("status", "--json", database_url=database_url, redis_url=redis_url)
    health = json.loads(done.stdout)
    assert done.returncode == 0
    assert (health["status"], health["reasons"]) == ("ok", [])
    assert health["postgres"]["is_primary"] is True
    assert health["redis"]["reachable"] is True
    assert health["migrations"]["pending"] == []


def test_status_degraded(empty_database_url: str) -> None:
    done = run("status", database_url=empty_database_url, redis_url=_NOBODY)
    assert done.returncode == 4
    first, redis, pending, *_ = done.stdout.splitlines()
    assert first == "degraded"
    assert redis.startswith("  Redis: ")
    assert re.match(r"  migrations: \d+ pending, from 0001_", pending)


def test_status_of_an_unreachable_server_is_one_line() -> None:
    done = run("status", database_url=_DEAD)
    assert done.returncode == 1
    assert re.fullmatch(
        r"down: cannot reach postgresql://someone:\*\*\*@127.0.0.1:1/nothing: .*\n", done.stdout
    )
    done = run("status", "--json", database_url=_DEAD)
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "down"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["status"], "database_url is missing"),
        (["status", "--database-url", "postgresql://u:geheim@[/x"], "database_url cannot be read"),
        (
            ["status", "--redis-url", "http://:geheim@host", "--database-url", _DEAD],
            "redis_url must begin with",
        ),
        (["status", "--nonsense"], "unrecognized arguments"),
        (["metrics"], "database_url is missing"),
        (["metrics", "--port", "x"], "invalid int value"),
        (["migrate", "status"], "database_url is missing"),
        (["migrate", "apply", "--database-url", "postgresql://u:geheim@[/x"], "database_url"),
        (["maintain"], "database_url is missing"),
        (["maintain", "--database-url", _DEAD, "--lock-timeout", "-1"], "lock_timeout must not be negative"),
        (["demo", "--redis-url", "http://:geheim@host"], "redis_url must begin with"),
    ],
)
def test_wrong_command_lines_and_settings_exit_2(arguments: list[str], told: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["status", "--json"], ["metrics", "--once"], ["migrate", "status"], ["migrate", "sql"]],
)
def test_a_reader_that_has_gone_is_no_traceback(database_url: str, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    # Unbuffered output fails where it is printed; the ordinary kind only when it is flushed.
    buffered = {name: it for name, it in environment(database_url).items() if name != "PYTHONUNBUFFERED"}
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            command(*arguments),
            env=buffered,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")


def test_metrics_once(database_url: str, redis_url: str) -> None:
    done = run("metrics", "--once", database_url=database_url, redis_url=redis_url)
    assert (done.returncode, done.stderr) == (0, "")
    found = names(done.stdout)
    assert {"rootstream_postgres_up", "rootstream_redis_up", "rootstream_table_bytes"} <= found


def test_metrics_of_an_unreachable_server() -> None:
    done = run("metrics", "--once", database_url=_DEAD)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: cannot reach ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_metrics_are_served_until_a_signal(database_url: str, redis_url: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        command("metrics", "--port", "0"),
        env=environment(database_url, redis_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.fullmatch(r"serving metrics on 127.0.0.1 port (\d+), path /metrics\n", line)
            assert match, line
            with urllib.request.urlopen(f"http://127.0.0.1:{match[1]}/metrics", timeout=10) as answer:
                assert "rootstream_postgres_up" in names(answer.read().decode())
            # No connection is kept between scrapes.
            with psycopg.connect(database_url) as connection:
                ((count,),) = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'rootstream-store metrics'"
                ).fetchall()
            assert count == 0
            process.send_signal(number)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, output, errors) == (0, "", "")


def test_metrics_on_a_port_that_is_taken(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("metrics", "--port", port, database_url=database_url)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: metrics cannot be served on 127.0.0.1 port {port}: Address already in use" in done.stderr


def test_metrics_go_on_when_the_server_goes_down() -> None:
    with EmbeddedServers.start(redis=False, durable=False) as servers:
        migrations.apply(servers.database_url)
        with subprocess.Popen(
            command("metrics", "--port", "0"),
            env=environment(servers.database_url),
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                port = re.findall(r"port (\d+)", process.stdout.readline())[0]
                servers.stop()
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                    assert "\nrootstream_postgres_up 0.0\n" in answer.read().decode()
                process.terminate()
                assert process.wait(30) == 0
            finally:
                process.kill()
