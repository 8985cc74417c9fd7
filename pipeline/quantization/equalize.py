"""Cross-layer equalization (Nagel et al., Data-Free Quantization, ICCV 2019).

Where one layer's output channels are read by the next layer alone, and what stands between them
commutes with a positive factor (ReLU, pooling), channel i may be divided by s_i in the first layer
and multiplied by s_i in the second: the network computes the same. With
    s_i = sqrt(r1_i / r2_i)    r1_i, r2_i: the largest weights of channel i in either layer
both layers' channels get the same ranges, so that one scale a tensor serves them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.graph import Activation, Graph, Node, rebuild
from tinsmith.pipeline.ops import OPS
from tinsmith.pipeline.quantization.parameters import LAYERS

# Ops between two layers that treat every channel by itself and commute with positive factors.
BETWEEN = ("relu", "leaky_relu", "max_pool2d", "average_pool2d", "mean", "pad", "reshape")
SWEEPS = 40
SETTLED = 1e-3  # of log2 of a factor

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Two layers in a row; channels: how many the first gives and the second reads."""

    first: Node
    second: Node
    channels: int


def equalize(graph: Graph) -> Graph:
    """The same float network with like ranges of weights from layer to layer.

    graph: float, after FLOAT_PASSES. Channels that are 0 in either layer stay as they are.
    """
    pairs = pairs_of(graph)
    if not pairs:
        return graph
    values = parameters_of(graph, pairs)
    for _ in range(SWEEPS):
        if max(_balance(pair, values) for pair in pairs) < SETTLED:
            break
    return with_parameters(graph, values)


def pairs_of(graph: Graph) -> list[Pair]:
    """Every two layers between which factors may move."""
    return [pair for node in graph.nodes if (pair := _pair(graph, node)) is not None]


def parameters_of(graph: Graph, pairs: list[Pair]) -> dict[str, Values]:
    """The weights and biases of the layers of these pairs, by tensor name."""
    return {
        name: graph.tensors[name].value().astype(np.float64)
        for pair in pairs
        for node in (pair.first, pair.second)
        for name in node.inputs[1:]
        if name
    }


def with_parameters(graph: Graph, values: Mapping[str, Values]) -> Graph:
    """The graph with these weights and biases."""
    changed = (
        replace(graph.tensors[name], data=value.astype(np.float32))
        for name, value in values.items()
    )
    return rebuild(graph, tensors=changed)


def _pair(graph: Graph, first: Node) -> Pair | None:
    """The layer whose channels alone read those of `first`, where a factor may pass to it."""
    if not _is_layer(graph, first) or first.attrs.activation not in (
        Activation.NONE,
        Activation.RELU,
    ):
        return None
    name = first.outputs[0]
    channels = graph.tensors[name].shape[-1]
    while True:
        readers = graph.consumers(name)
        if len(readers) != 1 or name in graph.outputs:
            return None
        node = readers[0]
        if node.op in LAYERS:
            break
        if node.op not in BETWEEN or not _keeps_channels(graph, node, channels):
            return None
        name = node.outputs[0]
    if not _is_layer(graph, node) or node.inputs[0] != name or node is first:
        return None
    width = graph.tensors[name].shape[-1]
    if width % channels or (node.op == "depthwise_conv2d" and width != channels):
        return None
    return Pair(first, node, channels)


def _is_layer(graph: Graph, node: Node) -> bool:
    """Whether a node is a layer with constant parameters of its own."""
    if node.op not in LAYERS or graph.tensors[node.inputs[0]].data is not None:
        return False
    names = [name for name in node.inputs[1:] if name]
    own = all(len(graph.consumers(name)) == 1 for name in names)
    grouped = node.op == "conv2d" and (
        graph.tensors[node.inputs[0]].shape[-1] != graph.tensors[node.inputs[1]].shape[3]
    )
    return own and not grouped and all(graph.tensors[name].is_constant for name in names)


def _keeps_channels(graph: Graph, node: Node, channels: int) -> bool:
    """Whether the last axis, or its remainder by `channels`, is that of the channels afterwards."""
    x, y = graph.tensors[node.inputs[0]], graph.tensors[node.outputs[0]]
    if node.op == "reshape":
        return y.shape[-1] % channels == 0 and x.shape[-1] == channels
    if node.op == "mean":
        return x.shape[-1] == y.shape[-1] == channels and len(x.shape) - 1 not in node.attrs.axes
    if node.op == "pad":
        return y.shape[-1] == x.shape[-1] and node.attrs.value == 0
    activation = getattr(node.attrs, "activation", Activation.NONE)
    return activation in (Activation.NONE, Activation.RELU) and x.shape[-1] % channels == 0


def _balance(pair: Pair, values: dict[str, Values]) -> float:
    """Move factors between the two layers; result: the largest |log2 s|."""
    first, second = values[pair.first.inputs[1]], values[pair.second.inputs[1]]
    r1, r2 = _output_ranges(pair.first, first), _input_ranges(pair.second, second, pair.channels)
    both = (r1 > 0) & (r2 > 0)
    s = np.where(both, np.sqrt(np.where(both, r1, 1.0) / np.where(both, r2, 1.0)), 1.0)
    divide(pair, values, s)
    return float(np.abs(np.log2(s)).max())


def divide(pair: Pair, values: dict[str, Values], s: Values) -> None:
    """Divide the channels between two layers by s, which the second one multiplies them by.

    values: the parameters as parameters_of has them, changed in place. s: positive, one a channel.
    """
    first, second = values[pair.first.inputs[1]], values[pair.second.inputs[1]]
    values[pair.first.inputs[1]] = first / _along_outputs(pair.first, first, s)
    if len(pair.first.inputs) > 2 and pair.first.inputs[2]:
        bias = values[pair.first.inputs[2]]
        values[pair.first.inputs[2]] = bias / s.reshape(bias.shape)
    values[pair.second.inputs[1]] = second * _along_inputs(pair.second, second, s)


def _output_ranges(node: Node, w: Values) -> Values:
    """The largest weight that makes each output channel."""
    axis = _output_axis(node)
    ranges: Values = np.abs(np.moveaxis(w, axis, 0)).reshape(w.shape[axis], -1).max(axis=1)
    return ranges


def _input_ranges(node: Node, w: Values, channels: int) -> Values:
    """The largest weight that reads each of `channels` channels."""
    by_channel = np.abs(w).reshape(-1, w.shape[-1]).max(axis=0)
    if node.op == "depthwise_conv2d":  # outputs of one input channel stand together
        ranges: Values = by_channel.reshape(channels, -1).max(axis=1)
    else:  # flattened images: [positions, channels]
        ranges = by_channel.reshape(-1, channels).max(axis=0)
    return ranges


def _along_outputs(node: Node, w: Values, s: Values) -> Values:
    shape = [1] * w.ndim
    shape[_output_axis(node)] = -1
    return s.reshape(shape)


def _along_inputs(node: Node, w: Values, s: Values) -> Values:
    times = w.shape[-1] // len(s)
    return np.repeat(s, times) if node.op == "depthwise_conv2d" else np.tile(s, times)


def _output_axis(node: Node) -> int:
    axis = OPS[node.op].weight_axis
    assert axis is not None
    return axis
