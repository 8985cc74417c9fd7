"""Requantization against TFLite's own definition, written out in plain integers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import Activation, DType, QuantParams, Tensor

INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT32_MAX = (1 << 31) - 1


def trunc_divide(a: int, b: int) -> int:
    """C's division, towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def as_int32(x: int) -> int:
    return (x + (1 << 31)) % (1 << 32) - (1 << 31)


def srdhm(a: int, b: int) -> int:
    """gemmlowp's SaturatingRoundingDoublingHighMul, line by line."""
    if a == b == -(1 << 31):
        return INT32_MAX
    ab = a * b
    nudge = (1 << 30) if ab >= 0 else 1 - (1 << 30)
    return trunc_divide(ab + nudge, 1 << 31)


def rdivide(x: int, exponent: int) -> int:
    """gemmlowp's RoundingDivideByPOT, line by line."""
    mask = (1 << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if remainder > threshold else 0)


def multiply(x: int, m: int, shift: int) -> int:
    """TFLite's MultiplyByQuantizedMultiplier."""
    left, right = max(shift, 0), max(-shift, 0)
    return rdivide(srdhm(as_int32(x << left), m), right)


@given(INT32, st.integers(1 << 30, INT32_MAX), st.integers(-31, 30))
def test_requantize_is_tflites_double_rounding(x: int, m: int, shift: int) -> None:
    assert int(numerics.requantize(x, m, shift)) == multiply(x, m, shift)


@given(st.lists(INT32, min_size=1, max_size=20), st.integers(1 << 30, INT32_MAX))
def test_requantize_works_element_by_element(xs: list[int], m: int) -> None:
    shifts = [-(i % 12) for i in range(len(xs))]
    got = numerics.requantize(np.array(xs), m, np.array(shifts))
    assert got.tolist() == [multiply(x, m, s) for x, s in zip(xs, shifts, strict=True)]


@pytest.mark.parametrize(
    ("x", "exponent", "want"),
    [
        (1, 1, 1),
        (-1, 1, -1),
        (3, 1, 2),
        (-3, 1, -2),
        (5, 2, 1),
        (-5, 2, -1),
        (6, 2, 2),
        (-6, 2, -2),
    ],
)
def test_requantize_rounds_ties_away_from_zero(x: int, exponent: int, want: int) -> None:
    assert int(numerics.divide_by_power_of_two(x, exponent)) == want


def test_high_multiply_saturates_its_one_overflow() -> None:
    lowest = -(1 << 31)
    assert int(numerics.high_multiply(lowest, lowest)) == INT32_MAX


@given(st.integers(-(1 << 40), 1 << 40), st.integers(1 << 30, INT32_MAX), st.integers(-31, 0))
def test_requantize_int16_rounds_once(acc: int, m: int, shift: int) -> None:
    reduced = (m + (1 << 15)) >> 16 if m < 0x7FFF0000 else 0x7FFF
    total = 15 - shift
    want = as_int32((acc * reduced + (1 << (total - 1))) >> total)
    assert int(numerics.requantize_int16(acc, m, shift)) == want


@given(st.floats(2.0**-30, 2.0**29))
def test_a_multiplier_is_within_half_a_unit_of_its_factor(real: float) -> None:
    q = numerics.quantize_multiplier(real)
    assert 1 << 30 <= q.m <= INT32_MAX
    unit = Fraction(2) ** (q.shift - 31)
    assert abs(Fraction(real) - q.m * unit) * 2 <= unit * Fraction(1 + 2**-20)
    assert q.real == math.ldexp(q.m, q.shift - 31)


@pytest.mark.parametrize(
    ("real", "want"),
    [
        (0.0, (0, 0)),
        (0.5, (1 << 30, 0)),
        (1.0, (1 << 30, 1)),
        (0.75, (3 << 29, 0)),
        (1.0 - 2.0**-40, (1 << 30, 1)),
        (2.0**-33, (0, 0)),
        (2.0**-32, (1 << 30, -31)),
        (2.0**40, (INT32_MAX, 30)),
    ],
)
def test_multipliers_at_the_edges(real: float, want: tuple[int, int]) -> None:
    q = numerics.quantize_multiplier(real)
    assert (q.m, q.shift) == want


@pytest.mark.parametrize(
    ("real", "want"), [(0.5, 1), (-0.5, -1), (1.5, 2), (2.5, 3), (-2.5, -3), (0.49, 0), (0.0, 0)]
)
def test_round_half_away_is_cs_round(real: float, want: int) -> None:
    assert numerics.round_half_away(real) == want


def output(scale: float, zero_point: int, dtype: DType = DType.INT8) -> Tensor:
    return Tensor("y", (1,), dtype, QuantParams.per_tensor(scale, zero_point))


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "want"),
    [
        (Activation.NONE, 0.1, 3, (-128, 127)),
        (Activation.RELU, 0.1, 3, (3, 127)),
        (Activation.RELU, 0.1, -128, (-128, 127)),
        (Activation.RELU6, 0.1, -20, (-20, 40)),
        (Activation.RELU6, 0.02, -20, (-20, 127)),
        (Activation.RELU_N1_TO_1, 0.1, 5, (-5, 15)),
    ],
)
def test_activations_clamp_in_output_units(
    activation: Activation, scale: float, zero_point: int, want: tuple[int, int]
) -> None:
    assert numerics.activation_range(activation, output(scale, zero_point)) == want


def test_a_scale_so_small_that_a_bound_overflows_leaves_the_whole_range() -> None:
    assert numerics.activation_range(Activation.RELU6, output(1e-40, -128)) == (-128, 127)


def test_integer_ranges_of_types_and_of_few_bits() -> None:
    assert numerics.integer_range(DType.INT8) == (-128, 127)
    assert numerics.integer_range(DType.UINT8) == (0, 255)
    assert numerics.integer_range(DType.INT16) == (-32768, 32767)
    assert numerics.integer_range(DType.INT8, 4) == (-8, 7)


def test_quantize_array_saturates_and_rounds_ties_away_from_zero() -> None:
    quant = QuantParams.per_tensor(0.5, 10)
    real = np.array([0.25, -0.25, 0.75, 1e9, -1e9, np.inf, -np.inf, 0.0], np.float32)
    got = numerics.quantize_array(real, quant, DType.INT8)
    assert got.tolist() == [11, 9, 12, 127, -128, 127, -128, 10]


def test_quantize_array_takes_the_scale_of_each_channel() -> None:
    quant = QuantParams((0.5, 2.0), (0, 0), 1)
    got = numerics.quantize_array(np.array([[1.0, 1.0], [4.0, 4.0]]), quant, DType.INT8)
    assert got.tolist() == [[2, 1], [8, 2]]


def test_the_reduced_multiplier_has_15_bits_and_a_right_shift() -> None:
    m, right = numerics.reduced_multiplier([1 << 30, 0x7FFFFFFF, 0, 0x7FFEFFFF], [0, 7, 0, -31])
    assert m.tolist() == [1 << 14, 0x7FFF, 0, 0x7FFF]
    assert right.tolist() == [15, 8, 15, 46]


def test_int64_sums_are_rounded_once_with_ties_upwards() -> None:
    half = numerics.quantize_multiplier(0.5)
    acc = np.array([-3, -1, 0, 1, 3, 5, 1 << 40], np.int64)
    y = numerics.requantize_int16(acc, half.m, half.shift)
    assert y[:-1].tolist() == [-1, 0, 0, 1, 2, 3]
    assert int(y[-1]) == int(numerics.wrap_int32(1 << 39))
