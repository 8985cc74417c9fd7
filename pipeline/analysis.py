"""`analyze`: what a model is and what it would cost, before any work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinsmith.codegen.emit import model_name
from tinsmith.codegen.program import Memory, Program
from tinsmith.codegen.summaries import streaming_summary
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.deployment import lower_for
from tinsmith.pipeline.errors import DoesNotFit, UnsupportedModel
from tinsmith.pipeline.fit import check_fit, makers_of, own_weight_bytes, peak_step
from tinsmith.pipeline.graph import Graph, Shape, Tensor
from tinsmith.pipeline.ops import OPS, call_of
from tinsmith.targets.target import Target

# Beyond these many elements of activations a plan takes more than the moment that a preflight may.
PLANNED_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class Port:
    """An input or output. scale and zero_point are None where it is not quantized per tensor."""

    name: str
    dtype: str
    shape: Shape
    scale: float | None
    zero_point: int | None


@dataclass(frozen=True)
class Layer:
    """One node. weight_bytes: its constants, as in the model. activation_bytes: its outputs."""

    name: str
    op: str
    kernel: str | None
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    macs: int
    weight_bytes: int
    activation_bytes: int


@dataclass(frozen=True)
class Place:
    """Bytes [offset, offset + nbytes) of a memory's arena ("" where there is one only), held from
    the layer `first` to the layer `last`; None before the first and after the last.

    name: the layer that computes what lies there, or the input's.
    """

    name: str
    memory: str
    offset: int
    nbytes: int
    first: str | None
    last: str | None


@dataclass(frozen=True)
class MemoryUse:
    """What a model takes of a memory. kind: "ram" or "flash" (weights beside the own flash)."""

    name: str
    kind: str
    nbytes: int
    limit_bytes: int | None
    section: str
    fits: bool


@dataclass(frozen=True)
class Analysis:
    """The preflight of a model; figures are bytes.

    arena_bytes and what follows are None without a target, for a float model, for one of more than
    PLANNED_ELEMENTS, and where something is not supported.
    unsupported: a line for each layer, with the reason and what to do.
    streaming: which layers are made in stripes of rows, and what that costs.
    weight_bytes: for a target, as its kernels store them; else as the model has them.
    memories: where the target tells its memories apart, those that the model lies in. buffers: the
    map of the arenas.
    """

    model: str
    quantized: bool
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    layers: tuple[Layer, ...]
    macs: int
    parameters: int
    weight_bytes: int
    state_bytes: int
    unsupported: tuple[str, ...] = ()
    target: str | None = None
    arena_bytes: int | None = None
    arena_lower_bound: int | None = None
    arena_is_proven: bool | None = None
    peak_layer: str | None = None
    peak_tensors: tuple[tuple[str, int], ...] = ()
    flash_limit_bytes: int | None = None
    ram_limit_bytes: int | None = None
    fits: bool | None = None
    streaming: str = ""
    memories: tuple[MemoryUse, ...] = ()
    buffers: tuple[Place, ...] = ()

    def json(self) -> dict[str, Any]:
        """The report as plain data, for a file."""
        return asdict(self)


def analyze(
    graph: Graph, target: Target | None = None, options: CodeOptions | None = None
) -> Analysis:
    """Shapes, MACs, weights and activations of every layer; with a target, the arena and the fit.

    Nothing is compiled: `fits` compares weights and arena with the target's memories, and code
    (a few KB) comes on top.
    """
    program: Program | None = None
    unsupported: tuple[str, ...] = ()
    elements = sum(t.size for t in graph.tensors.values() if not t.is_constant)
    if target is not None and graph.is_quantized and elements <= PLANNED_ELEMENTS:
        try:
            name = model_name(graph.name)
            program = lower_for(graph, name, target, options or CodeOptions())
        except UnsupportedModel as e:
            unsupported = tuple(line.strip() for line in str(e).splitlines()[1:]) or (str(e),)
    layers = tuple(_layer(graph, i, program) for i in range(len(graph.nodes)))
    constants = _constants(graph)
    weight_bytes = sum(t.nbytes for t in constants)
    parameters = sum(t.size for t in constants)
    extra: dict[str, Any] = {}
    if target is not None:
        limited = (options or CodeOptions()).limited(target)
        extra = {
            "target": target.name,
            "flash_limit_bytes": limited.flash_bytes,
            "ram_limit_bytes": limited.ram_bytes,
        }
    if program is not None and target is not None:
        weight_bytes = program.weight_bytes
        step, alive = peak_step(program)
        inside = 0 <= step < len(program.steps)
        extra |= {
            "arena_bytes": program.arena_bytes,
            "arena_lower_bound": program.arena_lower_bound,
            "arena_is_proven": program.arena_is_proven,
            "peak_layer": program.steps[step].node.name if inside else None,
            "peak_tensors": tuple(alive),
            "streaming": streaming_summary(program),
            "fits": _fits(program, limited),
            "memories": (*_uses(program.regions, "ram"), *_uses(program.flashes, "flash")),
            "buffers": tuple(_places(program)),
        }
    return Analysis(
        graph.name,
        graph.is_quantized,
        tuple(_port(graph.tensors[n]) for n in graph.inputs),
        tuple(_port(graph.tensors[n]) for n in graph.outputs),
        layers,
        sum(layer.macs for layer in layers),
        parameters,
        weight_bytes,
        sum(s.initial.nbytes for s in graph.state),
        unsupported,
        **extra,
    )


def _fits(program: Program, target: Target) -> bool:
    try:
        check_fit(program, target, own_weight_bytes(program), program.arena_bytes)
    except DoesNotFit:
        return False
    return True


def _uses(memories: Sequence[Memory], kind: str) -> Iterator[MemoryUse]:
    for m in memories:
        yield MemoryUse(m.name, kind, m.nbytes, m.limit_bytes, m.section, not m.excess_bytes)


def _places(program: Program) -> Iterator[Place]:
    steps, makers = program.steps, makers_of(program)

    def layer(step: int) -> str | None:
        return steps[step].node.name if 0 <= step < len(steps) else None

    for b in program.buffers:
        name = makers.get(b.name, b.name)
        yield Place(name, b.region, b.offset, b.nbytes, layer(b.first), layer(b.last))


def _constants(graph: Graph) -> Sequence[Tensor]:
    used = {n for node in graph.nodes for n in node.inputs if n}
    return [t for name, t in graph.tensors.items() if name in used and t.is_constant]


def _layer(graph: Graph, index: int, program: Program | None) -> Layer:
    node = graph.nodes[index]
    call = call_of(graph, node)
    data = [t for t in call.inputs if t is not None]
    kernels = {} if program is None else program.kernels
    return Layer(
        node.name,
        node.op,
        kernels.get(node.name),
        tuple(t.shape for t in data if not t.is_constant),
        tuple(t.shape for t in call.outputs),
        OPS[node.op].macs(call),
        sum(t.nbytes for t in data if t.is_constant),
        sum(t.nbytes for t in call.outputs),
    )


def _port(tensor: Tensor) -> Port:
    single = tensor.quant is not None and len(tensor.quant.scale) == 1
    return Port(
        tensor.name,
        tensor.dtype.value,
        tensor.shape,
        tensor.scale if single else None,
        tensor.zero_point if single else None,
    )
