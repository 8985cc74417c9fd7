"""The front end's C on this computer: the definition's bytes, with and without sanitizers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from support.frontends import SMALL, sounds
from tinsmith.codegen.frontend import frontend_files, ram_bytes
from tinsmith.pipeline.audio.device import build_front_end, frames_on_device, measure_front_end
from tinsmith.pipeline.audio.front_end import frames_of
from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.errors import GateFailed
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import find_toolchain, sanitizer_compiler, sanitizers_available

HOST = target_named("host")
ALL = (FrontEnd(), *SMALL)
EACH = pytest.mark.parametrize("p", ALL, ids=lambda p: f"{p.rate_hz}-{p.window}-{p.values}")


def defined(p: FrontEnd) -> tuple[np.ndarray, np.ndarray]:
    """Clips, and the frames that the definition gives."""
    clips = np.stack(list(sounds(p, np.random.default_rng(3)).values()))
    return clips, (frames_of(p, clips).astype(np.int16) - 128).astype(np.int8)


@EACH
@pytest.mark.parametrize("whole", [True, False], ids=["clip", "hops"])
def test_clips_and_hops_give_the_bytes_of_the_definition(
    tmp_path: Path, p: FrontEnd, whole: bool
) -> None:
    clips, expected = defined(p)
    image = build_front_end(p, HOST, tmp_path, whole=whole)
    if not whole:
        clips, expected = clips[:1], expected[:1]
        # What is pushed goes on from what was pushed before: one long clip.
        clips = np.random.default_rng(1).integers(-9000, 9000, clips.shape).astype(np.int16)
        expected = (frames_of(p, clips).astype(np.int16) - 128).astype(np.int8)
    np.testing.assert_array_equal(frames_on_device(image, p, clips, whole=whole), expected)


@pytest.mark.skipif(not sanitizers_available(), reason="no compiler with sanitizers is installed")
@EACH
def test_no_address_and_no_overflow_is_wrong(tmp_path: Path, p: FrontEnd) -> None:
    clips, expected = defined(p)
    compiler = sanitizer_compiler()
    image = build_front_end(p, HOST, tmp_path, whole=True, toolchain=compiler, sanitize=True)
    np.testing.assert_array_equal(frames_on_device(image, p, clips, whole=True), expected)


@pytest.mark.skipif(not sanitizers_available(), reason="no compiler with sanitizers is installed")
def test_the_short_multiplies_of_small_cores_overflow_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    p = FrontEnd()
    clips, expected = defined(p)
    m0 = replace(HOST, core=replace(HOST.core, isa=("m0", "c")))
    compiler = sanitizer_compiler()
    image = build_front_end(p, m0, tmp_path, whole=True, toolchain=compiler, sanitize=True)
    assert "(int64_t)x" not in (tmp_path / "sound_frontend.c").read_text()
    np.testing.assert_array_equal(frames_on_device(image, p, clips, whole=True), expected)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_gcc_gives_the_same_bytes(tmp_path: Path) -> None:
    p = FrontEnd()
    clips, expected = defined(p)
    image = build_front_end(p, HOST, tmp_path, whole=True, toolchain=find_toolchain("gcc", HOST))
    np.testing.assert_array_equal(frames_on_device(image, p, clips, whole=True), expected)


def test_a_reset_forgets_what_was_pushed(tmp_path: Path) -> None:
    p = FrontEnd()
    clip = np.random.default_rng(0).integers(-9000, 9000, p.clip).astype(np.int16)
    image = build_front_end(p, HOST, tmp_path, whole=True)
    twice = frames_on_device(image, p, np.stack([clip, clip]), whole=True)
    np.testing.assert_array_equal(twice[0], twice[1])


def test_the_text_is_the_same_each_time_and_its_names_are_the_models() -> None:
    files = frontend_files("kws", FrontEnd(), ("m4", "c"))
    assert files == frontend_files("kws", FrontEnd(), ("m4", "c"))
    assert set(files) == {"kws_frontend.h", "kws_frontend.c"}
    assert "#define KWS_FRONTEND_HOP 320" in files["kws_frontend.h"]
    assert f"RAM: {ram_bytes(FrontEnd())} bytes" in files["kws_frontend.h"]
    assert "float" not in files["kws_frontend.c"].replace("float64", "")


def test_c_that_differs_from_the_definition_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinsmith.pipeline.audio import device

    def other(p: FrontEnd, clips: np.ndarray) -> np.ndarray:
        pixels = frames_of(p, clips)
        pixels[0, 1, 2] ^= 1
        return pixels

    monkeypatch.setattr(device, "frames_of", other)
    with pytest.raises(GateFailed, match="the C of the front end on host differs from its definit"):
        measure_front_end(FrontEnd(), HOST)
