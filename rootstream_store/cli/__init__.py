"""The command `rootstream-store`. Each group of commands is one module with `add_parser(subparsers)`."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence

from rootstream_store.errors import RootStreamError, SettingsError

__all__ = ["main"]

_GROUPS = ("demo", "migrate", "status", "events", "viewers", "metrics", "maintain")
"""Modules of this package, in the order of --help."""

_USAGE = 2
_INTERRUPTED = 130
_BROKEN_PIPE = 141
"""As a shell tells of a program that SIGPIPE ended."""

_EPILOG = """\
exit codes: 0 done, 1 an error (told in one line on standard error), 2 a wrong command line or setting,
            3 `migrate status` with migrations pending, 4 `status` degraded, 5 `events verify` of a log that
            was changed, 130 interrupted, 141 nobody reads standard output any more
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. `argv`: without the program's name; None: sys.argv."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        # What is still in the buffer would fail when the interpreter ends, where nobody can handle it.
        sys.stdout.flush()
    except RootStreamError as error:
        _tell(error)
        return _USAGE if isinstance(error, SettingsError) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # `… | head` has read enough; rich turns that into SystemExit. The interpreter flushes once more when
        # it ends: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rootstream-store",
        description="Data layer for live streaming on PostgreSQL and Redis.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rootstream-store {_version()}")
    subparsers = parser.add_subparsers(metavar="command", required=True)
    for name in _GROUPS:
        importlib.import_module(f"{__name__}.{name}").add_parser(subparsers)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("rootstream-store")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _tell(error: RootStreamError) -> None:
    print(f"error: {error}", file=sys.stderr)
    for note in getattr(error, "__notes__", []):
        print(note, file=sys.stderr)
    if error.retryable:
        print("hint: the same command may succeed later", file=sys.stderr)
