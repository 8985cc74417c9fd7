"""The front end's C on emulated cores: the definition's bytes, and what a frame costs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from support.frontends import SMALL, sounds
from support.goldens import DATA
from tinsmith.pipeline.audio.device import build_front_end, frames_on_device, measure_front_end
from tinsmith.pipeline.audio.front_end import frames_of
from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.audio.wav import read_wav
from tinsmith.pipeline.graph import Array
from tinsmith.targets.isa import check_isa
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import find_toolchain

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "raspberry-pi-4")
RECORDINGS = ("yes", "no", "noise", "silence")


def expected(p: FrontEnd, clips: Array) -> Array:
    pixels: Array = (frames_of(p, clips).astype(np.int16) - 128).astype(np.int8)
    return pixels


@pytest.mark.parametrize("core", CORES)
def test_a_core_gives_the_bytes_of_the_definition(tmp_path: Path, core: str) -> None:
    p = FrontEnd()
    clips = np.stack(list(sounds(p, np.random.default_rng(0)).values()))
    image = build_front_end(p, target_named(core), tmp_path, whole=True)
    check_isa(image)
    np.testing.assert_array_equal(frames_on_device(image, p, clips, whole=True), expected(p, clips))


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
@pytest.mark.parametrize("p", SMALL, ids=lambda p: f"{p.rate_hz}-{p.window}-{p.values}")
def test_other_sizes_give_the_bytes_of_the_definition(
    tmp_path: Path, core: str, p: FrontEnd
) -> None:
    clips = np.stack(list(sounds(p, np.random.default_rng(0)).values()))[:1]
    clips = np.concatenate([clips, np.random.default_rng(1).integers(-32768, 32768, clips.shape)])
    image = build_front_end(p, target_named(core), tmp_path, whole=True)
    frames = frames_on_device(image, p, clips.astype(np.int16), whole=True)
    np.testing.assert_array_equal(frames, expected(p, clips.astype(np.int16)))


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_recordings_pushed_by_hops_give_the_bytes_of_the_definition(
    tmp_path: Path, core: str
) -> None:
    p = FrontEnd()
    paths = [DATA / "samples" / "tflm" / f"{name}_1000ms.wav" for name in RECORDINGS]
    for path in paths:
        if not path.exists():
            pytest.skip(f"{path.name} is not here: it is shared data, no part of the project")
    clips = np.stack([read_wav(path, p.rate_hz) for path in paths])
    image = build_front_end(p, target_named(core), tmp_path)
    np.testing.assert_array_equal(frames_on_device(image, p, clips), expected(p, clips))


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="arm gcc is not installed")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_gcc_gives_the_same_bytes(tmp_path: Path, core: str) -> None:
    p, target = FrontEnd(), target_named(core)
    clips = np.stack(list(sounds(p, np.random.default_rng(0)).values()))[-3:]
    compiler = find_toolchain("gcc", target)
    image = build_front_end(p, target, tmp_path, whole=True, toolchain=compiler)
    np.testing.assert_array_equal(frames_on_device(image, p, clips, whole=True), expected(p, clips))


@pytest.mark.parametrize(
    ("core", "coefficients", "instructions", "flash"),
    [
        ("cortex-m4", 0, 34_000, 6_900),
        ("cortex-m0plus", 0, 88_000, 5_500),
        ("cortex-m4", 13, 36_000, 8_200),
        ("cortex-m0plus", 13, 91_500, 6_900),
    ],
)
def test_a_frame_costs_what_the_documentation_says(
    core: str, coefficients: int, instructions: int, flash: int
) -> None:
    cost = measure_front_end(FrontEnd(coefficients=coefficients), target_named(core))
    assert cost.instructions is not None and cost.instructions <= instructions
    assert cost.flash_bytes is not None and cost.flash_bytes <= flash
    assert cost.stack_bytes is not None and cost.stack_bytes <= 256
    assert cost.ram_bytes == 2368
