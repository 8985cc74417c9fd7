"""A depthwise convolution of one input channel is a convolution, which has faster kernels."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np

from tinsmith.pipeline.graph import DType, Graph, Node
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.passes.rewrite import Editor, apply_rules


def depthwise_to_conv(graph: Graph) -> Graph:
    """The same network; both ops form their multipliers and round alike."""
    return apply_rules(graph, (_convert,))


def _convert(editor: Editor, node: Node) -> bool:
    if node.op != "depthwise_conv2d" or node.attrs.as_uint8:
        return False
    x, weights = editor.tensors[node.inputs[0]], editor.tensors[node.inputs[1]]
    if x.shape[3] != 1 or x.dtype is not DType.INT8 or not weights.is_constant:
        return False
    quant = weights.quant
    if quant is not None and quant.axis is not None:
        quant = replace(quant, axis=0)
    data = np.ascontiguousarray(weights.value().transpose(3, 1, 2, 0))
    name = editor.constant(weights.name, data, quant)
    attrs = Conv2dAttrs(*astuple(node.attrs))
    inputs = (node.inputs[0], name, *node.inputs[2:])
    editor.replace(node, replace(node, op="conv2d", attrs=attrs, inputs=inputs))
    return True
