"""Receiving published messages, with the gaps told.

A subscription has a connection of its own, outside the pool: it never blocks other calls and takes no place
of theirs. When that connection is lost it is opened again, and the reader gets a Gap: whatever was published
meanwhile is gone (redis-py alone subscribes again in silence: 10 of 100 messages were missing, with no
error). A subscriber that must not miss anything reads the truth again after each Gap.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

import redis
from redis.connection import AbstractConnection

from rootstream_store.cache.client import dedicated, describe_error, safe_url, to_error
from rootstream_store.cache.effects import encode
from rootstream_store.errors import InvalidInput

__all__ = ["Gap", "Message", "Subscription", "check_timeout", "subscribe"]

_LOOK_UP = 0.25
"""Longest sleep without looking whether the subscription was closed, in seconds: close() wakes it by a PING,
this is for when the server does not answer."""
_PING_AFTER = 5.0
"""Seconds of silence after which the server has to prove that it is there."""


class Message(NamedTuple):
    """One published message."""

    channel: str
    """Where it was published, also for a subscription by pattern."""
    data: bytes


class Gap(NamedTuple):
    """The connection was lost and is back: messages may be missing here. Comes before any newer message."""

    seconds: float
    """Since the last sign of life before the loss: anything published in this time may be missing."""


class Subscription:
    """An iterator of messages and gaps, and a context manager. Made by `subscribe`.

    One thread reads (more may: each message goes to one of them); any thread may close.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        channels: list[bytes],
        patterns: list[bytes],
        *,
        timeout: float | None,
        reply_timeout: float,
        retry_after: float,
        url: str | None,
    ) -> None:
        # redis-py types hardly anything of a connection.
        self._connection: Any = connection
        self._channels = channels
        self._patterns = patterns
        self._timeout = timeout
        self._reply_timeout = reply_timeout
        self._retry_after = max(retry_after, 0.05)
        self._url = url
        self._closed = threading.Event()
        self._reading = threading.RLock()
        self._sending = threading.Lock()
        self._received: deque[Message | Gap] = deque()
        self._lost_at: float | None = None
        self._heard_at = self._retry_at = 0.0
        self._asked_at: float | None = None
        self._last_error: str | None = None
        self._subscribe()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closed.is_set()

    @property
    def last_error(self) -> str | None:
        """Why the connection was last lost or could not be opened again, without secrets. None: never."""
        return self._last_error

    def get(self, timeout: float | None = None) -> Message | Gap | None:
        """The next message or gap; None when none came in `timeout` seconds or the subscription was closed.

        None as timeout: waits until one comes. A server that is away is waited for in the same way. Raises
        SettingsError or PermissionDenied when Redis is back and refuses the user or the channels, and
        InvalidInput.
        """
        check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._reading.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            return None
        try:
            while not self._closed.is_set():
                if self._received:
                    return self._received.popleft()
                left = _LOOK_UP if deadline is None else min(_LOOK_UP, deadline - time.monotonic())
                self._step(max(0.0, left))
                if not self._received and deadline is not None and time.monotonic() >= deadline:
                    return None
        finally:
            self._reading.release()
        return None

    def fileno(self) -> int | None:
        """The socket on which messages come, for an event loop to watch between two calls of `get(0)`. None:
        the connection is lost."""
        sock: socket.socket | None = getattr(self._connection, "_sock", None)
        number = -1 if sock is None or self._lost_at is not None else sock.fileno()
        return None if number < 0 else number

    def due(self) -> float:
        """In how many seconds `get` is to be called, where nothing comes, to look after the server."""
        return 1.0 if self._lost_at is None else max(0.0, self._retry_at - time.monotonic())

    def __iter__(self) -> Iterator[Message | Gap]:
        """Yields until close() is called, or until nothing came for the subscription's `timeout`."""
        while (received := self.get(self._timeout)) is not None:
            yield received

    def end(self) -> None:
        """Have a waiting reader stop, without waiting for it; `close` is still to be called."""
        self._closed.set()
        self._wake()

    def close(self) -> None:
        """End the subscription. A thread that waits for a message stops at once. May be repeated."""
        self.end()
        # Longer than any wait of the reader: only a second thread in get() could be in the way.
        if self._reading.acquire(timeout=4 * self._reply_timeout + 2 * _LOOK_UP):
            try:
                self._connection.disconnect()
            finally:
                self._reading.release()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _step(self, wait: float) -> None:
        """Receive what comes within `wait` seconds, or try to get the connection back."""
        if self._lost_at is not None:
            self._come_back(wait)
            return
        try:
            if self._connection.can_read(timeout=wait):
                self._take(self._connection.read_response())
                self._heard_at = time.monotonic()
                self._asked_at = None
            else:
                self._check_silence()
        except redis.RedisError as error:
            self._lose(error)

    def _check_silence(self) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            if now - self._heard_at >= _PING_AFTER:
                self._asked_at = now
                with self._sending:
                    self._connection.send_command("PING", check_health=False)
        elif now - self._asked_at >= self._reply_timeout:
            raise redis.TimeoutError("the server has stopped answering")

    def _come_back(self, wait: float) -> None:
        assert self._lost_at is not None
        lost_at = self._lost_at
        if time.monotonic() < self._retry_at:
            self._closed.wait(min(wait, self._retry_at - time.monotonic()))
            return
        try:
            self._subscribe()
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
            self._lose(error)
            raise to_error(error, "subscribing again", self._url) from error
        except redis.RedisError as error:
            self._lose(error)
            return
        self._lost_at = None
        self._received.appendleft(Gap(time.monotonic() - lost_at))

    def _lose(self, error: redis.RedisError) -> None:
        self._connection.disconnect()
        self._last_error = describe_error(error, self._url)
        self._retry_at = time.monotonic()
        if self._lost_at is None:
            # The first attempt follows at once: a restarted server is often back already.
            self._lost_at = self._heard_at
        else:
            self._retry_at += self._retry_after

    def _subscribe(self) -> None:
        """Connect and wait until each channel is confirmed: what is published after this is received."""
        with self._sending:
            self._connection.connect()
            if self._channels:
                self._connection.send_command("SUBSCRIBE", *self._channels)
            if self._patterns:
                self._connection.send_command("PSUBSCRIBE", *self._patterns)
        missing = len(self._channels) + len(self._patterns)
        while missing:
            reply = self._connection.read_response()
            if reply[0] in (b"subscribe", b"psubscribe"):
                missing -= 1
            else:
                self._take(reply)
        self._heard_at = time.monotonic()
        self._asked_at = None

    def _take(self, reply: Any) -> None:
        if reply[0] == b"message":
            self._received.append(Message(_text(reply[1]), reply[2]))
        elif reply[0] == b"pmessage":
            self._received.append(Message(_text(reply[2]), reply[3]))

    def _wake(self) -> None:
        """Make the server answer something, so that a reader asleep in poll() wakes. Called by another
        thread."""
        # The socket itself: a failing send_command would tear the connection down under the reader's hands.
        sock: socket.socket | None = getattr(self._connection, "_sock", None)
        # TLS cannot be written while another thread may read it: that reader looks up by itself in a while.
        if sock is None or isinstance(sock, ssl.SSLSocket) or not self._sending.acquire(blocking=False):
            return
        try:
            sock.sendall(b"PING\r\n")
        except OSError as error:
            # Dead: then the reader is awake already.
            self._last_error = describe_error(error, self._url)
        finally:
            self._sending.release()


def subscribe(
    client: redis.Redis,
    *channels: str,
    patterns: Iterable[str] = (),
    timeout: float | None = None,
    retry_after: float = 1.0,
    url: str | None = None,
) -> Subscription:
    """Subscribe to channels and to glob patterns of channels, on a connection of its own with the client's
    options.

    Returns when Redis has confirmed all of them: what is published from then on is received. `timeout` in
    seconds ends an iteration when nothing came for so long; None: only close() ends it. `retry_after` in
    seconds between attempts to get a lost connection back. `url` is only shown in errors, without its
    password.

    Raises InvalidInput, Unavailable or Timeout (retryable), SettingsError for a wrong password,
    PermissionDenied.
    """
    if isinstance(patterns, str | bytes) or not isinstance(patterns, Iterable):
        raise InvalidInput("patterns", f"must be a collection of patterns, not {type(patterns).__name__}")
    check_timeout(timeout)
    # Named twice it would still be one subscription for the server, with two confirmations.
    names = list(dict.fromkeys(encode(channel, "channels") for channel in channels))
    globs = list(dict.fromkeys(encode(pattern, "patterns") for pattern in patterns))
    if not names and not globs:
        raise InvalidInput("channels", "must name at least one channel or pattern")
    # RESP2: there, messages are plain replies. Health checks are made here, where their answers are expected.
    connection = dedicated(client, protocol=2, health_check_interval=0)
    reply_timeout = float(connection.socket_timeout or 1.0)
    try:
        return Subscription(
            connection,
            names,
            globs,
            timeout=timeout,
            reply_timeout=reply_timeout,
            retry_after=retry_after,
            url=url,
        )
    except redis.RedisError as error:
        drop: Callable[[], None] = connection.disconnect
        drop()
        where = f"subscribing at {safe_url(url)}" if url else "subscribing"
        raise to_error(error, where, url) from error


def check_timeout(timeout: float | None) -> None:
    """Raises InvalidInput for what no wait can last."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise InvalidInput("timeout", f"must be a number of seconds or None, not {type(timeout).__name__}")
    # No time is reached that is later than nan, and no lock can be waited for as long as infinity.
    if not timeout <= threading.TIMEOUT_MAX:
        raise InvalidInput("timeout", f"must be at most {threading.TIMEOUT_MAX:.0f} s, or None for no limit")


def _text(name: bytes) -> str:
    # Any bytes can be a channel; surrogates keep those that are not UTF-8.
    return name.decode(errors="surrogateescape")
