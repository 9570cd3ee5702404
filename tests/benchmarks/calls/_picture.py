"""The figures as bars in an SVG, for light and dark pages. No date: two differ in their figures only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

__all__ = ["Bar", "Panel", "draw"]


@dataclass(frozen=True)
class Bar:
    """One way."""

    name: str
    value: float
    kind: str = "other"
    """ "ours", "floor" for what nobody can be below, or "other"."""


@dataclass(frozen=True)
class Panel:
    """Bars on one scale, which begins at 0."""

    title: str
    unit: str
    bars: Sequence[Bar]


_COLUMNS: Final = 2
_WIDTH: Final = 515
"""Of a panel."""
_LABEL, _BAR, _ROW, _HEAD, _GAP, _MARGIN = 205, 215, 19, 30, 18, 16
_TOP: Final = 66

_STYLE: Final = """\
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.title { font-size: 17px; font-weight: 600 }
.panel { font-size: 13px; font-weight: 600 }
.note { fill: #59636e }
.back { fill: #ffffff }
.ours { fill: #1a7f64 }
.floor { fill: #afb8c1 }
.other { fill: #6e7f96 }
text.ours { fill: #116650; font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .note { fill: #9198a1 }
  .back { fill: #0d1117 }
  .ours { fill: #3fb68b }
  .floor { fill: #4b535d }
  .other { fill: #8494aa }
  text.ours { fill: #56d4a6 }
}
"""


def draw(title: str, note: str, panels: Sequence[Panel]) -> str:
    """The picture."""
    parts: list[str] = []
    bottoms = [_TOP] * _COLUMNS
    for panel in panels:
        column = bottoms.index(min(bottoms))
        parts += _panel(panel, _MARGIN + column * (_WIDTH + _GAP), bottoms[column])
        bottoms[column] += _HEAD + len(panel.bars) * _ROW + _GAP
    width, height = 2 * _MARGIN + _COLUMNS * _WIDTH + (_COLUMNS - 1) * _GAP, max(bottoms)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">',
            f"<style>\n{_STYLE}</style>",
            f'<rect class="back" width="{width}" height="{height}" rx="6"/>',
            f'<text class="title" x="{_MARGIN}" y="30">{escape(title)}</text>',
            f'<text class="note" x="{_MARGIN}" y="50">{escape(note)}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def _panel(panel: Panel, left: int, top: int) -> list[str]:
    most = max(bar.value for bar in panel.bars)
    parts = [
        f'<text class="panel" x="{left}" y="{top + 18}">{escape(panel.title)}'
        f'<tspan class="note" font-weight="400"> · {escape(panel.unit)}</tspan></text>'
    ]
    for number, bar in enumerate(panel.bars):
        y = top + _HEAD + number * _ROW
        length = max(1, round(bar.value / most * _BAR))
        shown = f"{bar.value:,.0f}" if bar.value >= 100 else f"{bar.value:.1f}"
        text = "ours" if bar.kind == "ours" else ""
        parts += [
            f'<text class="{text}" x="{left + _LABEL - 8}" y="{y + 12}" text-anchor="end">'
            f"{escape(bar.name)}</text>",
            f'<rect class="{bar.kind}" x="{left + _LABEL}" y="{y}" width="{length}" '
            f'height="{_ROW - 4}" rx="2"/>',
            f'<text class="{text}" x="{left + _LABEL + length + 6}" y="{y + 12}">{shown}</text>',
        ]
    return parts
