"""Networks whose layers can be made in stripes of rows, and programs of them with any chains."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from support.merge import merge
from support.nets import Net
from tinsmith.codegen.calls import network_of
from tinsmith.codegen.choice import usable_kernels
from tinsmith.codegen.layout import orders
from tinsmith.codegen.lower import LowerOptions, choices_of, program_of
from tinsmith.codegen.program import Program
from tinsmith.codegen.states import aliases
from tinsmith.codegen.streaming import order_of, streamed
from tinsmith.codegen.stripes import Chain, Flow, chain_of
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.graph import Activation, DType, Graph
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs

Rng = np.random.Generator
ACTIVATIONS = (Activation.NONE, Activation.RELU, Activation.RELU6)


def chain_network(seed: int, dtype: DType = DType.INT8) -> Graph:
    """Windows, pools, sums and tables one after another, with branches; odd sizes, any padding,
    strides and dilation."""
    rng = np.random.default_rng(seed)
    net = Net(f"chain_{seed}", rng)
    height = int(rng.choice((1, 5, 9, 14, 23, 40)))
    width = int(rng.choice((1, 3, 4, 7, 10)))
    x = net.input((1, height, width, int(rng.choice((1, 3, 4, 8)))), dtype=dtype)
    for _ in range(int(rng.integers(3, 7))):
        kind = rng.choice(("conv", "conv", "depthwise", "depthwise", "pool", "branch", "relu"))
        x = _grown(net, x, str(kind), rng)
    end = str(rng.choice(("image", "mean", "average_pool2d")))
    if end == "mean":
        x = net.node("mean", [x], ReduceAttrs((1, 2), keep_dims=bool(rng.random() < 0.5)))
    elif end == "average_pool2d":
        size = (net.shape(x)[1], net.shape(x)[2])
        x = net.node(end, [x], Pool2dAttrs(size, (1, 1), activation=_activation(rng)))
    return net.graph([x])


def any_chain_networks(seeds: Iterable[int], dtype: DType) -> Graph:
    """Such networks side by side, one a seed; another where there is no integer form of one."""
    found = []
    for seed in seeds:
        for other in itertools.count(seed, 1000):
            with contextlib.suppress(UnsupportedModel):
                found.append(chain_network(other, dtype))
                break
    return merge("chains", found)


def encoder() -> Graph:
    """A network whose layers are widest in the middle: convolutions, a sum with what went in."""
    net = Net("encoder", np.random.default_rng(4))
    x = net.input((1, 24, 24, 3))
    x = _plain(net, x, 8)
    wide = _plain(net, _plain(net, x, 16), 8)
    x = net.node("add", [x, wide], AddAttrs(Activation.RELU))
    return net.graph([_plain(net, x, 8, (2, 2))])


def pooled(op: str) -> Graph:
    """Two convolutions as wide as high, and one pixel of all that in the end."""
    net = Net("net", np.random.default_rng(0))
    x = net.input((1, 20, 8, 2))
    for channels in (12, 16):
        w = net.weights((channels, 3, 3, net.shape(x)[3]), x, axis=0)
        x = net.node("conv2d", [x, w, net.bias(w, x, channels)], Conv2dAttrs(pads=(1, 1, 1, 1)))
    attrs = ReduceAttrs((1, 2)) if op == "mean" else Pool2dAttrs((20, 8), (1, 1))
    return net.graph([net.node(op, [x], attrs)])


def _plain(net: Net, x: str, channels: int, stride: tuple[int, int] = (1, 1)) -> str:
    w = net.weights((channels, 3, 3, net.shape(x)[3]), x, axis=0)
    attrs = Conv2dAttrs(stride, pads=(1, 1, 1, 1), activation=Activation.RELU)
    return net.node("conv2d", [x, w, net.bias(w, x, channels)], attrs)


def _grown(net: Net, x: str, kind: str, rng: Rng) -> str:
    if kind == "branch":
        a, b = _conv(net, x, rng, same=True), x
        if rng.random() < 0.5:
            b = _conv(net, x, rng, same=True, channels=net.shape(a)[3])
        if net.shape(a) == net.shape(b):
            return net.node("add", [a, b], AddAttrs(_activation(rng)), saturate=0.1)
        if net.tensor(a).quant == net.tensor(b).quant:
            return net.node("concatenation", [a, b], ConcatenationAttrs(3))
        return a
    if kind == "relu":
        return net.node("relu", [x])
    if kind == "pool":
        op = str(rng.choice(("max_pool2d", "average_pool2d")))
        (kh, kw), stride, pads, _ = _window(net.shape(x), rng, dilated=False)
        pads = tuple(min(p, k - 1) for p, k in zip(pads, (kh, kh, kw, kw), strict=True))
        attrs = Pool2dAttrs((kh, kw), stride, pads, _activation(rng))
        return net.node(op, [x], attrs)
    if kind == "depthwise":
        (kh, kw), stride, pads, dilation = _window(net.shape(x), rng)
        depth = int(rng.choice((1, 1, 1, 2)))
        channels = net.shape(x)[3] * depth
        w = net.weights((1, kh, kw, channels), x, axis=3, fan_in=kh * kw)
        attrs = DepthwiseConv2dAttrs(stride, dilation, pads, _activation(rng))
        return net.node("depthwise_conv2d", [x, w, net.bias(w, x, channels)], attrs, saturate=0.1)
    return _conv(net, x, rng)


def _conv(net: Net, x: str, rng: Rng, *, same: bool = False, channels: int | None = None) -> str:
    channels = channels or int(rng.choice((1, 3, 4, 5, 8, 16)))
    (kh, kw), stride, pads, dilation = _window(net.shape(x), rng)
    if same:
        kh = kw = int(rng.choice((1, 3)))
        stride, dilation, pads = (1, 1), (1, 1), (kh // 2,) * 4
    w = net.weights((channels, kh, kw, net.shape(x)[3]), x, axis=0)
    attrs = Conv2dAttrs(stride, dilation, pads, _activation(rng))
    return net.node("conv2d", [x, w, net.bias(w, x, channels)], attrs, saturate=0.1)


def _window(
    shape: Sequence[int], rng: Rng, *, dilated: bool = True
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, ...], tuple[int, int]]:
    """Kernel, stride, pads and dilation that fit an image; now and then a stride beyond the
    kernel."""
    if min(shape[1:3]) >= 3 and rng.random() < 0.4:
        return (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)
    kernel, stride, dilation, pads = [], [], [], []
    for size in shape[1:3]:
        step = int(rng.choice((1, 1, 2))) if dilated else 1
        most = min((size - 1) // step + 1, 5)
        k = int(rng.integers(1, most + 1))
        span = (k - 1) * step + 1
        before = int(rng.integers(0, min(span, 3))) if rng.random() < 0.7 else 0
        after = int(rng.integers(0, min(span, 3))) if rng.random() < 0.7 else 0
        kernel.append(k)
        dilation.append(step)
        stride.append(int(rng.choice((1, 1, 1, 2, 3))) if size > 4 else 1)
        pads += [before, after]
    return (kernel[0], kernel[1]), (stride[0], stride[1]), tuple(pads), (dilation[0], dilation[1])


def _activation(rng: Rng) -> Activation:
    return ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))]


def in_stripes(
    graph: Graph, isa: tuple[str, ...], rng: Rng, *, preserve_inputs: bool = False
) -> Program:
    """The program with as many chains as there is room for, each of random length and height."""
    options = LowerOptions("ram", preserve_inputs)
    net = network_of(graph, aliases(graph), preserve_inputs=preserve_inputs)
    kernels = choices_of(graph, usable_kernels(graph, isa, "ram"))
    order = order_of(net, orders(net, kernels)[0], {})
    chains: list[Chain] = []
    place = 0
    while place < len(order.names) - 1:
        chain = _any_chain(order.flow, place, rng)
        fits = chain is not None and streamed(
            net, order.flow, order.choices(kernels), kernels, chain, order.planned
        )
        if chain is not None and fits:
            chains.append(chain)
            place = chain.end
        else:
            place += 1
    layout = order.laid_out(chains, kernels, 1 << 60)
    assert layout is not None
    return program_of("net", isa, options, net, layout, layout)


def _any_chain(flow: Flow, first: int, rng: Rng) -> Chain | None:
    """A chain that starts there, of the longest of a few lengths that were tried."""
    for end in sorted({int(e) for e in rng.integers(first + 2, first + 9, 3)}, reverse=True):
        if end <= len(flow.nodes):
            height, grain = int(rng.choice((1, 1, 2, 3, 5))), int(rng.choice((1, 1, 2)))
            ramps = (True, False) if rng.random() < 0.5 else (False,)
            for ramp in ramps:
                chain = chain_of(flow, first, end, height, grain, ramp=ramp)
                if chain is not None:
                    return chain
    return None
