"""The trials of a search as a picture: accuracy over flash, RAM and instructions, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinsmith.pipeline.search.budget import MEASURES, Budget
from tinsmith.pipeline.search.outcome import Trial

WIDTH, HEIGHT, GAP, LEFT, TOP, BOTTOM = 300, 260, 24, 52, 40, 44
_UNITS = {"flash": "bytes of flash", "ram": "bytes of RAM", "instructions": "instructions"}
_INK, _GREY, _FRONT, _LIMIT, _CHOSEN = "#333333", "#b5b5b5", "#1f6fb4", "#c0392b", "#e08214"


@dataclass(frozen=True)
class Axis:
    """Values low..high over the pixels first..last."""

    low: float
    high: float
    first: float
    last: float

    def at(self, value: float) -> str:
        share = (value - self.low) / (self.high - self.low)
        return f"{self.first + share * (self.last - self.first):.1f}"


def pareto_svg(
    trials: Sequence[Trial], front: Sequence[Trial], chosen: Trial | None, budget: Budget
) -> str:
    """A panel for each measure: finished trials, those on the front filled, the chosen one ringed,
    the budget's limit as a dashed line. Accuracy is that on the validation images.
    """
    done = [trial for trial in trials if trial.outcome.status == "done"]
    if chosen is not None:  # in full, it is another point than its trial
        done.append(chosen)
    width = LEFT + len(MEASURES) * (WIDTH + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{TOP + HEIGHT + BOTTOM}" '
        f'font-family="sans-serif" font-size="11" fill="{_INK}">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18">accuracy on the validation images, percent; filled: none is '
        "better in everything; ring: chosen; dashed: the budget</text>",
    ]
    if done:
        accuracies = [trial.outcome.accuracy or 0.0 for trial in done]
        y = _axis(accuracies, TOP + HEIGHT, TOP)
        for place, measure in enumerate(MEASURES):
            left = LEFT + place * (WIDTH + GAP)
            parts += _panel(done, front, chosen, budget, measure, left, y)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    done: Sequence[Trial],
    front: Sequence[Trial],
    chosen: Trial | None,
    budget: Budget,
    measure: str,
    left: int,
    y: Axis,
) -> list[str]:
    limit = budget.limits().get(measure)
    values = [_spent(trial, measure) for trial in done]
    x = _axis([*values, *([limit] if limit else [])], left, left + WIDTH)
    parts = [
        f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" '
        f'stroke="{_GREY}"/>',
        f'<text x="{left + WIDTH / 2:.0f}" y="{TOP + HEIGHT + 34}" text-anchor="middle">'
        f"{_UNITS[measure]}</text>",
    ]
    for tick in _ticks(x):
        parts.append(
            f'<text x="{x.at(tick)}" y="{TOP + HEIGHT + 16}" text-anchor="middle">'
            f"{_short(tick)}</text>"
        )
    for tick in _ticks(y):
        parts.append(
            f'<line x1="{left}" x2="{left + WIDTH}" y1="{y.at(tick)}" y2="{y.at(tick)}" '
            'stroke="#eeeeee"/>'
        )
        if left == LEFT:
            parts.append(
                f'<text x="{left - 6}" y="{y.at(tick)}" dy="4" text-anchor="end">{tick:g}</text>'
            )
    if limit:
        parts.append(
            f'<line x1="{x.at(limit)}" x2="{x.at(limit)}" y1="{TOP}" y2="{TOP + HEIGHT}" '
            f'stroke="{_LIMIT}" stroke-dasharray="4 3"/>'
        )
    best = {trial.number for trial in front}
    for trial in done:
        fill = _FRONT if trial.number in best else _GREY
        parts.append(_dot(trial, measure, x, y, f'r="3.5" fill="{fill}"', title=True))
    if chosen is not None:
        ring = f'r="7" fill="none" stroke="{_CHOSEN}" stroke-width="2"'
        parts.append(_dot(chosen, measure, x, y, ring))
    return parts


def _dot(trial: Trial, measure: str, x: Axis, y: Axis, look: str, title: bool = False) -> str:
    spent, accuracy = _spent(trial, measure), trial.outcome.accuracy or 0.0
    text = f"<title>trial {trial.number}: {accuracy:.2f} %, {spent:,}</title>" if title else ""
    return f'<circle cx="{x.at(spent)}" cy="{y.at(accuracy)}" {look}>{text}</circle>'


def _spent(trial: Trial, measure: str) -> int:
    assert trial.outcome.costs is not None, "only finished trials are drawn"
    return trial.outcome.costs.named()[measure]


def _axis(values: Sequence[float], first: float, last: float) -> Axis:
    """An axis with all values, and a little room on either side."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 1.0
    return Axis(low - room, high + room, first, last)


def _ticks(axis: Axis) -> list[float]:
    """Round values along an axis, four or so."""
    rough = (axis.high - axis.low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    first = math.ceil(axis.low / step)
    return [k * step for k in range(first, math.floor(axis.high / step) + 1)]


def _short(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
