"""The live state of a stream: a few fields with JSON values and a version, on Redis only.

Whoever changes it tells all followers in the same step. It is ephemeral: it ends a day after the last change,
some minutes after the broadcast, or with Redis; a new one has another epoch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from rootstream_store.cache import Announce, Ask, Script, StateChange, WriteAsk, keys
from rootstream_store.cache.effects import encode, milliseconds
from rootstream_store.cache.messages import MOST_STATE_BYTES, MOST_STATE_FIELDS
from rootstream_store.db import Db, repository
from rootstream_store.errors import InvalidInput, Unavailable, VersionConflict
from rootstream_store.flow import Flow
from rootstream_store.live._messages import StateChanged
from rootstream_store.live._publish import encode_json

__all__ = [
    "ENDED_STATE_TTL",
    "STATE_TTL",
    "StateSnapshot",
    "delete_state",
    "get_state",
    "push_state",
    "update_state",
]

STATE_TTL: Final = 86_400.0
"""Seconds that a state lives after its last change."""
ENDED_STATE_TTL: Final = 300.0
"""Seconds that it lives after the broadcast has ended."""
_LONGEST_NAME: Final = 200
_META: Final = ("v", "e", "b")

_GET: Final = Script("""\
-- All of a state: flat names and values
return redis.call('HGETALL', KEYS[1])
""")


class StateSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The live state of a stream at one version."""

    stream_id: int
    version: int
    """How many changes made it. 0: there is none."""
    epoch: str | None
    """Tells this state from one before it that was deleted, ended or was lost with Redis. None: there is
    none."""
    values: dict[str, Any]

    def after(self, change: StateChanged) -> StateSnapshot:
        """The state after the change that follows. Raises InvalidInput for another one."""
        if (change.stream_id, change.epoch, change.version) != (self.stream_id, self.epoch, self.version + 1):
            raise InvalidInput("change", "must be the one that follows this version", change.version)
        values = {**self.values, **change.changes}
        for name in change.removed:
            values.pop(name, None)
        return StateSnapshot(
            stream_id=self.stream_id, version=change.version, epoch=self.epoch, values=values
        )


@repository
def get_state(db: Db, stream_id: int) -> StateSnapshot:
    """The live state of the stream; version 0 and no values where there is none. Raises Unavailable while
    Redis cannot be reached."""

    def read(reply: Any) -> StateSnapshot:
        found = dict(zip(reply[::2], reply[1::2], strict=True))
        return StateSnapshot(
            stream_id=stream_id,
            version=int(found.get(b"v", 0)),
            epoch=found[b"e"].decode() if b"e" in found else None,
            values={
                name[1:].decode(): msgspec.json.decode(value)
                for name, value in found.items()
                if name.startswith(b":")
            },
        )

    return db.ask(Ask(_GET, [keys.state(stream_id)], [], read), lambda: _unreached("reading", written=False))


@repository
def update_state(
    db: Db,
    stream_id: int,
    changes: Mapping[str, Any] | None = None,
    *,
    remove: Iterable[str] = (),
    expected_version: int | StateSnapshot | None = None,
    ttl: float = STATE_TTL,
) -> int:
    """Sets fields to JSON values, removes fields, and tells all followers in the same step; returns the new
    version.

    `expected_version`: None: the last writer of a field wins; a number (0: there is no state yet) or, safer,
    the snapshot that the change is based on: raises VersionConflict with expected and actual where another
    change came first, and nothing is applied. `ttl`: seconds that the state lives without another change.

    Runs at once, also in a transaction. Raises InvalidInput, also for more than 256 fields or 64 KiB in all,
    and Unavailable with `outcome_unknown` when Redis does not answer.
    """
    expected = _expected(expected_version)
    announced = _change(stream_id, changes, remove, ttl, expected=expected)

    def read(reply: Any) -> int:
        done, version, _ = reply[0]
        if done < 0:
            raise InvalidInput(
                "changes",
                f"must leave the state with at most {MOST_STATE_FIELDS} fields and {MOST_STATE_BYTES} bytes",
            )
        if not done:
            raise VersionConflict("state of stream", str(stream_id), _shown(expected_version), version)
        return int(version)

    return db.ask(WriteAsk(announced, read), lambda: _unreached("changing", written=True))


@repository
def push_state(
    db: Db,
    stream_id: int,
    changes: Mapping[str, Any] | None = None,
    *,
    remove: Iterable[str] = (),
    ttl: float = STATE_TTL,
) -> None:
    """As `update_state` where the last writer wins, once the changes before it are committed, and without
    waiting: a thread sends it, with others and in their order. For thousands of changes a second.

    One that would make the state too large is left out, and one that Redis did not get is counted as lost and
    told as a Gap. Raises InvalidInput.
    """
    return db.after_commit(_change(stream_id, changes, remove, ttl, soon=True))


@repository
def delete_state(db: Db, stream_id: int, *, expected_version: int | StateSnapshot | None = None) -> bool:
    """Deletes the live state and tells all followers in the same step; False when there was none.

    Runs at once, also in a transaction. Raises VersionConflict, InvalidInput, and Unavailable as
    `update_state` does.
    """
    change = StateChange(
        key=keys.state(stream_id),
        expected=_expected(expected_version),
        epoch="",
        ttl=STATE_TTL,
        end=b"}",
        changes=None,
    )

    def read(reply: Any) -> bool:
        done, version, _ = reply[0]
        if not done:
            raise VersionConflict("state of stream", str(stream_id), _shown(expected_version), version)
        return int(version) > 0

    announced = Announce(f"state.{stream_id}.deleted", _head("state.deleted", stream_id), change)
    return db.ask(WriteAsk(announced, read), lambda: _unreached("deleting", written=True))


def _change(
    stream_id: int,
    changes: Mapping[str, Any] | None,
    remove: Iterable[str],
    ttl: float,
    *,
    expected: str = "",
    soon: bool = False,
) -> Announce:
    changes = {} if changes is None else changes
    if not isinstance(changes, Mapping):
        raise InvalidInput("changes", "must be a mapping of names to values")
    if isinstance(remove, str) or not isinstance(remove, Iterable):
        raise InvalidInput("remove", "must be a list of names")
    removed = tuple(dict.fromkeys(_name(name, "remove") for name in remove))
    values = {_name(name, "changes"): encode_json(value, "changes") for name, value in changes.items()}
    if not values and not removed:
        raise InvalidInput("changes", "must change or remove something")
    if len(values) > MOST_STATE_FIELDS or len(removed) > MOST_STATE_FIELDS:
        raise InvalidInput("changes", f"must be of at most {MOST_STATE_FIELDS} fields")
    if both := values.keys() & set(removed):
        raise InvalidInput("remove", "must not name what is changed", min(both))
    milliseconds(ttl)
    fields = msgspec.json.encode({name: msgspec.Raw(value) for name, value in values.items()})
    end = b',"changes":' + fields + b',"removed":' + msgspec.json.encode(removed) + b"}"
    change = StateChange(
        key=keys.state(stream_id),
        expected=expected,
        epoch=os.urandom(6).hex(),
        ttl=ttl,
        end=end,
        changes=values,
        removed=removed,
    )
    return Announce(f"state.{stream_id}.changed", _head("state.changed", stream_id), change, soon)


def _head(kind: str, stream_id: int) -> bytes:
    # The script adds the epoch and the version, which only it knows.
    return b'{"type":"%s","stream_id":%d' % (kind.encode(), stream_id)


def _name(name: object, field: str) -> str:
    if not isinstance(name, str) or not 0 < len(encode(name, field)) <= _LONGEST_NAME:
        raise InvalidInput(field, f"must have names of 1 to {_LONGEST_NAME} bytes", name)
    return name


def _expected(version: object) -> str:
    if version is None:
        return ""
    if isinstance(version, StateSnapshot):
        return f"{version.version}-{version.epoch or ''}"
    if type(version) is not int or not 0 <= version < 2**53:
        raise InvalidInput("expected_version", "must be a version from 0, a snapshot or None", version)
    return str(version)


def _shown(expected: int | StateSnapshot | None) -> object:
    if isinstance(expected, StateSnapshot):
        return f"{expected.version} of epoch {expected.epoch}" if expected.epoch else 0
    return expected


def _unreached(doing: str, *, written: bool) -> Flow[Any]:
    yield from ()
    raise Unavailable(
        f"{doing} a live state failed: Redis does not answer, or the store was opened without it",
        outcome_unknown=written,
    )
