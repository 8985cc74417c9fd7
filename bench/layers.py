"""What each layer of a network costs on an emulated core, and whether its bytes are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from kept import kept

from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import Program
from tinsmith.pipeline.deployment import device_samples, temporary_build
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.pipeline.ops import OPS, call_of
from tinsmith.pipeline.validation import differing_bytes, interpret
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.target import target_named

PLAIN = ("c",)


@dataclass(frozen=True)
class Layer:
    """One step. instructions: with the kernel that was chosen; plain: with `plain_kernel`."""

    node: str
    op: str
    kernel: str
    shape: str
    macs: int
    instructions: int
    plain: int
    plain_kernel: str

    @property
    def is_slower(self) -> bool:
        """By more than the one percent by which a compiler's choices around a call may differ."""
        own = self.kernel != self.plain_kernel
        return own and self.instructions > 1.01 * self.plain + 20

    def told(self) -> str:
        """A line about it."""
        slower = f", {self.instructions / self.plain:.2f} of plain C" if self.is_slower else ""
        return f"{self.kernel}: {self.shape}: {self.instructions:,} instructions{slower}"


@dataclass(frozen=True)
class Measured:
    """A network on a core. mismatches: output bytes that differ from the interpreter's."""

    core: str
    layers: tuple[Layer, ...]
    mismatches: int

    @property
    def instructions(self) -> int:
        return sum(layer.instructions for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


def measure(graph: Graph, core: str, samples: Mapping[str, Array]) -> Measured:
    """samples: [N, *shape] by input; all are compared, the first is counted."""
    isa = target_named(core).isa
    expected = interpret(graph, samples)
    chosen = lower(graph, "net", isa, LowerOptions())
    plain = lower(graph, "net", PLAIN, LowerOptions())
    counts, wrong = _steps(chosen, core, samples, expected)
    others, more = _steps(plain, core, samples, expected)
    layers = []
    for i, step in enumerate(chosen.steps):
        op = OPS.get(step.node.op)
        macs = 0 if op is None else op.macs(call_of(graph, step.node))
        shape = step.summary.split(": ", 1)[1]
        at = _position(plain, step.node.name)
        layers.append(
            Layer(
                step.node.name, step.node.op, step.kernel, shape, macs,
                counts[i], others[at], plain.steps[at].kernel,
            )
        )  # fmt: skip
    return Measured(core, tuple(layers), wrong + more)


def _position(program: Program, node: str) -> int:
    """Programs of other kernels may order their steps otherwise."""
    return next(i for i, step in enumerate(program.steps) if step.node.name == node)


def _steps(
    program: Program, core: str, samples: Mapping[str, Array], expected: tuple[Array, ...]
) -> tuple[list[int], int]:
    """(instructions of each step, output bytes that differ); kept for what was measured once."""
    rows = device_samples(program.graph, samples)
    facts = (core, rows, [e.tobytes() for e in expected])
    counts, wrong = kept(program, facts, lambda: _run(program, core, rows, expected), trace=True)
    return counts, wrong


def _run(
    program: Program, core: str, rows: list[tuple[bytes, ...]], expected: tuple[Array, ...]
) -> tuple[list[int], int]:
    target = target_named(core)
    with (
        temporary_build(program, target, trace=True) as made,
        open_runner(made.image, target) as runner,
    ):
        results = list(runner.run(rows, reset_each=not program.graph.state))
    outputs = tuple(
        np.stack([np.frombuffer(r.outputs[i], e.dtype).reshape(e.shape[1:]) for r in results])
        for i, e in enumerate(expected)
    )
    counts = np.diff(np.array([0, *results[0].trace_instructions]))
    return [int(c) for c in counts], differing_bytes(outputs, expected)
