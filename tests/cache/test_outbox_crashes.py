"""Writers that die on the way: a revocation that was committed is known everywhere soon, and stays known."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rootstream_store.cache import Cache
from rootstream_store.errors import AuthenticationFailed
from rootstream_store.repositories import sessions
from rootstream_store.secret import Secret
from rootstream_store.store import Store

from ..factories import make_user
from ..waiting import until
from .conftest import OwnValkey
from .test_outbox import BOUND, MakeStore, cached_login, is_good, make_store, refused_within

__all__ = ["make_store"]

ROOT = Path(__file__).parents[2]
_NOBODY = "redis://127.0.0.1:1/0"
"""Nothing listens on port 1: a Redis that this process alone cannot reach."""

# Ends the process, as SIGKILL would, before or after one of the steps of a revocation.
_REVOKE = """
import os, sys
from rootstream_store.cache import Cache
from rootstream_store.repositories import sessions
from rootstream_store.store import Store
import rootstream_store.store as module

database_url, redis_url, token, when, step = sys.argv[1:]
steps = {"marker": (Cache, "begin_write"), "delete": (Cache, "end_write"), "commit": (module, "drive")}
owner, name = steps[step]
inner = getattr(owner, name)

def dying(*args, **kwargs):
    if when == "before":
        os._exit(9)
    inner(*args, **kwargs)
    os._exit(9)

setattr(owner, name, dying)
with Store.open(database_url, redis_url) as store:
    sessions.revoke(store, token)
"""

_REVOKE_MANY = """
import sys
from rootstream_store.repositories import sessions
from rootstream_store.store import Store

with Store.open(sys.argv[1], sys.argv[2]) as store:
    print("ready", flush=True)
    for token in sys.stdin.read().split():
        sessions.revoke(store, token)
        print("revoked", flush=True)
"""

_ASK = """
import sys, threading, time
from rootstream_store.cache import Cache
from rootstream_store.settings import Settings

cache = Cache(Settings(database_url="postgresql:///none", redis_url=sys.argv[1], redis_timeout=3))
cache.redis.ping()
print("ready", flush=True)
sys.stdin.readline()

def load():
    time.sleep(0.1)
    return b"v", 60

def ask():
    assert cache.get_or_load("key", load) == b"v"

threads = [threading.Thread(target=ask) for _ in range(10)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(cache.counters.misses, flush=True)
"""


@pytest.mark.parametrize("reach", ["redis", "no redis"])
@pytest.mark.parametrize(
    ("when", "step"),
    [
        ("before", "marker"),
        ("after", "marker"),
        ("before", "commit"),
        ("after", "commit"),
        ("before", "delete"),
        ("after", "delete"),
    ],
)
def test_a_revocation_that_dies_on_the_way(
    make_store: MakeStore, database_url: str, own_valkey: OwnValkey, when: str, step: str, reach: str
) -> None:
    stores = [make_store(), make_store()]
    token = cached_login(stores[0])
    assert is_good(stores[1], token)
    url = own_valkey.url if reach == "redis" else _NOBODY
    command = [sys.executable, "-c", _REVOKE, database_url, url, token.reveal(), when, step]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == 9, done.stderr
    if step == "marker" or (when, step) == ("before", "commit"):
        assert all(is_good(store, token) for store in stores), "nothing was committed"
        return
    refused_within(BOUND, stores, token)


def test_writers_killed_at_any_moment(
    make_store: MakeStore, database_url: str, own_valkey: OwnValkey
) -> None:
    store = make_store()
    user = make_user(store)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(5):
        tokens = [sessions.create(store, user.id).token for _ in range(300)]
        for token in tokens:
            sessions.validate(store, token)
        command = [sys.executable, "-c", _REVOKE_MANY, database_url, own_valkey.url]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            child.stdin.write("\n".join(token.reveal() for token in tokens))
            child.stdin.close()
            for _ in range(chance.randrange(1, 250)):
                child.stdout.readline()
            child.kill()
        left = {session.token_hash for session in sessions.list_active(store, user.id, limit=1000)}
        ended = [token for token in tokens if sessions._digest(token) not in left]
        assert 0 < len(ended) < 300
        until(lambda ended=ended: not any(is_good(store, token) for token in ended), "all refused", 2 * BOUND)  # type: ignore[misc]  # a default for a variable of the loop
        assert all(is_good(store, token) for token in tokens if token not in ended)


def test_a_writer_that_cannot_reach_redis(make_store: MakeStore) -> None:
    """It goes on, and knows; the processes that serve from Redis do not hear of it from there."""
    serving = [make_store(), make_store()]
    writer = make_store(redis_url=_NOBODY)
    for revoke in (sessions.revoke, _revoke_in_a_transaction):
        token = cached_login(serving[0])
        assert is_good(serving[1], token)
        revoke(writer, token)
        assert not is_good(writer, token)
        refused_within(BOUND, serving, token)


def _revoke_in_a_transaction(store: Store, token: Secret) -> None:
    with store.transaction() as tx:
        sessions.revoke(tx, token)


def test_the_second_of_two_writers_dies(
    make_store: MakeStore, make_cache: Callable[..., Cache], database_url: str
) -> None:
    """Its marker went with the first one's removal, so that the old answer could be cached again."""
    store = make_store()
    token = cached_login(store)
    key = f"session:{sessions._digest(token).hex()}"
    second = make_cache()
    second.begin_write([key])
    store._cache.begin_write([key])
    store._cache.end_write([key])
    assert is_good(store, token), "cached again, before the commit of the second"
    with Store.open(database_url, _NOBODY) as dying:  # commits, and removes nothing
        with dying.transaction() as tx:
            sessions.revoke(tx, token)
        dying._cache._lease._pending._keys.clear()
    refused_within(BOUND, [store], token)


def test_a_redis_brought_back_from_an_old_dump(make_store: MakeStore, own_valkey: OwnValkey) -> None:
    stores = [make_store(), make_store()]
    token = cached_login(stores[0])
    assert is_good(stores[1], token)
    stores[0].redis.save()
    sessions.revoke(stores[0], token)
    assert stores[0].sweep_invalidations() >= 0
    own_valkey.kill()
    own_valkey.start()
    assert stores[0].redis.exists(f"session:{sessions._digest(token).hex()}") == 1
    for store in (*stores, make_store()):
        with pytest.raises(AuthenticationFailed):
            sessions.validate(store, token)
    refused_within(BOUND, stores, token)


def test_fifty_misses_in_five_processes_make_one_load(own_valkey: OwnValkey) -> None:
    command = [sys.executable, "-c", _ASK, own_valkey.url]
    children = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    loads = 0
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            assert child.stdout is not None
            loads += int(child.stdout.readline())
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert loads == 1
