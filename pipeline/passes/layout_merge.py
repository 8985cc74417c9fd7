"""Transposes and reshapes that merge, vanish, or are part of the op above them; and whatever else
moves nothing."""

from __future__ import annotations

from dataclasses import replace

from tinsmith.pipeline.graph import Node
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.transpose import TransposeAttrs
from tinsmith.pipeline.passes.layout_common import REDUCING, moves_only_ones, permuted, source
from tinsmith.pipeline.passes.rewrite import Editor

# What else moves values, of one scale, and leaves all where they are if the shape stays the same.
_MOVING = ("slice", "pad", "concatenation", "split")


def drop_identity(editor: Editor, node: Node) -> bool:
    """Converters write parts that are the whole, joints of one part, and borders of nothing."""
    x, y = editor.tensors[node.inputs[0]], editor.tensors[node.outputs[0]]
    same = x.shape == y.shape
    if node.op == "transpose":
        same = node.attrs.perm == tuple(range(len(x.shape)))
    elif node.op in _MOVING:
        if node.op == "slice":
            forward = zip(node.attrs.size, node.attrs.steps, strict=True)
            same = same and all(size == 1 or step > 0 for size, step in forward)
    elif node.op != "reshape":
        return False
    return same and editor.redirect(y.name, x.name) and _gone(editor, node)


def _gone(editor: Editor, node: Node) -> bool:
    if node.name in editor.nodes:
        editor.remove(editor.nodes[node.name])
    return True


def transpose_to_reshape(editor: Editor, node: Node) -> bool:
    if node.op != "transpose":
        return False
    x, y = editor.tensors[node.inputs[0]], editor.tensors[node.outputs[0]]
    if not moves_only_ones(x.shape, node.attrs.perm):
        return False
    editor.replace(node, replace(node, op="reshape", attrs=ReshapeAttrs(y.shape)))
    return True


def merge_transposes(editor: Editor, node: Node) -> bool:
    above = source(editor, node.inputs[0], "transpose") if node.op == "transpose" else None
    if above is None:
        return False
    perm = permuted(above.attrs.perm, node.attrs.perm)
    editor.replace(node, replace(node, inputs=above.inputs, attrs=TransposeAttrs(perm)))
    return True


def merge_reshapes(editor: Editor, node: Node) -> bool:
    above = source(editor, node.inputs[0], "reshape") if node.op == "reshape" else None
    if above is None:
        return False
    editor.replace(node, replace(node, inputs=above.inputs))
    return True


def squeeze_reduction(editor: Editor, node: Node) -> bool:
    """A reduction that keeps the reduced axes, whose reader drops them, drops them itself."""
    above = editor.producer(node.inputs[0]) if node.op == "reshape" else None
    if (
        above is None
        or above.op not in REDUCING
        or not above.attrs.keep_dims
        or not editor.read_once(above.outputs[0])
    ):
        return False
    y = editor.tensors[above.outputs[0]]
    squeezed = tuple(d for i, d in enumerate(y.shape) if i not in above.attrs.axes)
    if squeezed != node.attrs.shape:
        return False
    editor.replace(above, replace(above, attrs=ReduceAttrs(above.attrs.axes)))
    editor.tensors[y.name] = replace(y, shape=squeezed)
    return True


def keep_rows(editor: Editor, node: Node) -> bool:
    """A matrix product between two reshapes that only fold leading axes keeps them itself."""
    above = source(editor, node.inputs[0], "fully_connected") if node.op == "reshape" else None
    if above is None or not editor.read_once(above.outputs[0]):
        return False
    folded = source(editor, above.inputs[0], "reshape")
    x = editor.tensors[(folded or above).inputs[0]]
    y = editor.tensors[above.outputs[0]]
    depth = editor.tensors[above.inputs[1]].shape[1]
    if len(x.shape) < 2 or x.shape[-1] != depth or node.attrs.shape != (*x.shape[:-1], y.shape[-1]):
        return False
    attrs = replace(above.attrs, keep_dims=True)
    editor.replace(above, replace(above, inputs=(x.name, *above.inputs[1:]), attrs=attrs))
    editor.tensors[y.name] = replace(y, shape=node.attrs.shape)
    return True
