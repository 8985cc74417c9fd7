"""Small graphs that together take every variant of every kernel of an instruction set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cases import CASES
from support.kernel_edges import edges, many_pixels
from support.merge import merge
from support.nets import Net
from tinsmith.codegen.kernels import KERNELS, Kernel, kernels_of
from tinsmith.codegen.program import KernelPlan
from tinsmith.pipeline.graph import NO_ATTRS, Activation, Graph, Node, QuantParams
from tinsmith.pipeline.ops import call_of
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs

Variant = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Selection:
    """choice: node -> its kernel, as LowerOptions takes it. variants: what they are together."""

    graph: Graph
    choice: Mapping[str, str]
    variants: frozenset[Variant]


def variant_of(kernel: str, plan: KernelPlan) -> Variant:
    """The kernel, and which of the assembly functions it calls."""
    tiles = (str(v) for f, v in sorted(plan.fixed.items()) if f in ("tile", "outputs"))
    return (kernel, *tiles)


def selection(isa: tuple[str, ...]) -> Selection:
    """The edge cases of the multiply-accumulate kernels and the cases of every op, as far as they
    show a variant that none before them shows."""
    seen: set[Variant] = set()
    graphs: list[Graph] = []
    choice: dict[str, str] = {}
    for graph in _candidates(isa, seen):
        for node, kernel in _kernels(graph, isa):
            variant = variant_of(kernel.name, kernel.plan(call_of(graph, node)))
            if variant not in seen:
                seen.add(variant)
                choice[f"g{len(graphs)}_{node.name}"] = kernel.name
                graphs.append(graph)
    return Selection(merge("matrix", graphs), choice, frozenset(seen))


def every_kernel(isa: tuple[str, ...]) -> set[str]:
    """The kernels that a core with these instruction sets may take."""
    return {k.name for k in KERNELS if k.isa in isa}


def _more_edges(rng: np.random.Generator) -> Iterator[Graph]:
    """Windows of every number of columns, clamps inside the range of int8, wide channels."""
    for columns in range(1, 8):
        for kind in (Activation.NONE, Activation.RELU6):
            yield _layer(rng, (1, 6, 9, 4), (2, columns), 4, kind, depth=False)
            yield _layer(rng, (1, 6, 9, 4), (2, columns), 4, kind, depth=True)
    for channels in (16, 32):
        for kind in (Activation.NONE, Activation.RELU6):
            yield _layer(rng, (1, 4, 6, channels), (3, 3), 4, kind, depth=False)
            yield _layer(rng, (1, 4, 6, channels), (3, 3), channels, kind, depth=True)
    for op, attrs in (("add", AddAttrs()), ("squared_difference", NO_ATTRS)):
        net = Net(op, rng)
        x = net.input((1, 3, 5))
        one = net.builder.constant("k", np.full((1,), 7, np.int8), QuantParams.per_tensor(0.04, 1))
        yield net.graph([net.node(op, [x, one], attrs)])


def _layer(
    rng: np.random.Generator, image: tuple[int, int, int, int], kernel: tuple[int, int], out: int,
    activation: Activation, *, depth: bool,
) -> Graph:  # fmt: skip
    net = Net("layer", rng)
    x = net.input(image)
    quant = QuantParams.per_tensor(0.04, -100) if activation is Activation.RELU6 else None
    shape = (1, *kernel, out) if depth else (out, *kernel, image[3])
    w = net.weights(shape, x, axis=3 if depth else 0, fan_in=kernel[0] * kernel[1])
    operands = [x, w, net.bias(w, x, out)]
    op = "depthwise_conv2d" if depth else "conv2d"
    attrs: object = DepthwiseConv2dAttrs(activation=activation)
    if not depth:
        attrs = Conv2dAttrs(activation=activation)
    return net.graph([net.node(op, operands, attrs, saturate=0.05, quant=quant)])


def _candidates(isa: tuple[str, ...], seen: set[Variant]) -> Iterator[Graph]:
    rng = np.random.default_rng(11)
    yield from edges(rng)
    yield from many_pixels(rng)
    yield from _more_edges(rng)
    for op in sorted(CASES):
        for case in CASES[op]:
            # An op has more cases than kernels; most show none that is new.
            if {k.name for k in kernels_of(op, isa)} <= {variant[0] for variant in seen}:
                break
            graph = case.build(rng)
            if graph.is_quantized:
                yield graph


def _kernels(graph: Graph, isa: tuple[str, ...]) -> Iterator[tuple[Node, Kernel]]:
    for node in graph.nodes:
        if node.op == "reshape":
            continue
        call = call_of(graph, node)
        for kernel in kernels_of(node.op, isa):
            if kernel.when(call):
                yield node, kernel
