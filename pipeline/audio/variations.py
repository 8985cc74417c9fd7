"""Clips made anew for training: another speed, place, loudness, and noise behind the voice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
# How much softer than its loudest the noise may be, in dB.
_NOISE_RANGE_DB = 30.0


@dataclass(frozen=True)
class Variations:
    """copies: changed clips made of each. speed: largest change of speed and pitch, 0.1 is 90 % to
    110 %. shift_ms: largest shift in time. gain_db: largest change of loudness. noise_db: how far
    below the clip's own power the loudest noise is.
    """

    copies: int = 0
    speed: float = 0.1
    shift_ms: float = 100.0
    gain_db: float = 6.0
    noise_db: float = 10.0


def varied(
    clips: Samples,
    noise: Sequence[Samples],
    options: Variations,
    rate_hz: int,
    rng: np.random.Generator,
) -> Samples:
    """`options.copies` changed versions [copies, N, clip] of clips [N, clip].

    noise: recordings at least a clip long; without any it is white.
    """
    made = np.empty((options.copies, *clips.shape), np.int16)
    for copy in made:
        for row, clip in zip(copy, clips, strict=True):
            moved = _moved(clip, options, rate_hz, rng)
            row[:] = _mixed(moved, _excerpt(noise, len(clip), rng), options, rng)
    return made


def _moved(
    clip: Samples, options: Variations, rate_hz: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Read at another speed about the middle, from another place; silence comes in from outside."""
    middle = (len(clip) - 1) / 2
    factor = 1 + rng.uniform(-options.speed, options.speed)
    shift = rng.uniform(-options.shift_ms, options.shift_ms) * rate_hz / 1000
    place = (np.arange(len(clip)) - middle) * factor + middle - shift
    return np.interp(place, np.arange(len(clip)), clip, left=0, right=0)


def _excerpt(
    noise: Sequence[Samples], length: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    if not noise:
        return rng.standard_normal(length)
    recording = noise[rng.integers(len(noise))]
    first = rng.integers(len(recording) - length + 1)
    return recording[first : first + length].astype(np.float64)


def _mixed(
    clip: NDArray[np.float64],
    noise: NDArray[np.float64],
    options: Variations,
    rng: np.random.Generator,
) -> Samples:
    """The sum, the noise as loud as drawn, then all louder or softer; it is clipped at int16."""
    below_db = options.noise_db + rng.uniform(0, _NOISE_RANGE_DB)
    power = np.mean(clip**2) / max(float(np.mean(noise**2)), 1e-12)
    gain = 10 ** (rng.uniform(-options.gain_db, options.gain_db) / 20)
    mixed = gain * (clip + noise * np.sqrt(power * 10 ** (-below_db / 10)))
    samples: Samples = np.clip(np.rint(mixed), -32768, 32767).astype(np.int16)
    return samples
