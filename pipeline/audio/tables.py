"""The integers that a front end of sound is made of: computed in float once, rounded, then data."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.errors import ConfigError

# Fraction bits: of window and twiddles, of the mel weights, of logarithms, of the pixel's gain.
WINDOW_BITS = 15
WEIGHT_BITS = 16
LOG_BITS = 8
GAIN_BITS = 16
# The logarithm's table has an entry for each value of the bits that follow the highest one.
LOG_INDEX_BITS = 7
# The spectrum of a frame is shifted until it fits int16, so that a power fits uint32.
SPECTRUM_BITS = 15

# Decibels of a doubled power.
DB_OF_LOG2 = float(10 * np.log10(2))


@dataclass(frozen=True, eq=False)
class Tables:
    """window: uint16 [window / 2], the first half of a symmetric Hann window.
    twiddles: int16 [fft / 2, 2], cos and -sin of 2 pi k / fft. order: the bit-reversed place of
    each of the fft / 2 complex samples. first_bin: the first bin of the spectrum that counts.
    starts: int64 [mels + 2], where among the bins that count each of the mels + 1 intervals between
    the corners of the filters starts, and their end. weights: uint16, how far into its interval a
    bin lies. logarithms: uint8 [2^LOG_INDEX_BITS]. floor: the logarithm that is pixel 0. gain:
    pixels by logarithm.
    """

    window: NDArray[np.uint16]
    twiddles: NDArray[np.int16]
    order: NDArray[np.uint16]
    first_bin: int
    starts: NDArray[np.int64]
    weights: NDArray[np.uint16]
    logarithms: NDArray[np.uint8]
    floor: int
    gain: int


@lru_cache(maxsize=16)
def tables(p: FrontEnd) -> Tables:
    """The tables of a front end. Raises ConfigError where a filter is narrower than a bin."""
    first_bin, starts, weights = _filters(p)
    floor, gain = _scale(p)
    return Tables(
        _window(p),
        _twiddles(p),
        _bit_reversed(p.fft // 2),
        first_bin,
        starts,
        weights,
        _logarithms(),
        floor,
        gain,
    )


def mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """The mel scale of O'Shaughnessy, as in HTK."""
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz) / 700))


def _window(p: FrontEnd) -> NDArray[np.uint16]:
    place = (np.arange(p.window // 2) + 0.5) / p.window
    full = (1 << WINDOW_BITS) - 1
    hann: NDArray[np.float64] = full * (0.5 - 0.5 * np.cos(2 * np.pi * place))
    return np.round(hann).astype(np.uint16)


def _twiddles(p: FrontEnd) -> NDArray[np.int16]:
    angle = 2 * np.pi * np.arange(p.fft // 2) / p.fft
    full = (1 << WINDOW_BITS) - 1
    circle: NDArray[np.float64] = full * np.stack([np.cos(angle), -np.sin(angle)], axis=1)
    return np.round(circle).astype(np.int16)


def _bit_reversed(count: int) -> NDArray[np.uint16]:
    order = np.zeros(1, np.int64)
    while len(order) < count:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order.astype(np.uint16)


def _filters(p: FrontEnd) -> tuple[int, NDArray[np.int64], NDArray[np.uint16]]:
    """Triangles whose corners are equally far apart on the mel scale, each as high as the next.

    A bin in the interval i lies on the rising side of filter i and the falling side of i - 1.
    """
    low, high = float(mel(p.low_hz)), float(mel(p.high_hz))
    bins = np.arange(1, p.fft // 2)
    place = (mel(bins * p.rate_hz / p.fft) - low) / (high - low) * (p.mels + 1)
    inside = (place >= 0) & (place < p.mels + 1)
    bins, place = bins[inside], place[inside]
    starts = np.searchsorted(np.floor(place), np.arange(p.mels + 2))
    empty = np.flatnonzero(np.diff(starts) == 0)
    if len(empty):
        raise ConfigError(
            f"[audio] mels = {p.mels}: filter {empty[0]} is narrower than a bin of the spectrum, "
            f"{p.rate_hz / p.fft:g} Hz; use fewer mels, a longer window, or a higher low_hz"
        )
    weights = np.floor((place - np.floor(place)) * (1 << WEIGHT_BITS)).astype(np.uint16)
    return int(bins[0]), starts, weights


def _logarithms() -> NDArray[np.uint8]:
    """log2 of the middle of each step between 1 and 2."""
    middle = (np.arange(1 << LOG_INDEX_BITS) + 0.5) / (1 << LOG_INDEX_BITS)
    fractions: NDArray[np.float64] = (1 << LOG_BITS) * np.log2(1 + middle)
    return np.round(fractions).astype(np.uint8)


def _scale(p: FrontEnd) -> tuple[int, int]:
    """The logarithm that becomes pixel 0, and pixels by logarithm.

    A sine of full scale has a peak of 2^15 * window / 4 in the spectrum, which is held as
    2^WINDOW_BITS / fft times itself; its power, squared, is weighted by 2^WEIGHT_BITS.
    """
    peak = np.log2(2**15 * p.window / 4) + WINDOW_BITS - np.log2(p.fft)
    floor = 2 * peak + WEIGHT_BITS + p.floor_db / DB_OF_LOG2
    steps = (p.ceiling_db - p.floor_db) / DB_OF_LOG2 * (1 << LOG_BITS)
    return round(floor * (1 << LOG_BITS)), round(255 * (1 << GAIN_BITS) / steps)
