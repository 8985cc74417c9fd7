"""Front ends in C, built as models whose input is sound and whose output are frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinsmith.codegen.frontend import frontend_files
from tinsmith.pipeline.audio.parameters import LogMel
from tinsmith.pipeline.graph import Array
from tinsmith.targets.harness import ModelInterface
from tinsmith.targets.image import Image
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import compile_image, find_toolchain, sanitizer_compiler

_HEADER = """
#ifndef SOUND_H
#define SOUND_H
#include "sound_frontend.h"
typedef struct sound_t {{
    sound_frontend_t frontend;
    int16_t samples[{samples}];
    int8_t frames[{values}];
}} sound_t;
void sound_init(sound_t *ctx);
void sound_reset(sound_t *ctx);
int sound_run(sound_t *ctx);
int16_t *sound_input(sound_t *ctx, int i);
const int8_t *sound_output(const sound_t *ctx, int i);
#endif
"""

_SOURCE = """
#include "sound.h"
void sound_init(sound_t *ctx) {{ sound_reset(ctx); }}
void sound_reset(sound_t *ctx) {{ sound_frontend_reset(&ctx->frontend); }}
int16_t *sound_input(sound_t *ctx, int i) {{ (void)i; return ctx->samples; }}
const int8_t *sound_output(const sound_t *ctx, int i) {{ (void)i; return ctx->frames; }}
int sound_run(sound_t *ctx) {{
    sound_frontend_{call}(&ctx->frontend, ctx->samples, ctx->frames);
    return 0;
}}
"""


def build_frontend(
    p: LogMel,
    target_name: str,
    folder: Path,
    *,
    whole: bool,
    sanitize: bool = False,
    toolchain: str | None = None,
) -> Image:
    """An image whose runs take a clip (`whole`) or the next hop of samples, and give its frames."""
    target = target_named(target_name)
    compiler = sanitizer_compiler() if sanitize else find_toolchain(toolchain, target)
    assert compiler is not None
    samples, values = (p.clip, p.frames * p.mels) if whole else (p.hop, p.mels)
    call = "clip" if whole else "push"
    sources = {
        **frontend_files("sound", p, target.isa),
        "sound.h": _HEADER.format(samples=samples, values=values),
        "sound.c": _SOURCE.format(call=call),
    }
    interface = ModelInterface("sound", (2 * samples,), (values,))
    return compile_image(compiler, target, sources, interface, folder, sanitize=sanitize)


def sounds(p: LogMel, rng: np.random.Generator) -> dict[str, Array]:
    """Clips [clip] at the edges: silence, full scale, steps, impulses, noise of many levels."""
    time = np.arange(p.clip)
    square = np.where(time // 16 % 2 == 0, 32767, -32768)
    impulses = np.zeros(p.clip)
    impulses[:: p.hop + 7] = -32768
    loudness = np.geomspace(0.5, 40000, p.clip)
    made = {
        "silence": np.zeros(p.clip),
        "square": square,
        "fastest": np.where(time % 2 == 0, 32767, -32768),
        "constant": np.full(p.clip, -32768),
        "impulses": impulses,
        "one": np.eye(1, p.clip, p.clip // 2)[0],
        "noise": rng.integers(-32768, 32768, p.clip),
        "louder": np.clip(rng.standard_normal(p.clip) * loudness, -32768, 32767),
        "sines": 16000 * np.sin(time * 0.05) + 16000 * np.sin(time * 0.0013),
    }
    return {name: x.astype(np.int16) for name, x in made.items()}
