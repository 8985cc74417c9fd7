"""Changes to samples under which the accuracy of networks is compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
# (samples, level, generator) -> samples of the same shape.
Change = Callable[[Samples, float, np.random.Generator], Samples]


@dataclass(frozen=True)
class Disturbance:
    """images: whether it makes sense for images [N, C, H, W] of 0..1 alone."""

    title: str
    levels: tuple[float, ...]
    change: Change
    images: bool


def noise(x: Samples, level: float, rng: np.random.Generator) -> Samples:
    """Gaussian noise of this standard deviation, in units of the samples' own."""
    drawn = rng.standard_normal(x.shape, dtype=np.float32)
    return np.asarray(x + np.float32(level) * x.std() * drawn, np.float32)


def blur(x: Samples, level: float, rng: np.random.Generator) -> Samples:
    """A Gaussian of this standard deviation in pixels; the border is continued outwards."""
    radius = math.ceil(3 * level)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / level) ** 2)
    taps /= taps.sum()
    for axis in (2, 3):
        pads = [(radius, radius) if a == axis else (0, 0) for a in range(4)]
        wide = np.pad(x, pads, mode="edge")
        size = x.shape[axis]
        x = sum(  # type: ignore[assignment]
            np.float32(tap) * wide.take(range(i, i + size), axis) for i, tap in enumerate(taps)
        )
    return np.asarray(x, np.float32)


def brightness(x: Samples, level: float, rng: np.random.Generator) -> Samples:
    """Every pixel so much brighter, or darker below 0."""
    return np.asarray(x + np.float32(level), np.float32)


def shift(x: Samples, level: float, rng: np.random.Generator) -> Samples:
    """So many pixels up or down and as many to a side, either at random; black comes in."""
    moved = np.zeros_like(x)
    height, width = x.shape[2:]
    for i, (down, right) in enumerate(rng.choice([-1, 1], (len(x), 2)) * round(level)):
        rows, columns = _overlap(height, down), _overlap(width, right)
        moved[i][:, rows[0], columns[0]] = x[i][:, rows[1], columns[1]]
    return moved


def _overlap(size: int, by: int) -> tuple[slice, slice]:
    """Where what stays within `size` comes to lie, and where it was."""
    low, high = max(by, 0), size + min(by, 0)
    return slice(low, max(low, high)), slice(max(low - by, 0), max(low, high) - by)


DISTURBANCES: Mapping[str, Disturbance] = {
    "noise": Disturbance("noise, of the samples' spread", (0.2, 0.5, 1.0), noise, False),
    "blur": Disturbance("blur, pixels", (0.5, 1.0, 2.0), blur, True),
    "brightness": Disturbance("brightness, added", (-0.4, -0.2, 0.2, 0.4), brightness, True),
    "shift": Disturbance("shift, pixels", (1, 2, 4), shift, True),
}


def disturbed(x: Samples, name: str, level: float, seed: int, images: bool) -> Samples:
    """Samples changed in a way of DISTURBANCES; images stay within 0..1."""
    made = DISTURBANCES[name].change(x, level, np.random.default_rng(seed))
    return np.clip(made, 0.0, 1.0) if images else made
