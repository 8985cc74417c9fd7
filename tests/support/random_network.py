"""Random small networks over the ops, for differential tests of every tier."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from support.more_growers import MORE_GROWERS, MORE_WEIGHTS, random_operand
from support.nets import CALIBRATION_SAMPLES, Net
from tinsmith.pipeline.graph import Activation, DType, Graph, QuantParams
from tinsmith.pipeline.ops import OPS, window
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.leaky_relu import LeakyReluAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.pipeline.ops.pad import PadAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.slice import SliceAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.pipeline.ops.split import SplitAttrs
from tinsmith.pipeline.ops.transpose import TransposeAttrs

MAX_ELEMENTS = 4096  # of an activation
ACTIVATIONS = (Activation.NONE, Activation.NONE, Activation.RELU, Activation.RELU6)

# Adds a node of its op behind a tensor and returns the output, or None where it doesn't fit there.
Grower = Callable[[Net, str], str | None]


def _pick(net: Net, choices: Sequence[int]) -> int:
    return int(net.rng.choice(np.asarray(choices)))


def _activation(net: Net) -> Activation:
    return ACTIVATIONS[_pick(net, range(len(ACTIVATIONS)))]


def _saturate(net: Net) -> float:
    return float(net.rng.choice([0.0, 0.0, 0.02, 0.2]))


def _window(
    net: Net, image: tuple[int, int], dilations: Sequence[int], explicit: bool
) -> tuple[window.Pair, window.Pair, window.Pair, window.Pads] | None:
    """(kernel, stride, dilation, pads) of a window that fits, or None after some tries."""
    for _ in range(8):
        kernel = (_pick(net, (1, 1, 2, 3, 3, 5)), _pick(net, (1, 1, 2, 3, 3, 4)))
        stride = (_pick(net, (1, 1, 2, 3)), _pick(net, (1, 1, 2, 3)))
        dilation = (_pick(net, dilations), _pick(net, dilations))
        if dilation != (1, 1) and net.rng.random() < 0.5:
            stride = (1, 1)
        kind = _pick(net, range(3 if explicit else 2))
        pads = window.NO_PADS
        if kind == 1:
            pads = window.same_pads(image, kernel, stride, dilation)
        elif kind == 2:
            most = [min(k - 1, 2) for k in (kernel[0], kernel[0], kernel[1], kernel[1])]
            top, bottom, left, right = (_pick(net, range(m + 1)) for m in most)
            pads = (top, bottom, left, right)
        fits = all(
            image[a] + pads[2 * a] + pads[2 * a + 1] >= window.extent(kernel[a], dilation[a])
            for a in (0, 1)
        )
        if fits:
            return kernel, stride, dilation, pads
    return None


def _image(net: Net, x: str) -> tuple[int, int] | None:
    shape = net.shape(x)
    return (shape[1], shape[2]) if len(shape) == 4 else None


def grow_conv2d(net: Net, x: str) -> str | None:
    image = _image(net, x)
    found = None if image is None else _window(net, image, (1, 1, 1, 2), explicit=True)
    if found is None:
        return None
    kernel, stride, dilation, pads = found
    c = net.shape(x)[3]
    groups = 2 if c % 2 == 0 and net.rng.random() < 0.1 else 1
    out = groups * _pick(net, (1, 2, 3, 4, 5, 7, 8))
    axis = 0 if net.rng.random() < 0.8 else None
    w = net.weights((out, *kernel, c // groups), x, axis=axis)
    inputs = [x, w] if net.rng.random() < 0.1 else [x, w, net.bias(w, x, out)]
    attrs = Conv2dAttrs(stride, dilation, pads, _activation(net))
    return net.node("conv2d", inputs, attrs, saturate=_saturate(net))


def grow_depthwise_conv2d(net: Net, x: str) -> str | None:
    image = _image(net, x)
    found = None if image is None else _window(net, image, (1, 1, 1, 2), explicit=True)
    if found is None:
        return None
    kernel, stride, dilation, pads = found
    out = net.shape(x)[3] * _pick(net, (1, 1, 1, 2, 3))
    axis = 3 if net.rng.random() < 0.8 else None
    w = net.weights((1, *kernel, out), x, axis=axis, fan_in=kernel[0] * kernel[1])
    inputs = [x, w] if net.rng.random() < 0.1 else [x, w, net.bias(w, x, out)]
    attrs = DepthwiseConv2dAttrs(stride, dilation, pads, _activation(net))
    return net.node("depthwise_conv2d", inputs, attrs, saturate=_saturate(net))


def grow_fully_connected(net: Net, x: str) -> str | None:
    shape = net.shape(x)
    if not shape:
        return None
    rank = len(shape)
    depth = int(np.prod(shape[1:])) if rank > 1 and shape[0] == 1 else shape[-1]
    keep = rank > 1 and depth == shape[-1] and net.rng.random() < 0.3
    out = _pick(net, (3, 5, 8, 11, 16))
    axis = 0 if net.rng.random() < 0.3 else None
    w = net.weights((out, depth), x, axis=axis)
    inputs = [x, w] if net.rng.random() < 0.2 else [x, w, net.bias(w, x, out)]
    attrs = FullyConnectedAttrs(_activation(net), keep)
    return net.node("fully_connected", inputs, attrs, saturate=_saturate(net))


def _like(net: Net, x: str) -> list[str]:
    """Other tensors of the same shape and type."""
    shape, dtype = net.shape(x), net.tensor(x).dtype
    return [
        name
        for name in net.values
        if name != x and net.shape(name) == shape and net.tensor(name).dtype is dtype
    ]


def _operands(net: Net, x: str, quant: QuantParams | None = None) -> list[str]:
    """x and another tensor of its shape or a constant that broadcasts, in any order.

    quant: of the constant; by default one of its own.
    """
    shape, same = net.shape(x), _like(net, x)
    if same and net.rng.random() < 0.8:
        other = same[_pick(net, range(len(same)))]
    else:
        kinds = [shape[-1:], (1,)] if len(shape) > 4 else [shape, shape, shape[-1:], (1,)]
        other = random_operand(net, kinds[_pick(net, range(len(kinds)))], x, quant)
    pair = [x, other] if net.rng.random() < 0.5 else [other, x]
    if net.tensor(pair[0]).is_constant and len(net.shape(pair[0])) != len(shape):
        pair = [x, other]
    return pair


def _grow_arithmetic(op: str, attrs: Callable[[Activation], object]) -> Grower:
    def grow(net: Net, x: str) -> str | None:
        chosen = attrs(_activation(net))
        return net.node(op, _operands(net, x), chosen, saturate=_saturate(net))

    return grow


def _with_scale_of(net: Net, name: str, x: str) -> str:
    """The tensor itself where it has the scale of x, else it requantized to that."""
    if net.tensor(name).quant == net.tensor(x).quant:
        return name
    return net.node("quantize", [name], quant=net.tensor(x).quant, dtype=net.tensor(x).dtype)


def _grow_extremum(op: str) -> Grower:
    def grow(net: Net, x: str) -> str | None:
        pair = _operands(net, x, net.tensor(x).quant)
        pair = [n if net.tensor(n).is_constant else _with_scale_of(net, n, x) for n in pair]
        return net.node(op, pair)

    return grow


def grow_prelu(net: Net, x: str) -> str | None:
    shape = net.shape(x)
    if not 2 <= len(shape) <= 4:
        return None
    alpha = (*(1,) * (len(shape) - 2), shape[-1])
    data = net.rng.integers(-128, 128, alpha).astype(np.int8)
    quant = QuantParams.per_tensor(float(net.rng.uniform(0.002, 0.01)), _pick(net, range(-20, 21)))
    return net.node("prelu", [x, net.builder.constant("alpha", data, quant)],
                    saturate=_saturate(net))  # fmt: skip


def grow_leaky_relu(net: Net, x: str) -> str | None:
    attrs = LeakyReluAttrs(float(net.rng.uniform(0.0, 0.5)))
    return net.node("leaky_relu", [x], attrs, saturate=_saturate(net))


def grow_concatenation(net: Net, x: str) -> str | None:
    """With tensors that have its shape but along one axis, at most four."""
    shape = net.shape(x)
    if len(shape) < 2:
        return None
    axis = len(shape) - 1 if net.rng.random() < 0.6 else _pick(net, range(1, len(shape)))

    def rest(name: str) -> tuple[int, ...]:
        other = net.shape(name)
        return (*other[:axis], *other[axis + 1 :])

    fitting = [
        n
        for n in net.values
        if len(net.shape(n)) == len(shape)
        and rest(n) == rest(x)
        and net.tensor(n).dtype is net.tensor(x).dtype
    ]
    count = min(len(fitting), _pick(net, (1, 2, 3)))
    others = [fitting[int(i)] for i in net.rng.permutation(len(fitting))[:count]]
    parts = [_with_scale_of(net, n, x) for n in others]
    parts.insert(_pick(net, range(len(parts) + 1)), x)
    return net.node("concatenation", parts, ConcatenationAttrs(axis))


def grow_split(net: Net, x: str) -> str | None:
    shape = net.shape(x)
    axes = [i for i in range(1, len(shape)) if shape[i] > 1]
    if not axes:
        return None
    axis = axes[_pick(net, range(len(axes)))]
    first = _pick(net, range(1, shape[axis]))
    sizes = (first, shape[axis] - first)
    outs = net.node_multi("split", [x], SplitAttrs(axis, sizes))
    return outs[sizes.index(max(sizes))]


def grow_slice(net: Net, x: str) -> str | None:
    shape = net.shape(x)
    if len(shape) < 2:
        return None
    begin, size, step = [0], [shape[0]], [1]
    for d in shape[1:]:
        stride = _pick(net, (1, 1, 1, 2, -1))
        length = _pick(net, range((d + 1) // 2, d + 1))
        count = -(-length // abs(stride))
        reach = (count - 1) * abs(stride)
        start = _pick(net, range(d - reach))
        begin.append(start if stride > 0 else start + reach)
        size.append(count)
        step.append(stride)
    attrs = SliceAttrs(tuple(begin), tuple(size), tuple(step) if set(step) != {1} else ())
    return net.node("slice", [x], attrs)


def _grow_pool(op: str) -> Grower:
    def grow(net: Net, x: str) -> str | None:
        image = _image(net, x)
        explicit = op == "max_pool2d"
        found = None if image is None else _window(net, image, (1,), explicit)
        if found is None:
            return None
        kernel, stride, _, pads = found
        wide = any(max(pads[2 * axis : 2 * axis + 2]) >= kernel[axis] for axis in (0, 1))
        if wide:
            return None
        return net.node(op, [x], Pool2dAttrs(kernel, stride, pads, _activation(net)))

    return grow


def grow_mean(net: Net, x: str) -> str | None:
    rank = len(net.shape(x))
    if rank < 2:
        return None
    axes = (1, 2) if rank == 4 and net.rng.random() < 0.6 else (_pick(net, range(1, rank)),)
    attrs = ReduceAttrs(axes, bool(net.rng.random() < 0.5))
    return net.node("mean", [x], attrs, saturate=_saturate(net))


def grow_pad(net: Net, x: str) -> str | None:
    rank = len(net.shape(x))
    if not 2 <= rank <= 4:
        return None
    pads = ((0, 0), *((_pick(net, range(3)), _pick(net, range(3))) for _ in range(rank - 1)))
    value = float(net.rng.choice([0.0, 0.0, 1.0, -np.inf]))
    return net.node("pad", [x], PadAttrs(pads, value))


def grow_reshape(net: Net, x: str) -> str | None:
    shape = net.shape(x)
    size = int(np.prod(shape))
    kinds: list[tuple[int, ...]] = [(1, size), (1, 1, 1, size)]
    if len(shape) == 4:
        kinds += [(1, shape[1] * shape[2], 1, shape[3]), (1, shape[2], shape[1], shape[3])]
    if size % 2 == 0:
        kinds.append((1, 2, size // 2, 1))
    return net.node("reshape", [x], ReshapeAttrs(kinds[_pick(net, range(len(kinds)))]))


def grow_transpose(net: Net, x: str) -> str | None:
    rank = len(net.shape(x))
    if rank < 3:
        return None
    perm = (0, *(1 + int(p) for p in net.rng.permutation(rank - 1)))
    return net.node("transpose", [x], TransposeAttrs(perm))


def _grow_one_input(op: str) -> Grower:
    return lambda net, x: net.node(op, [x], saturate=_saturate(net))


def grow_softmax(net: Net, x: str) -> str | None:
    if net.shape(x)[-1:] in ((), (1,)) or net.shape(x)[-1] > 500:
        return None
    return net.node("softmax", [x], SoftmaxAttrs())


def grow_quantize(net: Net, x: str) -> str | None:
    return net.node("quantize", [x], saturate=_saturate(net), dtype=net.tensor(x).dtype)


GROWERS: dict[str, Grower] = {
    "conv2d": grow_conv2d,
    "depthwise_conv2d": grow_depthwise_conv2d,
    "fully_connected": grow_fully_connected,
    "add": _grow_arithmetic("add", AddAttrs),
    "max_pool2d": _grow_pool("max_pool2d"),
    "average_pool2d": _grow_pool("average_pool2d"),
    "mean": grow_mean,
    "pad": grow_pad,
    "reshape": grow_reshape,
    "transpose": grow_transpose,
    "relu": _grow_one_input("relu"),
    "relu6": _grow_one_input("relu6"),
    "softmax": grow_softmax,
    "quantize": grow_quantize,
    "sub": _grow_arithmetic("sub", AddAttrs),
    "mul": _grow_arithmetic("mul", MulAttrs),
    "maximum": _grow_extremum("maximum"),
    "minimum": _grow_extremum("minimum"),
    "concatenation": grow_concatenation,
    "split": grow_split,
    "slice": grow_slice,
    "relu_n1_to_1": _grow_one_input("relu_n1_to_1"),
    "relu_0_to_1": _grow_one_input("relu_0_to_1"),
    "leaky_relu": grow_leaky_relu,
    "prelu": grow_prelu,
    "logistic": _grow_one_input("logistic"),
    "tanh": _grow_one_input("tanh"),
    "hard_swish": _grow_one_input("hard_swish"),
    **MORE_GROWERS,
}

# How often an op is tried, where not once.
WEIGHTS = {
    "conv2d": 8, "depthwise_conv2d": 6, "fully_connected": 4, "add": 4, "softmax": 0.4,
    "concatenation": 2, "relu_n1_to_1": 0.3, "relu_0_to_1": 0.3, "quantize": 0.5,
    "max_pool2d": 2, "average_pool2d": 2,
    **MORE_WEIGHTS,
}  # fmt: skip


def random_network(
    seed: int,
    ops: Sequence[str] | None = None,
    *,
    float_borders: bool = False,
    dtype: DType = DType.INT8,
) -> Graph:
    """A network of 2 to 8 nodes over `ops` (default: all that have a grower), by its seed.

    Odd shapes; every scale is chosen from data, so that each layer takes many values where its op
    can. The outputs are what no node reads, one or more.
    float_borders: the first input is float and quantized, and the outputs are dequantized.
    dtype: of the activations, int8 or int16; the default ops are those that take it.
    """
    rng = np.random.default_rng(seed)
    net = Net(f"random_{seed}", rng)
    _inputs(net, float_borders, dtype)
    takes = [n for n in sorted(GROWERS) if dtype is DType.INT8 or OPS[n].int16 is not None]
    names = takes if ops is None else list(ops)
    odds = np.array([WEIGHTS.get(name, 1.0) for name in names])
    wanted = int(rng.integers(2, 9))
    for _ in range(64):
        if len(net.builder.nodes) >= wanted:
            break
        sources = [n for n in net.values if net.tensor(n).dtype is dtype]
        x = sources[-1] if rng.random() < 0.8 else sources[_pick(net, range(len(sources)))]
        grown = GROWERS[names[int(rng.choice(len(names), p=odds / odds.sum()))]](net, x)
        if grown is not None and not _is_good(net, grown):
            net.drop(grown)
    outputs = _unread(net)
    if float_borders:
        outputs = [net.node("dequantize", [name]) for name in outputs]
    return net.graph(outputs)


def _inputs(net: Net, float_borders: bool, dtype: DType) -> None:
    """One input, sometimes two of one shape; int16 covers what int8 covers, in finer steps."""
    rng = net.rng
    shape = (1, *(int(d) for d in rng.integers(1, 12, 2)), int(rng.choice([1, 2, 3, 4, 5, 8, 13])))
    zero_point = int(rng.choice([-128, 127, 0, 3, -17]))
    unit = 1.0 if dtype is DType.INT8 else 1 / 256
    scale = float(rng.uniform(0.02, 0.1)) * unit
    if float_borders:
        x = net.input(shape, dtype=DType.FLOAT32)
        net.node("quantize", [x], dtype=dtype)
    else:
        net.input(shape, scale, zero_point, dtype)
    if rng.random() < 0.2:
        net.input(shape, float(rng.uniform(0.02, 0.1)) * unit, -5, dtype)


def _is_good(net: Net, name: str) -> bool:
    """Small enough, and of at least 8 values where there are enough elements to show them."""
    tensor = net.tensor(name)
    node = net.builder.nodes[-1]
    if tensor.size > MAX_ELEMENTS:
        return False
    can = tensor.size * CALIBRATION_SAMPLES // 2
    return node.op == "softmax" or net.distinct(name) >= min(8, can)


def _unread(net: Net) -> list[str]:
    """What no node reads, but for the states that a layer keeps."""
    read = {name for node in net.builder.nodes for name in node.inputs}
    read |= {var.next for var in net.builder.state}
    return [name for node in net.builder.nodes for name in node.outputs if name not in read]
