"""WAV files and folders of them, for tests."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from tinsmith.pipeline.graph import Array


def save_wav(
    path: Path, samples: Array, *, rate_hz: int = 16000, channels: int = 1, width: int = 2
) -> None:
    """Samples (of all channels, one after another) as PCM of `width` bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = samples.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(data)


def chirp(low: float, high: float, rng: np.random.Generator, samples: int = 16000) -> Array:
    """A tone that goes from one frequency to another in the middle of noise, as if spoken."""
    low, high = np.array([low, high]) * rng.uniform(0.9, 1.1)
    time = np.arange(samples) / samples
    phase = 2 * np.pi * np.cumsum(np.linspace(low, high, samples)) / 16000
    loud = 5000 * np.sin(phase) * np.exp(-(((time - 0.5) / 0.2) ** 2))
    spoken: Array = np.rint(loud + rng.normal(0, 100, samples)).astype(np.int16)
    return spoken


WORDS = {"fall": (2500.0, 400.0), "high": (2500.0, 2600.0), "rise": (400.0, 2500.0)}


def save_words(
    folder: Path, rng: np.random.Generator, train: int, test: int, samples: int = 16000
) -> None:
    """`train/<word>/` and `test/<word>/` of three words, with so many clips each."""
    for split, count in (("train", train), ("test", test)):
        for word, (low, high) in WORDS.items():
            for i in range(count):
                save_wav(folder / split / word / f"{i}.wav", chirp(low, high, rng, samples))
