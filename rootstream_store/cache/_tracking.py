"""Hearing of every change in Redis, for the near-cache: CLIENT TRACKING by prefix, on its own connection.

In this mode (BCAST) the server remembers no keys: it tells of each change under the prefixes, before it
answers the writer. A thread listens. It asks for an answer several times a second, since a dead network says
nothing: the near-cache serves only for a second after a moment that the server has answered for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import threading
import time
from typing import Any, Final, Literal

import msgspec
import redis

from rootstream_store.cache.client import Pool, dedicated, describe_error, nodes_of, pool_of, safe_url
from rootstream_store.cache.near import PREFIXES, NearCache
from rootstream_store.settings import Settings

__all__ = ["LEASE", "NearHealth", "Tracking", "track"]

_log = logging.getLogger("rootstream_store.cache")

LEASE: Final = 1.0
"""Seconds for which the near-cache serves after the server was asked for a sign of life that it then gave."""
_BEAT = 0.25
"""Seconds from one such question to the next."""
_ANSWER_WITHIN = 0.7
"""Seconds after which a missing answer means that the connection is lost."""
_FIRST_PAUSE = 0.05
"""Seconds until a lost connection is opened again for the first time: a restarted server is often back."""
_REFUSED_PAUSE = 30.0
"""Seconds until a server that refused is asked again: rights may be given meanwhile."""


class NearHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How the near-cache is doing. Its counts are in the counters."""

    state: Literal["off", "idle", "connecting", "on", "refused"]
    """off: the settings have none. on: it serves. idle: nobody has asked for a cached answer yet. connecting:
    the connection that tells of changes is not there, or was lost. refused: Redis does not track changes."""
    error: str | None = None
    """Why it does not serve, or did not lately. None: nothing was wrong."""


class Tracking:
    """Thread-safe. `start` begins to listen, again and again for as long as it takes, until `close`."""

    def __init__(self, client: redis.Redis, near: NearCache, *, retry_after: float, url: str) -> None:
        self.near = near
        """What is kept."""
        self._client = client
        self._retry_after = max(retry_after, 0.05)
        self._url = url
        self._state: Literal["idle", "connecting", "on", "refused"] = "idle"
        self._error: str | None = None
        self._closed = False
        self._begin()
        near.want = self.start

    def _begin(self) -> None:
        self._process = os.getpid()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        # redis-py types hardly anything of a connection.
        self._connection: Any = None
        self._stop = threading.Event()

    @property
    def health(self) -> NearHealth:
        """Whether changes are heard of, so that the near-cache keeps answers."""
        if self._process != os.getpid():
            return NearHealth(state="idle")
        return NearHealth(state=self._state, error=self._error)

    def start(self) -> None:
        """Listen from now on. Does not wait. Once is enough; a forked child has to start anew."""
        if self._process != os.getpid():
            # It has all of this but the thread, and maybe a lock that nobody will open.
            self._state = "idle"
            self._begin()
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is not None or self._closed:
                return
            if nodes_of(self._client) is not None or type(pool_of(self._client)) is not Pool:
                # Behind Sentinel or on a cluster the server that is asked need not be the one that tells.
                self._refuse("needs a redis://, rediss:// or unix:// URL of one server")
                return
            thread = threading.Thread(target=self._run, name="rootstream-near", daemon=True)
            self._state = "connecting"
            try:
                thread.start()
            except RuntimeError as error:
                # No more threads, or the interpreter is ending. The next call tries again.
                self._error = str(error)
            else:
                self._thread = thread

    def close(self) -> None:
        """Stop listening; the near-cache is emptied. May be repeated."""
        with self._starting:
            self._closed = True
            thread = self._thread if self._process == os.getpid() else None
        self._stop.set()
        self._hang_up()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self.near.drop()

    def renew(self) -> None:
        """Drop everything and listen on another connection: answers come from another server than before."""
        self.near.drop()
        self._hang_up()

    def _hang_up(self) -> None:
        # The socket itself: a disconnect would take it from under the reader's hands.
        sock: socket.socket | None = getattr(self._connection, "_sock", None)
        # One with TLS cannot be closed while another thread may read it: that one looks up by itself.
        if sock is not None and self._process == os.getpid() and not isinstance(sock, ssl.SSLSocket):
            with contextlib.suppress(OSError):  # gone already: then the reader is awake
                sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        while not self._stop.is_set():
            pause = self._retry_after
            try:
                self._listen()
            except redis.ResponseError as error:
                self._refuse(describe_error(error, self._url))
                pause = _REFUSED_PAUSE
            except redis.RedisError as error:
                self._error = describe_error(error, self._url)
                if self._state == "on":
                    pause = _FIRST_PAUSE
                self._state = "connecting"
            except Exception as error:  # noqa: BLE001  # whatever it is, the thread must live, and nothing be served
                self._refuse(describe_error(error, self._url))
                pause = _REFUSED_PAUSE
            finally:
                self.near.drop()
                if self._connection is not None:
                    self._connection.disconnect()
            self._stop.wait(pause)

    def _refuse(self, reason: str) -> None:
        if self._state != "refused" or self._error != reason:
            _log.warning("no near-cache: Redis at %s does not track changes: %s", safe_url(self._url), reason)
        self._state = "refused"
        self._error = reason

    def _listen(self) -> None:
        """Returns when it is to stop. Raises redis-py's errors."""
        # No health checks: their answers would not be told from ours.
        connection = self._connection = dedicated(self._client, health_check_interval=0)
        connection.connect()
        # Messages are only kept by this function: redis-py swallows what such a function raises.
        messages: list[Any] = []
        connection._parser.set_invalidation_push_handler(messages.append)
        asked_at = time.monotonic()
        prefixes = [word for prefix in self.near.prefixes for word in ("PREFIX", prefix)]
        connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
        while connection.read_response(push_request=True) != b"OK":
            pass
        self.near.open(asked_at + LEASE)
        self._state = "on"
        is_asked = False
        while not self._stop.is_set():
            since = time.monotonic() - asked_at
            if not is_asked and since >= _BEAT:
                asked_at, since = asked_at + since, 0.0
                connection.send_command("PING")
                is_asked = True
            # What has come already counts, however late this thread comes to look.
            if connection.can_read(timeout=max(0.0, (_ANSWER_WITHIN if is_asked else _BEAT) - since)):
                answer = connection.read_response(push_request=True)
                for message in messages:
                    self.near.invalidate(message[1])
                messages.clear()
                if answer == b"PONG":
                    self.near.extend(asked_at + LEASE)
                    is_asked = False
            elif is_asked:
                raise redis.TimeoutError("the server has stopped answering")


def track(client: redis.Redis, settings: Settings) -> Tracking | None:
    """The near-cache that the settings ask for, with what it hears of changes by; None: none."""
    if settings.redis_url is None or not (settings.near_cache_entries and settings.near_cache_bytes):
        return None
    near = NearCache(
        entries=settings.near_cache_entries,
        size=settings.near_cache_bytes,
        prefixes=(*PREFIXES, "session:") if settings.near_cache_sessions else PREFIXES,
    )
    return Tracking(client, near, retry_after=settings.redis_retry_after, url=settings.redis_url)
