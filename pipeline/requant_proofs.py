"""Cheaper requantizations, proven equal to `numerics.requantize` over every reachable accumulator.

Part of the requantization arithmetic beside numerics.py; nothing else computes roundings. A kernel
takes constants from here, or falls back where there are none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline import numerics

Int64 = NDArray[np.int64]
INT8_LOW, INT8_HIGH = -128, 127
SEARCH_REACH = 24  # multipliers tried on each side of the nearest one


@dataclass(frozen=True, eq=False)
class Channels:
    """Requantization of a layer's channels as TFLite defines it, and where its accumulators lie.

    m, shift, low, high: int64 [channels]. low..high: every value that an accumulator, bias
    included, can take. y = clamp(requantize(acc, m, shift) + zero_point, act_min, act_max).
    """

    m: Int64
    shift: Int64
    low: Int64
    high: Int64
    zero_point: int
    act_min: int
    act_max: int

    def outputs(self, acc: Int64) -> Int64:
        """What TFLite gives for acc [channels, any]."""
        y = numerics.requantize(acc, self.m[:, None], self.shift[:, None]) + self.zero_point
        return np.clip(y, self.act_min, self.act_max)


def reachable(weights: NDArray[np.int8], bias: Int64) -> tuple[Int64, Int64]:
    """The least and greatest accumulator of each channel for inputs in [-128, 127].

    weights: [channels, taps]. bias: [channels], the input's zero point folded in.
    """
    w = weights.astype(np.int64)
    positive, negative = np.maximum(w, 0).sum(axis=1), np.minimum(w, 0).sum(axis=1)
    low = bias + INT8_LOW * positive + INT8_HIGH * negative
    high = bias + INT8_HIGH * positive + INT8_LOW * negative
    return low, high


@dataclass(frozen=True, eq=False)
class OneMultiply:
    """y = (acc * m + c) >> 32, saturated to the activation's range. m fits an int32, c an int64."""

    m: Int64
    c: Int64
    found: NDArray[np.bool_]


def one_multiply(channels: Channels) -> OneMultiply:
    """For each channel an (m, c) that gives TFLite's output for every reachable accumulator.

    Both sides are monotone steps of acc, so they are equal where every step lies at the same acc:
    with t the first acc whose output is at least v, t * m + c >= v * 2^32 and (t - 1) * m + c < v *
    2^32.
    For a given m that is one interval for c.
    """
    v = np.arange(channels.act_min + 1, channels.act_max + 1, dtype=np.int64)
    first = first_reaching(channels, v)
    low, high = channels.low[:, None], channels.high[:, None]
    # The step must be reached at `must`, and not at `must_not`.
    must, must_not = np.minimum(first, high + 1), first - 1
    scale = np.ldexp(channels.m.astype(np.float64), (channels.shift + 1).astype(np.int64))
    usable = scale < float((1 << 31) - SEARCH_REACH - 1)
    nearest = np.where(usable, np.round(scale), 0.0).astype(np.int64)
    m = np.zeros_like(channels.m)
    c = np.zeros_like(channels.m)
    found = np.zeros(len(m), np.bool_)
    limit = v[None, :] << 32
    for d in _outwards(SEARCH_REACH):
        trial = nearest + d
        t = trial[:, None]
        lower = np.where(must <= high, limit - must * t, -(1 << 62)).max(axis=1, initial=-(1 << 62))
        upper = np.where(must_not >= low, limit - 1 - must_not * t, 1 << 62).min(
            axis=1, initial=1 << 62
        )
        fits = usable & ~found & (trial >= 0) & (lower <= upper)
        middle = np.where(
            lower == -(1 << 62),
            upper,
            np.where(upper == 1 << 62, lower, lower + (upper - lower) // 2),
        )
        m, c, found = np.where(fits, trial, m), np.where(fits, middle, c), found | fits
        if found.all():
            break
    return OneMultiply(m, c, found)


def _outwards(reach: int) -> list[int]:
    return [0, *(s * d for d in range(1, reach + 1) for s in (1, -1))]


def first_reaching(channels: Channels, values: Int64) -> Int64:
    """[channels, values]: the least reachable acc whose output is at least v, high + 1 where none
    is."""
    low = np.repeat(channels.low[:, None], len(values), axis=1)
    high = np.repeat(channels.high[:, None] + 1, len(values), axis=1)
    while True:
        open_ = low < high
        if not open_.any():
            return low
        middle = (low + high) >> 1
        reached = channels.outputs(middle) >= values[None, :]
        low, high = np.where(open_ & ~reached, middle + 1, low), np.where(reached, middle, high)


@dataclass(frozen=True, eq=False)
class HighMultiply:
    """y = (h + (h >> 31) + offset) >> right with h = (2 * acc * m + 2^31) >> 32, then saturated.

    The doubled accumulator makes the rounding high word of the product gemmlowp's high multiply;
    h >> 31 moves ties of negative values away from zero. The zero point is in the offset.
    """

    m: Int64
    offset: Int64
    right: Int64


def high_multiply(channels: Channels) -> HighMultiply | None:
    """The constants of every channel, or None where one can't be computed this way.

    It needs a right shift of at least 1, and neither 2 * acc nor h + offset may leave 32 bits.
    """
    if np.any(channels.shift > -1):
        return None
    bound = np.maximum(np.abs(channels.low), np.abs(channels.high))
    if np.any(bound >= 1 << 30):
        return None
    right = -channels.shift
    # |h| <= bound, so beyond this shift the output is the zero point whatever the accumulator.
    vanishing = bound < np.left_shift(1, np.minimum(right - 1, 40)) - 1
    m = np.where(vanishing, 0, channels.m)
    right = np.where(vanishing, 1, right)
    offset = np.left_shift(1, right - 1) + channels.zero_point * np.left_shift(1, right)
    if np.any(bound + np.abs(offset) + 1 >= 1 << 31):
        return None
    return HighMultiply(m, offset, right)


@dataclass(frozen=True)
class Doubled:
    """y = (h + (h >> 31) + half) >> right, or h where right is 0.

    h = (acc * factor * m + 2^31) >> 32, TFLite's high multiply for a factor of 2 and its own left
    shift. Where both factor and m are negative, the product is the same.
    """

    factor: int
    m: int
    half: int
    right: int


def doubled(m: numerics.Multiplier, low: int, high: int, scaled: int = 1) -> Doubled | None:
    """The constants with which y is requantize(acc, m), for low <= acc <= high, or None.

    acc * factor, and h with its half, must stay in 32 bits. -2^31 is inside and 2^31 is not, so
    that a range which reaches further up than down is negated. scaled: acc is a value times that
    number, by which the factor counts.
    """
    factor = 2 << max(m.shift, 0)
    negated = high > -low
    if max(high, -low) * factor > 1 << 31 or (min(high, -low) * factor) >= 1 << 31:
        return None
    right = max(-m.shift, 0)
    half = (1 << right) >> 1
    if max(high, -low) + half + 1 >= 1 << 31:
        return None
    sign = -1 if negated else 1
    return Doubled(sign * factor * scaled, sign * m.m, half, right)


@dataclass(frozen=True)
class WeightedSum:
    """y = (a * ma + b * mb + c) >> shift, saturated to the activation's range."""

    ma: int
    mb: int
    c: int
    shift: int


def weighted_sum(
    reference: Int64, scales: tuple[float, float], act_min: int, act_max: int
) -> WeightedSum | None:
    """Constants for a sum of two int8 values that give `reference` for all 65,536 pairs, or None.

    reference: [256, 256] outputs for a and b from -128 up. scales: those of a and b over the
    output's.
    """
    a = np.arange(INT8_LOW, INT8_HIGH + 1, dtype=np.int64)[:, None]
    b = np.arange(INT8_LOW, INT8_HIGH + 1, dtype=np.int64)[None, :]
    for shift in range(24, 11, -1):
        near = [round(s * (1 << shift)) for s in scales]
        low_side = np.where(reference > act_min, reference << shift, -(1 << 62))
        high_side = np.where(reference < act_max, ((reference + 1) << shift) - 1, 1 << 62)
        for da in _outwards(3):
            for db in _outwards(3):
                total = a * (near[0] + da) + b * (near[1] + db)
                lower, upper = int((low_side - total).max()), int((high_side - total).min())
                c = (lower + upper) // 2
                if 128 * (near[0] + near[1] + 6) + abs(c) >= 1 << 31:
                    break  # the sum would leave 32 bits
                if lower <= upper:
                    return WeightedSum(near[0] + da, near[1] + db, c, shift)
    return None


MEAN_SHIFT = 23  # 128 * count * m stays in 31 bits whatever the count
MEAN_HALF = 1 << MEAN_SHIFT - 1


@dataclass(frozen=True)
class ExactMean:
    """y = (sum * m + c) >> MEAN_SHIFT: the mean of `count` int8 values, of their sum."""

    m: int
    c: int


def exact_mean(count: int, *, ties_up: bool) -> ExactMean | None:
    """The constants for every sum of `count` int8 values, or None where they are wrong for one:
    they serve up to a count of 146, and for some above.

    m is a bit above 2^MEAN_SHIFT / count: with MEAN_HALF added, positive ties go up and negative
    ones down, away from zero. Where all go up, what is added beside outweighs that bit.
    """
    m = (1 << MEAN_SHIFT) // count + 1
    c = MEAN_HALF + (128 * count if ties_up else 0)
    # A sum reaches v from v * count - count // 2 on, from one more where a tie goes down to v - 1.
    v = np.arange(INT8_LOW, INT8_HIGH + 2, dtype=np.int64)
    goes_down = (v <= 0) & (count % 2 == 0) & (not ties_up)
    first = np.clip(v * count - count // 2 + goes_down, INT8_LOW * count, INT8_HIGH * count + 1)
    reached = (first * m + c)[:-1] >= (v << MEAN_SHIFT)[:-1]
    not_before = ((first - 1) * m + c)[1:] < (v << MEAN_SHIFT)[1:]
    fits = 128 * count * m + c < 1 << 31
    return ExactMean(m, c) if fits and reached.all() and not_before.all() else None


@dataclass(frozen=True, eq=False)
class ClampedMultiply:
    """Requantization by two 32-bit products, for cores without a long multiply.

    u = acc + offset; where it is negative y is `least`, and above `reach` it is `most`. Else
    y = (((u * low) >> half) + u * high + c) >> right, of which the low 8 bits count. All stays in
    32 bits: low and high are the halves of a multiplier of 2 * half bits.
    """

    offset: Int64
    reach: Int64
    least: Int64
    most: Int64
    low: Int64
    high: Int64
    c: Int64
    right: Int64
    half: int


def _clamped(rows: list[tuple[int, ...]], half: int) -> ClampedMultiply:
    """rows: of each channel, in the order of the fields."""
    columns = np.array(rows, np.int64).reshape(-1, 8).T
    offset, reach, least, most, low, high, c, right = columns
    return ClampedMultiply(offset, reach, least, most, low, high, c, right, half)


def clamped_multiply(channels: Channels) -> ClampedMultiply | None:
    """Constants of every channel with one `half`, or None. Equal by construction at every step."""
    v = np.arange(channels.act_min, channels.act_max + 1, dtype=np.int64)
    first = first_reaching(channels, v)
    ends = channels.outputs(np.stack([channels.low, channels.high], axis=1))
    steps = [
        f[least - channels.act_min + 1 : most - channels.act_min + 1]
        for f, (least, most) in zip(first, ends.tolist(), strict=True)
    ]
    for half in range(16, 10, -1):
        rows: list[tuple[int, ...]] = []
        for i in range(len(channels.m)):
            least, most = (int(y) for y in ends[i])
            base = int(steps[i][0]) - 1 if most > least else int(channels.low[i])
            u, v = steps[i] - base, np.arange(1, most - least + 1, dtype=np.int64)
            found = _short_factor(u, v, int(channels.m[i]), int(channels.shift[i]), half)
            if found is None:
                break
            reach, factor, c, right = found
            c = (c + ((least & 0xFF) << right)) & 0xFFFFFFFF
            low, high = factor & ((1 << half) - 1), factor >> half
            rows.append((-base, reach, least, most, low, high, c, right))
        else:
            return _clamped(rows, half)
    return None


def _short_factor(
    u: Int64, v: Int64, m: int, shift: int, half: int
) -> tuple[int, int, int, int] | None:
    """(reach, factor, c, right) so that ((u' * factor >> half) + c) >> right reaches v[i] exactly
    at u' = u[i].

    u: steps >= 1, their greatest is the reach; all stays in 32 bits as ClampedMultiply computes it.
    """
    reach = int(u.max(initial=0))
    if reach >> (32 - half):
        return None
    top = int(v.max(initial=0)) + 1
    for d in range(32):
        q = 31 - shift - d
        if q < half or q - half > 24:
            continue
        nearest = (m + (1 << d >> 1)) >> d
        for factor in (nearest, nearest + 1, nearest - 1):
            if factor < 0 or factor >> (2 * half):
                continue
            least = max(int(((v << q) - u * factor).max(initial=0)), 0)
            most = int(((v << q) - (u - 1) * factor).min(initial=1 << q)) - 1
            # At the reach, the output must not go on.
            most = min(most, (1 << q) - 1, (top << q) - 1 - reach * factor)
            # In whole units of what the lower half is shifted by.
            c = max((least + most) >> (half + 1), -(-least >> half))
            if c << half <= most:
                return reach, factor, c, q - half
    return None


def mirrored_multiply(channels: Channels) -> ClampedMultiply | None:
    """The same for the magnitude: u = min(|acc|, reach), y = zero point +- the result, saturated.

    TFLite rounds away from zero on both sides, which one line over the whole range can't do. offset
    is 0: the accumulator's own sign counts. Only for the whole range of int8.
    """
    if (channels.act_min, channels.act_max) != (INT8_LOW, INT8_HIGH):
        return None
    zero = channels.zero_point
    up = np.arange(1, INT8_HIGH - zero + 1, dtype=np.int64)
    down = np.arange(1, zero - INT8_LOW + 1, dtype=np.int64)
    above = first_reaching(channels, zero + up)
    below = 1 - first_reaching(channels, zero - down + 1)  # the least magnitude that gives zero - v
    for half in range(16, 10, -1):
        rows: list[tuple[int, ...]] = []
        for i in range(len(channels.m)):
            there = above[i] <= channels.high[i]
            gone = below[i] <= -channels.low[i]
            u = np.concatenate([above[i][there], below[i][gone]])
            v = np.concatenate([up[there], down[gone]])
            found = None
            if u.min(initial=1) >= 1:
                found = _short_factor(u, v, int(channels.m[i]), int(channels.shift[i]), half)
            if found is None:
                break
            reach, factor, c, right = found
            low, high = factor & ((1 << half) - 1), factor >> half
            rows.append((0, reach, INT8_LOW, INT8_HIGH, low, high, c, right))
        else:
            return _clamped(rows, half)
    return None


def high_word(m: Int64, shift: Int64) -> Int64 | None:
    """int32 multipliers with which requantize_int16(acc) is (acc * m + 2^31) >> 32, or None.

    For int32 accumulators: the 16-bit multiplier is scaled so that the shift becomes 32, and the
    rounding with it, which is exact. m, shift: as Multiplier has them, one a channel.
    """
    reduced, right = numerics.reduced_multiplier(m, shift)
    right = np.where(reduced == 0, 32, right)  # 0 is 0 by any shift
    if np.any(right > 32) or np.any(right < 16):
        return None
    return np.asarray(reduced << (32 - right), np.int64)
