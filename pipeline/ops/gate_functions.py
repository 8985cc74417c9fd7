"""TFLite's 16-bit sigmoid and tanh: a table of the sigmoid, interpolated.

Inputs are int16 values, results Q0.15. Both follow reference_integer_ops::Logistic and Tanh.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinsmith.pipeline.numerics import Int64, round_half_away

TABLE_STEPS_PER_UNIT = 24  # entry i is the sigmoid of i / 24


def sigmoid_table() -> NDArray[np.uint16]:
    """The sigmoid at i / 24 for i = 0..255, scaled by 2^16; the last entry is 2^16 - 1.

    The sigmoid bends downwards here, so that chords run below it by up to h^2 |f''| / 8. Every
    entry is raised by half of that, which leaves the least error.
    """
    i = np.arange(256)
    bend = _sigmoid_16(i + 1) - 2.0 * _sigmoid_16(i) + _sigmoid_16(i - 1)
    table = np.asarray(np.floor(_sigmoid_16(i) - bend / 16.0 + 0.5), np.uint16)
    table[255] = 65535
    return table


def _sigmoid_16(i: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(65536.0 / (1.0 + np.exp(-i / TABLE_STEPS_PER_UNIT)), np.float64)


def _interpolated(magnitude: Int64, fraction_bits: int, saturated: int) -> Int64:
    """The table at magnitude / 2^fraction_bits, scaled by 2^(16 + fraction_bits)."""
    table = sigmoid_table().astype(np.int64)
    index = magnitude >> fraction_bits
    low = table[np.minimum(index, 254)]
    high = table[np.minimum(index + 1, 255)]
    rest = magnitude & ((1 << fraction_bits) - 1)
    inside = (low << fraction_bits) + rest * (high - low)
    return np.where(index >= 255, saturated << fraction_bits, inside)


def sigmoid_q15(x: ArrayLike, scaling: tuple[int, int] = (3, 0)) -> Int64:
    """sigmoid of int16 values, as Q0.15; they are Q3.12 unless `scaling` says otherwise.

    scaling: (multiplier, right shift) to the table's unit.
    """
    scaled = _scaled(x, scaling)
    y = _interpolated(np.abs(scaled), 9, 0xFFFE)
    y = np.where(scaled >= 0, y + (1 << 9), (1 << 25) - y + (1 << 9) - 1)
    return y >> 10


def tanh_scaling(scale_power: int) -> tuple[int, int]:
    """(multiplier, right shift) that turn values of scale 2^scale_power into the table's unit."""
    shift = 15 + scale_power - 3
    return (3 << shift, 0) if shift >= 0 else (3, -shift)


def general_scaling(scale: float, powers: tuple[int, ...]) -> tuple[int, int]:
    """(multiplier, right shift) of Logistic and Tanh on int16 values of any scale.

    powers: the scales 2^power whose multiplier is exact; others are cut to 15 bits, as TFLite's
    SigmoidPrepare and TanhPrepare do.
    """
    log = np.float32(np.log(scale)) * np.float32(1.0 / np.float32(math.log(2.0)))
    power = round_half_away(float(log))
    if power in powers and abs(float(log) - power) < 1e-3:
        return 3 << (power + 12), 0
    multiplier, shift = float(scale) * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    return int(multiplier), shift


def _scaled(x: ArrayLike, scaling: tuple[int, int]) -> Int64:
    multiplier, shift = scaling
    half = (1 << shift) >> 1
    return np.asarray((np.asarray(x, np.int64) * multiplier + half) >> shift, np.int64)


def tanh_q15(x: ArrayLike, scaling: tuple[int, int]) -> Int64:
    """tanh of int16 values, as Q0.15; `scaling` as for the sigmoid, of x, not of 2x."""
    scaled = _scaled(x, scaling)
    y = _interpolated(np.abs(scaled), 8, 0xFFFF)
    y = np.where(scaled >= 0, y - (1 << 23) + (1 << 7), -y + (1 << 23) + (1 << 7) - 1)
    return y >> 8
