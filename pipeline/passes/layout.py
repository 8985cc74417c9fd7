"""Transposes and reshapes made few: each moves down until it meets its inverse or is absorbed.

A transpose moves below element-by-element ops, pads, means and reshapes that keep its groups of
axes together; below a flatten it goes into the weights of the fully connected layer that follows.
Nothing moves up, so that the rules come to an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinsmith.pipeline.graph import Graph, Node, Shape
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.pad import PadAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.transpose import TransposeAttrs
from tinsmith.pipeline.passes.rewrite import Editor, Rule, apply_rules

Perm = tuple[int, ...]

# One data input, each output element from the input element at the same place.
UNARY = frozenset(("relu", "relu6", "quantize", "dequantize"))
# Two or more inputs that broadcast, each output element from the elements at the same place.
BROADCASTING = frozenset(("add",))


def simplify_layout(graph: Graph) -> Graph:
    """The same network with as few transposes and reshapes as the rules reach."""
    result = apply_rules(graph, RULES)
    return result if _moved_bytes(result) <= _moved_bytes(graph) else graph


def _moved_bytes(graph: Graph) -> int:
    return sum(graph.tensors[n.outputs[0]].nbytes for n in graph.nodes if n.op == "transpose")


def inverse(perm: Sequence[int]) -> Perm:
    out = [0] * len(perm)
    for i, p in enumerate(perm):
        out[p] = i
    return tuple(out)


def permuted(items: Sequence[Any], perm: Sequence[int]) -> tuple[Any, ...]:
    return tuple(items[p] for p in perm)


def moves_only_ones(shape: Shape, perm: Sequence[int]) -> bool:
    """True where the transpose of `shape` keeps the order of the elements."""
    kept = [p for p in perm if shape[p] != 1]
    return kept == sorted(kept)


def _source(editor: Editor, tensor: str, op: str) -> Node | None:
    node = editor.producer(tensor)
    return node if node is not None and node.op == op else None


def _sink(editor: Editor, node: Node, new: Node, shape: Shape, op: str, attrs: Any) -> bool:
    """Makes `node` compute before the transpose or reshape (op, attrs) that was above it.

    new: the node as it reads the value above; its output has `shape`, and op of it is the old
    output. The name of the old output goes to the new one, unless it is an output of the graph.
    """
    (out,) = node.outputs
    old = editor.tensors[out]
    if editor.is_live(out):
        inner = editor.fresh_tensor(f"{out}_inner")
        editor.tensors[inner] = replace(old, name=inner, shape=shape)
        # The old node's name stays with the op; the mover gets its own.
        editor.replace(node, replace(new, outputs=(inner,)))
        mover = Node(editor.fresh_node(f"{out}_{op}"), op, (inner,), (out,), attrs)
        editor.append(mover)
        return True
    readers = editor.readers(out)
    editor.replace(node, new)
    editor.tensors[out] = replace(old, shape=shape)
    if readers:
        moved = editor.insert(readers[0], op, [out], attrs, out=f"{out}_t", like=old)
        for reader in readers:
            inputs = tuple(moved if i == out else i for i in editor.nodes[reader.name].inputs)
            editor.replace(editor.nodes[reader.name], replace(reader, inputs=inputs))
    return True


def _drop_identity(editor: Editor, node: Node) -> bool:
    if node.op not in ("transpose", "reshape"):
        return False
    x, y = editor.tensors[node.inputs[0]], editor.tensors[node.outputs[0]]
    same = x.shape == y.shape
    if node.op == "transpose":
        same = node.attrs.perm == tuple(range(len(x.shape)))
    return same and editor.redirect(y.name, x.name) and _gone(editor, node)


def _gone(editor: Editor, node: Node) -> bool:
    if node.name in editor.nodes:
        editor.remove(editor.nodes[node.name])
    return True


def _transpose_to_reshape(editor: Editor, node: Node) -> bool:
    if node.op != "transpose":
        return False
    x, y = editor.tensors[node.inputs[0]], editor.tensors[node.outputs[0]]
    if not moves_only_ones(x.shape, node.attrs.perm):
        return False
    editor.replace(node, replace(node, op="reshape", attrs=ReshapeAttrs(y.shape)))
    return True


def _merge_transposes(editor: Editor, node: Node) -> bool:
    above = _source(editor, node.inputs[0], "transpose") if node.op == "transpose" else None
    if above is None:
        return False
    perm = permuted(above.attrs.perm, node.attrs.perm)
    editor.replace(node, replace(node, inputs=above.inputs, attrs=TransposeAttrs(perm)))
    return True


def _merge_reshapes(editor: Editor, node: Node) -> bool:
    above = _source(editor, node.inputs[0], "reshape") if node.op == "reshape" else None
    if above is None:
        return False
    editor.replace(node, replace(node, inputs=above.inputs))
    return True


def _squeeze_mean(editor: Editor, node: Node) -> bool:
    """A mean that keeps the reduced axes, whose reader drops them, drops them itself."""
    above = _source(editor, node.inputs[0], "mean") if node.op == "reshape" else None
    if above is None or not above.attrs.keep_dims or not editor.read_once(above.outputs[0]):
        return False
    y = editor.tensors[above.outputs[0]]
    squeezed = tuple(d for i, d in enumerate(y.shape) if i not in above.attrs.axes)
    if squeezed != node.attrs.shape:
        return False
    editor.replace(above, replace(above, attrs=ReduceAttrs(above.attrs.axes)))
    editor.tensors[y.name] = replace(y, shape=squeezed)
    return True


def _keep_rows(editor: Editor, node: Node) -> bool:
    """A matrix product between two reshapes that only fold leading axes keeps them itself."""
    above = _source(editor, node.inputs[0], "fully_connected") if node.op == "reshape" else None
    if above is None or not editor.read_once(above.outputs[0]):
        return False
    folded = _source(editor, above.inputs[0], "reshape")
    x = editor.tensors[(folded or above).inputs[0]]
    y = editor.tensors[above.outputs[0]]
    depth = editor.tensors[above.inputs[1]].shape[1]
    if len(x.shape) < 2 or x.shape[-1] != depth or node.attrs.shape != (*x.shape[:-1], y.shape[-1]):
        return False
    attrs = replace(above.attrs, keep_dims=True)
    editor.replace(above, replace(above, inputs=(x.name, *above.inputs[1:]), attrs=attrs))
    editor.tensors[y.name] = replace(y, shape=node.attrs.shape)
    return True


def _sink_below_unary(editor: Editor, node: Node) -> bool:
    if node.op not in UNARY:
        return False
    above = editor.producer(node.inputs[0])
    if above is None or above.op not in ("transpose", "reshape"):
        return False
    x = editor.tensors[above.inputs[0]]
    return _sink(editor, node, replace(node, inputs=above.inputs), x.shape, above.op, above.attrs)


def _sink_below_softmax(editor: Editor, node: Node) -> bool:
    above = _source(editor, node.inputs[0], "transpose") if node.op == "softmax" else None
    if above is None or above.attrs.perm[-1] != len(above.attrs.perm) - 1:
        return False
    x = editor.tensors[above.inputs[0]]
    return _sink(
        editor, node, replace(node, inputs=above.inputs), x.shape, "transpose", above.attrs
    )


def _sink_below_pad(editor: Editor, node: Node) -> bool:
    above = _source(editor, node.inputs[0], "transpose") if node.op == "pad" else None
    if above is None:
        return False
    perm = above.attrs.perm
    pads = permuted(node.attrs.pads, inverse(perm))
    shape = permuted(editor.tensors[node.outputs[0]].shape, inverse(perm))
    new = replace(node, inputs=above.inputs, attrs=PadAttrs(pads, node.attrs.value))
    return _sink(editor, node, new, shape, "transpose", above.attrs)


def _sink_below_mean(editor: Editor, node: Node) -> bool:
    above = _source(editor, node.inputs[0], "transpose") if node.op == "mean" else None
    if above is None:
        return False
    perm = above.attrs.perm
    axes = tuple(sorted(perm[a] for a in node.attrs.axes))
    attrs = ReduceAttrs(axes, node.attrs.keep_dims)
    x = editor.tensors[above.inputs[0]]
    if attrs.keep_dims:
        shape = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
        rest = perm
    else:
        left = [i for i in range(len(perm)) if i not in axes]
        shape = tuple(x.shape[i] for i in left)
        rest = tuple(left.index(p) for p in perm if p not in axes)
    new = replace(node, inputs=above.inputs, attrs=attrs)
    return _sink(editor, node, new, shape, "transpose", TransposeAttrs(rest))


def _sink_below_broadcast(editor: Editor, node: Node) -> bool:
    """Below an op of several inputs, each transposed alike, constant, or with only ones to move."""
    if node.op not in BROADCASTING:
        return False
    rank = len(editor.tensors[node.outputs[0]].shape)
    perms = [
        above.attrs.perm
        for i in node.inputs
        if (above := _source(editor, i, "transpose")) and len(above.attrs.perm) == rank
    ]
    if not perms:
        return False
    perm = perms[0]
    plans = [_plan_input(editor, i, perm) for i in node.inputs]
    if any(p is None for p in plans):
        return False
    inputs = tuple(
        _carry_out(editor, node, i, plan, perm)
        for i, plan in zip(node.inputs, plans, strict=True)
        if plan is not None
    )
    shape = permuted(editor.tensors[node.outputs[0]].shape, inverse(perm))
    new = replace(node, inputs=inputs)
    return _sink(editor, node, new, shape, "transpose", TransposeAttrs(perm))


def _plan_input(editor: Editor, tensor: str, perm: Perm) -> str | Shape | None:
    """What an input is before the transpose: another tensor, a shape for a reshape, or None."""
    above = _source(editor, tensor, "transpose")
    if above is not None and above.attrs.perm == perm:
        return above.inputs[0]
    t = editor.tensors[tensor]
    full = (1,) * (len(perm) - len(t.shape)) + t.shape
    if t.is_constant or moves_only_ones(full, inverse(perm)):
        return permuted(full, inverse(perm))
    return None


def _carry_out(editor: Editor, node: Node, tensor: str, plan: str | Shape, perm: Perm) -> str:
    if isinstance(plan, str):
        return plan
    t = editor.tensors[tensor]
    if t.data is not None:
        full = t.data.reshape((1,) * (len(perm) - t.data.ndim) + t.data.shape)
        data = np.ascontiguousarray(full.transpose(inverse(perm)))
        return editor.constant(f"{tensor}_t", data, t.quant)
    if t.shape == plan:
        return tensor
    return editor.insert(node, "reshape", [tensor], ReshapeAttrs(plan), out=f"{tensor}_r", like=t)


def reshape_before_transpose(source: Shape, perm: Perm, target: Shape) -> tuple[Shape, Perm] | None:
    """(shape, order): reshaping transpose(x) to `target` is transposing reshape(x, shape) by order.

    None where the reshape takes apart what the transpose has put side by side.
    """
    axes = [p for p in perm if source[p] != 1]
    solid = [(i, d) for i, d in enumerate(target) if d != 1]
    groups: list[tuple[list[int], list[int]]] = []  # source axes, and the target axes they become
    while axes or solid:
        ins: list[int] = []
        outs: list[int] = []
        have, want = 1, 1
        while not ins or have != want:
            if have <= want and axes:
                ins.append(axes.pop(0))
                have *= source[ins[-1]]
            elif solid:
                axis, size = solid.pop(0)
                outs.append(axis)
                want *= size
            else:
                return None
        groups.append((ins, outs))
    for ins, _ in groups:
        between = [i for i in range(ins[0], ins[-1] + 1) if source[i] != 1]
        if ins != sorted(ins) or between != ins:
            return None
    ones = [i for i, d in enumerate(target) if d == 1]
    order = ones + [i for ins, outs in sorted(groups, key=lambda g: g[0]) for i in outs]
    return tuple(target[i] for i in order), inverse(order)


def _sink_below_reshape(editor: Editor, node: Node) -> bool:
    above = _source(editor, node.inputs[0], "transpose") if node.op == "reshape" else None
    if above is None:
        return False
    x = editor.tensors[above.inputs[0]]
    found = reshape_before_transpose(x.shape, above.attrs.perm, node.attrs.shape)
    if found is None:
        return False
    shape, perm = found
    new = replace(node, inputs=above.inputs, attrs=ReshapeAttrs(shape))
    return _sink(editor, node, new, shape, "transpose", TransposeAttrs(perm))


def _into_fully_connected(editor: Editor, node: Node) -> bool:
    """A transpose above a fully connected layer or its flatten becomes an order of weights."""
    if node.op != "fully_connected":
        return False
    flatten = _source(editor, node.inputs[0], "reshape")
    above = _source(editor, flatten.inputs[0] if flatten else node.inputs[0], "transpose")
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


RULES: tuple[Rule, ...] = (
    _drop_identity,
    _transpose_to_reshape,
    _merge_transposes,
    _merge_reshapes,
    _squeeze_mean,
    _keep_rows,
    _sink_below_unary,
    _sink_below_softmax,
    _sink_below_pad,
    _sink_below_mean,
    _sink_below_broadcast,
    _sink_below_reshape,
    _into_fully_connected,
)
