"""Canonical Huffman codes of at most 15 bits (Huffman 1952; lengths by package-merge, Larmore &
Hirschberg 1990).

A code is its lengths alone: codes of one length go up with their symbols, shorter ones come first.
The table is 4 bits a symbol, 0 for one that does not occur.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.coding.bits import (
    fixed_bytes,
    pack_fixed,
    pack_words,
    unpack_bits,
    unpack_fixed,
)

MAX_BITS = 15
_LENGTH_BITS = 4

Symbols = NDArray[np.int64]


def encode(symbols: Symbols, alphabet: int) -> bytes:
    """Table and code of symbols in 0..alphabet-1. At most 2^15 different ones can occur."""
    lengths = code_lengths(np.bincount(symbols, minlength=alphabet))
    codes = _canonical(lengths)
    return pack_fixed(lengths, _LENGTH_BITS) + pack_words(codes[symbols], lengths[symbols])


def decode(data: bytes, count: int, alphabet: int) -> Symbols:
    """`count` symbols of what `encode` gave; ValueError where it isn't that."""
    table = fixed_bytes(alphabet, _LENGTH_BITS)
    if len(data) < table:
        raise ValueError("the table of a Huffman code is cut off")
    lengths = unpack_fixed(data[:table], alphabet, _LENGTH_BITS)
    codes = _canonical(lengths)
    known = {(int(lengths[s]), int(codes[s])): s for s in range(alphabet) if lengths[s]}
    symbols = np.empty(count, np.int64)
    bits = iter(unpack_bits(data[table:]).tolist())
    for i in range(count):
        code = length = 0
        while (length, code) not in known:
            bit = next(bits, None)
            if bit is None or length == MAX_BITS:
                raise ValueError(f"a Huffman code breaks off after {i} of {count} symbols")
            code, length = code << 1 | bit, length + 1
        symbols[i] = known[length, code]
    return symbols


def code_lengths(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lengths, at most MAX_BITS, with the least sum of counts[i] * lengths[i].

    0 for what does not occur; a symbol that is alone still gets 1 bit.
    """
    used = np.flatnonzero(counts)
    assert len(used) <= 1 << MAX_BITS
    lengths = np.zeros(len(counts), np.int64)
    if len(used) < 2:
        lengths[used] = 1
        return lengths
    # Package-merge: in each round the cheapest pairs of the round before stand beside the symbols;
    # a symbol's length is how often it occurs in the first 2n - 2 items of the last round.
    symbols = sorted((int(counts[s]), (int(s),)) for s in used)
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(MAX_BITS):
        items = sorted([*symbols, *packages])
        packages = [
            (a[0] + b[0], a[1] + b[1]) for a, b in zip(items[::2], items[1::2], strict=False)
        ]
    for _, members in packages[: len(used) - 1]:
        np.add.at(lengths, list(members), 1)
    return lengths


def _canonical(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The code of each symbol from the lengths."""
    codes = np.zeros(len(lengths), np.int64)
    code, before = 0, 0
    for symbol in np.lexsort((np.arange(len(lengths)), lengths)):
        length = int(lengths[symbol])
        if length == 0:
            continue
        code <<= length - before
        codes[symbol] = code
        code, before = code + 1, length
    return codes
