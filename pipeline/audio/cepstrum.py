"""The cosine transform of mel levels (MFCC), in integers: its tables, and its definition.

Davis & Mermelstein 1980; the weights of coefficients are the lifter of HTK (Young et al., The HTK
Book). Every value fits an int32, also where a core multiplies 32 by 32 bits to 32.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.audio.tables import DB_OF_LOG2, LOG_BITS, tables

# A sum of levels times cosines is below 2^30; this many bits fewer leave 15 for the gain.
SUM_SHIFT = 15
_SUM_BITS = 30
_MOST_COSINE_BITS = 14
_MOST_GAIN_BITS = 22


@dataclass(frozen=True, eq=False)
class Cepstrum:
    """span: levels are 0..span. cosines: int16 [coefficients, mels], cos(pi k (i + 1/2) / mels)
    times 2^cosine_bits. gains: int16 [coefficients], pixels by sum, times 2^gain_bits; zeros:
    uint8 [coefficients], the pixel of a sum of 0.
    """

    span: int
    cosine_bits: int
    cosines: NDArray[np.int16]
    gain_bits: int
    gains: NDArray[np.int16]
    zeros: NDArray[np.uint8]


@lru_cache(maxsize=16)
def cepstrum_tables(p: FrontEnd) -> Cepstrum:
    """The tables of a front end that has coefficients."""
    span = round((p.ceiling_db - p.floor_db) / DB_OF_LOG2 * (1 << LOG_BITS))
    bits = min(_MOST_COSINE_BITS, _SUM_BITS - (span * p.mels).bit_length())
    k, i = np.arange(p.coefficients)[:, None], np.arange(p.mels)
    cosines = np.round((1 << bits) * np.cos(np.pi * k * (i + 0.5) / p.mels)).astype(np.int16)
    per_sum = 2.0 ** (SUM_SHIFT - bits) / p.mels  # a mean level, by a sum
    amplitude_db = 2 * per_sum * DB_OF_LOG2 / (1 << LOG_BITS)
    lift = _lifter(p)
    gains = np.where(k[:, 0] == 0, 255 * per_sum / span, 128 * lift * amplitude_db / p.cepstrum_db)
    gain_bits = min(_MOST_GAIN_BITS, int(np.floor(np.log2(32767 / gains.max()))))
    zeros = np.where(k[:, 0] == 0, 0, 128).astype(np.uint8)
    whole = np.round(gains * (1 << gain_bits)).astype(np.int16)
    return Cepstrum(span, bits, cosines, gain_bits, whole, zeros)


def cepstrum(p: FrontEnd, logs: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Pixels [N, coefficients] of the logarithms [N, mels]."""
    t = cepstrum_tables(p)
    levels = np.clip(logs - tables(p).floor, 0, t.span)
    sums = levels @ t.cosines.T.astype(np.int64)
    assert not sums.size or np.abs(sums).max() < 1 << _SUM_BITS
    middle = (t.zeros.astype(np.int64) << t.gain_bits) + (1 << (t.gain_bits - 1))
    scaled = ((sums >> SUM_SHIFT) * t.gains.astype(np.int64) + middle) >> t.gain_bits
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _lifter(p: FrontEnd) -> NDArray[np.float64]:
    """By what each coefficient is multiplied: high ones are small, and are raised."""
    if not p.lifter:
        return np.ones(p.coefficients)
    k = np.arange(p.coefficients)
    return np.asarray(1 + p.lifter / 2 * np.sin(np.pi * k / p.lifter))
