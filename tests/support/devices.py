"""Runs a graph's generated C on a target and compares it with the interpreter, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from support.nets import random_samples
from tinsmith.codegen.emit import emit
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import Program
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.harness import ModelInterface
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import compile_image, find_toolchain, sanitizer_compiler


def interface_of(graph: Graph, name: str = "net") -> ModelInterface:
    return ModelInterface(
        name,
        tuple(graph.tensors[t].nbytes for t in graph.inputs),
        tuple(graph.tensors[t].nbytes for t in graph.outputs),
    )


def differences(
    graph: Graph,
    target_name: str,
    folder: Path,
    samples: dict[str, Array],
    *,
    options: LowerOptions | None = None,
    sanitize: bool = False,
    opt: str | None = None,
    isa: tuple[str, ...] | None = None,
    program: Program | None = None,
) -> dict[str, int]:
    """Differing bytes of each output over all samples; the target's alignment rules are watched.

    isa: another core's kernels, by the C models that stand beside their assembly. program: a
    lowering of the graph, where it is not to be the usual one.
    """
    target = target_named(target_name)
    program = program or lower(graph, "net", isa or target.isa, options)
    sources = emit(program)
    toolchain = sanitizer_compiler() if sanitize else find_toolchain(None, target)
    assert toolchain is not None
    image = compile_image(
        toolchain, target, sources.model, interface_of(graph), folder,
        weight_symbols=sources.weight_symbols, sanitize=sanitize, opt=opt,
    )  # fmt: skip
    count = len(next(iter(samples.values())))
    rows = [tuple(samples[n][i].tobytes() for n in graph.inputs) for i in range(count)]
    found = dict.fromkeys(graph.outputs, 0)
    with open_runner(image, target) as runner:
        watched = target.kind == "cortex-m"
        results = list(runner.run(rows, check_alignment=watched, reset_each=False))
    state = None  # kept from sample to sample, as on the device
    for i, result in enumerate(results):
        feeds = {n: samples[n][i] for n in graph.inputs}
        tensors, state = interpreter.run(graph, feeds, state)
        expected = interpreter.outputs(graph, tensors)
        for name, want, got in zip(graph.outputs, expected, result.outputs, strict=True):
            have = np.frombuffer(got, np.uint8)
            found[name] += int(np.count_nonzero(have != np.frombuffer(want.tobytes(), np.uint8)))
    return found


__all__ = ["differences", "interface_of", "random_samples"]
