"""The front end's C alone on a device: compiled, compared with its definition, measured."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.frontend import probe_files, ram_bytes, selftest_sound
from tinsmith.pipeline.audio.front_end import frames_of
from tinsmith.pipeline.audio.parameters import FrontEnd
from tinsmith.pipeline.errors import GateFailed
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.harness import ModelInterface
from tinsmith.targets.image import Image
from tinsmith.targets.target import Target
from tinsmith.targets.toolchains import Toolchain, compile_image, find_toolchain

_NAME = "sound"


@dataclass(frozen=True)
class FrontEndCost:
    """instructions: of one frame, in the middle of sound. flash_bytes: code and tables. ram_bytes:
    the context. None is what was not measured, which is all but the context on the host.
    """

    ram_bytes: int
    flash_bytes: int | None
    instructions: int | None
    stack_bytes: int | None


def build_front_end(
    p: FrontEnd,
    target: Target,
    folder: Path,
    *,
    whole: bool = False,
    toolchain: Toolchain | None = None,
    sanitize: bool = False,
) -> Image:
    """An image whose runs take the next hop of samples, or a `whole` clip, and give the frames."""
    samples, values = (p.clip, p.frames * p.values) if whole else (p.hop, p.values)
    return compile_image(
        toolchain or find_toolchain(None, target),
        target,
        probe_files(_NAME, p, target.isa, whole=whole),
        ModelInterface(_NAME, (2 * samples,), (values,)),
        folder,
        sanitize=sanitize,
    )


def frames_on_device(
    image: Image, p: FrontEnd, clips: NDArray[np.int16], *, whole: bool = False
) -> NDArray[np.int8]:
    """Frames [N, frames, values] of clips [N, clip], each pushed by hops after a reset, or `whole`;
    the target's alignment rules are watched in the first run."""
    parts: list[bytes] = []
    with open_runner(image) as runner:
        for i, clip in enumerate(clips):
            rows = clip.reshape(1 if whole else p.frames, -1)
            for result in runner.run(
                [(row.tobytes(),) for row in rows],
                reset_each=False,
                count="none",
                check_alignment=i == 0 and image.target.kind == "cortex-m",
            ):
                parts += result.outputs
    return np.frombuffer(b"".join(parts), np.int8).reshape(len(clips), p.frames, p.values)


def measure_front_end(
    p: FrontEnd, target: Target, toolchain: Toolchain | None = None
) -> FrontEndCost:
    """What a front end costs on a target. Raises GateFailed where its C differs from the
    definition on the sound of the self-test, which is a bug."""
    clip = selftest_sound(p)
    expected = frames_of(p, clip[None])[0].astype(np.int16) - 128
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as folder:
        image = build_front_end(p, target, Path(folder), toolchain=toolchain)
        with open_runner(image) as runner:
            rows = [(hop.tobytes(),) for hop in clip.reshape(p.frames, p.hop)]
            results = list(runner.run(rows, reset_each=False, count="all"))
    found = np.frombuffer(b"".join(r.outputs[0] for r in results), np.int8)
    if not np.array_equal(found, expected.reshape(-1)):
        raise GateFailed(
            f"the C of the front end on {target.name} differs from its definition; nothing was "
            "written"
        )
    counted = results[min(1, len(results) - 1)]
    flash = None if image.sizes is None else image.sizes.flash_bytes
    return FrontEndCost(ram_bytes(p), flash, counted.instructions, counted.stack_bytes)
