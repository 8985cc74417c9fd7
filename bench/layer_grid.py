"""A seeded grid of layers, and what every kernel that can compute one costs in the emulator."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tinsmith.codegen.cost import Cost
from tinsmith.codegen.kernels import kernels_of
from tinsmith.pipeline.graph import Activation, DType, Graph, GraphBuilder, QuantParams
from tinsmith.pipeline.ops import OpCall, call_of
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.tuning import measure_kernel
from tinsmith.pipeline.validation import random_samples
from tinsmith.targets.target import Target

OPS = ("conv2d", "depthwise_conv2d", "fully_connected", "add")
MOST_MACS = 400_000  # of a layer, so that a grid takes minutes
# Half of the layers are as networks mostly have them.
USUAL_CHANNELS = (4, 8, 12, 16, 24, 32, 64)
CHANNELS = (1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 32, 48, 96, 128)
SIZES = (1, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 25, 32)
WINDOWS = ((1, 1), (1, 1), (1, 1), (3, 3), (5, 5), (1, 3), (3, 1), (1, 7), (10, 4), (7, 7))


@dataclass(frozen=True, eq=False)
class Measured:
    """A graph of one layer and the cost of each kernel that can compute it."""

    graph: Graph
    costs: Mapping[str, Cost]

    @property
    def call(self) -> OpCall:
        return call_of(self.graph, self.graph.nodes[0])


@dataclass(frozen=True)
class _Layer:
    """shape: of the input; weights: shape; axis: of their channels."""

    shape: tuple[int, ...]
    weights: tuple[int, ...]
    axis: int
    attrs: Conv2dAttrs | DepthwiseConv2dAttrs | FullyConnectedAttrs
    macs: int


def measure_grid(
    op: str, target: Target, count: int, seed: int, kernels: Container[str]
) -> Iterator[Measured]:
    """`count` layers, the same for a seed, by those of the kernels that can compute them."""
    for graph in grid(op, count, seed):
        call = call_of(graph, graph.nodes[0])
        samples = random_samples(graph, 1)
        able = [k.name for k in kernels_of(op, target.isa) if k.name in kernels and k.when(call)]
        yield Measured(graph, {k: measure_kernel(graph, k, target, samples) for k in able})


def grid(op: str, count: int, seed: int) -> Iterator[Graph]:
    """Graphs of one layer."""
    rng = np.random.default_rng([seed, OPS.index(op)])
    if op == "add":
        yield from (_sum(rng) for _ in range(count))
        return
    made = 0
    while made < count:
        layer = _dense(rng) if op == "fully_connected" else _window(op, rng)
        if layer is not None and layer.macs <= MOST_MACS:
            made += 1
            yield _graph(op, layer, rng)


def _sum(rng: np.random.Generator) -> Graph:
    """Two tensors of one shape: half of them small, all of scales that are not far apart. Some of
    the sums can't leave the range of the output."""
    builder = GraphBuilder("add")
    size = int(rng.integers(1, 33)) if rng.integers(2) else int(2 ** rng.uniform(5, 12))
    names = []
    for name in ("a", "b"):
        quant = QuantParams.per_tensor(rng.uniform(0.03, 0.06), int(rng.integers(-128, 128)))
        names.append(builder.input(name, (1, size), DType.INT8, quant))
    activation = _activation(rng)
    zero_point = -128 if activation is Activation.RELU else int(rng.integers(-40, 40))
    quant = QuantParams.per_tensor(rng.uniform(0.06, 0.14), zero_point)
    return builder.build([builder.node("add", names, AddAttrs(activation), quant=quant)])


def _dense(rng: np.random.Generator) -> _Layer:
    channels = CHANNELS if rng.integers(2) else USUAL_CHANNELS
    rows = int(rng.choice((1, 1, 1, 1, 2, 3, 8, 25)))
    inputs = int(rng.choice(channels)) * int(rng.choice((1, 1, 4, 8)))
    outputs = int(rng.choice(CHANNELS))
    attrs = FullyConnectedAttrs(_activation(rng))
    return _Layer((rows, inputs), (outputs, inputs), 0, attrs, rows * inputs * outputs)


def _window(op: str, rng: np.random.Generator) -> _Layer | None:
    """None where the window doesn't fit the image."""
    usual = bool(rng.integers(2))
    channels = USUAL_CHANNELS if usual else CHANNELS
    kernel = (3, 3) if usual else WINDOWS[int(rng.integers(len(WINDOWS)))]
    h, w, ic = int(rng.choice(SIZES)), int(rng.choice(SIZES)), int(rng.choice(channels))
    stride = ((1, 1), (1, 1), (2, 2))[int(rng.integers(3))]
    top, left = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2) if rng.integers(3) else (0, 0)
    pads = (top, top, left, left)
    oh = (h + 2 * top - kernel[0]) // stride[0] + 1
    ow = (w + 2 * left - kernel[1]) // stride[1] + 1
    if oh < 1 or ow < 1:
        return None
    activation = _activation(rng)
    if op == "conv2d":
        oc = int(rng.choice(channels))
        macs = oh * ow * oc * ic * kernel[0] * kernel[1]
        attrs = Conv2dAttrs(stride, pads=pads, activation=activation)
        return _Layer((1, h, w, ic), (oc, *kernel, ic), 0, attrs, macs)
    oc = ic * int(rng.choice((1, 1, 1, 1, 1, 2)))
    macs = oh * ow * oc * kernel[0] * kernel[1]
    deep = DepthwiseConv2dAttrs(stride, pads=pads, activation=activation)
    return _Layer((1, h, w, ic), (1, *kernel, oc), 3, deep, macs)


def _activation(rng: np.random.Generator) -> Activation:
    return (Activation.NONE, Activation.RELU)[int(rng.integers(2))]


def _graph(op: str, layer: _Layer, rng: np.random.Generator) -> Graph:
    """Weights as training leaves them: normal, the largest of a channel at 127. Outputs that seldom
    saturate."""
    builder = GraphBuilder(op)
    zero_point = int(rng.choice((-128, rng.integers(-128, 128))))
    x = builder.input("x", layer.shape, DType.INT8, QuantParams.per_tensor(0.05, zero_point))
    real = rng.standard_normal(layer.weights)
    others = tuple(i for i in range(real.ndim) if i != layer.axis)
    w = np.round(127 * real / np.abs(real).max(axis=others, keepdims=True)).astype(np.int8)
    channels = layer.weights[layer.axis]
    scale = rng.uniform(0.3, 1.5, channels) * 0.01
    taps = w.size // channels
    quant = QuantParams(tuple(float(s) for s in scale), (0,), layer.axis)
    weights = builder.constant("w", w, quant)
    bias = builder.constant("b", rng.integers(-500, 500, channels).astype(np.int32))
    spread = 0.05 * 0.01 * math.sqrt(taps) * 40 * 74
    relu = layer.attrs.activation is Activation.RELU
    y_quant = QuantParams.per_tensor(spread / 40, -128 if relu else 0)
    return builder.build([builder.node(op, [x, weights, bias], layer.attrs, quant=y_quant)])
