"""The square of a difference that nothing else reads is one op."""

from __future__ import annotations

from dataclasses import replace

from tinsmith.pipeline.graph import NO_ATTRS, Activation, DType, Graph, Node
from tinsmith.pipeline.passes.rewrite import Editor, apply_rules


def fuse_squared_difference(graph: Graph) -> Graph:
    """The same float network with (a - b)^2 in one step; integers would round once less."""
    return apply_rules(graph, (_fuse,))


def _fuse(editor: Editor, node: Node) -> bool:
    squares = node.op == "square" or (
        node.op == "mul"
        and node.inputs[0] == node.inputs[1]
        and node.attrs.activation is Activation.NONE
    )
    if not squares or not editor.read_once(node.inputs[0]):
        return False
    above = editor.producer(node.inputs[0])
    if (
        above is None
        or above.op != "sub"
        or above.attrs.activation is not Activation.NONE
        or editor.tensors[node.outputs[0]].dtype is not DType.FLOAT32
    ):
        return False
    editor.replace(
        node, replace(node, op="squared_difference", inputs=above.inputs, attrs=NO_ATTRS)
    )
    return True
