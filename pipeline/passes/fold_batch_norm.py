"""Scales and shifts per channel folded into the layers beside them.

The front end writes a batch normalization as a depthwise 1x1 convolution, which is exact by itself;
where a convolution or a fully connected layer feeds it, or a fully connected layer reads it, its
scale and shift go into those weights and biases. So does a product with a constant per channel.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.graph import NO_ATTRS, Activation, Array, DType, Graph, Node
from tinsmith.pipeline.ops import OPS
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.passes.rewrite import Editor, apply_rules

MAC_OPS = ("conv2d", "depthwise_conv2d", "fully_connected", "transpose_conv2d")


def fold_batch_norm(graph: Graph) -> Graph:
    """The same network with fewer per-channel scales."""
    return apply_rules(graph, (_product_into_producer, _into_producer, _into_fully_connected))


def _is_scale(editor: Editor, node: Node) -> bool:
    """A depthwise 1x1 convolution of multiplier 1, in float with constant parameters."""
    if node.op != "depthwise_conv2d":
        return False
    x, w = editor.tensors[node.inputs[0]], editor.tensors[node.inputs[1]]
    plain = replace(node.attrs, activation=Activation.NONE) == DepthwiseConv2dAttrs()
    return (
        plain
        and x.dtype is DType.FLOAT32
        and w.shape == (1, 1, 1, x.shape[3])
        and _constants(editor, node)
    )


def _constants(editor: Editor, node: Node) -> bool:
    return all(editor.tensors[i].is_constant for i in node.inputs[1:] if i)


def _bias(editor: Editor, node: Node, channels: int) -> NDArray[np.float64]:
    if len(node.inputs) < 3 or not node.inputs[2]:
        return np.zeros(channels)
    return editor.tensors[node.inputs[2]].value().reshape(-1).astype(np.float64)


def _set_parameters(editor: Editor, node: Node, weights: Array, bias: Array) -> Node:
    w = editor.constant(node.inputs[1], weights.astype(np.float32))
    wish = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] else f"{node.name}_bias"
    b = editor.constant(wish, bias.astype(np.float32))
    new = replace(node, inputs=(node.inputs[0], w, b))
    editor.replace(node, new)
    return new


def _through_reshape(editor: Editor, tensor: str) -> Node | None:
    """What computes a tensor, looking through one reshape that keeps the last axis."""
    node = editor.producer(tensor)
    if node is None or node.op != "reshape":
        return node
    x = editor.tensors[node.inputs[0]]
    if not editor.read_once(x.name) or x.shape[-1:] != node.attrs.shape[-1:]:
        return None
    return editor.producer(x.name)


def _product_into_producer(editor: Editor, node: Node) -> bool:
    """(W x + b) * c is (c W) x + c b."""
    if node.op != "mul":
        return False
    for data, other in (node.inputs, node.inputs[::-1]):
        above, factor = editor.producer(data), editor.tensors[other].data
        if above is None or above.op not in MAC_OPS or factor is None:
            continue
        y = editor.tensors[node.outputs[0]]
        channels = y.shape[-1]
        per_channel = factor.size == 1 or factor.size == factor.shape[-1] == channels
        if (
            y.dtype is DType.FLOAT32
            and per_channel
            and y.shape == editor.tensors[data].shape
            and editor.read_once(data)
            and above.attrs.activation is Activation.NONE
            and _constants(editor, above)
        ):
            scale = np.broadcast_to(factor.reshape(-1).astype(np.float64), channels)
            new = _scale_layer(editor, above, scale, np.zeros(channels))
            attrs = replace(new.attrs, activation=node.attrs.activation)
            editor.replace(new, replace(new, attrs=attrs))
            _take_over(editor, node, new.name)
            return True
    return False


def _scale_layer(
    editor: Editor, layer: Node, scale: NDArray[np.float64], shift: NDArray[np.float64]
) -> Node:
    """The layer with its output times scale plus shift, each per output channel."""
    axis = OPS[layer.op].weight_axis
    w = editor.tensors[layer.inputs[1]].value().astype(np.float64)
    assert axis is not None
    shape = [1] * w.ndim
    shape[axis] = -1
    bias = _bias(editor, layer, scale.size) * scale + shift
    return _set_parameters(editor, layer, w * scale.reshape(shape), bias)


def _into_producer(editor: Editor, node: Node) -> bool:
    if not _is_scale(editor, node) or not editor.read_once(node.inputs[0]):
        return False
    above = _through_reshape(editor, node.inputs[0])
    if (
        above is None
        or above.op not in MAC_OPS
        or above.attrs.activation is not Activation.NONE
        or not _constants(editor, above)
    ):
        return False
    scale = editor.tensors[node.inputs[1]].value().reshape(-1).astype(np.float64)
    new = _scale_layer(editor, above, scale, _bias(editor, node, scale.size))
    if new.outputs[0] == node.inputs[0]:
        editor.replace(
            new, replace(new, attrs=replace(new.attrs, activation=node.attrs.activation))
        )
        _take_over(editor, node, new.name)
    else:
        # The activation, if any, would be on the other side of a reshape: it stays its own node.
        _leave_activation(editor, node)
    return True


def _take_over(editor: Editor, node: Node, producer: str) -> None:
    """Makes `producer` compute the output of `node`, which goes."""
    editor.remove(node)
    above = editor.nodes[producer]
    editor.replace(above, replace(above, outputs=node.outputs))


def _leave_activation(editor: Editor, node: Node) -> None:
    activation = node.attrs.activation
    if activation is Activation.NONE:
        editor.remove(node)
        above = editor.producer(node.inputs[0])
        assert above is not None
        editor.replace(above, replace(above, outputs=node.outputs))
        return
    new = replace(node, op=activation.value, inputs=node.inputs[:1], attrs=NO_ATTRS)
    editor.replace(node, new)


def _into_fully_connected(editor: Editor, node: Node) -> bool:
    """W (x * scale + shift) + b is (W * scale) x + (W shift + b)."""
    if node.op != "fully_connected" or not _constants(editor, node):
        return False
    if not editor.read_once(node.inputs[0]):
        return False
    above = _through_reshape(editor, node.inputs[0])
    if above is None or not _is_scale(editor, above):
        return False
    w = editor.tensors[node.inputs[1]].value().astype(np.float64)
    scale = editor.tensors[above.inputs[1]].value().reshape(-1).astype(np.float64)
    if above.attrs.activation is not Activation.NONE or scale.size != w.shape[1]:
        return False
    bias = _bias(editor, node, w.shape[0]) + w @ _bias(editor, above, scale.size)
    _set_parameters(editor, node, w * scale, bias)
    return editor.redirect(above.outputs[0], above.inputs[0])
