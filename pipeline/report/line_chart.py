"""Lines over a few levels, several panels side by side, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _GAP, _LEFT, _TOP, _BOTTOM = 220, 220, 24, 48, 48, 48
_LINE = 16  # height of a line of the legend
_INK, _GREY, _FAINT = "#333333", "#b5b5b5", "#eeeeee"
_COLOURS = (
    "#1f6fb4", "#e08214", "#3a923a", "#c0392b", "#7b5ea7", "#8c564b", "#d870a9", "#6b6b6b",
    "#a8a80a", "#17a0b0",
)  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """lines: by name, a value for each level; None where there is none."""

    title: str
    levels: tuple[str, ...]
    lines: Mapping[str, Sequence[float | None]]


def line_chart(panels: Sequence[Panel], title: str = "", unit: str = "") -> str:
    """The panels with one scale for all, a colour for each name; a legend below them."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    values = [v for panel in panels for line in panel.lines.values() for v in line if v is not None]
    low, high, step = _scale(values or [0.0])
    width = _LEFT + len(panels) * (_WIDTH + _GAP)
    height = _TOP + _HEIGHT + _BOTTOM + _LINE * (-(-len(names) // 2))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11" fill="{_INK}">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="18">{escape(title)}</text>',
    ]
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}
    for place, panel in enumerate(panels):
        left = _LEFT + place * (_WIDTH + _GAP)
        parts += _panel(panel, left, (low, high, step), colours, unit if place == 0 else None)
    parts += _legend(colours, width)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    panel: Panel,
    left: int,
    scale: tuple[float, float, float],
    colours: Mapping[str, str],
    unit: str | None,
) -> list[str]:
    low, high, step = scale

    def y(value: float) -> str:
        return f"{_TOP + _HEIGHT * (high - value) / (high - low):.1f}"

    def x(place: int) -> str:
        return f"{left + _WIDTH * (place + 0.5) / len(panel.levels):.1f}"

    middle = left + _WIDTH / 2
    parts = [
        f'<text x="{middle:.0f}" y="{_TOP - 10}" text-anchor="middle">{escape(panel.title)}</text>'
    ]
    for tick in range(round((high - low) / step) + 1):
        value = low + tick * step
        parts.append(
            f'<line x1="{left}" x2="{left + _WIDTH}" y1="{y(value)}" y2="{y(value)}" '
            f'stroke="{_FAINT}"/>'
        )
        if unit is not None:
            parts.append(
                f'<text x="{left - 6}" y="{y(value)}" dy="4" text-anchor="end">'
                f"{value:g}{escape(unit)}</text>"
            )
    parts.append(
        f'<rect x="{left}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" '
        f'stroke="{_GREY}"/>'
    )
    for place, level in enumerate(panel.levels):
        parts.append(
            f'<text x="{x(place)}" y="{_TOP + _HEIGHT + 16}" text-anchor="middle">'
            f"{escape(level)}</text>"
        )
    for name, line in panel.lines.items():
        points = [(x(i), y(value)) for i, value in enumerate(line) if value is not None]
        path = " ".join(f"{a},{b}" for a, b in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="1.8">'
            f"<title>{escape(name)}</title></polyline>"
        )
        parts += [f'<circle cx="{a}" cy="{b}" r="2.6" fill="{colours[name]}"/>' for a, b in points]
    return parts


def _legend(colours: Mapping[str, str], width: int) -> list[str]:
    """The names in two columns."""
    parts = []
    for i, (name, colour) in enumerate(colours.items()):
        left = _LEFT + (i % 2) * (width // 2)
        top = _TOP + _HEIGHT + 36 + _LINE * (i // 2)
        parts.append(
            f'<line x1="{left}" x2="{left + 18}" y1="{top}" y2="{top}" stroke="{colour}" '
            f'stroke-width="2.4"/><text x="{left + 24}" y="{top + 4}">{escape(name)}</text>'
        )
    return parts


def _scale(values: Sequence[float]) -> tuple[float, float, float]:
    """Round ends around all values, and the step between two lines: five or so."""
    low, high = min(values), max(values)
    rough = max(high - low, 1e-6) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return first * step, max(last, first + 1) * step, step
