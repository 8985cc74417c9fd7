"""Bias correction (Nagel et al., Data-Free Quantization, ICCV 2019, section 4.2; by data).

Rounded weights W + D shift a layer's outputs by D x. Its mean E[D x] = D E[x] is a constant a
channel, which the bias can take back. E[x] is that of the float network over the calibration
samples, one number a channel of a convolution's input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.graph import Graph, Node, Tensor, dequantize_array, rebuild
from tinsmith.pipeline.quantization.parameters import LAYERS

Values = NDArray[np.float64]


def correct_biases(quantized: Graph, original: Graph, means: Mapping[str, Values]) -> Graph:
    """The integer graph with biases that take back what rounding the weights shifts on average.

    original: the float graph, whose nodes have the same names. means: E[x] of the last axis, by the
    name of the tensor. Layers whose input or weights are not there stay as they are.
    """
    nodes = {node.name: node for node in original.nodes}
    changed: list[Tensor] = []
    for node in quantized.nodes:
        before = nodes.get(node.name)
        if node.op in LAYERS and before is not None and before.inputs[0] in means:
            changed += _corrected(quantized, node, original, before, means[before.inputs[0]])
    return rebuild(quantized, tensors=changed)


def _corrected(
    quantized: Graph, node: Node, original: Graph, before: Node, mean: Values
) -> list[Tensor]:
    weights, bias = quantized.tensors[node.inputs[1]], quantized.tensors[node.inputs[2]]
    true = original.tensors[before.inputs[1]]
    alone = len(quantized.consumers(bias.name)) == 1
    if not (alone and weights.quant and bias.quant and weights.data is not None):
        return []
    if true.data is None or true.shape != weights.shape:
        return []
    error = dequantize_array(weights.value(), weights.quant).astype(np.float64) - true.value()
    shift = _mean_output(node, error, mean)
    steps = -shift / bias.quant.scales.astype(np.float64)
    largest = np.iinfo(bias.dtype.numpy).max // 2
    moved = bias.value().astype(np.float64) + np.rint(steps).reshape(bias.shape)
    data = np.clip(moved, -largest, largest).astype(bias.dtype.numpy)
    return [Tensor(bias.name, bias.shape, bias.dtype, bias.quant, data, bias.encoding)]


def _mean_output(node: Node, error: Values, mean: Values) -> Values:
    """D E[x] of each output channel; borders, where less is read, count as the inside."""
    if node.op == "depthwise_conv2d":
        taps = error.sum(axis=(0, 1, 2))
        repeated = np.repeat(mean, error.shape[-1] // len(mean))
        return np.asarray(taps * repeated)
    inputs = error.shape[-1]
    if node.op == "fully_connected":  # its rows may be longer or shorter than the last axis
        mean = np.resize(mean, math.lcm(len(mean), inputs)).reshape(-1, inputs).mean(axis=0)
    groups = len(mean) // inputs
    rows = error.reshape(error.shape[0], -1, inputs).sum(axis=1)
    by_group = rows.reshape(groups, -1, rows.shape[1])
    return np.asarray(np.einsum("goc,gc->go", by_group, mean.reshape(groups, -1)).reshape(-1))
