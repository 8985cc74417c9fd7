"""Clamps behind a layer that can clamp its output become that layer's activation."""

from __future__ import annotations

from dataclasses import replace

from tinsmith.pipeline.graph import Activation, Graph, Node
from tinsmith.pipeline.passes.rewrite import Editor, apply_rules

ACTIVATIONS = {a.value: a for a in Activation if a is not Activation.NONE}
FUSING_OPS = frozenset(
    (
        "conv2d", "depthwise_conv2d", "fully_connected", "transpose_conv2d",
        "add", "sub", "mul", "max_pool2d", "average_pool2d",
    )
)  # fmt: skip


def fuse_activation(graph: Graph) -> Graph:
    """The same network with activations inside the ops before them.

    In an integer graph only where both have the same scale: only then nothing is rounded twice.
    """
    return apply_rules(graph, (_fuse,))


def _fuse(editor: Editor, node: Node) -> bool:
    if node.op not in ACTIVATIONS or not editor.read_once(node.inputs[0]):
        return False
    above = editor.producer(node.inputs[0])
    if (
        above is None
        or above.op not in FUSING_OPS
        or above.attrs.activation is not Activation.NONE
        or editor.tensors[node.inputs[0]].quant != editor.tensors[node.outputs[0]].quant
    ):
        return False
    editor.remove(node)
    attrs = replace(above.attrs, activation=ACTIVATIONS[node.op])
    editor.replace(above, replace(above, outputs=node.outputs, attrs=attrs))
    return True
