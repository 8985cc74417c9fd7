"""THE requantization arithmetic, as TFLite defines it, in numpy on int64.

No other module computes multipliers, shifts or roundings. The C kernels and the interpreter take
their integer constants from here, so that they agree by construction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinsmith.pipeline.graph import Activation, DType, QuantParams, Tensor

Int64 = NDArray[np.int64]
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


@dataclass(frozen=True)
class Multiplier:
    """A real factor as m * 2^(shift - 31), m in [2^30, 2^31), or 0 for a factor too small."""

    m: int
    shift: int

    @property
    def real(self) -> float:
        return math.ldexp(self.m, self.shift - 31)


def quantize_multiplier(real: float) -> Multiplier:
    """TFLite's QuantizeMultiplier: frexp, rounded to 31 bits, ties away from zero."""
    assert real >= 0.0 and math.isfinite(real), real
    if real == 0.0:
        return Multiplier(0, 0)
    fraction, shift = math.frexp(real)
    m = round_half_away(fraction * (1 << 31))
    if m == 1 << 31:
        m, shift = m // 2, shift + 1
    if shift < -31:
        return Multiplier(0, 0)
    if shift > 30:
        return Multiplier(INT32_MAX, 30)
    return Multiplier(m, shift)


def quantize_multiplier_int16(real: float) -> tuple[int, int]:
    """(m, exponent) with real = m * 2^(exponent - 15): DownScaleInt32ToInt16Multiplier."""
    wide = quantize_multiplier(real)
    return min((wide.m + (1 << 15)) >> 16, 0x7FFF), wide.shift


def round_half_away(value: float) -> int:
    """C's round(): to the nearest integer, ties away from zero."""
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def power_of_two_from(real: ArrayLike) -> NDArray[np.float64]:
    """The least power of two that is not below each real value; 0 of 0."""
    fraction, exponent = np.frexp(np.asarray(real, np.float64))
    exact = np.ldexp(1.0, exponent - (fraction == 0.5))
    return np.asarray(np.where(fraction > 0, exact, 0.0), np.float64)


def wrap_int32(x: ArrayLike) -> Int64:
    """The value that an int32 holds after a wrapping computation, as int64."""
    return np.asarray(np.asarray(x, np.int64).astype(np.int32), np.int64)


def high_multiply(a: ArrayLike, m: ArrayLike) -> Int64:
    """gemmlowp's SaturatingRoundingDoublingHighMul: (a * m + 2^30) >> 31, saturated."""
    product = np.asarray(a, np.int64) * np.asarray(m, np.int64)
    return np.minimum((product + (1 << 30)) >> 31, INT32_MAX)


def high_multiply_int16(a: ArrayLike, m: ArrayLike) -> Int64:
    """gemmlowp's SaturatingRoundingDoublingHighMul on int16: a * m / 2^15, ties away from zero."""
    product = np.asarray(a, np.int64) * np.asarray(m, np.int64)
    rounded = np.sign(product) * ((np.abs(product) + (1 << 14)) >> 15)
    return np.asarray(np.minimum(rounded, 0x7FFF), np.int64)


def divide_by_power_of_two(x: ArrayLike, exponent: ArrayLike) -> Int64:
    """gemmlowp's RoundingDivideByPOT: x / 2^exponent, ties away from zero."""
    x = np.asarray(x, np.int64)
    exponent = np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return np.asarray((x >> exponent) + ((x & mask) > threshold), np.int64)


def requantize(acc: ArrayLike, m: ArrayLike, shift: ArrayLike) -> Int64:
    """TFLite's MultiplyByQuantizedMultiplier on int32 accumulators (double rounding).

    acc, m and shift broadcast against each other. A left shift wraps, as it does in C.
    """
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    shifted = wrap_int32(np.asarray(acc, np.int64) << left)
    return divide_by_power_of_two(high_multiply(shifted, m), right)


def requantize_int16(acc: ArrayLike, m: ArrayLike, shift: ArrayLike) -> Int64:
    """TFLite's MultiplyByQuantizedMultiplier on int64: 16-bit multiplier, one rounding."""
    reduced, right = reduced_multiplier(m, shift)
    rounding = np.int64(1) << (right - 1)
    return wrap_int32((np.asarray(acc, np.int64) * reduced + rounding) >> right)


def reduced_multiplier(m: ArrayLike, shift: ArrayLike) -> tuple[Int64, Int64]:
    """(16-bit multiplier, right shift) of a factor for int64 sums; ties of the shift go up."""
    m = np.asarray(m, np.int64)
    reduced = np.where(m < 0x7FFF0000, (m + (1 << 15)) >> 16, 0x7FFF)
    return reduced, np.asarray(15 - np.asarray(shift, np.int64), np.int64)


def integer_range(dtype: DType, bits: int = 8) -> tuple[int, int]:
    """Smallest and largest value of an integer type, or of `bits` bits inside an int8."""
    info = np.iinfo(dtype.numpy)
    if dtype is DType.INT8 and bits < 8:
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return int(info.min), int(info.max)


def quantize_value(real: float, tensor: Tensor) -> int:
    """zero_point + round(real / scale), the division in float32, not clamped to the type.

    A quotient beyond int32, which no scale of a real model gives and whose conversion the reference
    leaves undefined, is as good as infinite: it saturates.
    """
    with np.errstate(over="ignore"):
        ratio = float(np.float32(real) / np.float32(tensor.scale))
    return tensor.zero_point + round_half_away(min(max(ratio, -(2.0**31)), 2.0**31 - 1))


def activation_range(activation: Activation, output: Tensor) -> tuple[int, int]:
    """The clamp of a fused activation: TFLite's CalculateActivationRangeQuantized."""
    low, high = integer_range(output.dtype)
    if activation is Activation.NONE:
        return low, high
    if activation is Activation.RELU:
        return max(low, quantize_value(0.0, output)), high
    bound = 6.0 if activation is Activation.RELU6 else 1.0
    floor = 0.0 if activation is Activation.RELU6 else -1.0
    return max(low, quantize_value(floor, output)), min(high, quantize_value(bound, output))


def quantize_array(real: ArrayLike, quant: QuantParams, dtype: DType) -> NDArray[np.generic]:
    """Integers of real values: round(real / scale) + zero_point, saturated.

    The division is in float32 and ties go away from zero, as in TFLite's AffineQuantize.
    real: any shape; quant.axis is an axis of it.
    """
    x = np.asarray(real, np.float32)
    shape = [1] * x.ndim
    if quant.axis is not None:
        shape[quant.axis] = -1
    ratio = (x / quant.scales.reshape(shape)).astype(np.float64)
    zero = quant.zero_points.reshape(shape if quant.zero_points.size > 1 else [1] * x.ndim)
    rounded = np.copysign(np.floor(np.abs(ratio) + 0.5), ratio) + zero
    low, high = integer_range(dtype, quant.bits)
    return np.asarray(np.clip(np.nan_to_num(rounded), low, high), dtype.numpy)
