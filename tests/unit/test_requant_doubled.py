"""Requantization by one rounding high word is TFLite's double rounding, wherever it is offered."""

from __future__ import annotations

import numpy as np
import pytest

from tinsmith.pipeline import numerics
from tinsmith.pipeline.numerics import Multiplier
from tinsmith.pipeline.requant_proofs import Doubled, doubled

FACTORS = (1.0, 0.5, 0.25, 1 / 3, 0.7, 2**-14, 3e-5, 1e-7, 1.9, 5.0, 900.0, 30000.0)
RANGES = ((-(1 << 30), (32767 << 15)), (-(1 << 15) * 32767, 1 << 30), (-32768, 32767), (0, 1 << 30))


def computed(acc: np.ndarray, k: Doubled) -> np.ndarray:
    """As the C computes it; every step must stay in 32 bits."""
    a = acc * k.factor
    assert a.min() >= -(1 << 31)
    assert a.max() < 1 << 31
    h = (a * k.m + (1 << 31)) >> 32
    if not k.right:
        return h
    total = h + (h >> 31) + k.half
    assert np.abs(total).max() < 1 << 31
    return total >> k.right


@pytest.mark.parametrize("real", FACTORS)
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_doubled_accumulators_give_tflites_outputs(real: float, low: int, high: int) -> None:
    m = numerics.quantize_multiplier(real)
    k = doubled(m, low, high)
    if k is None:
        assert max(high, -low) * 2 ** max(m.shift, 0) >= 1 << 30
        return
    rng = np.random.default_rng(1)
    acc = rng.integers(low, high + 1, 200_000)
    # And around where the output steps, ties among them.
    steps = np.arange(-3000, 3001) / real
    near = np.concatenate([np.floor(steps + d) for d in (-0.5, 0.0, 0.5, 1.0)]).astype(np.int64)
    ends = np.array([low, low + 1, high - 1, high])
    acc = np.concatenate([acc, ends, np.clip(near, low, high), np.clip([-1, 0, 1], low, high)])
    np.testing.assert_array_equal(computed(acc, k), numerics.requantize(acc, m.m, m.shift))


def test_a_range_up_to_the_square_of_the_least_int16_is_negated() -> None:
    k = doubled(numerics.quantize_multiplier(0.001), -(1 << 15) * 32767, 1 << 30)
    assert k is not None
    assert k.factor == -2
    assert k.m < 0


@pytest.mark.parametrize(
    ("m", "low", "high"),
    [
        (Multiplier(1 << 30, 1), -(1 << 30), 1 << 29),  # its left shift leaves 32 bits
        (Multiplier(1 << 30, 0), -(1 << 30), 1 << 30),  # both ends do, doubled
        (Multiplier(1 << 30, -31), -(1 << 30), 0),  # the high word and its half do
    ],
)
def test_what_would_leave_32_bits_is_not_offered(m: Multiplier, low: int, high: int) -> None:
    assert doubled(m, low, high) is None


def test_the_factor_counts_by_what_the_accumulator_already_is() -> None:
    m = numerics.quantize_multiplier(0.3)
    k = doubled(m, -32768 << 15, 32767 << 15, 1 << 15)
    assert k is not None
    assert k.factor == 1 << 16
    x = np.arange(-32768, 32768)
    np.testing.assert_array_equal(computed(x, k), numerics.requantize(x << 15, m.m, m.shift))
