"""Channels that are the same value whatever the input, or that nobody needs, are taken out; exact.

A channel whose weights are all zero, or whose sums never leave one step of the requantization, is a
constant: it goes into the biases of the convolutions that read it. What then feeds only channels
that are gone goes as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.graph import DType, Graph, Node, QuantParams, Tensor, rebuild
from tinsmith.pipeline.ops import OPS, OpCall, call_of, conv2d, depthwise_conv2d, fully_connected
from tinsmith.pipeline.ops.mac import Requant
from tinsmith.pipeline.requant_proofs import Channels

GRANULE = 4  # channels are kept in fours where they came in fours: kernels work on words
KEEP_CHANNELS = frozenset(["depthwise_conv2d", "average_pool2d", "max_pool2d", "mean", "reshape"])
INT32_LIMIT = 1 << 31

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Constant:
    """What is known of a tensor's channels: value where fixed."""

    fixed: Mask
    value: NDArray[np.int64]


def dead_channels(graph: Graph) -> Graph:
    """The same outputs from fewer channels."""
    known = _constants(graph)
    needed = _needed(graph, known)
    kept = {name: _granular(mask) for name, mask in needed.items()}
    for node in graph.nodes:
        # Another reader may keep more of an input than its pool or depthwise convolution needs.
        if node.inputs and node.inputs[0] in kept and _keeps_channels(call_of(graph, node)):
            kept[node.outputs[0]] = kept[node.inputs[0]]
    if all(mask.all() for mask in kept.values()):
        return graph
    tensors = dict(graph.tensors)
    nodes = []
    for node in graph.nodes:
        slimmer = _slimmer(graph, node, kept, known, tensors)
        if slimmer is None:
            return graph
        nodes.append(slimmer)
    used = {n for node in nodes for n in (*node.inputs, *node.outputs)}
    used |= {*graph.inputs, *graph.outputs, *(s.tensor for s in graph.state)}
    return rebuild(graph, nodes=nodes, tensors=[t for t in tensors.values() if t.name in used])


def _constants(graph: Graph) -> dict[str, Constant]:
    known: dict[str, Constant] = {}
    for node in graph.nodes:
        call = call_of(graph, node)
        if call.output.dtype is not DType.INT8 or not call.output.shape:
            continue
        if _is_product(graph, node):
            known[node.outputs[0]] = _product_constants(call, known.get(node.inputs[0]))
        elif node.op == "depthwise_conv2d" and _plain_depthwise(call):
            known[node.outputs[0]] = _depthwise_constants(call, known.get(node.inputs[0]))
        elif _keeps_channels(call) and node.inputs[0] in known:
            known[node.outputs[0]] = _by_running(call, known[node.inputs[0]])
    return known


def _is_product(graph: Graph, node: Node) -> bool:
    """A convolution of one group or a fully connected layer, int8 with constant weights."""
    if node.op not in ("conv2d", "fully_connected"):
        return False
    call = call_of(graph, node)
    w = call.input(1)
    if call.input(0).dtype is not DType.INT8 or not w.is_constant:
        return False
    if node.op == "fully_connected":
        return call.input(0).shape[-1] == w.shape[1]
    return call.input(0).shape[3] == w.shape[3]


def _plain_depthwise(call: OpCall) -> bool:
    int8 = call.input(0).dtype is DType.INT8 and call.input(1).is_constant
    return int8 and call.input(0).shape[3] == call.output.shape[3]


def _keeps_channels(call: OpCall) -> bool:
    """Whether output channel c depends on input channel c alone."""
    if call.op not in KEEP_CHANNELS:
        return False
    x, y = call.input(0), call.output
    if x.dtype is not DType.INT8 or not x.shape or not y.shape or x.shape[-1] != y.shape[-1]:
        return False
    if call.op == "depthwise_conv2d":
        return _plain_depthwise(call)
    return call.op != "mean" or len(x.shape) - 1 not in call.attrs.axes


def _requant(call: OpCall) -> Requant:
    rules: dict[str, Callable[[OpCall], Requant]] = {
        "conv2d": conv2d.requant,
        "depthwise_conv2d": depthwise_conv2d.requant,
        "fully_connected": fully_connected.requant,
    }
    return rules[call.op](call)


def _bias(call: OpCall, channels: int) -> NDArray[np.int64]:
    bias = call.optional(2)
    return (
        np.zeros(channels, np.int64) if bias is None else bias.value().reshape(-1).astype(np.int64)
    )


def _range_constants(call: OpCall, low: NDArray[np.int64], high: NDArray[np.int64]) -> Constant:
    """Outputs are monotone in the accumulator: where both ends give one value, all do."""
    r = _requant(call)
    safe = (low > -INT32_LIMIT) & (high < INT32_LIMIT)
    channels = Channels(r.multiplier, r.shift, low, high, r.output_zero_point, r.act_min, r.act_max)
    ends = channels.outputs(np.stack([low, high], axis=1))
    # A left shift may wrap, and then nothing is monotone.
    return Constant((ends[:, 0] == ends[:, 1]) & safe & (r.shift <= 0), ends[:, 0])


def _product_constants(call: OpCall, x: Constant | None) -> Constant:
    """The range of each sum: known inputs count with their value, and with the border's where there
    is one."""
    w = call.input(1).value().astype(np.int64)
    taps = w.reshape(len(w), -1, w.shape[-1])
    zero = call.input(0).zero_point
    low_x, high_x = np.full(w.shape[-1], -128 - zero), np.full(w.shape[-1], 127 - zero)
    if x is not None:
        low_x, high_x = (
            np.where(x.fixed, x.value - zero, low_x),
            np.where(x.fixed, x.value - zero, high_x),
        )
    if any(getattr(call.attrs, "pads", ())):
        low_x, high_x = np.minimum(low_x, 0), np.maximum(high_x, 0)
    a, b = taps * low_x, taps * high_x
    bias = _bias(call, len(w))
    return _range_constants(
        call, bias + np.minimum(a, b).sum(axis=(1, 2)), bias + np.maximum(a, b).sum(axis=(1, 2))
    )


def _depthwise_constants(call: OpCall, x: Constant | None) -> Constant:
    w = call.input(1).value().astype(np.int64).reshape(-1, call.output.shape[3])
    zero = call.input(0).zero_point
    a, b = w * (-128 - zero), w * (127 - zero)
    bias = _bias(call, w.shape[1])
    found = _range_constants(
        call, bias + np.minimum(a, b).sum(axis=0), bias + np.maximum(a, b).sum(axis=0)
    )
    if x is None or not x.fixed.any():
        return found
    run = _by_running(call, x)
    return Constant(found.fixed | run.fixed, np.where(run.fixed, run.value, found.value))


def _by_running(call: OpCall, x: Constant) -> Constant:
    """The op on an image of the known values: a channel is fixed where all its outputs agree."""
    image = np.broadcast_to(np.where(x.fixed, x.value, 0), call.input(0).shape).astype(np.int8)
    values = [image, *(None if t is None else t.data for t in call.inputs[1:])]
    y = OPS[call.op].run_int(call, values)[0].reshape(-1, call.output.shape[-1]).astype(np.int64)
    return Constant(x.fixed & (y == y[0]).all(axis=0), y[0])


def _absorbed(call: OpCall, x: Constant) -> Mask:
    """The input channels that go into the biases of a product: borders must not tell them apart."""
    if any(getattr(call.attrs, "pads", ())):
        silent: Mask = x.fixed & (x.value == call.input(0).zero_point)
        return silent
    return x.fixed


def _needed(graph: Graph, known: Mapping[str, Constant]) -> dict[str, Mask]:
    """Which channels of each computed int8 tensor somebody needs."""
    needed: dict[str, Mask] = {}

    def need(name: str, mask: Mask) -> None:
        needed[name] = mask if name not in needed else needed[name] | mask

    fixed_names = {*graph.inputs, *graph.outputs}
    fixed_names |= {t for s in graph.state for t in (s.tensor, s.next)}
    for name in fixed_names:
        if graph.tensors[name].shape:
            need(name, np.ones(graph.tensors[name].shape[-1], np.bool_))
    for node in reversed(graph.nodes):
        call = call_of(graph, node)
        if not _is_product(graph, node) and not _keeps_channels(call):
            # Only these can be made without some of their channels: flattened ones are no channels.
            for name in node.outputs:
                if graph.tensors[name].shape:
                    need(name, np.ones(graph.tensors[name].shape[-1], np.bool_))
        out = needed.get(node.outputs[0])
        for i, name in enumerate(node.inputs):
            if not name or graph.tensors[name].is_constant or not graph.tensors[name].shape:
                continue
            mask = np.ones(graph.tensors[name].shape[-1], np.bool_)
            if i == 0 and _is_product(graph, node):
                w = call.input(1).value()
                rows = w if out is None else w[_granular(out)]
                mask = (rows != 0).reshape(-1, w.shape[-1]).any(axis=0)
                if name in known:
                    mask &= ~_absorbed(call, known[name])
            elif i == 0 and out is not None and _keeps_channels(call):
                mask = _granular(out)
            need(name, mask)
    return needed


def _granular(mask: Mask) -> Mask:
    """At least the needed channels: one, or fours where all of them are fours."""
    count = int(mask.sum())
    wanted = max(count, 1)
    if len(mask) % GRANULE == 0:
        wanted = -(-wanted // GRANULE) * GRANULE
    spare = np.flatnonzero(~mask)[: wanted - count]
    grown = mask.copy()
    grown[spare] = True
    return grown


def _slimmer(
    graph: Graph,
    node: Node,
    kept: Mapping[str, Mask],
    known: Mapping[str, Constant],
    tensors: dict[str, Tensor],
) -> Node | None:
    """The node on the kept channels; writes the tensors that it changes.

    None where a bias would not fit its type: sums of such a layer wrap, as only odd files' do.
    """
    call = call_of(graph, node)
    name, out = node.inputs[0] if node.inputs else "", node.outputs[0]
    ins, outs = kept.get(name), kept.get(out)
    fewer_in = ins is not None and not ins.all()
    fewer_out = outs is not None and not outs.all()
    if not fewer_in and not fewer_out:
        return node
    if outs is not None and fewer_out:
        t = graph.tensors[out]
        tensors[out] = replace(t, shape=(*t.shape[:-1], int(outs.sum())))
    if not node.op.endswith(("conv2d", "fully_connected")):
        attrs = node.attrs
        if node.op == "reshape":
            attrs = replace(attrs, shape=tensors[out].shape)
        return replace(node, attrs=attrs)
    axis = 3 if node.op == "depthwise_conv2d" else 0
    w = call.input(1)
    data, bias = w.value(), _bias(call, w.shape[axis])
    if ins is not None and fewer_in and axis == 0:
        gone = ~ins & known[name].fixed if name in known else np.zeros(len(ins), np.bool_)
        shift = (
            np.where(gone, known[name].value - call.input(0).zero_point, 0) if name in known else 0
        )
        bias = bias + (data.astype(np.int64) * shift).reshape(len(data), -1).sum(axis=1)
        data = data[..., ins]
    quant = w.quant
    if outs is not None and fewer_out:
        data, bias = np.compress(outs, data, axis=axis), bias[outs]
        quant = _slice_quant(quant, outs)
    weights = replace(
        w, name=f"{out}/weights", shape=data.shape, data=np.ascontiguousarray(data), quant=quant
    )
    tensors[weights.name] = weights
    inputs = [*node.inputs[:1], weights.name]
    old_bias = call.optional(2)
    if old_bias is not None or bias.any():
        if np.abs(bias).max(initial=0) >= INT32_LIMIT:
            return None
        bias_quant = None if old_bias is None else old_bias.quant
        if outs is not None and fewer_out:
            bias_quant = _slice_quant(bias_quant, outs)
        stored = bias.astype(np.int32)
        tensors[f"{out}/bias"] = Tensor(
            f"{out}/bias", stored.shape, DType.INT32, bias_quant, stored
        )
        inputs.append(f"{out}/bias")
    return replace(node, inputs=tuple(inputs))


def _slice_quant(quant: QuantParams | None, kept: Mask) -> QuantParams | None:
    if quant is None or len(quant.scale) == 1:
        return quant
    scale = tuple(s for s, k in zip(quant.scale, kept, strict=True) if k)
    zero = quant.zero_point
    if len(zero) > 1:
        zero = tuple(z for z, k in zip(zero, kept, strict=True) if k)
    return replace(quant, scale=scale, zero_point=zero)
