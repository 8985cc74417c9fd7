"""Transposes that become an order of weights, or an attribute, of the layer that reads them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinsmith.pipeline.graph import Node
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.passes.layout_common import inverse, source
from tinsmith.pipeline.passes.rewrite import Editor


def into_fully_connected(editor: Editor, node: Node) -> bool:
    """A transpose above a fully connected layer or its flatten becomes an order of weights."""
    if node.op != "fully_connected":
        return False
    flatten = source(editor, node.inputs[0], "reshape")
    above = source(editor, flatten.inputs[0] if flatten else node.inputs[0], "transpose")
    if above is None:
        return False
    x, w = editor.tensors[above.inputs[0]], editor.tensors[node.inputs[1]]
    perm = above.attrs.perm
    depth = w.shape[1]
    rows = x.size // depth
    y = editor.tensors[above.outputs[0]]
    whole = rows == 1 or (perm[0] == 0 and x.shape[0] == rows)
    if not whole or w.data is None:
        return False
    dims = y.shape if rows == 1 else y.shape[1:]
    order = inverse(perm) if rows == 1 else tuple(p - 1 for p in inverse(perm)[1:])
    data = w.data.reshape(w.shape[0], *dims).transpose(0, *(p + 1 for p in order))
    weights = editor.constant(w.name, np.ascontiguousarray(data).reshape(w.shape), w.quant)
    read = editor.tensors[node.inputs[0]].shape if node.attrs.keep_dims else (rows, depth)
    row = editor.insert(node, "reshape", [x.name], ReshapeAttrs(read), out=f"{x.name}_flat", like=x)
    editor.replace(node, replace(node, inputs=(row, weights, *node.inputs[2:])))
    return True


def into_batch_matmul(editor: Editor, node: Node) -> bool:
    """A transpose that swaps the last two axes before a product of matrices is its attribute."""
    if node.op != "batch_matmul":
        return False
    for i, flag in enumerate(("adjoint_a", "adjoint_b")):
        above = source(editor, node.inputs[i], "transpose")
        if above is None:
            continue
        rank = len(above.attrs.perm)
        if above.attrs.perm == (*range(rank - 2), rank - 1, rank - 2):
            attrs = replace(node.attrs, **{flag: not getattr(node.attrs, flag)})
            inputs = list(node.inputs)
            inputs[i] = above.inputs[0]
            editor.replace(node, replace(node, inputs=tuple(inputs), attrs=attrs))
            return True
    return False
