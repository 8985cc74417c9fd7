"""Int8 graphs as ONNX: every tensor between QuantizeLinear and DequantizeLinear.

Images are NCHW, as ONNX has them; inputs and outputs are float32. read_onnx gives back the same
parameters. Other runtimes may differ by one in some values, since they round in float.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.graph import (
    Activation,
    Array,
    DType,
    Graph,
    Node,
    QuantParams,
    Tensor,
)
from tinsmith.pipeline.ops.op import OpCall, call_of

OPSET = 17
IR_VERSION = 8

TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass
class Writer:
    """The ONNX graph under construction.

    real: the float32 value of each tensor of the graph, by name; images NCHW.
    """

    graph: Graph
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    real: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def name(self, wish: str) -> str:
        name, count = wish, 1
        while name in self.taken:
            name, count = f"{wish}_{count}", count + 1
        self.taken.add(name)
        return name

    def constant(self, wish: str, data: ArrayLike) -> str:
        name = self.name(wish)
        self.constants[name] = numpy_helper.from_array(np.asarray(data, order="C"), name)
        return name

    def add(self, op: str, inputs: Sequence[str], wish: str, **attrs: Any) -> str:
        out = self.name(wish)
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=out, **attrs))
        return out

    def parameters(self, wish: str, quant: QuantParams, dtype: type) -> tuple[str, str]:
        """The names of scale and zero point."""
        scale = quant.scales if quant.per_channel else quant.scales[0]
        zero = np.zeros_like(scale, dtype) + quant.zero_points.astype(dtype).reshape(
            -1 if quant.per_channel else ()
        )
        return (
            self.constant(f"{wish}_scale", np.asarray(scale, np.float32)),
            self.constant(f"{wish}_zero_point", np.asarray(zero, dtype)),
        )

    def between(self, value: str, tensor: Tensor) -> str:
        """A float32 value through QuantizeLinear and DequantizeLinear of a tensor."""
        assert tensor.quant is not None
        parameters = self.parameters(tensor.name, tensor.quant, np.int8)
        q = self.add("QuantizeLinear", [value, *parameters], f"{tensor.name}_quantized")
        return self.add("DequantizeLinear", [q, *parameters], f"{tensor.name}_real")

    def dequantized(self, tensor: Tensor, data: Array, axis: int | None) -> str:
        """An integer constant through DequantizeLinear; axis: of `data`, of the scales."""
        assert tensor.quant is not None
        dtype = np.int32 if tensor.dtype is DType.INT32 else np.int8
        parameters = self.parameters(tensor.name, tensor.quant, dtype)
        q = self.constant(f"{tensor.name}_integers", data)
        attrs = {} if axis is None else {"axis": axis}
        return self.add("DequantizeLinear", [q, *parameters], f"{tensor.name}_real", **attrs)


@dataclass(frozen=True)
class Site:
    """A node with the float32 values of its data inputs."""

    writer: Writer
    call: OpCall
    node: Node

    def value(self, i: int) -> str:
        """Input i as float32; images NCHW."""
        t = self.call.input(i)
        if t.is_constant and t.name not in self.writer.real:
            data, axis = t.value(), t.quant.axis if t.quant is not None else None
            if data.ndim == 4:
                axis = None if axis is None else TO_NCHW.index(axis)
                data = data.transpose(TO_NCHW)
            self.writer.real[t.name] = self.writer.dequantized(t, data, axis)
        return self.writer.real[t.name]

    def weights(self, perm: Sequence[int]) -> str:
        """The weights in ONNX's order of axes."""
        t = self.call.input(1)
        axis = t.quant.axis if t.quant is not None else None
        data = t.value().transpose(perm)
        return self.writer.dequantized(t, data, None if axis is None else list(perm).index(axis))

    def bias(self) -> list[str]:
        t = self.call.optional(2)
        if t is None:
            return []
        return [self.writer.dequantized(t, t.value().reshape(-1), 0 if _several(t) else None)]

    def add(self, op: str, inputs: Sequence[str], **attrs: Any) -> str:
        return self.writer.add(op, inputs, f"{self.node.name}_{op.lower()}", **attrs)

    def clamped(self, value: str) -> str:
        """The value behind the node's fused activation."""
        activation = self.node.attrs.activation
        if activation is Activation.NONE:
            return value
        if activation is Activation.RELU:
            return self.add("Relu", [value])
        low, high = (0.0, 6.0) if activation is Activation.RELU6 else (-1.0, 1.0)
        bounds = [
            self.writer.constant(f"{self.node.name}_{side}", np.float32(bound).reshape(()))
            for side, bound in (("low", low), ("high", high))
        ]
        return self.add("Clip", [value, *bounds])

    def as_nhwc(self, value: str, rank: int) -> str:
        return self.add("Transpose", [value], perm=TO_NHWC) if rank == 4 else value

    def as_nchw(self, value: str, rank: int) -> str:
        return self.add("Transpose", [value], perm=TO_NCHW) if rank == 4 else value

    def reshaped(self, value: str, shape: Sequence[int]) -> str:
        target = self.writer.constant(f"{self.node.name}_shape", np.asarray(shape, np.int64))
        return self.add("Reshape", [value, target])


def _several(t: Tensor) -> bool:
    return t.quant is not None and len(t.quant.scale) > 1


def to_onnx_qdq(graph: Graph) -> bytes:
    """An ONNX model (opset 17) of an int8 graph, in QDQ form.

    Raises UnsupportedModel with every op that has no ONNX form here.
    """
    reasons = [
        f"{n.op} '{n.name}': not exported to ONNX; allowed: {', '.join(sorted(WRITERS))}"
        for n in graph.nodes
        if n.op not in WRITERS
    ]
    if graph.state:
        reasons.append("the graph has state, which ONNX has not")
    if reasons:
        raise UnsupportedModel("\n".join(reasons))
    writer = Writer(graph, taken={*graph.inputs, *graph.outputs})
    inputs = [_write_input(writer, graph.tensors[name]) for name in graph.inputs]
    for node in graph.nodes:
        call = call_of(graph, node)
        value = WRITERS[node.op](Site(writer, call, node))
        out = call.output
        writer.real[out.name] = value if out.quant is None else writer.between(value, out)
    outputs = [_write_output(writer, graph.tensors[name]) for name in graph.outputs]
    proto = helper.make_graph(
        writer.nodes, graph.name, inputs, outputs, list(writer.constants.values())
    )
    model = helper.make_model(
        proto,
        producer_name="tinsmith",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _onnx_shape(tensor: Tensor) -> list[int]:
    shape = list(tensor.shape)
    return [shape[i] for i in TO_NCHW] if len(shape) == 4 else shape


def _write_input(writer: Writer, t: Tensor) -> onnx.ValueInfoProto:
    writer.real[t.name] = t.name if t.quant is None else writer.between(t.name, t)
    return helper.make_tensor_value_info(t.name, TensorProto.FLOAT, _onnx_shape(t))


def _write_output(writer: Writer, t: Tensor) -> onnx.ValueInfoProto:
    source = writer.real[t.name]
    if source != t.name:
        writer.nodes.append(helper.make_node("Identity", [source], [t.name], name=f"{t.name}_out"))
    return helper.make_tensor_value_info(t.name, TensorProto.FLOAT, _onnx_shape(t))


def write_conv2d(site: Site) -> str:
    a, x, w = site.node.attrs, site.call.input(0), site.call.input(1)
    groups = x.shape[3] // w.shape[3]
    inputs = [site.value(0), site.weights((0, 3, 1, 2)), *site.bias()]
    return site.clamped(site.add("Conv", inputs, group=groups, **_window(a, w.shape[1:3])))


def write_depthwise_conv2d(site: Site) -> str:
    a, x, w = site.node.attrs, site.call.input(0), site.call.input(1)
    inputs = [site.value(0), site.weights((3, 0, 1, 2)), *site.bias()]
    return site.clamped(site.add("Conv", inputs, group=x.shape[3], **_window(a, w.shape[1:3])))


def _window(attrs: Any, kernel: Sequence[int]) -> dict[str, Any]:
    top, bottom, left, right = attrs.pads
    found = {
        "kernel_shape": list(kernel),
        "strides": list(attrs.stride),
        "pads": [top, left, bottom, right],
    }
    if hasattr(attrs, "dilation"):
        found["dilations"] = list(attrs.dilation)
    return found


def write_fully_connected(site: Site) -> str:
    x, w, y = site.call.input(0), site.call.input(1), site.call.output
    value = site.value(0)
    rows = (x.size // w.shape[1], w.shape[1])
    if x.shape != rows:
        value = site.reshaped(site.as_nhwc(value, len(x.shape)), rows)
    value = site.add("Gemm", [value, site.weights((0, 1)), *site.bias()], transB=1)
    if y.shape != (rows[0], w.shape[0]):
        value = site.as_nchw(site.reshaped(value, y.shape), len(y.shape))
    return site.clamped(value)


def write_add(site: Site) -> str:
    rank = len(site.call.output.shape)
    values = []
    for i in (0, 1):
        t = site.call.input(i)
        value = site.value(i)
        if rank == 4 and len(t.shape) < 4:
            full = (1,) * (4 - len(t.shape)) + t.shape
            value = site.as_nchw(site.reshaped(value, full), 4)
        values.append(value)
    return site.clamped(site.add("Add", values))


def write_max_pool2d(site: Site) -> str:
    a = site.node.attrs
    return site.clamped(site.add("MaxPool", [site.value(0)], **_window(a, a.kernel)))


def write_average_pool2d(site: Site) -> str:
    a = site.node.attrs
    value = site.add("AveragePool", [site.value(0)], count_include_pad=0, **_window(a, a.kernel))
    return site.clamped(value)


def write_mean(site: Site) -> str:
    a, x, y = site.node.attrs, site.call.input(0), site.call.output
    if len(x.shape) != 4:
        return site.add("ReduceMean", [site.value(0)], axes=list(a.axes), keepdims=int(a.keep_dims))
    axes = sorted(TO_NCHW.index(axis) for axis in a.axes)
    value = site.add("ReduceMean", [site.value(0)], axes=axes, keepdims=1)
    if a.keep_dims:
        return value
    return site.reshaped(site.as_nhwc(value, 4), y.shape)


def write_pad(site: Site) -> str:
    pads = site.node.attrs.pads
    if len(pads) == 4:
        pads = [pads[i] for i in TO_NCHW]
    flat = [p[0] for p in pads] + [p[1] for p in pads]
    inputs = [
        site.value(0),
        site.writer.constant(f"{site.node.name}_pads", np.asarray(flat, np.int64)),
        site.writer.constant(f"{site.node.name}_value", np.float32(site.node.attrs.value)),
    ]
    return site.add("Pad", inputs)


def write_reshape(site: Site) -> str:
    x, y = site.call.input(0), site.call.output
    value = site.reshaped(site.as_nhwc(site.value(0), len(x.shape)), y.shape)
    return site.as_nchw(value, len(y.shape))


def write_transpose(site: Site) -> str:
    perm = list(site.node.attrs.perm)
    if len(perm) == 4:
        # NCHW to NHWC, the transpose, and NHWC to NCHW in one.
        perm = [TO_NHWC[perm[i]] for i in TO_NCHW]
    return site.add("Transpose", [site.value(0)], perm=perm)


def write_relu(site: Site) -> str:
    return site.add("Relu", [site.value(0)])


def write_relu6(site: Site) -> str:
    bounds = [
        site.writer.constant(f"{site.node.name}_{side}", np.float32(bound).reshape(()))
        for side, bound in (("low", 0.0), ("high", 6.0))
    ]
    return site.add("Clip", [site.value(0), *bounds])


def write_softmax(site: Site) -> str:
    rank = len(site.call.input(0).shape)
    value = site.value(0)
    if site.node.attrs.beta != 1.0:
        beta = site.writer.constant(f"{site.node.name}_beta", np.float32(site.node.attrs.beta))
        value = site.add("Mul", [value, beta])
    return site.add("Softmax", [value], axis=1 if rank == 4 else rank - 1)


def write_same(site: Site) -> str:
    """quantize and dequantize: what is around every tensor says it already."""
    return site.value(0)


WRITERS: dict[str, Callable[[Site], str]] = {
    "conv2d": write_conv2d,
    "depthwise_conv2d": write_depthwise_conv2d,
    "fully_connected": write_fully_connected,
    "add": write_add,
    "max_pool2d": write_max_pool2d,
    "average_pool2d": write_average_pool2d,
    "mean": write_mean,
    "pad": write_pad,
    "reshape": write_reshape,
    "transpose": write_transpose,
    "relu": write_relu,
    "relu6": write_relu6,
    "softmax": write_softmax,
    "quantize": write_same,
    "dequantize": write_same,
}
