"""insight.html: what compression did beyond the mean, on one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from tinsmith.pipeline.insight.disturbances import DISTURBANCES
from tinsmith.pipeline.insight.effects import Effects, Flipped
from tinsmith.pipeline.report.line_chart import Panel, line_chart
from tinsmith.pipeline.report.png import png_url

_TEMPLATES = Path(__file__).parent / "templates"
_STRONG = 3.0  # points of a class that are marked


@dataclass(frozen=True, eq=False)
class Pictures:
    """Of the samples that flipped, in their order. images: [N, C, H, W], 0..1. maps: by network,
    where it looks, [N, H, W], 0..1.
    """

    images: NDArray[np.float32]
    maps: Mapping[str, NDArray[np.float32]]


def insight_page(
    name: str, effects: Effects, pictures: Pictures | None, notes: Sequence[str]
) -> str:
    """The page. pictures: None where samples are no images. notes: of what is left out, and why."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    chart = line_chart(robustness_panels(effects), "accuracy on disturbed samples", " %")
    return environment.get_template("insight.html.j2").render(
        name=name,
        effects=effects,
        first=effects.networks[0],
        last=effects.networks[-1],
        classes=[_class_row(effects, c) for c in range(_classes(effects))],
        disturbances=_disturbance_rows(effects),
        chart=chart,
        flipped=[_card(f, pictures, i) for i, f in enumerate(effects.flipped)],
        maps=list(pictures.maps) if pictures else [],
        notes=[*effects.left_out, *notes],
    )


def robustness_panels(effects: Effects) -> list[Panel]:
    """A panel for each disturbance, a line for each network."""
    panels = []
    for name, disturbance in DISTURBANCES.items():
        rows = [r for r in effects.robustness if r.disturbance == name]
        if rows:
            lines = {n: [r.accuracies[n] for r in rows] for n in effects.networks}
            levels = tuple(f"{row.level:g}" for row in rows)
            panels.append(Panel(disturbance.title, levels, lines))
    return panels


def _classes(effects: Effects) -> int:
    return len(effects.per_class[effects.networks[0]])


def _class_row(effects: Effects, c: int) -> dict[str, Any]:
    """The accuracies of a class by network, and what the last lost to the first."""
    cells = [effects.per_class[name][c] for name in effects.networks]
    change = None if cells[0] is None or cells[-1] is None else cells[-1] - cells[0]
    texts = ["-" if cell is None else f"{cell:.1f}" for cell in cells]
    return {
        "number": c,
        "cells": texts,
        "change": "-" if change is None else f"{change:+.1f}",
        "strong": change is not None and abs(change) >= _STRONG,
    }


def _disturbance_rows(effects: Effects) -> list[dict[str, Any]]:
    return [
        {
            "what": f"{row.disturbance} {row.level:g}",
            "cells": [f"{row.accuracies[name]:.1f}" for name in effects.networks],
        }
        for row in effects.robustness
    ]


def _card(flipped: Flipped, pictures: Pictures | None, place: int) -> dict[str, Any]:
    card: dict[str, Any] = {"flipped": flipped, "image": "", "maps": []}
    if pictures is not None:
        card["image"] = png_url(_pixels(pictures.images[place]))
        card["maps"] = [(n, png_url(_heat(m[place]))) for n, m in pictures.maps.items()]
    return card


def _pixels(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[C, H, W] of 0..1 as bytes [H, W, C]."""
    return np.asarray(np.round(image.clip(0, 1).transpose(1, 2, 0) * 255), np.uint8)


def _heat(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[H, W] of 0..1 as black, red, yellow, white [H, W, 3]."""
    channels = [np.clip(3 * values - i, 0, 1) for i in range(3)]
    return np.asarray(np.round(np.stack(channels, axis=2) * 255), np.uint8)
