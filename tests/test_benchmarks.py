"""The benchmark of all calls: none is missing, and each is made with what it can be made with."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import rootstream_store
from rootstream_store import users
from rootstream_store.db import registered
from rootstream_store.settings import Settings
from rootstream_store.store import Store

from .benchmarks.calls._contest import Contest
from .benchmarks.calls._recording import Statement
from .benchmarks.calls._replay import Bare, Native, find_libpq
from .benchmarks.calls._world import World
from .benchmarks.calls.cases import CASES, LIVE, Case, name_of
from .servers import Servers


@pytest.fixture(scope="module", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
    yield
    users.configure_passwords()


def test_every_repository_function_has_a_benchmark() -> None:
    for module in pkgutil.walk_packages(rootstream_store.__path__, "rootstream_store."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert {name_of(function) for function in registered} == CASES.keys() | LIVE.keys()


def test_every_call_of_the_benchmark_and_its_statements_by_the_bare_drivers(database_url: str) -> None:
    # One after the other on one database, as they are measured: none may take what another needs.
    with Store(Settings(database_url=database_url, redis_url=None)) as store:
        world = World.build(store)
        libpq = find_libpq()
        assert libpq is not None, "no C compiler, or no libpq"
        with Bare(database_url) as bare, Native(database_url, libpq) as native:
            for case in CASES.values():
                contest = Contest(case, store, world)
                contest.ours()(2)
                contest.bare(bare)(2)
                if (way := contest.native(native)) is not None:
                    assert way(2).p50_us > 0


def test_a_call_is_recorded_with_its_values_and_leaves_no_trace(database_url: str) -> None:
    with Store(Settings(database_url=database_url, redis_url=None)) as store:
        world = World.build(store)
        [[step]] = Contest(CASES["users.create"], store, world).steps(1)
        assert isinstance(step, Statement)
        assert step.query.name == "users/create"
        assert users.find_by_username(store, step.params["username"]) is None
        assert step.params.keys() == step.query.parameters.keys()


@pytest.mark.parametrize("case", LIVE.values(), ids=LIVE)
def test_every_call_that_redis_answers(database_url: str, servers: Servers, case: Case) -> None:
    with Store(Settings(database_url=database_url, redis_url=servers.redis_url)) as store:
        Contest(case, store, World.build(store)).ours()(2)
