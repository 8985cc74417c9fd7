"""TFLite's tables of 16-bit functions: 513 values, between which the result is interpolated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.numerics import Int64

STEPS = 512
INT16_MIN, INT16_MAX = -32768, 32767

Reals = NDArray[np.float32]
Function = Callable[[Reals], Reals]


def interpolated_table(
    function: Function, input_scale: float, input_zero_point: int, output_scale: float
) -> NDArray[np.int16]:
    """LUTPopulate for int16: what the function gives at 512 equal steps and at the last value.

    All in float32. An entry is off by half of what the chord misses in the middle of its step, so
    that the error is spread over both. The output has the zero point 0.
    """
    scale, out = np.float32(input_scale), np.float32(output_scale)
    low = scale * np.float32(INT16_MIN - input_zero_point)
    high = scale * np.float32(INT16_MAX - input_zero_point)
    span = out * np.float32(INT16_MAX) - out * np.float32(INT16_MIN)
    inverse = np.float32(INT16_MAX - INT16_MIN + 1) / span
    step = (high - low) / np.float32(STEPS)
    start = low + np.arange(STEPS, dtype=np.float32) * step
    after = low + np.arange(1, STEPS + 1, dtype=np.float32) * step
    sample = _rounded(function(start) * inverse)
    chord = _rounded((function(after) * inverse + sample) / np.float32(2))
    middle = _rounded(function(start + step / np.float32(2)) * inverse)
    table = sample - _rounded((chord - middle) / np.float32(2))
    last = _rounded(function(np.array([high], np.float32)) * inverse)
    entries = np.clip(np.concatenate([table, last]), INT16_MIN, INT16_MAX)
    return np.asarray(entries, np.int16)


def _rounded(x: Reals) -> Reals:
    """C's round(): ties away from zero."""
    return np.copysign(np.floor(np.abs(x) + np.float32(0.5)), x).astype(np.float32)


def looked_up(x: Int64, table: NDArray[np.int16]) -> Int64:
    """LUTLookup: the table at int16 values, interpolated over 128 values an entry.

    Slope and sum are int16, as there, and wrap where neighbours are far from each other.
    """
    index = 256 + (x >> 7)
    base = table[index]
    slope = (table[index + 1] - base).astype(np.int64)
    y = base.astype(np.int64) + ((slope * (x & 127) + 64) >> 7)
    return np.asarray(y.astype(np.int16), np.int64)
