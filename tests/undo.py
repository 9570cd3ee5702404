"""A transaction that a test takes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rootstream_store.store import Store
from rootstream_store.transaction import Transaction

__all__ = ["rolled_back"]


class _Undo(Exception):
    pass


@contextmanager
def rolled_back(store: Store) -> Iterator[Transaction]:
    """Runs the block in a transaction and rolls it back by an error at its end."""
    with suppress(_Undo), store.transaction() as transaction:
        yield transaction
        raise _Undo
