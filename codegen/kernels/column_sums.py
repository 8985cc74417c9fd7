"""Weights of 9 bits in the streams of int8 ones: bytes, and behind them the offset of all of them.

sum x * w = sum x * byte + offset * sum x. A column of widened inputs can hold the sum of x as well:
16 bits hold that of a run of 126 pairs. Each is stored in both halves of a pair, whose weights are
the two parts of the offset.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.packing import split_weights

RUN_PAIRS = 126  # 252 inputs of at most 128 stay below 2^15


def in_fours(taps: int) -> int:
    return -(-taps // 4) * 4


def streamed(weights: NDArray[np.signedinteger[Any]]) -> NDArray[np.int64]:
    """What the dot tiles multiply a column by: int8 values [channels, taps in fours].

    weights: [channels, taps], within a span of 255. Taps are those of the column that
    `append_sums` leaves where the weights don't fit a byte.
    """
    bytes_, offset = split_weights(weights)
    count, taps = weights.shape
    whole = in_fours(taps)
    words = np.zeros((count, whole + (_sum_taps(whole) if offset else 0)), np.int64)
    words[:, :taps] = bytes_
    fours = words[:, whole:].reshape(count, -1, 4)
    fours[..., :2], fours[..., 2:] = offset // 2, offset - offset // 2
    return words


def _sum_taps(taps: int) -> int:
    runs = -(-(taps // 2) // RUN_PAIRS)
    return in_fours(2 * runs)
