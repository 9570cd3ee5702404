"""What capi/*.c takes from Python by name: constants, conversions, and what an error becomes."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from rootstream_store import errors
from rootstream_store.capi._codes import CODES, INTERNAL
from rootstream_store.database import Exchange, exchange_by
from rootstream_store.events import ANY, EXISTS, NO_STREAM
from rootstream_store.repositories._unset import UNSET
from rootstream_store.settings import redact

__all__ = [
    "ANY",
    "EXISTS",
    "NO_STREAM",
    "PSYCOPG_MODULE",
    "UNSET",
    "begin",
    "describe",
    "invalid",
    "make_uuid",
    "timedelta",
    "to_json",
]

to_json = msgspec.json.Encoder(decimal_format="number").encode

PSYCOPG_MODULE: str = sys.modules[psycopg.pq.PGconn.__module__].__file__ or ""
"""The file that calls libpq."""

libpq: Exchange | None = None
"""The one that psycopg has, once the library has started; None where it cannot be called."""

_log = logging.getLogger("rootstream_store.capi")


def begin(owns_python: int, exchange: Exchange | None) -> None:
    """Run once, when the library has started. `owns_python`: the interpreter is the library's own, not that
    of a Python program that loaded the library. `exchange` becomes `libpq`."""
    global libpq
    libpq = exchange
    # logging writes warnings to stderr where nobody has set it up: the host's stream is the host's.
    for name in ("psycopg", "rootstream_store", "redis"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    if owns_python:
        logging.getLogger().addHandler(logging.NullHandler())
        threading.excepthook = _log_thread_error
        sys.unraisablehook = _log_unraisable
        _start_threads_without_signals()
        exchange_by(libpq)  # elsewhere Ctrl-C is to end a wait


def describe(error: BaseException) -> tuple[int, str, str, str, str, int, int]:
    """(code, message, sqlstate, constraint, field, retryable, outcome_unknown) of an error; "" for what it
    has not. Never raises, and shows no secret."""
    code = next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), INTERNAL)
    if not isinstance(error, errors.RootStreamError):
        text = redact(" ".join(str(error).split()))
        return code, _text(f"{type(error).__name__}: {text}"), "", "", "", 0, 0
    message = "\n".join([str(error), *getattr(error, "__notes__", ())])
    return (
        code,
        _text(message),
        _text(error.sqlstate or ""),
        _text(error.constraint or ""),
        _text(str(getattr(error, "field", None) or "")),
        int(error.retryable),
        int(getattr(error, "outcome_unknown", False)),
    )


def invalid(field: str, rule: str) -> None:
    """Raises InvalidInput."""
    raise errors.InvalidInput(field, rule)


def make_uuid(field: str, text: bytes) -> UUID:
    """Raises InvalidInput."""
    try:
        return UUID(text.decode())
    except ValueError:
        raise errors.InvalidInput(field, "must be a UUID", text) from None


def _text(text: str) -> str:
    # C strings end at a NUL, and UTF-8 has no lone surrogates.
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def _start_threads_without_signals() -> None:
    """The host's signals are for the host's threads: those that libraries start here block all."""
    start = threading.Thread.start

    def start_quietly(self: threading.Thread) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)
        try:
            start(self)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    threading.Thread.start = start_quietly  # type: ignore[method-assign]  # in an interpreter of our own


# A thread's own faults: blocked, they would end the process without a word.
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}


def _log_thread_error(given: threading.ExceptHookArgs) -> None:
    _log.error("a thread ended with an error", exc_info=given.exc_value)


def _log_unraisable(given: Any) -> None:
    _log.error("an error that could not be raised in %r", given.object, exc_info=given.exc_value)
