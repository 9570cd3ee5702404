"""What the benchmarks of one area share: the figures, the targets beside them, and the command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from ._harness import Call, Figures, measure, show

__all__ = ["Suite", "Target", "add_options", "finish", "report"]

CALLS = {"p50_us": ("p50 µs", ".1f"), "ratio": ("ratio", ".2f"), "cpu_us": ("client CPU µs", ".1f")}
"""The columns of a table of calls."""


@dataclass(frozen=True)
class Target:
    """A figure that is wanted. `at_most` False: at least."""

    name: str
    wanted: float
    reached: float
    unit: str
    at_most: bool

    @property
    def met(self) -> bool:
        return self.reached <= self.wanted if self.at_most else self.reached >= self.wanted


@dataclass(kw_only=True)
class Suite:
    """One run: prints each table as it is made, and keeps all of them."""

    quick: bool
    console: Console
    figures: dict[str, Figures] = field(default_factory=dict)
    """By table."""
    targets: list[Target] = field(default_factory=list)

    def rounds(self, number: int) -> int:
        """`number`, or a quarter of it in a quick run."""
        return max(3, number // 4) if self.quick else number

    @property
    def seconds(self) -> float:
        """How long one table may take; see `measure`."""
        return 2.0 if self.quick else 20.0

    def calls(
        self, title: str, contenders: dict[str, Call], baseline: str, rounds: int, calls: int
    ) -> Figures:
        """Measures calls and prints a table of them."""
        found = measure(contenders, baseline, self.rounds(rounds), calls, seconds=self.seconds)
        return self.table(title, found, CALLS)

    def table(self, title: str, figures: Figures, columns: dict[str, tuple[str, str]]) -> Figures:
        """Prints a table and keeps its figures. `columns`: by key of the figures, heading and format."""
        self.figures[title] = figures
        show(self.console, title, figures, columns)
        return figures

    def target(
        self, name: str, wanted: float, reached: float, unit: str = "x", *, at_most: bool = True
    ) -> None:
        """Keeps a figure for the table at the end."""
        self.targets.append(Target(name, wanted, reached, unit, at_most))


def add_options(parser: argparse.ArgumentParser, groups: Iterable[str]) -> None:
    """The options that all suites have: --only, --quick, --json."""
    parser.add_argument("--only", choices=list(groups), nargs="+", help="these groups (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and smaller data: a minute on an idle machine"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")


def report(suite: Suite, seconds: float) -> dict[str, Any]:
    """Everything, for JSON."""
    targets = [
        {"name": t.name, "wanted": t.wanted, "reached": t.reached, "unit": t.unit, "met": t.met}
        for t in suite.targets
    ]
    return {"tables": suite.figures, "targets": targets, "seconds": seconds}


def finish(suite: Suite, seconds: float, *, as_json: bool) -> None:
    """Prints the targets, or everything as JSON. `seconds`: how long the run took."""
    if as_json:
        json.dump(report(suite, seconds), sys.stdout, indent=2)
        print()
        return
    _show_targets(suite.console, suite.targets)
    suite.console.print(f"took {seconds:.0f} s")


def _show_targets(console: Console, targets: list[Target]) -> None:
    table = Table(box=None)
    table.add_column("what")
    for heading in ("target", "reached", "met"):
        table.add_column(heading, justify="right")
    for target in targets:
        sign = "≤" if target.at_most else "≥"
        form = ",.0f" if target.wanted >= 100 else ".2f"
        table.add_row(
            target.name,
            f"{sign} {target.wanted:,g} {target.unit}",
            f"{target.reached:{form}} {target.unit}",
            "yes" if target.met else "no",
        )
    console.print("targets", style="italic")
    console.print(table)
    console.print()
