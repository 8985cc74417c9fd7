"""Networks as `generate` and `validate` build them: with options, memories, sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from support.nets import random_samples
from tinsmith.codegen.program import Program
from tinsmith.pipeline.deployment import Build, build
from tinsmith.pipeline.validation import differing_bytes, interpret, run_device
from tinsmith.targets.target import Target
from tinsmith.targets.toolchains import sanitizer_compiler


def check_build(
    program: Program,
    target: Target,
    folder: Path,
    *,
    sanitize: bool = False,
    opt: str | None = None,
) -> Build:
    """Builds a program, runs it on random samples, and asserts that no byte differs."""
    toolchain = sanitizer_compiler() if sanitize else None
    made = build(program, target, folder, toolchain=toolchain, sanitize=sanitize, opt=opt)
    samples = random_samples(program.graph, np.random.default_rng(5), 3)
    outputs, _, _ = run_device(made, samples)
    assert differing_bytes(outputs, interpret(program.graph, samples)) == 0
    return made
