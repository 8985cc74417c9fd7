"""A pad in front of a layer with explicit padding becomes that padding, where both pad the same."""

from __future__ import annotations

import math
from dataclasses import replace

from tinsmith.pipeline.graph import Graph, Node
from tinsmith.pipeline.ops import pad as pad_op
from tinsmith.pipeline.passes.rewrite import Editor, apply_rules

CONVOLUTIONS = ("conv2d", "depthwise_conv2d")


def fold_pad(graph: Graph) -> Graph:
    """The same network with fewer pads.

    A convolution's padding counts as 0 (the zero point), a maximum's as nothing (-infinity).
    """
    return apply_rules(graph, (_fold,))


def _fold(editor: Editor, node: Node) -> bool:
    above = editor.producer(node.inputs[0]) if node.inputs else None
    if above is None or above.op != "pad":
        return False
    borders = above.attrs.pads
    if len(borders) != 4 or any(borders[0]) or any(borders[3]):
        return False
    if not _same_border(editor, above, node):
        return False
    old = node.attrs.pads
    pads = (
        old[0] + borders[1][0],
        old[1] + borders[1][1],
        old[2] + borders[2][0],
        old[3] + borders[2][1],
    )
    if node.op == "max_pool2d" and (
        max(pads[:2]) >= node.attrs.kernel[0] or max(pads[2:]) >= node.attrs.kernel[1]
    ):
        return False
    editor.replace(
        node,
        replace(
            node,
            inputs=(above.inputs[0], *node.inputs[1:]),
            attrs=replace(node.attrs, pads=pads),
        ),
    )
    return True


def _same_border(editor: Editor, pad: Node, node: Node) -> bool:
    value = pad.attrs.value
    if node.op == "max_pool2d":
        return value == -math.inf and not editor.tensors[pad.outputs[0]].dtype.is_integer
    if node.op not in CONVOLUTIONS:
        return False
    y = editor.tensors[pad.outputs[0]]
    if not y.dtype.is_integer:
        return bool(value == 0.0)
    return pad_op.border(editor.call(pad)) == y.zero_point
