"""Every text parameter of every repository function takes every text: it comes back equal, or is
InvalidInput."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

import rootstream_store
from rootstream_store import events
from rootstream_store.db import Db, registered
from rootstream_store.errors import AuthenticationFailed, InvalidInput, NotFound
from rootstream_store.events import Fold, NewEvent
from rootstream_store.repositories import billing, recordings, sessions, streams, usage, users
from rootstream_store.repositories.usage import UsageEntry
from rootstream_store.store import Store

from .factories import PASSWORD, make_stream, make_user
from .naughty import TEXTS


def _load_everything() -> None:
    for module in pkgutil.walk_packages(rootstream_store.__path__, "rootstream_store."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


_load_everything()
FUNCTIONS = {
    f"{function.__module__.rpartition('.')[2].strip('_')}.{function.__name__}": function
    for function in registered
}

# What a call needs beside the text, by the parameter's name; ids are those of the rows that `world` makes.
NEEDED: dict[str, Any] = {
    "count": 1,
    "aggregate_type": "Stream",
    "aggregate_id": "s1",
    "event_type": "started",
    "data": {"a": 1},
    "events": [NewEvent("a", {})],
    "version": 1,
    "position": 1,
    "handler": lambda tx, event: None,
    "state": {"a": 1},
    "fold": Fold(
        lambda state, event: {**state, str(event.version): event.event_data}, dict, snapshot_every=1
    ),
    "before": datetime(2090, 1, 1, tzinfo=UTC),
    "reason": "a reason",
    "file_path": "/recordings/new.mp4",
    "name": "a name",
    "username": "somebody",
    "email": "somebody@example.com",
    "password": PASSWORD,
    "login": "ann",
    "since": datetime(2020, 1, 1, tzinfo=UTC),
    "until": datetime(2030, 1, 1, tzinfo=UTC),
}

# Text inside other arguments. Each returns what came back for it.
INSIDE: dict[str, Callable[[Db, dict[str, Any], str], object]] = {
    "usage.log_many(event_type)": lambda db, ids, text: (
        usage.log_many(db, [UsageEntry(user_id=ids["user_id"], event_type=text)]) and text
    ),
    "append.append_many(event_type)": lambda db, ids, text: (
        events.append_many(db, "Stream", "s9", [NewEvent(text, {})])
        and events.get(db, "Stream", "s9", 1).event_type
    ),
    "append.append_many(data)": lambda db, ids, text: (
        events.append_many(db, "Stream", "s9", [NewEvent("a", {"t": text}), NewEvent("b", {})])
        and events.get(db, "Stream", "s9", 1).event_data["t"]
    ),
    "append.append(data)": lambda db, ids, text: (
        events.append(db, "Stream", "s9", "a", {"t": [text]})
        and events.get(db, "Stream", "s9", 1).event_data["t"][0]
    ),
    "append.append(data key)": lambda db, ids, text: (
        events.append(db, "Stream", "s9", "a", {text: 1})
        and next(iter(events.get(db, "Stream", "s9", 1).event_data))
    ),
    "append.append(metadata)": lambda db, ids, text: (
        events.append(db, "Stream", "s9", "a", {}, metadata={"t": text})
        and events.get(db, "Stream", "s9", 1).metadata["t"]
    ),
    "snapshots.save_snapshot(state)": lambda db, ids, text: events.save_snapshot(
        db, "Stream", "s1", version=1, state={"t": text}
    ).state["t"],
    "erasure.erase(reason)": lambda db, ids, text: (
        events.erase(db, aggregates=[("Stream", "s1")], reason=text)
        and events.get(db, "event_log", "erasures", 1).event_data["reason"]
    ),
    "erasure.erase(requested_by)": lambda db, ids, text: (
        events.erase(db, aggregates=[("Stream", "s1")], reason="a reason", requested_by=text)
        and events.get(db, "event_log", "erasures", 1).event_data["requested_by"]
    ),
    "erasure.erase(aggregates)": lambda db, ids, text: (
        events.erase(db, aggregates=[("Stream", "s1"), (text, text)], reason="a reason")
        and events.get(db, "event_log", "erasures", 1).event_data["aggregates"][1]["id"]
    ),
    "users.create(password)": lambda db, ids, text: (
        users.create(db, username="somebody", email="somebody@example.com", password=text)
        and users.authenticate(db, login="somebody", password=text)
        and text
    ),
}


def text_parameters() -> Iterator[str]:
    for name, function in FUNCTIONS.items():
        for parameter in inspect.signature(function).parameters.values():
            if "str" in str(parameter.annotation):
                yield f"{name}({parameter.name})"


@pytest.fixture(autouse=True)
def _cheap_passwords() -> Iterator[None]:
    users.configure_passwords(time_cost=1, memory_cost=8, parallelism=1)
    yield
    users.configure_passwords()


@pytest.fixture
def world(store: Store) -> dict[str, Any]:
    """One row of everything, and the ids by which functions ask for them."""
    user = make_user(store, username="ann", email="ann@example.com")
    stream = make_stream(store, user.id)
    session = streams.start(store, stream.id)
    recording = recordings.create(store, stream.id, file_path="/recordings/1.mp4", session_id=session.id)
    sessions.create(store, user.id)
    billing.open(store, user.id)
    usage.log(store, user.id, event_type="viewer_join")
    events.append(store, "Stream", "s1", "started", {})
    other = make_stream(store)
    return {
        "billing.open": {"user_id": other.user_id},
        "streams.start": {"stream_id": other.id},
        "user_id": user.id,
        "stream_id": stream.id,
        "session_id": session.id,
        "recording_id": recording.id,
    }


def contents(store: Store) -> dict[str, Any]:
    """Each table with the number of its rows and a hash of all of them."""
    with psycopg.connect(store.settings.database_url) as connection:
        tables = connection.execute(
            "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') "
            "AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        query = SQL("SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {} AS t")
        return {name: connection.execute(query.format(Identifier(name))).fetchone() for (name,) in tables}


class Undo(Exception):
    """Takes back what a call did."""


@pytest.mark.parametrize("target", sorted({*text_parameters(), *INSIDE}))
def test_every_text_through_every_text_parameter(store: Store, world: dict[str, Any], target: str) -> None:
    before = contents(store)
    accepted = refused = 0
    with store.transaction() as tx:
        for text in TEXTS:
            try:
                with tx.transaction() as inner:
                    check(inner, world, target, text)
                    raise Undo
            except Undo:
                accepted += 1
            except InvalidInput:
                refused += 1
    assert contents(store) == before, "nothing else has happened"
    # A token is looked for by its hash, and any text has one.
    assert refused > 0 or "token" in target, "no text at all is refused, not even a NUL"
    assert accepted + refused == len(TEXTS)


def check(db: Db, world: dict[str, Any], target: str, text: str) -> None:
    if target in INSIDE:
        assert INSIDE[target](db, world, text) == text
        return
    name, _, parameter = target.rstrip(")").partition("(")
    function = FUNCTIONS[name]
    arguments = {parameter: text}
    for other in list(inspect.signature(function).parameters.values())[1:]:
        if other.name != parameter and other.default is inspect.Parameter.empty:
            arguments[other.name] = {**NEEDED, **world, **world.get(name, {})}[other.name]
    try:
        answer = function(db, **arguments)
        if isinstance(answer, AbstractContextManager):
            with answer as rows:
                answer = list(rows)
    except (NotFound, AuthenticationFailed):
        return  # looked for, and not there
    found = getattr(answer, parameter, None)
    if found is not None:
        assert found == text
    if isinstance(answer, list) and not name.startswith("append."):
        assert answer == [], "nothing is called like this"


def test_the_corpus_holds_what_it_should() -> None:
    assert len(TEXTS) > 110
    assert any("\0" in text for text in TEXTS)
    assert any("\ud800" in text for text in TEXTS)
