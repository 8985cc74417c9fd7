"""Observers: from what a tensor was seen to hold, the range that its integers shall cover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]

BINS = 2048


@dataclass(frozen=True, eq=False)
class Seen:
    """What calibration saw of a tensor: its extremes, and a histogram of BINS equal bins between.

    counts: empty for observers that ask only for the extremes.
    steps: so many has the range that is chosen.
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    steps: int = 255

    @property
    def edges(self) -> NDArray[np.float64]:
        return np.linspace(self.low, self.high, self.counts.size + 1)


@dataclass(frozen=True)
class Observer:
    """needs_counts: whether `choose`, (seen, percentile) -> range, looks at the histogram."""

    needs_counts: bool
    choose: Callable[[Seen, float], Range]


def minmax(seen: Seen, percentile: float) -> Range:
    """Everything that was seen."""
    return seen.low, seen.high


def percentile(seen: Seen, percentile: float) -> Range:
    """What is left when (100 - percentile) % of the values are cut off, half at each end."""
    total = int(seen.counts.sum())
    if total == 0 or seen.low == seen.high:
        return seen.low, seen.high
    cut = total * (100.0 - percentile) / 200.0
    below = np.cumsum(seen.counts)
    first = int(np.searchsorted(below, cut, side="right"))
    last = int(np.searchsorted(below, total - cut, side="left"))
    return float(seen.edges[first]), float(seen.edges[min(last, seen.counts.size - 1) + 1])


def least_error(seen: Seen, percentile: float) -> Range:
    """The range of least mean squared error of its steps over the histogram."""

    def error(centres: NDArray[np.float64], a: float, b: float) -> float:
        step = (b - a) / seen.steps
        rounded = a + np.round((np.clip(centres, a, b) - a) / step) * step
        return float((seen.counts * (rounded - centres) ** 2).sum())

    return _cheapest(seen, error)


def entropy(seen: Seen, percentile: float) -> Range:
    """The range that loses the least information: least KL(seen || steps) over the histogram.

    As TensorRT's calibration (Migacz, 8-bit Inference with TensorRT, 2017): what lies outside
    counts at the ends, and each step stands for all bins that fall on it, evenly for those that
    hold something. Zeros, which every range holds exactly, count no more than their neighbours (as
    NVIDIA's pytorch-quantization does it): what ReLU makes of them would outweigh all else.
    """
    seen = replace(seen, counts=_without_zeros(seen))

    def divergence(centres: NDArray[np.float64], a: float, b: float) -> float:
        first, last = np.searchsorted(centres, (a, b))
        if last - first < 2:
            return float("inf")
        # Where clipped values go tells against a range: they are in what is compared, not in what
        # the steps are made of.
        inside = seen.counts[first:last].astype(np.float64)
        clipped = inside.copy()
        clipped[0] += seen.counts[:first].sum()
        clipped[-1] += seen.counts[last:].sum()
        step = np.rint((centres[first:last] - a) / (b - a) * seen.steps).astype(np.int64)
        held = (inside > 0).astype(np.float64)
        sums = np.bincount(step, inside, seen.steps + 1)
        shared = np.bincount(step, held, seen.steps + 1)
        return _divergence(clipped, held * (sums / np.maximum(shared, 1))[step])

    return _cheapest(seen, divergence)


def _cheapest(seen: Seen, cost: Callable[[NDArray[np.float64], float, float], float]) -> Range:
    """The range of least cost(centres of the bins, low, high), both ends scaled together as far as
    each reaches beyond 0; the widest of equals."""
    if seen.counts.sum() == 0 or seen.low == seen.high:
        return seen.low, seen.high
    centres = (seen.edges[:-1] + seen.edges[1:]) / 2
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    best, least = (seen.low, seen.high), float("inf")
    for factor in np.linspace(0.2, 1.0, 81)[::-1]:
        a, b = low * factor, high * factor
        found = cost(centres, a, b)
        if found < least:
            best, least = (max(a, seen.low), min(b, seen.high)), found
    return best


def _without_zeros(seen: Seen) -> NDArray[np.int64]:
    """The histogram, whose bin of 0.0 is no higher than its neighbours."""
    place = int(np.searchsorted(seen.edges, 0.0, side="right")) - 1
    counts = seen.counts.copy()
    if seen.low <= 0.0 < seen.high and counts.size > 1:
        beside = counts[max(place - 1, 0) : place + 2].copy()
        beside[min(place, 1)] = 0
        counts[place] = min(counts[place], beside.max())
    return counts


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """KL(p || q) of two histograms; bins that q lacks count as a millionth of its mean."""
    p, q = p / p.sum(), np.maximum(q, 1e-6 * q.mean() + 1e-300)
    q = q / q.sum()
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


OBSERVERS: dict[str, Observer] = {
    "minmax": Observer(False, minmax),
    "percentile": Observer(True, percentile),
    "mse": Observer(True, least_error),
    "entropy": Observer(True, entropy),
}
