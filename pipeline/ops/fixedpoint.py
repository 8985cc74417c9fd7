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
    Multiplier,
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


def two_over_one_plus_x(a: Int64) -> Int64:
    """2 / (1 + a) for a in [0, 1) in Q0.31, as Q2.29: by three Newton steps."""
    half_denominator = (a + INT32_MAX + 1) >> 1  # RoundingHalfSum of non-negative values
    constant_48_over_17 = 1515870810
    constant_neg_32_over_17 = -1010580540
    x = constant_48_over_17 + high_multiply(half_denominator, constant_neg_32_over_17)
    for _ in range(3):
        product = high_multiply(half_denominator, x)
        one_minus = (1 << 29) - product
        x = x + saturating_shift(high_multiply(x, one_minus), 2)
    return x


def one_over_one_plus_x(a: Int64) -> Int64:
    """1 / (1 + a) for a in [0, 1), Q0.31."""
    return saturating_shift(two_over_one_plus_x(a), 1)


def logistic(a: Int64, integer_bits: int) -> Int64:
    """gemmlowp's logistic: 1 / (1 + exp(-a)) as Q0.31."""
    a = np.asarray(a, np.int64)
    upper = one_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits))
    return np.where(a == 0, 1 << 30, np.where(a > 0, upper, INT32_MAX - upper))


def tanh(a: Int64, integer_bits: int) -> Int64:
    """gemmlowp's tanh as Q0.31, by (1 - e) / (1 + e) with e = exp(-2 * abs(a))."""
    a = np.asarray(a, np.int64)
    # One more integer bit on the same raw value is twice the value.
    e = exp_on_negative_values(-np.abs(a), integer_bits + 1)
    magnitude = saturating_shift(two_over_one_plus_x(e) - (1 << 29), 2)
    return np.where(a == 0, 0, np.sign(a) * magnitude)


def reciprocal(x: Int64, integer_bits: int) -> tuple[Int64, Int64]:
    """TFLite's GetReciprocal: (Q0.31 of 1/x scaled into [1/2, 1), bits over the unit)."""
    x = np.asarray(x, np.int64)
    headroom = 32 - np.ceil(np.log2(x.astype(np.float64) + 1)).astype(np.int64)  # leading zeros
    shifted = ((x << headroom) & 0xFFFFFFFF) - (1 << 31)
    return one_over_one_plus_x(shifted), integer_bits - headroom


def inverse_square_root(value: int) -> Multiplier:
    """TFLite's GetInvSqrtQuantizedMultiplierExp: 1 / sqrt(value) for an int32 value >= 0.

    By five Newton steps in Q3.28. 0 counts as 1.
    """
    if value <= 1:
        return Multiplier(INT32_MAX, 0)
    right = 11
    while value >= 1 << 29:
        value //= 4
        right += 1
    pairs = (32 - value.bit_length() - 1) // 2 - 1
    right -= pairs
    value <<= 2 * pairs
    half_input = divide_by_power_of_two(value >> 1, 1)
    half_three = (1 << 28) + (1 << 27)
    x = np.asarray(1 << 28, np.int64)
    for _ in range(5):
        cubed = saturating_shift(high_multiply(high_multiply(x, x), x), 6)
        x = saturating_shift(high_multiply(half_three, x) - high_multiply(half_input, cubed), 3)
    m = int(high_multiply(x, 1518500250))  # sqrt(2) / 2
    if right < 0:
        m, right = m << -right, 0
    return Multiplier(m, -right)


def log_of_at_least_one(x: Int64, integer_bits: int, output_bits: int) -> Int64:
    """TFLite's log_x_for_x_greater_than_or_equal_to_1_impl: the logarithm of x >= 1.

    x has `integer_bits`, the result `output_bits` integer bits. Of x * 2^-k with and without a
    factor of sqrt(1/2), one is near sqrt(sqrt(1/2)); the logarithm of it is a rational function.
    """
    log_2, root_half, root_root_half = 1488522236, 1518500250, 1805811301
    alpha_n, alpha_d, alpha_i, alpha_f = 117049297, 127690142, 1057819769, 638450708
    accum_bits = output_bits + 1
    quarter = 1 << (29 - accum_bits)
    unit = 1 << (31 - accum_bits)
    x = np.asarray(x, np.int64)
    headroom_a = _leading_zeros(x)
    shifted = np.clip(x << (headroom_a - 1), INT32_MIN, INT32_MAX)
    r_a = saturating_shift(high_multiply(shifted, root_half), 1)
    power_a = np.clip((integer_bits - headroom_a) * unit, INT32_MIN, INT32_MAX) + quarter
    headroom_b = _leading_zeros(high_multiply(x, root_half)) - 1
    r_b = np.clip(x << headroom_b, INT32_MIN, INT32_MAX)
    power_b = np.clip((integer_bits - headroom_b) * unit, INT32_MIN, INT32_MAX) - quarter
    r = np.minimum(r_a, r_b)
    power = np.maximum(np.minimum(power_a, INT32_MAX), np.maximum(power_b, INT32_MIN))
    p = (r + root_root_half + 1) // 2
    q = 2 * (r - root_root_half)
    squared = high_multiply(q, q)
    numerator = high_multiply(q, r) + high_multiply(high_multiply(q, squared), alpha_n)
    inner = alpha_i + q + high_multiply(alpha_d, squared)
    denominator = high_multiply(p, inner) + high_multiply(alpha_f, q)
    scaled = saturating_shift(numerator, -accum_bits)
    product = high_multiply(power, log_2) + high_multiply(scaled, one_over_one_plus_x(denominator))
    return saturating_shift(product, 1)


def _leading_zeros(x: Int64) -> Int64:
    """Of positive int32 values, out of 32 bits; exact, since float64 holds them."""
    return 32 - np.frexp(np.asarray(x, np.float64))[1].astype(np.int64)
