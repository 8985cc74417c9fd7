"""The cheaper requantizations give TFLite's output for every accumulator that can occur."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tinsmith.pipeline import numerics
from tinsmith.pipeline import requant_proofs as proofs
from tinsmith.pipeline.requant_proofs import Channels

REAL = (0.0021, 0.0137, 0.037, 0.11, 0.31)


def channels(
    real: float, low: int, high: int, zero: int, bounds: tuple[int, int] = (-128, 127)
) -> Channels:
    m = numerics.quantize_multiplier(real)
    one = np.array([1], np.int64)
    return Channels(one * m.m, one * m.shift, one * low, one * high, zero, *bounds)


def every(c: Channels) -> tuple[np.ndarray, np.ndarray]:
    """All reachable accumulators and TFLite's outputs of them."""
    acc = np.arange(int(c.low[0]), int(c.high[0]) + 1, dtype=np.int64)
    return acc, c.outputs(acc[None, :])[0]


@pytest.mark.parametrize("real", REAL)
@pytest.mark.parametrize(
    ("zero", "bounds"), [(-128, (-128, 127)), (-128, (-128, 90)), (-100, (-100, 127))]
)
def test_one_multiply_agrees_on_every_accumulator(
    real: float, zero: int, bounds: tuple[int, int]
) -> None:
    c = channels(real, -30000, 90000, zero, bounds)
    found = proofs.one_multiply(c)
    assert found.found[0]
    acc, y = every(c)
    np.testing.assert_array_equal(np.clip((acc * found.m[0] + found.c[0]) >> 32, *bounds), y)


@pytest.mark.parametrize("real", REAL)
@pytest.mark.parametrize("zero", [-128, -3, 0, 77])
def test_high_multiply_agrees_on_every_accumulator(real: float, zero: int) -> None:
    c = channels(real, -40000, 50000, zero)
    k = proofs.high_multiply(c)
    assert k is not None
    acc, y = every(c)
    h = (2 * acc * k.m[0] + (1 << 31)) >> 32
    np.testing.assert_array_equal(
        np.clip((h + (h >> 31) + k.offset[0]) >> k.right[0], -128, 127), y
    )


def short_product(k: proofs.ClampedMultiply, u: np.ndarray) -> np.ndarray:
    low = u * k.low[0]
    assert low.max() < 1 << 32
    return (((low >> k.half) + u * k.high[0] + k.c[0]) & 0xFFFFFFFF) >> k.right[0]


@pytest.mark.parametrize("real", REAL)
@pytest.mark.parametrize(
    ("zero", "bounds"), [(-128, (-128, 127)), (-100, (-100, 127)), (-128, (-128, 60))]
)
@pytest.mark.parametrize(("low", "high"), [(-30000, 90000), (20, 500), (-700, -3)])
def test_clamped_multiply_agrees_on_every_accumulator(
    real: float, zero: int, bounds: tuple[int, int], low: int, high: int
) -> None:
    c = channels(real, low, high, zero, bounds)
    k = proofs.clamped_multiply(c)
    assert k is not None
    acc, y = every(c)
    u = acc + k.offset[0]
    inside = short_product(k, np.clip(u, 0, k.reach[0])).astype(np.uint8).view(np.int8)
    outside = np.where(u < 0, k.least[0], k.most[0])
    got = np.where((u < 0) | (u > k.reach[0]), outside, inside)
    np.testing.assert_array_equal(got, y)


def test_clamped_multiply_of_a_vanishing_scale_is_constant() -> None:
    c = channels(2.0**-28, -1000, 1000, 9)
    k = proofs.clamped_multiply(c)
    assert k is not None
    assert (k.least[0], k.most[0]) == (9, 9)
    assert short_product(k, k.reach).tolist() == [9]


@pytest.mark.parametrize("real", REAL)
@pytest.mark.parametrize("zero", [-20, 0, 5, 126])
def test_mirrored_multiply_agrees_on_every_accumulator(real: float, zero: int) -> None:
    c = channels(real, -40000, 50000, zero)
    k = proofs.mirrored_multiply(c)
    assert k is not None
    acc, y = every(c)
    v = short_product(k, np.minimum(np.abs(acc), k.reach[0]))
    np.testing.assert_array_equal(np.clip(np.where(acc < 0, -v, v) + zero, -128, 127), y)


def test_what_cant_be_proven_is_refused() -> None:
    above_one = channels(1.7, -1000, 1000, 0)
    assert proofs.high_multiply(above_one) is None
    assert not proofs.one_multiply(above_one).found[0]
    far = channels(0.01, -(1 << 30), 1 << 30, 0)
    assert proofs.high_multiply(far) is None
    assert proofs.mirrored_multiply(channels(0.01, -100, 100, 0, (-128, 6))) is None


def test_a_vanishing_scale_gives_the_zero_point() -> None:
    c = channels(2.0**-28, -100000, 100000, 9)
    k = proofs.high_multiply(c)
    assert k is not None
    acc, y = every(c)
    assert set(y.tolist()) == {9}
    h = (2 * acc * k.m[0] + (1 << 31)) >> 32
    assert set(((h + (h >> 31) + k.offset[0]) >> k.right[0]).tolist()) == {9}


def test_reachable_bounds_are_reached() -> None:
    w = np.array([[3, -5, 0], [127, 127, -127]], np.int8)
    low, high = proofs.reachable(w, np.array([10, -20], np.int64))
    assert low.tolist() == [10 - 3 * 128 - 5 * 127, -20 - 254 * 128 - 127 * 127]
    assert high.tolist() == [10 + 3 * 127 + 5 * 128, -20 + 254 * 127 + 127 * 128]


@pytest.mark.parametrize("build", [lambda a, b: a + b, lambda a, b: a - b])
def test_weighted_sum_gives_the_reference_or_nothing(
    build: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> None:
    a = np.arange(-128, 128)[:, None]
    b = np.arange(-128, 128)[None, :]
    reference = np.clip(build(a, b), -128, 127)
    found = proofs.weighted_sum(reference, (1.0, 1.0), -128, 127)
    if build(1, 1) == 0:
        assert found is None
    else:
        assert found is not None
        y = np.clip((a * found.ma + b * found.mb + found.c) >> found.shift, -128, 127)
        np.testing.assert_array_equal(y, reference)


def test_the_high_word_of_one_product_is_the_requantization_of_int64_sums() -> None:
    rng = np.random.default_rng(5)
    ends = np.array([-(1 << 31), -1, 0, 1, (1 << 31) - 1], np.int64)
    for shift in range(-17, 0):
        m = rng.integers(1 << 30, 1 << 31, 8)
        found = proofs.high_word(m, np.full(8, shift))
        assert found is not None
        assert int(found.max()) < 1 << 31
        acc = np.concatenate([ends, rng.integers(-(1 << 31), 1 << 31, 500)])
        # And where the product is a tie, or next to one.
        right = 15 - shift
        ties = (np.arange(-50, 50) << right) + (1 << (right - 1))
        near = np.concatenate([ties // (int(m[0]) >> 16) + d for d in (-1, 0, 1)])
        acc = np.concatenate([acc, near[np.abs(near) < 1 << 31]])
        want = numerics.requantize_int16(acc[None], m[:, None], np.full((8, 1), shift))
        np.testing.assert_array_equal((acc[None] * found[:, None] + (1 << 31)) >> 32, want)


def test_factors_that_the_high_word_can_not_hold_have_none() -> None:
    m = np.array([1 << 30, 1 << 30])
    assert proofs.high_word(m, np.array([-5, 0])) is None
    assert proofs.high_word(m, np.array([-5, -18])) is None
    assert proofs.high_word(np.array([0]), np.array([0])) == [0]


@pytest.mark.parametrize("ties_up", [False, True])
def test_the_mean_by_one_product_is_exact_for_every_sum_of_every_count(ties_up: bool) -> None:
    found = {n: proofs.exact_mean(n, ties_up=ties_up) for n in (*range(1, 300), 512, 1090)}
    assert all(found[n] for n in range(1, 147))
    for count, mean in found.items():
        if mean is None:
            continue
        total = np.arange(-128 * count, 127 * count + 1, dtype=np.int64)
        magnitude = np.sign(total) * ((np.abs(total) + count // 2) // count)
        want = (total + count // 2) // count if ties_up else magnitude
        product = total * mean.m + mean.c
        assert np.abs(product).max() < 1 << 31, count
        assert np.array_equal(product >> proofs.MEAN_SHIFT, want), count


@pytest.mark.parametrize(("count", "ties_up"), [(203, False), (512, False), (147, True)])
def test_a_mean_that_one_product_rounds_wrongly_has_none(count: int, ties_up: bool) -> None:
    assert proofs.exact_mean(count, ties_up=ties_up) is None
