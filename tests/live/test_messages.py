from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream_store import live
from rootstream_store.cache.messages import LONGEST_MESSAGE
from rootstream_store.errors import InvalidInput
from rootstream_store.live._messages import MESSAGES, Decoder

from .conftest import Goal

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
TIMES = st.datetimes(timezones=st.just(UTC))
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
STRATEGIES: dict[object, st.SearchStrategy[Any]] = {
    int: INT64,
    int | None: st.none() | INT64,
    str: TEXT,
    str | None: st.none() | TEXT,
    bool: st.booleans(),
    bool | None: st.none() | st.booleans(),
    datetime: TIMES,
    datetime | None: st.none() | TIMES,
    dict[str, Any]: st.dictionaries(TEXT, JSON, max_size=4),
    tuple[str, ...]: st.lists(TEXT, max_size=4).map(tuple),
}

CLASSES: list[type[live.Message]] = [*MESSAGES, Goal]


def made(cls: type[live.Message]) -> st.SearchStrategy[live.Message]:
    return st.builds(cls, **{field.name: STRATEGIES[field.type] for field in msgspec.structs.fields(cls)})


@given(st.one_of([made(cls) for cls in CLASSES]))
def test_every_message_comes_back_as_it_was(message: live.Message) -> None:
    assert Decoder((Goal,)).decode(msgspec.json.encode(message)) == message


def test_the_types_of_the_issue_are_there_and_their_topics() -> None:
    assert {cls.__struct_config__.tag for cls in MESSAGES} == {
        "stream.started",
        "stream.stopped",
        "viewer.joined",
        "viewer.left",
        "user.updated",
        "session.created",
        "session.revoked",
        "state.changed",
        "state.deleted",
    }
    assert live.StreamStopped(stream_id=7).topic == "stream.7.stopped"
    assert live.ViewerJoined(stream_id=7, viewer_id="x").topic == "viewer.7.joined"
    assert live.UserUpdated(user_id=5, change="profile").topic == "user.5.updated"
    assert live.SessionRevoked(user_id=5, session_id="ab").topic == "session.5.revoked"
    assert Goal(stream_id=7).topic == "goal.7.reached"


@pytest.mark.parametrize(
    ("payload", "kind", "data"),
    [
        (b'{"type":"poll.opened","stream_id":7}', "poll.opened", {"type": "poll.opened", "stream_id": 7}),
        (
            b'{"type":"stream.started","stream_id":"7"}',
            "stream.started",
            {"type": "stream.started", "stream_id": "7"},
        ),
        (b'{"type":7}', None, {"type": 7}),
        (b"[1]", None, [1]),
        (b"no json", None, None),
        (b"", None, None),
    ],
)
def test_what_a_newer_release_sends_comes_raw(payload: bytes, kind: str | None, data: object) -> None:
    assert Decoder().decode(payload) == live.RawMessage(kind, data)


def test_fields_that_a_newer_release_added_are_left_out() -> None:
    payload = b'{"type":"viewer.left","stream_id":7,"viewer_id":"x","why":"bored"}'
    assert Decoder().decode(payload) == live.ViewerLeft(stream_id=7, viewer_id="x")


def test_a_session_is_named_without_its_hash() -> None:
    name = live.session_id(b"\x01" * 32)
    assert len(name) == 32
    assert name != live.session_id(b"\x02" * 32)
    assert (b"\x01" * 32).hex() not in name


class _Taken(live.Message, frozen=True, kw_only=True, tag="stream.started"):
    stream_id: int


class _Empty(live.Message, frozen=True, kw_only=True, tag="no.fields"):
    pass


@pytest.mark.parametrize("wrong", [_Taken, _Empty, int, msgspec.Struct])
def test_classes_that_cannot_be_told_apart_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="types"):
        Decoder((wrong,))


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {"type": "x"},
        _Empty(),
        Goal(stream_id=7, text="x" * LONGEST_MESSAGE),
        Goal(stream_id=7, text="\ud800"),
        live.StateChanged(stream_id=7, epoch="e", version=1, changes={}),
        live.StateDeleted(stream_id=7, epoch="e", version=1),
    ],
)
def test_what_could_not_be_sent_is_refused_before_the_commit(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="message"):
        live.announce(wrong)


def test_the_payload_is_plain_json() -> None:
    assert json.loads(live.announce(Goal(stream_id=7, text="höre")).payload) == {
        "type": "goal.reached",
        "stream_id": 7,
        "number": 0,
        "text": "höre",
    }
