"""A real standby: read, never migrated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from rootstream_store import migrations
from rootstream_store.embedded import EmbeddedServers
from rootstream_store.errors import MigrationError

from .conftest import Write


@pytest.fixture
def standby(directory: Path, write: Write) -> Iterator[str]:
    """A server in recovery whose database has version 1."""
    write("0001_create_a.sql", "CREATE TABLE a ()")
    # Not below tmp_path: started by root, the server runs under an account that may not enter there.
    with TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        home = Path(parent) / "servers"
        with EmbeddedServers.start(home, redis=False, durable=False) as primary:
            migrations.apply(primary.database_url, directory)
        (home / "postgres" / "standby.signal").touch()
        with EmbeddedServers.start(home, redis=False, durable=False) as server:
            yield server.database_url


def test_standby(standby: str, directory: Path, write: Write) -> None:
    write("0002_create_b.sql", "CREATE TABLE b ()")
    for call in (migrations.apply, migrations.plan):
        with pytest.raises(MigrationError, match="the server of database 'postgres' is a standby"):
            call(standby, directory)
    status = migrations.status(standby, directory)
    assert (status.version, [entry.version for entry in status.pending]) == (1, [2])
    with psycopg.connect(standby) as connection:
        assert connection.execute("SELECT to_regclass('b')").fetchone() == (None,)
