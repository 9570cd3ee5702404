"""`rootstream-store events tail`: the newest events of the whole log, and those that come."""

from __future__ import annotations

import argparse
import contextlib
import logging
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from rootstream_store import events
from rootstream_store.cache import keys
from rootstream_store.cli.events._common import add_database_url, add_json, print_event
from rootstream_store.errors import RootStreamError, Timeout, Unavailable
from rootstream_store.records import Event
from rootstream_store.store import Store

if TYPE_CHECKING:
    from rootstream_store.cli.events import Subparsers

__all__ = ["add_parser"]

_PAGE = 1000
_POLL = 0.25
"""Seconds between looks for new events. A look costs 0.1 ms of the server where nothing was appended."""
_POLL_WITH_REDIS = 1.0
"""The same where Redis wakes us: its messages may get lost, and an append that is rolled back sends none."""
_LOOK_UP = 0.25
"""Seconds between looks at whether somebody still reads standard output."""


class _Terminated(KeyboardInterrupt):
    """SIGTERM; interrupts what Ctrl-C would."""


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command `events tail`."""
    parser = subparsers.add_parser(
        "tail",
        help="the newest events of the whole log",
        description="Prints the newest events of the whole log in its order, one a line: position, time, "
        "aggregate, version, type, user, data, metadata. With --follow it goes on with what is appended, "
        "each event once, until Ctrl-C or SIGTERM; it waits for a PostgreSQL that is away, and says so on "
        "standard error.",
    )
    parser.add_argument(
        "-n", type=_count, default=20, dest="count", metavar="N", help="how many to begin with (default: 20)"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is appended")
    parser.add_argument(
        "--type",
        action="append",
        dest="event_types",
        metavar="TYPE",
        help="only events of this type; may be repeated",
    )
    parser.add_argument("--aggregate-type", metavar="TYPE", help="only events of aggregates of this type")
    add_json(parser)
    add_database_url(parser)
    parser.add_argument(
        "--redis-url",
        metavar="URL",
        help="wakes --follow at once when something is appended (default: the environment variable "
        f"REDIS_URL, else a look every {_POLL} s)",
    )
    parser.set_defaults(run=_tail)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def _tail(arguments: argparse.Namespace) -> int:
    filters = {"aggregate_type": arguments.aggregate_type, "event_types": arguments.event_types}
    tail = _Tail(filters, as_json=arguments.json)
    if not arguments.follow:
        with Store.open(arguments.database_url, pool_size=1) as store:
            tail.print_newest(store, arguments.count)
        return 0
    # The pool's own warnings: a server that is away is told in our words.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    with (
        _terminable(),
        # Not tried again by the store: whoever waits wants to know for what.
        Store.open(
            arguments.database_url,
            arguments.redis_url,
            pool_size=1,
            retry_deadline=0.0,
            application_name="rootstream-store events tail",
        ) as store,
    ):
        try:
            wait = _wake_ups(store)
            tail.print_newest(store, arguments.count)
            tail.follow(store, wait)
        except _Terminated:
            return 0


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    def terminate(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Tail:
    """How far the log was printed. What lies above is printed next, when no more can come below it."""

    def __init__(self, filters: dict[str, Any], *, as_json: bool) -> None:
        self._filters = filters
        self._as_json = as_json
        self._position = 0

    def print_newest(self, store: Store, count: int) -> None:
        """The last `count` events up to the horizon, oldest first."""
        self._position = position = events.get_horizon(store).position
        newest: list[Event] = []
        while len(newest) < count:
            limit = min(_PAGE, count - len(newest))
            page = events.read_all(store, to_position=position, limit=limit, backward=True, **self._filters)
            newest += page
            if len(page) < limit:
                break
            position = page[-1].position - 1
        for event in reversed(newest):
            print_event(event, as_json=self._as_json)

    def follow(self, store: Store, wait: Callable[[], None]) -> NoReturn:
        """What is appended, for ever."""
        is_away = False
        while True:
            try:
                self._print_new(store)
            except (Unavailable, Timeout) as error:
                if not is_away:
                    _say(f"{error}; waiting for it")
                is_away = True
                _pause(_POLL)
                continue
            if is_away:
                _say("PostgreSQL is back")
            is_away = False
            wait()

    def _print_new(self, store: Store) -> None:
        horizon = events.get_horizon(store, known=self._position)
        if horizon.last_position < self._position:
            _say(
                f"the log ends at position {horizon.last_position}, not {self._position}: this server has "
                "lost events, going on from there"
            )
            self._position = horizon.position
        while self._position < horizon.position:
            page = events.read_all(
                store,
                after_position=self._position,
                to_position=horizon.position,
                limit=_PAGE,
                **self._filters,
            )
            for event in page:
                print_event(event, as_json=self._as_json)
                self._position = event.position
            if len(page) < _PAGE:
                self._position = horizon.position


def _wake_ups(store: Store) -> Callable[[], None]:
    """What waits until there may be something new."""
    if store.settings.redis_url is None:
        return lambda: _pause(_POLL)
    try:
        subscription = store.subscribe(keys.APPENDED)
    except (Unavailable, Timeout) as error:
        _say(f"{error}; looking every {_POLL} s instead")
        return lambda: _pause(_POLL)

    def wait() -> None:
        end = time.monotonic() + _POLL_WITH_REDIS
        while (left := end - time.monotonic()) > 0:
            if subscription.get(min(left, _LOOK_UP)) is not None:
                # One look is enough for all that were sent up to now.
                while subscription.get(0.0) is not None:
                    pass
                break
            _require_reader()
        _require_reader()

    return wait


def _pause(seconds: float) -> None:
    time.sleep(seconds)
    _require_reader()


def _require_reader() -> None:
    """Raises BrokenPipeError when nobody reads standard output any more, which a write would only tell when
    there is something to write."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if any(flags & (select.POLLERR | select.POLLHUP) for _, flags in poll.poll(0)):
        raise BrokenPipeError


def _say(text: str | RootStreamError) -> None:
    print(text, file=sys.stderr, flush=True)
