"""Channels that are put in another order behind a layer are computed in that order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinsmith.pipeline.graph import DType, Graph, Node
from tinsmith.pipeline.ops import OPS
from tinsmith.pipeline.passes.rewrite import Editor, apply_rules

# Each output channel is a row of weights of its own that reads every input channel.
LAYERS = ("conv2d", "fully_connected", "transpose_conv2d")


def fold_gather(graph: Graph) -> Graph:
    """The same network with choices of channels taken into the weights before them."""
    return apply_rules(graph, (_into_weights,))


def _into_weights(editor: Editor, node: Node) -> bool:
    if node.op != "gather" or not editor.read_once(node.inputs[0]):
        return False
    above, indices = editor.producer(node.inputs[0]), editor.tensors[node.inputs[1]]
    y = editor.tensors[node.inputs[0]]
    if (
        above is None
        or above.op not in LAYERS
        or indices.data is None
        or len(indices.shape) != 1
        or node.attrs.axis != len(y.shape) - 1
        or y.dtype is not DType.FLOAT32
    ):
        return False
    axis = OPS[above.op].weight_axis
    weights = [editor.tensors[i] for i in above.inputs[1:] if i]
    if any(t.data is None for t in weights) or _has_groups(editor, above) or axis is None:
        return False
    names = [
        editor.constant(t.name, np.ascontiguousarray(t.value().take(indices.data, a)))
        for t, a in zip(weights, (axis, 0), strict=False)
    ]
    editor.remove(node)
    editor.replace(above, replace(above, inputs=(above.inputs[0], *names), outputs=node.outputs))
    return True


def _has_groups(editor: Editor, node: Node) -> bool:
    x, w = editor.tensors[node.inputs[0]], editor.tensors[node.inputs[1]]
    return node.op == "conv2d" and x.shape[-1] != w.shape[-1]
