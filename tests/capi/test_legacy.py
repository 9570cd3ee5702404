"""Programs of the former C layer link and run as they are."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

import pytest

from .native import CAPI, PROGRAMS, compile_program, environment, run

# As they were published.
SIGNATURES = """
int database_manager_init(DatabaseManager **manager, const char *connStr, size_t poolSize);
int database_manager_execute(DatabaseManager *manager, const char *query);
int database_manager_query(DatabaseManager *manager, const char *query, char **resultJson);
int database_manager_run_migrations(DatabaseManager *manager, const char *path);
int database_manager_is_connected(DatabaseManager *manager);
void database_manager_cleanup(DatabaseManager *manager);
int redis_client_init(RedisClient **client, const char *host, uint16_t port);
int redis_client_set(RedisClient *client, const char *key, const char *value, uint32_t ttl_seconds);
int redis_client_get(RedisClient *client, const char *key, char **value);
int redis_client_del(RedisClient *client, const char *key);
int redis_client_is_connected(RedisClient *client);
void redis_client_cleanup(RedisClient *client);
"""


def test_the_published_signatures() -> None:
    text = re.sub(r"/\*.*?\*/", "", (CAPI / "rootstream_legacy.h").read_text(), flags=re.DOTALL)
    assert re.findall(r"^\w+ \w+\(.*?\);", text, re.MULTILINE | re.DOTALL) == SIGNATURES.split("\n")[1:-1]


@pytest.mark.parametrize("standard", ["c99", "c++11"])
def test_an_old_program(standard: str, empty_database_url: str, redis_url: str) -> None:
    socket = urlsplit(redis_url).path
    done = run(
        compile_program(PROGRAMS / "legacy.c", standard=standard),
        empty_database_url,
        socket,
        env=environment(DATABASE_URL=None, REDIS_URL=None),
    )
    assert done.returncode == 0, done
    rows, end = done.stdout.splitlines()
    assert (end, done.stderr) == ("ok", "")
    assert json.loads(rows) == [
        {"id": 1, "name": "a", "score": 1.5, "ok": True, "empty": "", "id_2": 7},
        {"id": 2, "name": None, "score": None, "ok": False, "empty": "", "id_2": 7},
    ]
