"""Run by the packaging test in a fresh environment, away from the checkout: the wheel alone must serve.

Takes the file names below the checkout's sql folder as one JSON list on standard input.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import rootstream_store
from rootstream_store import Store, migrations
from rootstream_store.queries import catalogue, sql_root
from rootstream_store.repositories import users


def main() -> None:
    """Raises AssertionError for what is wrong with the installation."""
    environment = Path(sys.prefix)
    assert Path(rootstream_store.__file__).is_relative_to(environment), rootstream_store.__file__
    assert sql_root().is_relative_to(environment), sql_root()
    shipped = sorted(path.relative_to(sql_root()).as_posix() for path in sql_root().rglob("*.*"))
    assert shipped == json.load(sys.stdin), shipped
    assert len(catalogue()) > 1
    text = subprocess.check_output([environment / "bin" / "rootstream-store", "--help"], text=True)
    assert "migrate" in text, text
    with Store.embedded() as store:
        assert migrations.apply(store) == []
        user = users.create(store, username="ada", email="ada@example.org", password="correct horse")
        assert users.get(store, user.id) == user
        assert store.redis.ping() is True
    use_from_c(environment)


_PROGRAM = """
#include <rootstream_store.h>
#include <stdio.h>
int main(void)
{
    rss_store *store;
    if (rss_open_embedded(NULL, NULL, &store) != RSS_OK || rss_close(store, 5000) != RSS_OK)
        return printf("%s\\n", rss_last_error()->message);
    return printf("ok\\n") < 0;
}
"""


def use_from_c(environment: Path) -> None:
    """A C program finds library, header and packages of this environment and no other."""
    python = str(environment / "bin" / "python")
    ask = [python, "-I", "-m", "rootstream_store.capi", "--cflags", "--libs"]
    flags = subprocess.check_output(ask, text=True)
    assert str(environment) in flags, flags
    source = Path("program.c")
    source.write_text(_PROGRAM)
    subprocess.check_call(["gcc", str(source), *shlex.split(flags), "-o", "program"])
    assert subprocess.check_output(["./program"], text=True) == "ok\n"


if __name__ == "__main__":
    main()
