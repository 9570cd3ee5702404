"""The examples compile without a warning and run as they are."""

from __future__ import annotations

import re
import sys

from .native import CAPI, ROOT, compile_program, environment, run


def test_the_evening() -> None:
    done = run(compile_program(CAPI / "examples" / "evening.c"), timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.splitlines() == [
        "Chess at midnight: 150 viewers at most, 750000 bytes",
        "stream 1 is not live (in sql/streams/stop.sql)",
        '1 StreamStarted {"quality":"1080p60"} by user 1',
    ]


def test_the_first_lines_of_the_manual_compile() -> None:
    """The snippet at the top of the header, in a function."""
    text = (CAPI / "rootstream_store.h").read_text()
    match = re.search(r"\n((?: \*     .*\n)+)", text)
    assert match is not None
    body = "\n".join(line[2:] for line in match[1].splitlines())
    source = ROOT / "build" / "capi" / "snippet.c"
    source.write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n#include <rootstream_store.h>\n"
        "static void die(const char *why)\n{\n    puts(why);\n    exit(1);\n}\n"
        f"int main(void)\n{{\n{body}\n    return 0;\n}}\n"
    )
    compile_program(source)


def test_the_streamer(database_url: str, redis_url: str) -> None:
    done = run(
        compile_program(CAPI / "examples" / "streamer.c"),
        "2",
        env=environment(DATABASE_URL=database_url, REDIS_URL=redis_url),
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    checks = [line for line in done.stdout.splitlines() if line[:4] in ("ok  ", "BAD ")]
    assert len(checks) == 8
    assert all(line.startswith("ok") for line in checks)


def test_without_a_compiler_the_demo_says_so() -> None:
    script = CAPI / "examples" / "run_streamer.py"
    done = run(sys.executable, str(script), env=environment(CC="no-such-compiler"))
    assert done.returncode == 0
    assert done.stdout.startswith("no C compiler (no-such-compiler)")


def test_code_that_does_not_compile_fails_the_demo() -> None:
    script = CAPI / "examples" / "run_streamer.py"
    done = run(sys.executable, str(script), env=environment(CC="cc -include /nonexistent.h"))
    assert done.returncode == 1
    assert "nonexistent.h" in done.stderr
