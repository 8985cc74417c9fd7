"""Kernels chosen by measurement: every candidate of a layer runs in the emulator of the target."""

from __future__ import annotations

from tinsmith.codegen.cost import Cost
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.pipeline.deployment import device_samples, temporary_build
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.validation import Samples
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.image import Elf
from tinsmith.targets.target import Target
from tinsmith.targets.toolchains import Toolchain

# Functions that a model has whatever its kernels are.
COMMON = ("init", "reset", "input", "output", "invoke")


def measure_kernel(
    graph: Graph,
    kernel: str,
    target: Target,
    samples: Samples,
    toolchain: Toolchain | None = None,
) -> Cost:
    """What a kernel costs on a graph of one layer, for the first of the samples."""
    options = LowerOptions(choice={node.name: kernel for node in graph.nodes})
    program = lower(graph, "layer", target.isa, options)
    assert kernel in program.kernels.values(), kernel
    with temporary_build(program, target, toolchain=toolchain) as made:
        sizes, elf = made.image.sizes, Elf(made.image.path)
        with open_runner(made.image, target) as runner:
            (result,) = runner.run(device_samples(graph, samples)[:1])
    assert result.instructions is not None and sizes is not None
    names = {f"{program.name}_{part}" for part in COMMON}
    common = sum(s.size for s in elf.symbols if s.kind == "function" and s.name in names)
    constants = sum(c.nbytes for c in program.constants)
    return Cost(result.instructions, sizes.flash_bytes - common - constants, constants)
