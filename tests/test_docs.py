"""What is written about the library is there and true: docstrings, README, links, changelog."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from types import ModuleType

import pytest

import rootstream_store
from rootstream_store import errors
from rootstream_store.db import registered

from .benchmarks.calls._bench import AIMS
from .benchmarks.calls.drivers import SHOWN

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def public_modules() -> list[ModuleType]:
    """All but the private ones and what only runs as a program."""
    names = [rootstream_store.__name__]
    names += [found.name for found in pkgutil.walk_packages(rootstream_store.__path__, "rootstream_store.")]
    return [
        importlib.import_module(name)
        for name in names
        if not any(part.startswith("_") for part in name.split("."))
    ]


MODULES = public_modules()


def repository_modules() -> list[str]:
    return sorted(
        module.__name__.rpartition(".")[2]
        for module in MODULES
        if module.__name__.startswith("rootstream_store.repositories.")
    )


def documented() -> Iterator[tuple[str, object]]:
    """Each public class and function, and each public method that a class defines itself, by name."""
    for module in MODULES:
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if not (inspect.isclass(thing) or inspect.isroutine(thing)):
                continue
            yield f"{module.__name__}.{name}", thing
            if inspect.isclass(thing) and thing.__module__.startswith("rootstream_store"):
                for member, value in vars(thing).items():
                    if not member.startswith("_") and (
                        inspect.isroutine(value) or isinstance(value, property | classmethod | staticmethod)
                    ):
                        yield f"{module.__name__}.{name}.{member}", getattr(thing, member)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_a_public_module_says_what_it_is_for_and_lists_what_it_offers(module: ModuleType) -> None:
    assert module.__doc__
    names = getattr(module, "__all__", [])
    assert sorted(set(names)) == sorted(names)
    assert [name for name in names if not hasattr(module, name)] == []


def test_everything_public_has_a_docstring() -> None:
    found = dict(documented())
    assert len(found) > 150
    # inspect.getdoc: a method of a Store or a Transaction may have that of Db.
    missing = [name for name, thing in found.items() if not (inspect.getdoc(thing) or "").strip()]
    assert missing == []


def test_a_docstring_is_sentences() -> None:
    bad = []
    for name, thing in documented():
        text = (inspect.getdoc(thing) or "").strip()
        # Not what msgspec or the interpreter makes up.
        if getattr(thing, "__module__", "").startswith("rootstream_store") and not text.endswith(
            (".", "`", ")")
        ):
            bad.append(f"{name}: {text[-40:]!r}")
    assert bad == []


def test_every_repository_function_is_public_in_its_module() -> None:
    hidden = [
        f"{function.__module__}.{function.__name__}"
        for function in registered
        if function.__module__.startswith("rootstream_store")
        and not function.__module__.startswith("rootstream_store.events.")
        and function.__name__ not in importlib.import_module(function.__module__).__all__
    ]
    hidden += [
        f"rootstream_store.events.{function.__name__}"
        for function in registered
        if function.__module__.startswith("rootstream_store.events.")
        and function.__name__ not in rootstream_store.events.__all__
    ]
    assert hidden == []
    assert len(registered) > 60


def test_readme_names_every_repository() -> None:
    (line,) = (line for line in README.splitlines() if line.startswith("| the functions |"))
    assert sorted(re.findall(r"`(\w+)`", line)) == repository_modules()
    assert set(repository_modules()) | {"events"} <= set(rootstream_store.__all__)
    assert "`rootstream_store/events/`" in line


def test_readme_names_every_error() -> None:
    # Those are told apart from others by nothing that a caller would do.
    rest = {"DatabaseError", "TooManyRows"}
    text = README.partition("**Errors**")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", text))
    assert set(errors.__all__) - rest <= named
    for name in ("retryable", "outcome_unknown"):
        assert f".{name}`" in text


def test_readme_shows_what_the_demo_and_the_benchmark_print() -> None:
    # The figures are another day's; what is called, checked and measured must be today's.
    checks = (ROOT / "rootstream_store" / "demo" / "checks.py").read_text(encoding="utf-8")
    shown = set(re.findall(r"(?m)^ok   (.+) \([\d,]+\)$", README))
    assert shown == set(re.findall(r'(?m)^        \("([^"]+)", (?:_\w+|partial\(.+\))\),$', checks))
    table = README.partition("| from that run |")[2].partition("\n\n")[0]
    rows = set(re.findall(r"(?m)^\| ([^|]+) \| \d", table))
    assert set(AIMS) <= rows
    picture = (ROOT / "docs" / "bench.svg").read_text(encoding="utf-8")
    assert all(f">{escape(title)}<" in picture for title in SHOWN.values())


def test_the_first_screen_of_the_readme_has_a_runnable_example() -> None:
    assert "```python" in "\n".join(README.splitlines()[:25])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {link}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ +(.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(
        r"`((?:rootstream_store|sql|tests|docs|\.ci)/[\w./-]*)`", page.read_text(encoding="utf-8")
    )
    # Beside the package, or inside it as the table of files shortens them.
    missing = [name for name in named if not (ROOT / name).exists() and "NNNN" not in name]
    assert missing == []


def test_every_command_is_written_about() -> None:
    from rootstream_store.cli import _GROUPS

    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in _GROUPS if f"rootstream-store {name}" not in pages] == []


def test_every_make_target_that_is_named_is_there() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"`make ([a-z-]+)", pages))
    assert {"demo", "test"} <= named
    assert named <= targets


CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Migrations", "ABI"}


def test_the_changelog_is_well_formed() -> None:
    lines = CHANGELOG.splitlines()
    assert lines[0] == "# Changelog"
    assert "https://keepachangelog.com/en/1.1.0/" in CHANGELOG
    releases = re.findall(r"(?m)^## (.*)$", CHANGELOG)
    assert releases[0] == "[Unreleased]"
    for release in releases[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", release), release
    versions = [tuple(map(int, release[1:].partition("]")[0].split("."))) for release in releases[1:]]
    assert versions == sorted(versions, reverse=True)
    for release in re.split(r"(?m)^## .*$", CHANGELOG)[1:]:
        headings = re.findall(r"(?m)^### (.*)$", release)
        assert len(headings) == len(set(headings))
        assert set(headings) <= SECTIONS, headings
        for section in re.split(r"(?m)^### .*$", release)[1:]:
            assert re.match(r"\n+- ", section), "each section is a list"
    assert not re.findall(r"(?m)^####|^#[^# ]|\t", CHANGELOG)


def test_the_changelog_names_the_newest_migration() -> None:
    newest = max(path.name for path in (ROOT / "sql" / "migrations").glob("*.sql"))[:4]
    sections = re.findall(r"(?ms)^### Migrations\n(.*?)(?=^#|\Z)", CHANGELOG)
    assert newest in "".join(sections)
