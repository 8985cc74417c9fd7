"""Sound at the edges of what a front end takes."""

from __future__ import annotations

import numpy as np

from tinsmith.pipeline.audio.parameters import LogMel
from tinsmith.pipeline.graph import Array


def sounds(p: LogMel, rng: np.random.Generator) -> dict[str, Array]:
    """Clips [clip]: silence, full scale, steps, impulses, noise of many levels."""
    time = np.arange(p.clip)
    impulses = np.zeros(p.clip)
    impulses[:: p.hop + 7] = -32768
    loudness = np.geomspace(0.5, 40000, p.clip)
    made = {
        "silence": np.zeros(p.clip),
        "square": np.where(time // 16 % 2 == 0, 32767, -32768),
        "fastest": np.where(time % 2 == 0, 32767, -32768),
        "constant": np.full(p.clip, -32768),
        "impulses": impulses,
        "one": np.eye(1, p.clip, p.clip // 2)[0],
        "noise": rng.integers(-32768, 32768, p.clip),
        "louder": np.clip(rng.standard_normal(p.clip) * loudness, -32768, 32767),
        "sines": 16000 * np.sin(time * 0.05) + 16000 * np.sin(time * 0.0013),
    }
    return {name: x.astype(np.int16) for name, x in made.items()}


# Front ends of other sizes: from the shortest transform to the longest, hops short and long.
SMALL = (
    LogMel(rate_hz=8000, clip_ms=100, window_ms=8, hop_ms=6, mels=5, low_hz=200, high_hz=3800),
    LogMel(rate_hz=8000, clip_ms=200, window_ms=25, hop_ms=10, mels=20, high_hz=4000),
    LogMel(rate_hz=16000, clip_ms=300, window_ms=64, hop_ms=16, mels=64, low_hz=0, high_hz=8000),
    LogMel(rate_hz=44100, clip_ms=150, window_ms=46, hop_ms=20, mels=64, high_hz=16000),
)
