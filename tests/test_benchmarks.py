"""The benchmark of all calls: none is missing, and each is made with what it can be made with."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

import rootstream_store
from rootstream_store import users
from rootstream_store.db import registered
from rootstream_store.settings import Settings
from rootstream_store.store import Store

from .benchmarks.calls._contest import Contest
from .benchmarks.calls._picture import Bar, Panel, draw
from .benchmarks.calls._recording import Statement
from .benchmarks.calls._replay import Bare, Native, find_libpq
from .benchmarks.calls._world import World
from .benchmarks.calls.cases import CASES, LIVE, name_of
from .benchmarks.calls.profile import layers, statements


@pytest.fixture(scope="module", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
    yield
    users.configure_passwords()


def test_every_repository_function_has_a_benchmark() -> None:
    for module in pkgutil.walk_packages(rootstream_store.__path__, "rootstream_store."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    measured = CASES.keys() | LIVE.keys()
    assert {name_of(function) for function in registered} == measured, "see tests/benchmarks/calls/cases/"


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


def test_a_profile_ends_with_the_call_itself_and_its_shares_are_a_whole(database_url: str) -> None:
    with Store(Settings(database_url=database_url, redis_url=None, pool_size=1)) as store:
        world = World.build(store)
        for name, layer in (("users.get", "+ records"), ("usage.log", "+ the pool")):
            found = layers(Contest(CASES[name], store, world), store, 3, 5)
            assert [*found][-1] == name
            assert found[layer]["p50_us"] > 0
            assert sum(row["share"] for row in found.values()) == pytest.approx(1)
        found = statements(Contest(CASES["users.delete"], store, world), store, 3, 5)
        assert found["users/delete"]["times"] == 1
        assert sum(row["share"] for row in [*found.values()][:-1]) == pytest.approx(1)


def test_the_picture_is_xml_with_every_figure_in_it() -> None:
    bars = [Bar("libpq & C", 20.04, "floor"), Bar("ours", 1234.5, "ours")]
    picture = draw("title", "<note>", [Panel("one", "µs", bars), Panel("two", "µs", bars[:1])])
    texts = ["".join(element.itertext()) for element in ElementTree.fromstring(picture).iter()]
    assert {"title", "<note>", "libpq & C", "20.0", "1,234", "one · µs", "two · µs"} <= set(texts)


def test_every_call_that_redis_answers(database_url: str, redis_url: str) -> None:
    with Store(Settings(database_url=database_url, redis_url=redis_url, redis_timeout=20)) as store:
        world = World.build(store)
        for case in LIVE.values():
            Contest(case, store, world).ours()(2)
