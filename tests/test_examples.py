"""What the documentation shows is what runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rootstream_store import events

_ROOT = Path(__file__).parent.parent
_EXAMPLES = sorted((_ROOT / "docs" / "examples").glob("*.py"))


@pytest.mark.parametrize("example", _EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_on_servers_of_its_own(example: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    done = subprocess.run(
        [sys.executable, "-W", "error", example],
        capture_output=True,
        text=True,
        env=env,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_quickstart_tells_of_the_broadcast() -> None:
    done = subprocess.run(
        [sys.executable, _ROOT / "docs/examples/quickstart.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    key, viewers, event = done.stdout.splitlines()
    assert key == "the encoder's key: Secret('***')"
    assert viewers.startswith("150 viewers at most, ")
    assert event.startswith("1 StreamStarted {'codec': 'h264', 'quality': '1080p60'} by user ")


def test_readme_quotes_the_quickstart_word_for_word() -> None:
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    quoted = readme.split("```python\n", 1)[1].split("```", 1)[0]
    assert quoted == (_ROOT / "docs/examples/quickstart.py").read_text(encoding="utf-8")


def test_what_the_page_of_the_event_log_shows_is_in_the_example_it_names() -> None:
    page = (_ROOT / "docs/events.md").read_text(encoding="utf-8")
    shown = re.findall(r"<!-- (docs/examples/\w+\.py) -->\n```python\n(.*?)```", page, re.DOTALL)
    assert shown
    for example, code in shown:
        assert code in (_ROOT / example).read_text(encoding="utf-8"), code
    # A few lines that show a call need no program around them; what they call must be there.
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        compile(code, "docs/events.md", "exec")
        for name in re.findall(r"\bevents\.(\w+)\(", code):
            assert hasattr(events, name), name


def test_folding_tells_of_the_room() -> None:
    done = subprocess.run(
        [sys.executable, _ROOT / "docs/examples/folding.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "version 220: 21 of 120 are still there",
        "version 50: 49 were there",
        "the newest snapshot is of version 220",
    ]


def test_the_page_on_events_quotes_its_example_word_for_word() -> None:
    page = (_ROOT / "docs/events.md").read_text(encoding="utf-8")
    quoted = page.split("held equal by a test -->\n```python\n", 1)[1].split("```", 1)[0]
    assert quoted == (_ROOT / "docs/examples/subscriptions.py").read_text(encoding="utf-8")


def test_the_example_of_subscriptions_tells_what_it_did() -> None:
    done = subprocess.run(
        [sys.executable, _ROOT / "docs/examples/subscriptions.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    mail, sold, rebuilt, *lags = done.stdout.splitlines()
    assert (mail, sold, rebuilt) == ("mail: order 2 is large", "sold: 27", "rebuilt: 27")
    assert lags == [*(f"mails {n} is 0 behind" for n in range(4)), "sales 0 is 0 behind"]


def test_the_page_on_live_state_quotes_its_example_and_what_it_prints() -> None:
    page = (_ROOT / "docs/live.md").read_text(encoding="utf-8")
    quoted, rest = page.split("docs/examples/live.py, held equal by a test -->\n```python\n", 1)[1].split(
        "```", 1
    )
    assert quoted == (_ROOT / "docs/examples/live.py").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, _ROOT / "docs/examples/live.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == rest.split("```\n", 1)[1].split("```", 1)[0]


def test_the_page_on_live_state_shows_redis_by_hand_and_what_it_prints() -> None:
    page = (_ROOT / "docs/live.md").read_text(encoding="utf-8")
    quoted, rest = page.split("docs/examples/redis_by_hand.py, held equal by a test -->\n```python\n", 1)[
        1
    ].split("```", 1)
    assert quoted == (_ROOT / "docs/examples/redis_by_hand.py").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, _ROOT / "docs/examples/redis_by_hand.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == rest.split("```\n", 1)[1].split("```", 1)[0]


def test_the_page_on_asyncio_quotes_its_example_and_what_it_prints() -> None:
    page = (_ROOT / "docs/asyncio.md").read_text(encoding="utf-8")
    quoted, rest = page.split("docs/examples/asyncio_service.py, held equal by a test -->\n```python\n", 1)[
        1
    ].split("```", 1)
    assert quoted == (_ROOT / "docs/examples/asyncio_service.py").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, _ROOT / "docs/examples/asyncio_service.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == rest.split("```\n", 1)[1].split("```", 1)[0]


def test_readme_lists_every_setting_with_its_default() -> None:
    from rootstream_store import Settings

    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    rows = {
        line.split("|")[1].strip().strip("`"): line.split("|")[2].strip()
        for line in readme.splitlines()
        if line.startswith("| `")
    }
    fields = dict(zip(Settings.__struct_fields__[1:], Settings.__struct_defaults__, strict=True))
    for name, default in fields.items():
        assert rows.get(name) == ("none" if default is None else str(default)), name
