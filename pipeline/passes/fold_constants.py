"""Nodes of constants alone are computed once, here."""

from __future__ import annotations

from dataclasses import replace

from tinsmith.pipeline.graph import DType, Graph, Node
from tinsmith.pipeline.ops import OPS
from tinsmith.pipeline.passes.rewrite import Editor, apply_rules

MAX_ELEMENTS = 1 << 22  # of a result: more would be a file of weights made of nothing


def fold_constants(graph: Graph) -> Graph:
    """The same network without nodes whose inputs are all constant (but for its outputs)."""
    return apply_rules(graph, (_fold,))


def _fold(editor: Editor, node: Node) -> bool:
    call = editor.call(node)
    if not call.inputs or any(t is not None and t.data is None for t in call.inputs):
        return False
    if any(editor.is_live(o) for o in node.outputs) or (
        sum(t.size for t in call.outputs) > MAX_ELEMENTS
    ):
        return False
    op = OPS[node.op]
    run = op.run_float if call.output.dtype is DType.FLOAT32 else op.run_int
    results = run(call, [None if t is None else t.data for t in call.inputs])
    editor.remove(node)
    for tensor, value in zip(call.outputs, results, strict=True):
        editor.tensors[tensor.name] = replace(tensor, data=value)
    return True
