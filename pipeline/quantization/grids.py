"""Weight grids: which integers weights may become, and the scale that goes with them.

Whatever the grid, the graph holds int8 weights with a scale, per channel or per tensor: a grid of
few integers is an ordinary int8 layer to everything behind `quantize`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import DType, QuantParams

# Weights that share a scale: [scales, weights of each].
Rows = NDArray[np.float32]
Values = NDArray[np.float64]
Integers = NDArray[np.int8]

# Of the largest weight: the ends of the grid that are tried.
_SHARES = np.linspace(0.1, 1.0, 46)
_TERNARY_THRESHOLD = 0.7


@dataclass(frozen=True)
class WeightGrid:
    """bits: of a weight, packed. low, high: the integers' ends.

    uniform: every integer between the ends may be taken.
    scales: (rows, grid) -> one a row, 0 for a row of zeros.
    integers: (rows, scales, grid) -> those nearest by the grid's rule.
    """

    bits: int
    low: int
    high: int
    uniform: bool
    scales: Callable[[Rows, WeightGrid], Values]
    integers: Callable[[Rows, NDArray[np.float32], WeightGrid], Integers]


def bytes_of(grid: WeightGrid, weights: int) -> int:
    """What so many weights take when they are packed."""
    return -(-weights * grid.bits // 8)


def power_of_two_scales(rows: Rows, scales: Values, grid: WeightGrid) -> Values:
    """Of the powers of two beside each scale the one that gives the least square error, so that a
    weight w is round(w * 2^b)."""
    above = numerics.power_of_two_from(scales)
    choices = np.stack([above, above / 2])
    errors = np.stack([_square_errors(rows, choice, grid) for choice in choices])
    return np.asarray(np.where(errors[0] <= errors[1], choices[0], choices[1]))


def _peak(rows: Rows, grid: WeightGrid) -> Values:
    """The scale that just reaches the largest weight."""
    return np.asarray(np.abs(rows).max(axis=1, initial=0.0).astype(np.float64) / grid.high)


def _least_error(rows: Rows, grid: WeightGrid) -> Values:
    """The scale of least square error: with few integers it pays to cut off the largest weights."""
    peak = np.abs(rows).max(axis=1, initial=0.0).astype(np.float64)
    best, least = peak / grid.high, np.full(len(rows), np.inf)
    for share in _SHARES[::-1]:
        scales = peak * share / grid.high
        errors = _square_errors(rows, scales, grid)
        best, least = np.where(errors < least, scales, best), np.minimum(errors, least)
    return np.asarray(best)


def _ternary(rows: Rows, grid: WeightGrid) -> Values:
    """The mean of |w| over those that are not 0 (Li et al., Ternary Weight Networks, 2016)."""
    magnitudes = np.abs(rows).astype(np.float64)
    kept = magnitudes > _thresholds(magnitudes)
    return np.asarray((magnitudes * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1))


def _binary(rows: Rows, grid: WeightGrid) -> Values:
    """The mean of |w| (Rastegari et al., XNOR-Net, ECCV 2016)."""
    return np.asarray(np.abs(rows).astype(np.float64).mean(axis=1))


def _nearest(rows: Rows, scales: NDArray[np.float32], grid: WeightGrid) -> Integers:
    quant = QuantParams(tuple(float(s) for s in scales), (0,), 0)
    rounded = numerics.quantize_array(rows, quant, DType.INT8)
    return np.asarray(np.clip(rounded.astype(np.int8), grid.low, grid.high), np.int8)


def _ternary_signs(rows: Rows, scales: NDArray[np.float32], grid: WeightGrid) -> Integers:
    magnitudes = np.abs(rows).astype(np.float64)
    return np.asarray(np.sign(rows) * (magnitudes > _thresholds(magnitudes)), np.int8)


def _binary_signs(rows: Rows, scales: NDArray[np.float32], grid: WeightGrid) -> Integers:
    """0 counts as positive, but a row of zeros stays one."""
    signs = np.where(rows < 0, -1, 1)
    return np.asarray(signs * rows.any(axis=1, keepdims=True), np.int8)


def _thresholds(magnitudes: Values) -> Values:
    """Delta = 0.7 E|w| of each row; what is not above it becomes 0."""
    return np.asarray(_TERNARY_THRESHOLD * magnitudes.mean(axis=1, keepdims=True))


def _square_errors(rows: Rows, scales: Values, grid: WeightGrid) -> Values:
    usable = np.maximum(scales, float(np.finfo(np.float32).tiny)).astype(np.float32)
    real = grid.integers(rows, usable, grid) * usable[:, None].astype(np.float64)
    return np.asarray(np.square(real - rows).sum(axis=1))


WEIGHT_GRIDS: Mapping[str, WeightGrid] = {
    "int8": WeightGrid(8, -127, 127, True, _peak, _nearest),
    "int4": WeightGrid(4, -7, 7, True, _least_error, _nearest),
    "int2": WeightGrid(2, -2, 1, True, _least_error, _nearest),
    "ternary": WeightGrid(2, -1, 1, False, _ternary, _ternary_signs),
    "binary": WeightGrid(1, -1, 1, False, _binary, _binary_signs),
}
INT8 = WEIGHT_GRIDS["int8"]
