"""Programs built against a released library run with this one: abidiff finds nothing that was taken away or
changed against the dump in capi/abi, but for what its waivers name.

`make abi` writes the dump anew; it belongs to a release, and to a change of the ABI's number.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .native import CAPI, have, library

DUMP = CAPI / "abi" / "rootstream_store-1.abi"
WAIVERS = CAPI / "abi" / "waivers.abignore"

pytestmark = pytest.mark.skipif(
    not have("abidiff"), reason="no abidiff on this machine: install abigail-tools (libabigail)"
)


def compare(dump: Path, *, waivers: Path = WAIVERS) -> subprocess.CompletedProcess[str]:
    """What abidiff tells; functions that were added are no change."""
    command = ["abidiff", "--no-added-syms", "--suppressions", str(waivers)]
    return subprocess.run([*command, str(dump), str(library())], capture_output=True, text=True)


def test_nothing_was_taken_away_or_changed() -> None:
    done = compare(DUMP)
    assert done.returncode == 0, done.stdout


def test_the_dump_names_no_machine() -> None:
    assert "='/" not in DUMP.read_text()


def test_a_function_that_went_is_found(tmp_path: Path) -> None:
    """A dump with one function more than the library has."""
    dump = tmp_path / "dump.abi"
    dump.write_text(DUMP.read_text().replace("rss_user_get_by_email", "rss_user_get_by_street"))
    done = compare(dump)
    assert done.returncode & 8
    assert "rss_user_get_by_street" in done.stdout


def test_a_field_that_others_made_room_for_is_found(tmp_path: Path) -> None:
    """A dump whose rss_horizon has its position where there is another field now."""
    text = DUMP.read_text()
    start = text.index("<class-decl name='rss_horizon' ")
    end = text.index("</class-decl>", start)
    changed = text[start:end].replace("layout-offset-in-bits='96'", "layout-offset-in-bits='112'")
    dump = tmp_path / "dump.abi"
    dump.write_text(text[:start] + changed + text[end:])
    done = compare(dump)
    assert done.returncode & 4
    assert "rss_horizon" in done.stdout


def test_a_struct_that_grew_is_told_until_a_waiver_names_it(tmp_path: Path) -> None:
    """A dump whose rss_horizon has not its last field yet."""
    text = DUMP.read_text()
    start = text.index("<class-decl name='rss_horizon' size-in-bits='256'")
    last = text.rindex("<data-member", start, text.index("</class-decl>", start))
    end = text.index("</data-member>", last) + len("</data-member>")
    dump = tmp_path / "dump.abi"
    dump.write_text(text[:start] + text[start:last].replace("'256'", "'192'") + text[end:])
    assert compare(dump).returncode & 4
    waiver = tmp_path / "waivers.abignore"
    waiver.write_text("[suppress_type]\n  name = rss_horizon\n")
    assert compare(dump, waivers=waiver).returncode == 0
