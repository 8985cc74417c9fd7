"""Strings of bits, the most significant first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]  # one element a bit, 0 or 1


def pack_words(words: NDArray[np.int64], lengths: NDArray[np.int64]) -> bytes:
    """The lowest lengths[i] bits of each words[i] in a row, filled up with zeros to whole bytes."""
    if len(words) == 0:
        return b""
    most = int(lengths.max())
    places = np.arange(most - 1, -1, -1)
    bits = (words[:, None] >> places) & 1
    used = places < lengths[:, None]
    return np.packbits(bits[used].astype(np.uint8)).tobytes()


def unpack_bits(data: bytes) -> Bits:
    """All bits of `data`."""
    return np.unpackbits(np.frombuffer(data, np.uint8))


def pack_fixed(values: NDArray[np.int64], width: int) -> bytes:
    """Each value in `width` bits."""
    return pack_words(values, np.full(len(values), width))


def unpack_fixed(data: bytes, count: int, width: int) -> NDArray[np.int64]:
    """The first `count` values of `width` bits each."""
    bits = unpack_bits(data)[: count * width].reshape(count, width).astype(np.int64)
    return bits @ (1 << np.arange(width - 1, -1, -1, dtype=np.int64))


def fixed_bytes(count: int, width: int) -> int:
    return -(-count * width // 8)
