"""Validation: the same bytes from the interpreter, the oracles, and the C on the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.program import Program
from tinsmith.codegen.summaries import streaming_summary
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.deployment import (
    Build,
    device_samples,
    temporary_build,
    traced_steps,
)
from tinsmith.pipeline.errors import ToolFailed
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.exporters.tflite_uint8 import in_file, of_type
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.pipeline.ops import OPS, Oracle, call_of
from tinsmith.pipeline.oracles import absent_oracles, installed_oracles
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.target import Target
from tinsmith.targets.toolchains import Toolchain

Samples = Mapping[str, Array]
Outputs = tuple[Array, ...]
RANDOM_NOTE = "random input: not an accuracy figure"


@dataclass(frozen=True)
class LayerResult:
    """One step on the device against the interpreter, over the samples that were traced."""

    name: str
    op: str
    kernel: str
    shape: tuple[int, ...]
    mismatches: int
    max_difference: int


@dataclass(frozen=True)
class Validation:
    """What `tinsmith validate` reports; docs/validation.md says what each figure counts.

    mismatches: bytes of all outputs in which the target differs from the interpreter.
    oracles: differing bytes by oracle. skipped_oracles: oracle -> why it was not asked.
    arena_lower_bound: no arena of these calls in this order is smaller. arena_is_proven: the
    program's is not larger, and so the least.
    memories: bytes of arenas and weights by memory, where the target tells its memories apart.
    """

    target: str
    samples: int
    bit_exact: bool
    oracles: Mapping[str, int]
    mismatches: int
    instructions: int | None
    arena_bytes: int
    stack_bytes: int | None
    code_bytes: int | None
    weight_bytes: int
    flash_bytes: int | None
    toolchain: str
    emulator: str
    kernels: Mapping[str, str]
    objective: str
    arena_lower_bound: int
    arena_is_proven: bool
    streaming: str
    input: str
    skipped_oracles: Mapping[str, str] = field(default_factory=dict)
    memories: Mapping[str, int] = field(default_factory=dict)
    layers: tuple[LayerResult, ...] = ()
    first_difference: str | None = None

    def json(self) -> dict[str, Any]:
        """The report as plain data, for a file."""
        return asdict(self)


def random_samples(graph: Graph, count: int, seed: int = 0) -> Samples:
    """Uniform random input over the whole range of each input's type."""
    rng = np.random.default_rng(seed)
    samples = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        shape = (count, *tensor.shape)
        if tensor.dtype.is_integer:
            info = np.iinfo(tensor.dtype.numpy)
            samples[name] = rng.integers(info.min, info.max + 1, shape).astype(tensor.dtype.numpy)
        else:
            samples[name] = rng.standard_normal(shape).astype(np.float32)
    return samples


def interpret(graph: Graph, samples: Samples) -> Outputs:
    """The interpreter's outputs [N, *shape]; with state, the samples are one sequence."""
    if not graph.state:
        return interpreter.run_samples(graph, samples)
    state = None
    rows: list[Outputs] = []
    for i in range(count_of(samples)):
        tensors, state = interpreter.run(graph, {n: samples[n][i] for n in graph.inputs}, state)
        rows.append(interpreter.outputs(graph, tensors))
    return tuple(np.stack(parts) for parts in zip(*rows, strict=True))


def count_of(samples: Samples) -> int:
    return len(next(iter(samples.values())))


def run_device(build: Build, samples: Samples) -> tuple[Outputs, int | None, int | None]:
    """(outputs [N, *shape], instructions of the first inference, peak stack) of the C."""
    program = build.program
    graph = program.graph
    rows = device_samples(graph, samples)
    collected: list[list[Array]] = []
    instructions = stack = None
    with open_runner(build.image, build.target) as runner:
        for result in runner.run(rows, reset_each=not graph.state, count="first"):
            collected.append(
                [
                    _from_bytes(b, graph, n)
                    for b, n in zip(result.outputs, graph.outputs, strict=True)
                ]
            )
            instructions = instructions if result.instructions is None else result.instructions
            stack = stack if result.stack_bytes is None else result.stack_bytes
    outputs = tuple(np.stack(parts) for parts in zip(*collected, strict=True))
    return outputs, instructions, stack


def _from_bytes(data: bytes, graph: Graph, name: str) -> Array:
    tensor = graph.tensors[name]
    return np.frombuffer(data, tensor.dtype.numpy).reshape(tensor.shape)


def differing_bytes(a: Sequence[Array], b: Sequence[Array]) -> int:
    """Bytes in which two lists of arrays of the same shapes differ."""
    return sum(int(np.count_nonzero(_bytes(x) != _bytes(y))) for x, y in zip(a, b, strict=True))


def _bytes(array: Array) -> NDArray[np.uint8]:
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


def ask_oracles(
    graph: Graph, samples: Samples, expected: Outputs
) -> tuple[dict[str, int], dict[str, str]]:
    """(differing bytes by oracle, why the others were not asked)."""
    counts: dict[str, int] = {}
    skipped = {name: f"not installed: {how}" for name, how in absent_oracles().items()}
    model = to_tflite(graph)
    for name, oracle in installed_oracles().items():
        reason = _not_an_oracle(graph, name)
        if reason:
            skipped[name] = reason
            continue
        try:
            feeds: dict[str | int, Array] = {n: in_file(graph, a) for n, a in samples.items()}
            outputs = oracle.run(model, feeds, stateful=bool(graph.state), isolated=True)
        except ToolFailed as e:
            skipped[name] = str(e)
            continue
        outputs = [
            of_type(o, graph.tensors[n]) for o, n in zip(outputs, graph.outputs, strict=True)
        ]
        # An output's type is the model's own; runtimes may return it with other leading dimensions.
        counts[name] = differing_bytes(
            [o.reshape(e.shape) for o, e in zip(outputs, expected, strict=True)], expected
        )
    return counts, skipped


def _not_an_oracle(graph: Graph, name: str) -> str:
    """Why a runtime does not define this model: it computes one of its ops otherwise."""
    for node in graph.nodes:
        op = OPS[node.op]
        call = call_of(graph, node)
        definer = op.definer(call)
        if definer is Oracle.OWN:
            return f"{node.op} '{node.name}' is tinsmith's own definition"
        if not any(name in o.value and op.is_computed_by(call, o) for o in Oracle):
            return f"{node.op} '{node.name}' is defined by {definer.value}"
    return ""


def validate(
    program: Program,
    target: Target,
    samples: Samples,
    *,
    toolchain: Toolchain | None = None,
    made: Build | None = None,
    expected: Outputs | None = None,
    per_layer: bool = False,
    note: str = "",
    oracles: bool = True,
    emulator: str | None = None,
) -> tuple[Validation, Outputs]:
    """Runs the samples everywhere and compares. Returns the report and the target's outputs.

    made: the compiled model, where there is one already; else it is compiled for the occasion.
    expected: the interpreter's outputs, where they are known already. emulator: None is the
    target's own; layers are compared on that one always.
    """
    graph = program.graph
    if expected is None:
        expected = interpret(graph, samples)
    counts: dict[str, int] = {}
    skipped: dict[str, str] = {}
    if oracles:
        counts, skipped = ask_oracles(graph, samples, expected)
    options = {"toolchain": toolchain, "emulator": emulator}
    with nullcontext(made) if made else temporary_build(program, target, **options) as b:
        outputs, instructions, stack = run_device(b, samples)
        sizes, image = b.image.sizes, b.image
    mismatches = differing_bytes(outputs, expected)
    layers: tuple[LayerResult, ...] = ()
    if per_layer:
        layers = compare_layers(program, target, samples, toolchain=toolchain)
    report = Validation(
        target=target.name,
        samples=count_of(samples),
        bit_exact=mismatches == 0 and not any(counts.values()),
        oracles=counts,
        mismatches=mismatches,
        instructions=instructions,
        arena_bytes=program.arena_bytes if sizes is None else sizes.ram_bytes,
        stack_bytes=stack,
        code_bytes=None if sizes is None else sizes.code_bytes,
        weight_bytes=program.weight_bytes if sizes is None else sizes.weight_bytes,
        flash_bytes=None if sizes is None else sizes.flash_bytes,
        toolchain=image.toolchain,
        emulator=image.emulator,
        kernels=dict(program.kernels),
        objective=program.objective,
        arena_lower_bound=program.arena_lower_bound,
        arena_is_proven=program.arena_is_proven,
        streaming=streaming_summary(program),
        input=note or "given samples",
        skipped_oracles=skipped,
        memories={m.name: m.nbytes for m in (*program.regions, *program.flashes)},
        layers=layers,
        first_difference=next((x.name for x in layers if x.mismatches), None),
    )
    return report, outputs


def compare_layers(
    program: Program,
    target: Target,
    samples: Samples,
    *,
    toolchain: Toolchain | None = None,
    count: int = 3,
) -> tuple[LayerResult, ...]:
    """Every layer's output on the target against the interpreter, over the first `count`
    samples."""
    graph = program.graph
    few = {name: array[:count] for name, array in samples.items()}
    wrong = dict.fromkeys(program.kernels, 0)
    worst = dict.fromkeys(program.kernels, 0)
    state = None
    for i, steps in enumerate(traced_steps(program, target, few, toolchain)):
        inputs = {n: few[n][i] for n in graph.inputs}
        tensors, after = interpreter.run(graph, inputs, state)
        state = after if graph.state else None
        for step, have in steps:
            node = program.steps[step].node
            want = tensors[node.inputs[0] if node.op == "assign" else node.outputs[0]]
            gap = np.abs(have.astype(np.float64) - want.astype(np.float64).reshape(have.shape))
            wrong[node.name] += int(np.count_nonzero(gap))
            worst[node.name] = max(worst[node.name], int(gap.max(initial=0)))
    return tuple(
        LayerResult(
            s.node.name,
            s.node.op,
            s.kernel,
            graph.tensors[s.node.outputs[0]].shape,
            wrong[s.node.name],
            worst[s.node.name],
        )
        for s in program.layers
    )
