"""gemmlowp's fixed-point functions on int32 raw values, in numpy on int64.

A value with i integer bits is raw / 2^(31 - i). All follow gemmlowp's fixedpoint.h operation by
operation, since each of its roundings shows in the last bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.numerics import (
    INT32_MAX,
    INT32_MIN,
    Int64,
    divide_by_power_of_two,
    high_multiply,
)


def saturating_shift(x: Int64, exponent: int) -> Int64:
    """gemmlowp's SaturatingRoundingMultiplyByPOT: x * 2^exponent, saturated or rounded."""
    if exponent < 0:
        return divide_by_power_of_two(x, -exponent)
    return np.clip(x << exponent, INT32_MIN, INT32_MAX)


def raw(value: float, integer_bits: int) -> int:
    """The raw value nearest to a real constant."""
    return int(np.clip(round(value * 2.0 ** (31 - integer_bits)), INT32_MIN, INT32_MAX))


def _exp_on_quarter(a: Int64) -> Int64:
    """exp on [-1/4, 0), Q0.31: gemmlowp's polynomial around -1/8."""
    constant_term = 1895147668  # exp(-1/8)
    one_third = 715827883
    x = a + (1 << 28)
    x2 = high_multiply(x, x)
    x3 = high_multiply(x2, x)
    x4 = high_multiply(x2, x2)
    x4_over_4 = divide_by_power_of_two(x4, 2)
    inner = divide_by_power_of_two(high_multiply(x4_over_4 + x3, one_third) + x2, 1)
    return np.minimum(constant_term + high_multiply(constant_term, x + inner), INT32_MAX)


def exp_on_negative_values(a: Int64, integer_bits: int) -> NDArray[np.int64]:
    """exp(a) for a <= 0 with `integer_bits` integer bits, as Q0.31 raw values."""
    fraction_bits = 31 - integer_bits
    one_quarter = 1 << (fraction_bits - 2)
    a = np.asarray(a, np.int64)
    mask = one_quarter - 1
    modulo = (a & mask) - one_quarter
    result = _exp_on_quarter(saturating_shift(modulo, integer_bits))
    remainder = modulo - a
    for exponent in range(-2, integer_bits):
        multiplier = raw(float(np.exp(-(2.0**exponent))), 0)
        bit = 1 << (fraction_bits + exponent)
        result = np.where((remainder & bit) != 0, high_multiply(result, multiplier), result)
    if integer_bits > 5:
        clamp = -(1 << (fraction_bits + 5))
        result = np.where(a < clamp, 0, result)
    return np.where(a == 0, INT32_MAX, result)


def one_over_one_plus_x(a: Int64) -> Int64:
    """1 / (1 + a) for a in [0, 1), Q0.31, by three Newton steps in Q2.29."""
    half_denominator = (a + INT32_MAX + 1) >> 1  # RoundingHalfSum of non-negative values
    constant_48_over_17 = 1515870810
    constant_neg_32_over_17 = -1010580540
    x = constant_48_over_17 + high_multiply(half_denominator, constant_neg_32_over_17)
    for _ in range(3):
        product = high_multiply(half_denominator, x)
        one_minus = (1 << 29) - product
        x = x + saturating_shift(high_multiply(x, one_minus), 2)
    return saturating_shift(x, 1)


def reciprocal(x: Int64, integer_bits: int) -> tuple[Int64, Int64]:
    """TFLite's GetReciprocal: (Q0.31 of 1/x scaled into [1/2, 1), bits over the unit)."""
    x = np.asarray(x, np.int64)
    headroom = 32 - np.ceil(np.log2(x.astype(np.float64) + 1)).astype(np.int64)  # leading zeros
    shifted = ((x << headroom) & 0xFFFFFFFF) - (1 << 31)
    return one_over_one_plus_x(shifted), integer_bits - headroom
