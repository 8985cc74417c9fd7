"""Graphs at the edges of the multiply-accumulate kernels, and the check of their generated C."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from support.devices import differences
from support.merge import merge
from support.nets import Net, random_samples
from tinsmith.codegen import memory
from tinsmith.codegen.kernels import kernels_of
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.codegen.program import Program
from tinsmith.pipeline.graph import Activation, Graph, QuantParams
from tinsmith.pipeline.ops import call_of
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.targets.target import target_named

WINOGRAD = "conv2d_winograd"  # takes layers from the kernel for all convolutions
PART = 60  # graphs in one image: a plan of the arena takes the square of their number


def conv(
    rng: np.random.Generator, image: tuple[int, ...], out: int, kernel: tuple[int, int],
    attrs: Conv2dAttrs, weights: int | None = None, zero_point: int = 3, saturate: float = 0.05,
) -> Graph:  # fmt: skip
    """weights: the value of all of them, random where None."""
    net = Net("conv", rng)
    x = net.input(image, 0.05, zero_point)
    w = net.weights((out, *kernel, image[3]), x, axis=0)
    if weights is not None:
        tensor = net.builder.tensors[w]
        net.builder.tensors[w] = replace(tensor, data=np.full(tensor.shape, weights, np.int8))
    b = net.bias(w, x, out)
    return net.graph([net.node("conv2d", [x, w, b], attrs, saturate=saturate)])


def depthwise(
    rng: np.random.Generator, image: tuple[int, ...], attrs: DepthwiseConv2dAttrs,
    zero_point: int = 3, saturate: float = 0.05,
) -> Graph:  # fmt: skip
    net = Net("depthwise", rng)
    x = net.input(image, 0.05, zero_point)
    w = net.weights((1, 3, 3, image[3]), x, axis=3, fan_in=9)
    b = net.bias(w, x, image[3])
    return net.graph([net.node("depthwise_conv2d", [x, w, b], attrs, saturate=saturate)])


def dense(rng: np.random.Generator, rows: int, inputs: int, outputs: int, **k: bool) -> Graph:
    net = Net("dense", rng)
    x = net.input((rows, inputs))
    w = net.weights((outputs, inputs), x, axis=0 if k.get("per_channel") else None)
    b = net.bias(w, x, outputs)
    attrs = FullyConnectedAttrs(Activation.RELU6 if k.get("relu6") else Activation.NONE)
    quant = QuantParams.per_tensor(0.04, -100) if k.get("relu6") else None
    return net.graph([net.node("fully_connected", [x, w, b], attrs, saturate=0.05, quant=quant)])


SAME, WIDE = (1, 1, 1, 1), (0, 1, 0, 1)
RELU, NONE = Activation.RELU, Activation.NONE


def edges(rng: np.random.Generator) -> list[Graph]:
    """Every remainder of channels, taps and pixels; strides, strips, borders and extreme
    weights."""
    graphs = [
        conv(rng, (1, 3, pixels, taps), out, (1, 1), Conv2dAttrs(activation=act))
        for pixels in (1, 2, 3) for taps in (1, 4, 7, 16, 36) for out in (1, 3, 4, 6)
        for act in ((NONE, RELU)[(pixels + taps + out) % 2],)
    ]  # fmt: skip
    graphs += [
        conv(rng, (1, 5, 6, c), out, (3, 3), Conv2dAttrs(stride, pads=pads, activation=RELU))
        for c in (1, 3, 4) for out in (4, 6) for stride in ((1, 1), (2, 2)) for pads in (SAME, WIDE)
    ]  # fmt: skip
    graphs += [
        conv(rng, (1, 2, 2, 64), 8, (1, 1), Conv2dAttrs(), weights=value, zero_point=zero)
        for value in (127, -127, -128, 1, 0) for zero in (-128, 127)
    ]  # fmt: skip
    graphs += [
        depthwise(rng, (n, h, w, c), DepthwiseConv2dAttrs(stride, pads=pads, activation=act))
        for n, h, w, c in ((1, 1, 1, 4), (1, 2, 3, 4), (1, 5, 4, 8), (2, 3, 6, 12), (1, 4, 41, 4))
        for stride in ((1, 1), (2, 2), (1, 2))
        for pads in (SAME, (1, 2, 2, 1)) for act in (NONE, RELU)
    ]  # fmt: skip
    graphs += [
        dense(rng, rows, inputs, outputs, per_channel=bool(inputs % 3), relu6=bool(outputs % 2))
        for rows in (1, 2, 3) for inputs in (4, 7, 12, 16, 40) for outputs in (1, 4, 7, 8)
    ]  # fmt: skip
    return graphs


def many_pixels(rng: np.random.Generator) -> list[Graph]:
    """Convolutions of few channels over many pixels: every remainder of eight channels, windows
    inside and over the border, strides, dilation, batches, bounds and extreme weights."""
    graphs = [
        conv(rng, (1, 11, 12, taps), out, (1, 1), Conv2dAttrs(activation=act))
        for taps, out in ((1, 8), (3, 3), (4, 8), (7, 12), (8, 16), (16, 9), (20, 24))
        for act in (NONE, RELU)
    ]  # fmt: skip
    graphs += [
        conv(rng, (n, h, w, c), out, (3, 2), Conv2dAttrs(stride, dilation, pads, act))
        for n, h, w, c, out, stride, dilation, pads, act in (
            (1, 12, 13, 3, 8, (1, 1), (1, 1), SAME, RELU),
            (2, 17, 11, 4, 8, (1, 2), (1, 1), WIDE, NONE),
            (1, 12, 13, 4, 11, (1, 1), (2, 2), SAME, RELU),
            (1, 13, 12, 5, 7, (1, 1), (1, 2), (0, 0, 0, 0), NONE),
            (1, 23, 25, 1, 16, (2, 2), (1, 1), (2, 3, 1, 2), Activation.RELU6),
            (1, 24, 23, 3, 8, (2, 2), (1, 1), (0, 0, 0, 0), Activation.RELU6),
        )
    ]  # fmt: skip
    graphs += [
        conv(
            rng, (1, 9, 10, 24), 8, (1, 1), Conv2dAttrs(activation=RELU), value, zero,
        )
        for value in (127, -127, -128, 0) for zero in (-128, 127)
    ]  # fmt: skip
    return graphs


def edge_parts() -> list[Graph]:
    """The edges side by side, some to a graph."""
    rng = np.random.default_rng(11)
    graphs = [*edges(rng), *many_pixels(rng)]
    return [merge("edges", graphs[i : i + PART]) for i in range(0, len(graphs), PART)]


def most_specific(graph: Graph, isa: tuple[str, ...], without: str = WINOGRAD) -> LowerOptions:
    """Every layer by the kernel that stands first in the table, however small the layer is, but
    for those that are not worth their flash."""
    choice = {}
    for node in graph.nodes:
        call = call_of(graph, node)
        found = (k for k in kernels_of(node.op, isa) if k.when(call) and k.worth(call))
        choice[node.name] = next(k.name for k in found if k.name != without)
    return LowerOptions(choice=choice)


def check(
    graphs: list[Graph], target: str, folder: Path, count: int,
    isa: tuple[str, ...] | None = None, without: str = WINOGRAD, **k: Any,
) -> None:  # fmt: skip
    """The most specific kernels of the target, or of `isa`, compute what the interpreter does."""
    for i, graph in enumerate(graphs):
        samples = random_samples(graph, np.random.default_rng(3), count)
        program = lowered(graph, isa or target_named(target).isa, without)
        found = differences(graph, target, folder / str(i), samples, program=program, **k)
        assert not {n: c for n, c in found.items() if c}


@functools.cache
def lowered(graph: Graph, isa: tuple[str, ...], without: str = WINOGRAD) -> Program:
    """With the most specific kernels. The arena is what the planner finds at once: its search for
    less takes longer than all else, and these graphs lie side by side in no network."""
    with mock.patch.object(memory, "SEARCH_PAIRS", 0):
        return lower(graph, "net", isa, most_specific(graph, isa, without))
