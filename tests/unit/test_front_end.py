"""The front end of sound: close to real arithmetic, within its bounds, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from support.frontends import CEPSTRA, SMALL, sounds
from tinsmith.pipeline.audio.cepstrum import cepstrum, cepstrum_tables
from tinsmith.pipeline.audio.front_end import frames_of, logarithms
from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.audio.tables import LOG_BITS, WEIGHT_BITS, mel, tables
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.graph import Array

DEFAULT = FrontEnd()
RNG = np.random.default_rng(0)


def real_logarithms(p: FrontEnd, frames: Array) -> Array:
    """What `logarithms` approximates: float64, with numpy's transform."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(p.window) + 0.5) / p.window)
    powers = np.abs(np.fft.rfft(frames * window, p.fft) * 2**15 / p.fft) ** 2
    corners = np.linspace(mel(p.low_hz), mel(p.high_hz), p.mels + 2)
    place = mel(np.arange(p.fft // 2 + 1) * p.rate_hz / p.fft)[:, None]
    step = corners[1] - corners[0]
    filters = np.minimum((place - corners[:-2]) / step, (corners[2:] - place) / step).clip(0)
    result: Array = np.log2(powers @ filters * 2**WEIGHT_BITS + 1e-9)
    return result


@pytest.mark.parametrize(("loudness", "limit"), [(2, 0.04), (30, 0.01), (1000, 0.01), (9000, 0.01)])
@pytest.mark.parametrize("p", [DEFAULT, *SMALL], ids=lambda p: f"{p.rate_hz}-{p.window}-{p.values}")
def test_logarithms_are_within_a_hundredth_of_the_real_ones(
    p: FrontEnd, loudness: float, limit: float
) -> None:
    noise = RNG.standard_normal((40, p.window)) * loudness
    frames = np.clip(np.rint(noise), -32768, 32767).astype(np.int16)
    error = logarithms(p, frames) / (1 << LOG_BITS) - real_logarithms(p, frames)
    assert np.abs(error).max() < limit


@pytest.mark.parametrize("p", [DEFAULT, *SMALL], ids=lambda p: f"{p.rate_hz}-{p.window}-{p.values}")
def test_no_sound_leaves_the_bounds(p: FrontEnd) -> None:
    # Every step of the definition asserts its own.
    for name, clip in sounds(p, RNG).items():
        pixels = frames_of(p, clip[None])
        assert pixels.shape == (1, p.frames, p.values), name


@pytest.mark.parametrize("p", CEPSTRA, ids=lambda p: f"{p.mels}-{p.coefficients}")
def test_coefficients_are_within_a_pixel_of_the_real_cosine_transform(p: FrontEnd) -> None:
    clips = np.stack(list(sounds(p, RNG).values()))
    silence = np.zeros((len(clips), p.window - p.hop), np.int16)
    padded = np.concatenate([silence, clips], axis=1)
    frames = np.lib.stride_tricks.sliding_window_view(padded, p.window, axis=1)[:, :: p.hop]
    logs = logarithms(p, frames.reshape(-1, p.window))
    levels_db = (logs - tables(p).floor) / (1 << LOG_BITS) * 10 * np.log10(2)
    levels_db = levels_db.clip(0, p.ceiling_db - p.floor_db)
    k, i = np.arange(p.coefficients), np.arange(p.mels)
    ripples = np.cos(np.pi * k * (i[:, None] + 0.5) / p.mels)
    lift = 1 + p.lifter / 2 * np.sin(np.pi * k / p.lifter) if p.lifter else 1.0
    real = 128 + 128 / p.cepstrum_db * lift * 2 / p.mels * (levels_db @ ripples)
    real[:, 0] = levels_db.mean(1) / (p.ceiling_db - p.floor_db) * 255
    found = frames_of(p, clips).reshape(real.shape)
    assert np.abs(found - real.clip(0, 255)).max() < 1.2
    if p.coefficients > 1:
        assert found[:, 1:].min() < 100 and found[:, 1:].max() > 160  # the range is used


def test_without_a_lifter_coefficients_are_those_of_scipy() -> None:
    fft = pytest.importorskip("scipy.fft")
    p = CEPSTRA[0]
    logs = RNG.integers(tables(p).floor, tables(p).floor + cepstrum_tables(p).span, (50, p.mels))
    levels_db = (logs - tables(p).floor) / (1 << LOG_BITS) * 10 * np.log10(2)
    orthonormal = fft.dct(levels_db, norm="ortho")[:, 1 : p.coefficients]
    unlifted = replace(p, lifter=0, cepstrum_db=32)
    found = cepstrum(unlifted, logs)[:, 1:].astype(float) - 128
    expected = orthonormal * np.sqrt(2 / p.mels) * 128 / 32
    assert np.abs(found - expected.clip(-128, 127)).max() < 1.2


def test_the_first_coefficient_is_the_mean_of_the_bands() -> None:
    mean = frames_of(CEPSTRA[-1], clip := RNG.integers(-99, 99, (1, CEPSTRA[-1].clip), np.int16))
    bands = frames_of(replace(CEPSTRA[-1], coefficients=0), clip)
    assert mean.shape == (1, CEPSTRA[-1].frames, 1)
    assert np.abs(mean[..., 0] - bands.mean(-1)).max() < 1.2


def test_silence_is_black_and_a_loud_sine_is_bright_in_its_band() -> None:
    time = np.arange(DEFAULT.clip) / DEFAULT.rate_hz
    sine = (3277 * np.sin(2 * np.pi * 1000 * time)).astype(np.int16)
    silent, loud = frames_of(DEFAULT, np.stack([np.zeros_like(sine), sine]))
    assert silent.max() == 0
    corners = np.linspace(mel(DEFAULT.low_hz), mel(DEFAULT.high_hz), DEFAULT.mels + 2)
    nearest = int(np.abs(corners[1:-1] - mel(1000.0)).argmin())
    assert (loud[2:].argmax(axis=1) == nearest).all()
    assert (loud[2:, nearest] > 200).all()  # -20 dB, of -90 to -10


def test_pixels_go_from_floor_to_ceiling() -> None:
    p = FrontEnd(floor_db=-70, ceiling_db=-20)
    time = np.arange(p.clip) / p.rate_hz
    levels = []
    for level_db in (-60, -45, -30):
        sine = 32767 * 10 ** (level_db / 20) * np.sin(2 * np.pi * 1000 * time)
        levels.append(int(frames_of(p, np.rint(sine).astype(np.int16)[None])[0, 10].max()))
    # A sine lies on more than one bin, and its band weights them: some dB more or less.
    expected = [255 * (level + 70) / 50 for level in (-60, -45, -30)]
    assert np.abs(np.array(levels) - expected).max() < 255 * 2.5 / 50
    assert np.allclose(np.diff(levels), 255 * 15 / 50, atol=1)


def test_a_clip_that_comes_a_hop_later_gives_its_frames_one_later() -> None:
    clip = RNG.integers(-3000, 3000, DEFAULT.clip).astype(np.int16)
    later = np.concatenate([np.zeros(DEFAULT.hop, np.int16), clip[: -DEFAULT.hop]])
    first, second = frames_of(DEFAULT, np.stack([clip, later]))
    np.testing.assert_array_equal(second[1:], first[:-1])
    assert second[0].max() == 0


def test_frames_do_not_depend_on_what_else_is_computed() -> None:
    clips = np.stack(list(sounds(DEFAULT, RNG).values()))
    together = frames_of(DEFAULT, clips)
    alone = np.concatenate([frames_of(DEFAULT, clip[None]) for clip in clips])
    np.testing.assert_array_equal(together, alone)


def test_a_quarter_turn_of_a_twiddle_is_a_twiddle() -> None:
    w = tables(DEFAULT).twiddles.astype(int)
    quarter = len(w) // 2
    np.testing.assert_array_equal(w[quarter:], np.stack([w[:quarter, 1], -w[:quarter, 0]], axis=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_hz": 100}, "[audio] rate_hz = 100: allowed: 4000 to 192000"),
        (
            {"window_ms": 1.0},
            "[audio] window_ms = 1.0: this is 16 samples at 16000 Hz; allowed: 32",
        ),
        ({"window_ms": 200.0}, "this is 3200 samples at 16000 Hz; allowed: 32 to 2048"),
        ({"hop_ms": 30.0}, "[audio] hop_ms = 30.0: this is 480 samples; allowed: 4 to 476"),
        ({"hop_ms": 0.01}, "[audio] hop_ms = 0.01: this is 0 samples; allowed: 4 to 476"),
        ({"clip_ms": 1.0}, "[audio] clip_ms = 1.0: this is 0 frames of hop_ms = 20.0; allowed: 1"),
        ({"clip_ms": 1e6}, "this is 50000 frames of hop_ms = 20.0; allowed: 1 to 10000"),
        ({"high_hz": 9000.0}, "high_hz at most half of rate_hz, 8000"),
        ({"low_hz": 7600.0}, "[audio] low_hz = 7600.0, high_hz = 7600.0: low_hz has to be less"),
        ({"mels": 300}, "[audio] mels = 300: allowed: 1 to 256"),
        ({"floor_db": -15.0}, "ceiling_db = -10.0: allowed: floor_db from -140, ceiling_db up to"),
        ({"coefficients": 41}, "[audio] coefficients = 41: allowed: 0, which leaves the mel bands"),
        (
            {"coefficients": 13, "lifter": 12},
            "[audio] lifter = 12: allowed: 0, which weighs all coefficients alike, or at least 13",
        ),
        ({"cepstrum_db": 5.0}, "[audio] cepstrum_db = 5.0: allowed: 20 to 1000"),
        ({"mels": 80}, "[audio] mels = 80: filter 3 is narrower than a bin of the spectrum, 31.25"),
    ],
)
def test_parameters_that_give_no_front_end_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        tables(FrontEnd(**changes))


def test_times_are_rounded_to_samples_that_go_in_fours_and_clips_to_frames() -> None:
    p = FrontEnd(rate_hz=11025, window_ms=25, hop_ms=10, high_hz=5000, mels=20)
    assert (p.window, p.hop, p.frames, p.clip) == (276, 112, 98, 98 * 112)
