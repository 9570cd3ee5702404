"""Arguments of the wrong kind get an error of ours, before a file is read or a server is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rootstream_store import migrations
from rootstream_store.errors import InvalidInput, RootStreamError, SettingsError

# Never reached.
NOWHERE: Any = "postgresql://nobody@127.0.0.1:1/nothing"
NO_DATABASES: list[Any] = [None, 5, b"x", []]
NO_TIMES: list[Any] = ["x", None, True, -1, float("nan"), float("inf"), 1e300, 10**300]
NO_VERSIONS: list[Any] = ["x", 1.0, True, []]
NO_NAMES: list[Any] = [5, b"app", []]
NO_PATHS: list[Any] = [5, b"bytes", [], "\0", "\ud800"]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        *((lambda it=it: migrations.apply(it), "db") for it in NO_DATABASES),
        *((lambda it=it: migrations.status(it), "db") for it in NO_DATABASES),
        *((lambda it=it: migrations.apply(NOWHERE, it), "path") for it in NO_PATHS),
        *((lambda it=it: migrations.sql(it), "path") for it in NO_PATHS),
        *((lambda it=it: migrations.apply(NOWHERE, ".", line=it), "line") for it in NO_NAMES),
        *((lambda it=it: migrations.apply(NOWHERE, lock_timeout=it), "lock_timeout") for it in NO_TIMES),
        *((lambda it=it: migrations.apply(NOWHERE, wait=it), "wait") for it in NO_TIMES),
        *((lambda it=it: migrations.apply(NOWHERE, target=it), "target") for it in NO_VERSIONS),
        *((lambda it=it: migrations.plan(NOWHERE, target=it), "target") for it in NO_VERSIONS),
        *((lambda it=it: migrations.baseline(NOWHERE, it), "version") for it in (None, *NO_VERSIONS)),
        *((lambda it=it: migrations.baseline(NOWHERE, 1, wait=it), "wait") for it in NO_TIMES),
        *((lambda it=it: migrations.resolve(NOWHERE, it, applied=True), "version") for it in NO_VERSIONS),
        *((lambda it=it: migrations.resolve(NOWHERE, 1, applied=True, wait=it), "wait") for it in NO_TIMES),
        *((lambda it=it: migrations.sql(after=it), "after") for it in (None, *NO_VERSIONS)),
        *((lambda it=it: migrations.sql(target=it), "target") for it in NO_VERSIONS),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(call: Callable[[], object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        call()
    assert caught.value.field == field
    assert not caught.value.retryable


@pytest.mark.parametrize("url", ["postgresql://u:geheim\ud800@host/x", "host=h password=geheim\0more"])
def test_a_connection_string_that_cannot_be_sent_is_refused_unseen(url: str) -> None:
    with pytest.raises(SettingsError, match="database_url") as caught:
        migrations.status(url)
    seen: BaseException | None = caught.value
    while seen is not None:
        assert isinstance(seen, RootStreamError)
        assert "geheim" not in repr(vars(seen)) + repr(seen)
        seen = seen.__cause__
