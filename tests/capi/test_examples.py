"""The examples compile without a warning and run as they are."""

from __future__ import annotations

import re

from .native import CAPI, ROOT, compile_program, run


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
