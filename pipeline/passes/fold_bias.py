"""A constant per channel that is added behind a layer becomes part of its bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinsmith.pipeline.graph import Activation, Array, DType, Graph, Node
from tinsmith.pipeline.passes.fold_batch_norm import MAC_OPS
from tinsmith.pipeline.passes.rewrite import Editor, apply_rules


def fold_bias(graph: Graph) -> Graph:
    """The same network with constant additions taken into biases."""
    return apply_rules(graph, (_into_bias,))


def _into_bias(editor: Editor, node: Node) -> bool:
    if node.op != "add":
        return False
    for data, other in (node.inputs, node.inputs[::-1]):
        above, constant = editor.producer(data), editor.tensors[other]
        if above is None or above.op not in MAC_OPS or constant.data is None:
            continue
        y = editor.tensors[node.outputs[0]]
        channels = y.shape[-1]
        per_channel = constant.size == 1 or (
            constant.size == channels and constant.shape[-1] == channels
        )
        if (
            y.dtype is DType.FLOAT32
            and per_channel
            and y.shape == editor.tensors[data].shape
            and editor.read_once(data)
            and above.attrs.activation is Activation.NONE
        ):
            _add_to_bias(editor, above, node, np.broadcast_to(constant.data.reshape(-1), channels))
            return True
    return False


def _add_to_bias(editor: Editor, above: Node, node: Node, extra: Array) -> None:
    bias = above.inputs[2] if len(above.inputs) > 2 else ""
    total = extra.astype(np.float64)
    if bias:
        total = total + editor.tensors[bias].value().reshape(-1)
    name = editor.constant(bias or f"{above.name}_bias", total.astype(np.float32))
    editor.remove(node)
    new = replace(
        above,
        inputs=(*above.inputs[:2], name),
        outputs=node.outputs,
        attrs=replace(above.attrs, activation=node.attrs.activation),
    )
    editor.replace(above, new)
