"""Where the weights that are not zero stand: gaps between them, each a symbol of few bits.

Symbol g < escape: g zeros, then a weight. Symbol escape: that many zeros and no weight (Deep
Compression, Han et al. 2016, puts a weight of zero there instead, which costs a code word more).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Symbols = NDArray[np.int64]


def to_gaps(places: NDArray[np.int64], escape: int) -> Symbols:
    """The symbols, in 0..escape, of ascending places."""
    gaps = np.diff(places, prepend=-1) - 1
    escapes = gaps // escape
    symbols = np.full(len(gaps) + int(escapes.sum()), escape, np.int64)
    symbols[np.cumsum(escapes + 1) - 1] = gaps % escape
    return symbols


def from_gaps(symbols: Symbols, escape: int) -> NDArray[np.int64]:
    """The places that the symbols say."""
    weight = symbols < escape
    steps = symbols + weight
    places: NDArray[np.int64] = np.cumsum(steps)[weight] - 1
    return places
