"""Range asymmetric numeral systems (Duda 2013): entropy coding to a fraction of a bit a symbol.

A 32-bit state with renormalisation by bytes, frequencies in units of 2^-12. The table is 13 bits a
symbol, since one that is alone has all 2^12; the code is read forwards, the state first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.coding.bits import fixed_bytes, pack_fixed, unpack_fixed

SCALE_BITS = 12
_TABLE_BITS = SCALE_BITS + 1
_LOW = 1 << 23  # a state lies in [_LOW, _LOW << 8)

Symbols = NDArray[np.int64]


def encode(symbols: Symbols, alphabet: int) -> bytes:
    """Table and code of symbols in 0..alphabet-1; at most 2^12 different ones can occur."""
    frequencies = quantized_frequencies(np.bincount(symbols, minlength=alphabet))
    starts = (np.cumsum(frequencies) - frequencies).tolist()
    sizes = frequencies.tolist()
    state = _LOW
    out = bytearray()
    for symbol in reversed(symbols.tolist()):
        size = sizes[symbol]
        while state >= ((_LOW >> SCALE_BITS) << 8) * size:
            out.append(state & 0xFF)
            state >>= 8
        state = ((state // size) << SCALE_BITS) + state % size + starts[symbol]
    return pack_fixed(frequencies, _TABLE_BITS) + state.to_bytes(4, "big") + bytes(reversed(out))


def decode(data: bytes, count: int, alphabet: int) -> Symbols:
    """`count` symbols of what `encode` gave; ValueError where it isn't that."""
    end = fixed_bytes(alphabet, _TABLE_BITS)
    if len(data) < end + 4:
        raise ValueError("the table of an ANS code is cut off")
    frequencies = unpack_fixed(data[:end], alphabet, _TABLE_BITS)
    total = int(frequencies.sum())
    if count and total != 1 << SCALE_BITS:
        raise ValueError(f"the frequencies of an ANS code add up to {total}, not 4096")
    symbol_at = np.repeat(np.arange(alphabet), frequencies).tolist()
    starts = (np.cumsum(frequencies) - frequencies).tolist()
    sizes = frequencies.tolist()
    state, place = int.from_bytes(data[end : end + 4], "big"), end + 4
    symbols = np.empty(count, np.int64)
    for i in range(count):
        slot = state & ((1 << SCALE_BITS) - 1)
        symbol = symbol_at[slot]
        state = sizes[symbol] * (state >> SCALE_BITS) + slot - starts[symbol]
        while state < _LOW:
            if place >= len(data):
                raise ValueError(f"an ANS code breaks off after {i} of {count} symbols")
            state, place = state << 8 | data[place], place + 1
        symbols[i] = symbol
    return symbols


def quantized_frequencies(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Frequencies that add up to 2^12 and stand nearly as `counts`; at least 1 for what occurs.

    All 0 where nothing occurs. What rounding leaves over is taken from or given to those to whom it
    costs the least bits.
    """
    total = int(counts.sum())
    frequencies = np.zeros(len(counts), np.int64)
    if total == 0:
        return frequencies
    used = np.flatnonzero(counts)
    assert len(used) <= 1 << SCALE_BITS
    share = counts[used] / total * (1 << SCALE_BITS)
    chosen = np.maximum(np.round(share).astype(np.int64), 1)
    while (spare := (1 << SCALE_BITS) - int(chosen.sum())) != 0:
        step = 1 if spare > 0 else -1
        # The bits that one unit more or less changes in the whole code.
        with np.errstate(divide="ignore"):
            change = counts[used] * np.log2(chosen / (chosen + step))
        change[chosen + step < 1] = np.inf
        best = np.argsort(change, kind="stable")[: min(abs(spare), len(used))]
        chosen[best[np.isfinite(change[best])]] += step
    frequencies[used] = chosen
    return frequencies
