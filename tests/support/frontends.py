"""Sound at the edges of what a front end takes."""

from __future__ import annotations

import numpy as np

from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.graph import Array


def sounds(p: FrontEnd, rng: np.random.Generator) -> dict[str, Array]:
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


# Coefficients: usual ones, all of few bands from a short transform, all of many, one.
CEPSTRA = (
    FrontEnd(clip_ms=200, coefficients=13),
    FrontEnd(
        rate_hz=8000, clip_ms=100, window_ms=8, hop_ms=6, mels=5, low_hz=200, high_hz=3800,
        coefficients=5, cepstrum_db=20,
    ),
    FrontEnd(
        clip_ms=300, window_ms=128, hop_ms=20, mels=120, low_hz=0, high_hz=8000, floor_db=-140,
        ceiling_db=20, coefficients=120, lifter=0, cepstrum_db=40,
    ),
    FrontEnd(clip_ms=100, mels=20, coefficients=1),
)  # fmt: skip

# Front ends of other sizes: from the shortest transform to the longest, hops short and long.
SMALL = (
    FrontEnd(rate_hz=8000, clip_ms=100, window_ms=8, hop_ms=6, mels=5, low_hz=200, high_hz=3800),
    FrontEnd(rate_hz=8000, clip_ms=200, window_ms=25, hop_ms=10, mels=20, high_hz=4000),
    FrontEnd(rate_hz=16000, clip_ms=300, window_ms=64, hop_ms=16, mels=64, low_hz=0, high_hz=8000),
    FrontEnd(rate_hz=44100, clip_ms=150, window_ms=46, hop_ms=20, mels=64, high_hz=16000),
    *CEPSTRA,
)
