"""Changes from a scale to the same scale, which change nothing, are left out."""

from __future__ import annotations

from tinsmith.pipeline.graph import DType, Graph, Node
from tinsmith.pipeline.passes.rewrite import Editor, apply_rules


def drop_requantize(graph: Graph) -> Graph:
    """The same network without quantize nodes between tensors of one type and scale."""
    return apply_rules(graph, (_drop,))


def _drop(editor: Editor, node: Node) -> bool:
    if node.op != "quantize":
        return False
    x, y = editor.tensors[node.inputs[0]], editor.tensors[node.outputs[0]]
    if (x.dtype, x.quant) != (y.dtype, y.quant) or x.dtype is DType.FLOAT32:
        return False
    if not editor.redirect(y.name, x.name):
        return False
    if node.name in editor.nodes:
        editor.remove(editor.nodes[node.name])
    return True
