"""Which life of which Redis server an answer was cached in: one of another life may be stale, and is no hit.

A server that is restarted brings back what its last dump held, and a replica that is promoted may lack the
last writes: in both, removals are missing. So each cached answer carries a stamp of the server's run and of
its replication history, which both change then, and a process takes for hits only what has the stamp that the
server has now. Nothing has to be searched for and removed.

Each connection asks for the stamp when it is opened: to a server that was restarted, or that took another
one's place, every connection is new.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import redis

from rootstream_store.cache._entry import HEAD, STAMP_SIZE, Kind
from rootstream_store.cache.breaker import UNREACHED, Breaker
from rootstream_store.cache.wire import Wire

__all__ = ["NO_STAMP", "Generation"]

_log = logging.getLogger("rootstream_store.cache")

NO_STAMP: Final = bytes(STAMP_SIZE)
"""Of a server that does not tell which one it is: INFO is refused, or a proxy answers."""
_QUESTIONS: Final = (("INFO", "server"), ("INFO", "replication"))
_FIELDS: Final = ("run_id", "master_replid")
_NO_HEAD: Final = bytes(HEAD + 1)
"""Longer than what it is compared with."""


class Generation:
    """Thread-safe. Of a cluster, all servers make one stamp: where one of them is replaced, the cached
    answers of all are missed once."""

    def __init__(self, wire: Wire, breaker: Breaker) -> None:
        self._wire = wire
        self._breaker = breaker
        self._is_told = False
        self._lock = threading.Lock()
        self._known: dict[Any, list[str]] = {}
        self.stamp: bytes | None = None
        """Of the server as it is now. None: not known yet, so that nothing is a hit."""
        self.head = _NO_HEAD
        """How an entry begins that is a hit with a value."""
        self.replaced: Callable[[], None] = lambda: None
        """Called when another server, or another life of it, answers than before."""

    def ask(self) -> bytes | None:
        """The stamp, asked for now. None: no server answers, and `stamp` stays as it was."""
        replies = self._breaker.attempt(lambda: self._wire.everywhere(_QUESTIONS))
        if replies is UNREACHED:
            return None
        return self._take({place: _parts(answers) for place, answers in replies.items()}, is_whole=True)

    def greet(self, connection: Any) -> None:
        """Ask on a connection just opened, before anything else is asked there. Raises redis-py's errors."""
        for question in _QUESTIONS:
            connection.send_command(*question, check_health=False)
        answers = [_reply_or_error(connection) for _ in _QUESTIONS]
        self._take({self._wire.place_of(connection): _parts(answers)})

    def _take(self, told: dict[Any, list[str]], *, is_whole: bool = False) -> bytes | None:
        with self._lock:
            self._known.update(told)
            places = self._wire.places()
            here = [self._known[place] for place in places if place in self._known]
            # At first a process knows some servers of a cluster only: their stamp would soon be another.
            if here and (is_whole or self.stamp is not None or len(here) == len(places)):
                self._set(sorted(part for parts in here for part in parts))
            return self.stamp

    def _set(self, parts: list[str]) -> None:
        stamp = hashlib.sha256("\n".join(parts).encode()).digest()[:STAMP_SIZE] if parts else NO_STAMP
        if not parts and not self._is_told:
            self._is_told = True
            _log.warning(
                "Redis does not tell its run_id (INFO): after a restart from a dump or a failover, "
                "cached answers may be stale until they expire"
            )
        if stamp != self.stamp:
            is_first = self.stamp is None
            self.stamp = stamp
            self.head = Kind.VALUE.value + stamp
            if not is_first:
                _log.info("Redis was restarted or replaced: what it had cached before is not used")
                self.replaced()


def _parts(replies: list[Any]) -> list[str]:
    """What tells one life of a server from another; nothing where it does not say."""
    told = {name: value for reply in replies for name, value in _told(reply).items()}
    return [f"{name}:{told[name]}" for name in _FIELDS if name in told]


def _told(reply: Any) -> dict[str, Any]:
    if isinstance(reply, bytes):
        lines = reply.decode(errors="replace").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)
    return reply if isinstance(reply, dict) else {}  # an error: refused


def _reply_or_error(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
