"""Small models in C, by hand, that obey the interface of generated code."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinsmith.pipeline.graph import Array
from tinsmith.targets.harness import ModelInterface
from tinsmith.targets.image import Image, WeightSymbols
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import compile_image, find_toolchain

_HEADER = """
#ifndef TOY_H
#define TOY_H
#include <stdint.h>
#define TOY_ARENA_BYTES {arena}
typedef struct toy_t {{
    int8_t arena[TOY_ARENA_BYTES] __attribute__((aligned(16)));
    int8_t state;
}} toy_t;
void toy_init(toy_t *ctx);
void toy_reset(toy_t *ctx);
int toy_run(toy_t *ctx);
int8_t *toy_input(toy_t *ctx, int i);
const int8_t *toy_output(const toy_t *ctx, int i);
#endif
"""

_SOURCE = """
#include "toy.h"
{head}
static const int8_t toy_weights[{m}][{n}] = {{{weights}}};
void toy_init(toy_t *ctx) {{ toy_reset(ctx); }}
void toy_reset(toy_t *ctx) {{ ctx->state = 0; }}
int8_t *toy_input(toy_t *ctx, int i) {{ (void)i; return ctx->arena; }}
const int8_t *toy_output(const toy_t *ctx, int i) {{ (void)i; return ctx->arena + {n}; }}
int toy_run(toy_t *ctx) {{
    const int8_t *x = ctx->arena;
    int8_t *y = ctx->arena + {n};
    {body}
    for (int o = 0; o < {m}; o++) {{
        int32_t acc = 0;
        for (int k = 0; k < {n}; k++) {{
            acc += x[k] * toy_weights[o][k];
        }}
        acc = (acc >> 6) + ctx->state;
        y[o] = (int8_t)(acc > 127 ? 127 : acc < -128 ? -128 : acc);
    }}
    ctx->state++;
    return 0;
}}
"""


def toy_weights(n: int, m: int) -> Array:
    return np.random.default_rng(n * m).integers(-127, 128, (m, n), dtype=np.int8)


def toy_reference(x: Array, m: int, state: int = 0) -> bytes:
    """What the model computes of one sample after `state` runs."""
    acc = toy_weights(x.size, m).astype(np.int32) @ x.astype(np.int32)
    return np.clip((acc >> 6) + state, -128, 127).astype(np.int8).tobytes()


def toy_sources(n: int = 64, m: int = 10, body: str = "", head: str = "") -> dict[str, str]:
    """y = clamp((W x >> 6) + runs since reset); `body` goes before the loop, `head` on top."""
    rows = ", ".join(
        "{" + ", ".join(str(w) for w in row) + "}" for row in toy_weights(n, m).tolist()
    )
    source = _SOURCE.format(n=n, m=m, weights=rows, body=body, head=head)
    return {"toy.h": _HEADER.format(arena=n + m), "toy.c": source}


def toy_interface(n: int = 64, m: int = 10) -> ModelInterface:
    return ModelInterface("toy", (n,), (m,))


def assembly_sources(run: str) -> dict[str, str]:
    """A model whose every function is assembly, so that its bytes and instructions are known.

    16 bytes in, 16 out, in place. Besides `run`, its code is 4 + 4 + 4 + 4 bytes on Cortex-M and
    4 + 4 + 4 + 4 on AArch64.
    """
    functions = {"init": "bx lr", "reset": "bx lr", "input": "bx lr", "output": "bx lr"}
    lines = []
    for name, text in {**functions, "run": run}.items():
        body = text.replace("bx lr", "RETURN").strip().replace("\n", "\\n")
        lines.append(f'ASM("toy_{name}", "{body}")')
    macro = """
#include "toy.h"
#if defined(__aarch64__)
#define RETURN_TEXT "ret"
#define THUMB ""
#else
#define RETURN_TEXT "bx lr"
#define THUMB ".syntax unified\\n.thumb_func\\n"
#endif
#define ASM(name, body) \\
    __asm__(".section .text." name ",\\"ax\\",%progbits\\n.balign 2\\n.globl " name "\\n" \\
            ".type " name ",%function\\n" THUMB name ":\\n" \\
            ".macro RETURN\\n" RETURN_TEXT "\\n.endm\\n" body "\\n.purgem RETURN\\n" \\
            ".size " name ", . - " name "\\n.text\\n");
"""
    return {"toy.h": _HEADER.format(arena=16), "toy.c": macro + "\n".join(lines) + "\n"}


def build(
    target_name: str,
    folder: Path,
    sources: dict[str, str],
    interface: ModelInterface,
    *,
    opt: str | None = None,
    weight_symbols: WeightSymbols = ("toy_weights",),
    emulator: str | None = None,
) -> Image:
    target = target_named(target_name)
    toolchain = find_toolchain(None, target)
    return compile_image(
        toolchain, target, sources, interface, folder, opt=opt,
        weight_symbols=weight_symbols, emulator=emulator,
    )  # fmt: skip
