"""Transposes (and reshapes) that move below the op that reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tinsmith.pipeline.graph import Node, Shape, Tensor
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.gather import GatherAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.pad import PadAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.slice import SliceAttrs
from tinsmith.pipeline.ops.split import SplitAttrs
from tinsmith.pipeline.ops.transpose import TransposeAttrs
from tinsmith.pipeline.passes.layout_common import (
    REDUCING,
    Perm,
    inverse,
    moves_only_ones,
    permuted,
    source,
)
from tinsmith.pipeline.passes.rewrite import Editor

# One data input, each output element from the input element at the same place.
UNARY = frozenset(
    (
        "relu", "relu6", "relu_n1_to_1", "relu_0_to_1", "leaky_relu", "hard_swish", "logistic",
        "tanh", "exp", "elu", "gelu", "sqrt", "square", "rsqrt", "abs", "neg", "cast", "quantize",
        "dequantize",
    )
)  # fmt: skip
# Several inputs that broadcast, each output element from the elements at the same place.
BROADCASTING = frozenset(
    ("add", "sub", "mul", "maximum", "minimum", "squared_difference", "prelu", "concatenation")
)
# Over the last axis only.
ROWWISE = frozenset(("softmax", "log_softmax", "l2_normalization"))


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
    editor.replace(node, new)
    _move_readers(editor, old, shape, op, attrs)
    return True


def _move_readers(editor: Editor, old: Tensor, shape: Shape, op: str, attrs: Any) -> None:
    """Gives a tensor another shape, and its readers what it was, by a move of it."""
    readers = editor.readers(old.name)
    editor.tensors[old.name] = replace(old, shape=shape)
    if not readers:
        return
    moved = editor.insert(readers[0], op, [old.name], attrs, out=f"{old.name}_t", like=old)
    for reader in readers:
        inputs = tuple(moved if i == old.name else i for i in reader.inputs)
        editor.replace(reader, replace(reader, inputs=inputs))


def below_unary(editor: Editor, node: Node) -> bool:
    if node.op not in UNARY:
        return False
    above = editor.producer(node.inputs[0])
    if above is None or above.op not in ("transpose", "reshape"):
        return False
    x = editor.tensors[above.inputs[0]]
    return _sink(editor, node, replace(node, inputs=above.inputs), x.shape, above.op, above.attrs)


def below_rowwise(editor: Editor, node: Node) -> bool:
    above = source(editor, node.inputs[0], "transpose") if node.op in ROWWISE else None
    if above is None or above.attrs.perm[-1] != len(above.attrs.perm) - 1:
        return False
    x = editor.tensors[above.inputs[0]]
    return _sink(
        editor, node, replace(node, inputs=above.inputs), x.shape, "transpose", above.attrs
    )


def below_slice(editor: Editor, node: Node) -> bool:
    above = source(editor, node.inputs[0], "transpose") if node.op == "slice" else None
    if above is None:
        return False
    back = inverse(above.attrs.perm)
    a = node.attrs
    attrs = SliceAttrs(*(permuted(v, back) if v else v for v in (a.begin, a.size, a.step)))
    shape = permuted(editor.tensors[node.outputs[0]].shape, back)
    new = replace(node, inputs=above.inputs, attrs=attrs)
    return _sink(editor, node, new, shape, "transpose", above.attrs)


def below_split(editor: Editor, node: Node) -> bool:
    above = source(editor, node.inputs[0], "transpose") if node.op == "split" else None
    if above is None or any(editor.is_live(o) for o in node.outputs):
        return False
    perm = above.attrs.perm
    attrs = SplitAttrs(perm[node.attrs.axis], node.attrs.sizes)
    editor.replace(node, replace(node, inputs=above.inputs, attrs=attrs))
    for out in node.outputs:
        old = editor.tensors[out]
        _move_readers(editor, old, permuted(old.shape, inverse(perm)), "transpose", above.attrs)
    return True


def below_gather(editor: Editor, node: Node) -> bool:
    """Indices of rank 1 keep the axes as they are."""
    above = source(editor, node.inputs[0], "transpose") if node.op == "gather" else None
    if above is None or len(editor.tensors[node.inputs[1]].shape) != 1:
        return False
    perm = above.attrs.perm
    shape = permuted(editor.tensors[node.outputs[0]].shape, inverse(perm))
    attrs = GatherAttrs(perm[node.attrs.axis])
    new = replace(node, inputs=(above.inputs[0], node.inputs[1]), attrs=attrs)
    return _sink(editor, node, new, shape, "transpose", above.attrs)


def below_pad(editor: Editor, node: Node) -> bool:
    above = source(editor, node.inputs[0], "transpose") if node.op == "pad" else None
    if above is None:
        return False
    perm = above.attrs.perm
    pads = permuted(node.attrs.pads, inverse(perm))
    shape = permuted(editor.tensors[node.outputs[0]].shape, inverse(perm))
    new = replace(node, inputs=above.inputs, attrs=PadAttrs(pads, node.attrs.value))
    return _sink(editor, node, new, shape, "transpose", above.attrs)


def below_reduction(editor: Editor, node: Node) -> bool:
    above = source(editor, node.inputs[0], "transpose") if node.op in REDUCING else None
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


def below_arg(editor: Editor, node: Node) -> bool:
    """Below arg_max and arg_min, which leave their axis out."""
    above = (
        source(editor, node.inputs[0], "transpose") if node.op in ("arg_max", "arg_min") else None
    )
    if above is None:
        return False
    perm = above.attrs.perm
    axis = perm[node.attrs.axis]
    x = editor.tensors[above.inputs[0]]
    left = [i for i in range(len(perm)) if i != axis]
    rest = tuple(left.index(p) for p in perm if p != axis)
    new = replace(node, inputs=above.inputs, attrs=replace(node.attrs, axis=axis))
    shape = tuple(x.shape[i] for i in left)
    return _sink(editor, node, new, shape, "transpose", TransposeAttrs(rest))


def below_broadcast(editor: Editor, node: Node) -> bool:
    """Below an op of several inputs, each transposed alike, constant, or with only ones to move."""
    if node.op not in BROADCASTING:
        return False
    rank = len(editor.tensors[node.outputs[0]].shape)
    perms = [
        above.attrs.perm
        for i in node.inputs
        if (above := source(editor, i, "transpose")) and len(above.attrs.perm) == rank
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
    attrs = node.attrs
    if node.op == "concatenation":
        attrs = ConcatenationAttrs(perm[attrs.axis])
    new = replace(node, inputs=inputs, attrs=attrs)
    return _sink(editor, node, new, shape, "transpose", TransposeAttrs(perm))


def _plan_input(editor: Editor, tensor: str, perm: Perm) -> str | Shape | None:
    """What an input is before the transpose: another tensor, a shape for a reshape, or None."""
    above = source(editor, tensor, "transpose")
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


def below_reshape(editor: Editor, node: Node) -> bool:
    above = source(editor, node.inputs[0], "transpose") if node.op == "reshape" else None
    if above is None:
        return False
    x = editor.tensors[above.inputs[0]]
    found = reshape_before_transpose(x.shape, above.attrs.perm, node.attrs.shape)
    if found is None:
        return False
    shape, perm = found
    new = replace(node, inputs=above.inputs, attrs=ReshapeAttrs(shape))
    return _sink(editor, node, new, shape, "transpose", TransposeAttrs(perm))
