"""Every kernel variant gives the same bytes however its C is built, and where it runs."""

from __future__ import annotations

import functools
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from support.nets import random_samples
from support.variants import every_kernel, selection, variant_of
from tinsmith.codegen.emit import Sources, emit
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import Program
from tinsmith.pipeline.deployment import device_samples, interface_of
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.validation import interpret
from tinsmith.targets.cores import CORES_BY_NAME
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.emulators.qemu import qemu_available
from tinsmith.targets.harness import QEMU_MACHINES
from tinsmith.targets.isa import check_isa
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import compile_image, find_toolchain

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4")  # one for each instruction set
BUILDS = (
    ("zig", "-O0", False), ("zig", "-Os", False), ("zig", "-O3", False), ("zig", "-O2", True),
    ("gcc", "-O0", False), ("gcc", "-Os", False), ("gcc", "-O2", False), ("gcc", "-O3", True),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Matrix:
    """All variants of an instruction set, samples, and what the interpreter gives for them."""

    program: Program
    sources: Sources
    samples: dict[str, Array]
    expected: tuple[Array, ...]


@functools.cache
def matrix(isa: tuple[str, ...]) -> Matrix:
    chosen = selection(isa)
    program = lower(chosen.graph, "net", isa, LowerOptions(choice=chosen.choice))
    assert {variant_of(s.kernel, s.plan) for s in program.steps} >= chosen.variants
    samples = random_samples(chosen.graph, np.random.default_rng(3), 4)
    return Matrix(program, emit(program), samples, interpret(chosen.graph, samples))


def differing(
    core: str,
    compiler: str,
    folder: Path,
    *,
    opt: str | None = None,
    lto: bool = False,
    emulator: str | None = None,
) -> list[str]:
    """The outputs that differ from the interpreter's."""
    target = target_named(core)
    made = matrix(target.isa)
    image = compile_image(
        find_toolchain(compiler, target), target, made.sources.model, interface_of(made.program),
        folder, opt=opt, lto=lto, emulator=emulator, weight_symbols=made.sources.weight_symbols,
    )  # fmt: skip
    check_isa(image)
    graph = made.program.graph
    watched = image.emulator == "unicorn"
    with open_runner(image) as runner:
        rows = device_samples(graph, made.samples)
        results = list(runner.run(rows, reset_each=not graph.state, check_alignment=watched))
    return [
        name
        for i, (name, want) in enumerate(zip(graph.outputs, made.expected, strict=True))
        if [r.outputs[i] for r in results] != [row.tobytes() for row in want]
    ]


@pytest.mark.parametrize("core", CORES)
def test_the_matrix_holds_every_kernel_of_the_instruction_set(core: str) -> None:
    isa = CORES_BY_NAME[core].isa
    used = {step.kernel for step in matrix(isa).program.steps}
    assert every_kernel(isa) - used == set()


@pytest.mark.parametrize(("compiler", "opt", "lto"), BUILDS)
@pytest.mark.parametrize("core", CORES)
def test_every_build_gives_the_same_bytes(
    core: str, compiler: str, opt: str, lto: bool, tmp_path: Path
) -> None:
    if compiler == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("needs arm-none-eabi-gcc")
    assert differing(core, compiler, tmp_path, opt=opt, lto=lto) == []


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
@pytest.mark.parametrize("core", tuple(QEMU_MACHINES))
def test_qemu_takes_every_access_and_instruction(core: str, compiler: str, tmp_path: Path) -> None:
    if not qemu_available():
        pytest.skip("needs qemu-system-arm")
    if compiler == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("needs arm-none-eabi-gcc")
    assert differing(core, compiler, tmp_path, emulator="qemu") == []
