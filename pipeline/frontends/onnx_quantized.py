"""ONNX models that are quantized already: QuantizeLinear and DequantizeLinear, and the QLinear ops.

They become a float graph that carries their parameters (quantization/carried.py): between
QuantizeLinear and DequantizeLinear a tensor is noted, and a constant keeps its integers. uint8 is
int8 with everything, zero point and values, less by 128.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends import onnx_matrix as matrix
from tinsmith.pipeline.frontends.onnx_activation import along_axis
from tinsmith.pipeline.frontends.onnx_context import (
    Context,
    Parameter,
    Refused,
    Value,
    positive_axis,
)
from tinsmith.pipeline.frontends.onnx_file import OnnxNode
from tinsmith.pipeline.frontends.onnx_reduce import average_of_image
from tinsmith.pipeline.frontends.onnx_window import average_pool_of, convolve
from tinsmith.pipeline.graph import Array, DType, QuantParams, dequantize_array
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.leaky_relu import LeakyReluAttrs
from tinsmith.pipeline.ops.mul import MulAttrs

UINT8_SHIFT = 128
TYPES = {"int8": 0, "uint8": UINT8_SHIFT}
REMEDY = "quantize the model to int8 or uint8 activations and symmetric int8 weights"


def quantize_linear(ctx: Context, node: OnnxNode) -> Value:
    value = ctx.value(node, 0)
    quant = _parameters(ctx, node, 1, 2, len(ctx.shape(value)))
    if isinstance(value, str):
        return note(ctx, node, value, quant)
    real = value.values if isinstance(value, Parameter) else np.asarray(value, np.float32)
    with np.errstate(all="ignore"):
        steps = np.rint(real / _along(quant.scales, quant, real.ndim))
    zero = _along(quant.zero_points, quant, real.ndim)
    q = np.clip(np.nan_to_num(steps) + zero, -128, 127).astype(np.int8)
    return Parameter(dequantize_array(q, quant), quant, q)


def dequantize_linear(ctx: Context, node: OnnxNode) -> Value:
    return dequantized(ctx, node, 0, 1, 2)


def dequantized(ctx: Context, node: OnnxNode, i: int, scale: int, zero: int) -> Value:
    """Input i, integers of the scale and zero point at two other inputs, as real values."""
    value = ctx.value(node, i)
    if isinstance(value, np.ndarray):
        return _constant(ctx, node, value, scale, zero)
    quant = _parameters(ctx, node, scale, zero, len(ctx.shape(value)))
    if isinstance(value, Parameter):
        return value
    own = ctx.builder.tensors[value].quant
    if own is None:
        return note(ctx, node, value, quant, out=f"{node.inputs[i]}_real")
    if own != quant:
        raise Refused(
            f"it reads '{node.inputs[i]}' with other parameters than it was written with",
            "use the same parameters on both sides",
        )
    return value


def note(
    ctx: Context, node: OnnxNode, tensor: str, quant: QuantParams, out: str | None = None
) -> str:
    """The tensor with its parameters noted."""
    if quant.per_channel:
        raise Refused("it quantizes an activation per channel", "use one scale per tensor")
    name = out or node.outputs[0]
    label = f"{node.name}_note"
    return ctx.emit("quantize", [tensor], node=label, out=name, quant=quant, dtype=DType.FLOAT32)


def _parameters(ctx: Context, node: OnnxNode, scale: int, zero: int, rank: int) -> QuantParams:
    """The parameters at two inputs, as those of int8."""
    scales = ctx.weights(node, scale, "scales").reshape(-1)
    zeros = _zero_points(ctx, node, zero, scales.size)
    axis = None
    if scales.size > 1:
        axis = positive_axis(f"{node.op} '{node.name}'", int(node.attrs.get("axis", 1)), rank)
    return QuantParams(tuple(float(s) for s in scales), tuple(int(z) for z in zeros), axis)


def _zero_points(ctx: Context, node: OnnxNode, i: int, count: int) -> NDArray[np.int64]:
    """Zero points of int8; absent ones are 0 of the type that the node says, or of uint8."""
    if int(node.attrs.get("block_size", 0)):
        raise Refused("it has scales per block", REMEDY)
    if not node.has_input(i):
        kind = {0: "uint8", 2: "uint8", 3: "int8"}.get(int(node.attrs.get("output_dtype", 0)), "")
        if kind not in TYPES:
            raise Refused("its integers are neither int8 nor uint8", REMEDY)
        return np.full(count, -TYPES[kind], np.int64)
    value = ctx.value(node, i)
    if not isinstance(value, np.ndarray):
        raise Refused("its zero point is computed", "use constant parameters")
    if value.dtype.name not in TYPES:
        raise Refused(f"its integers are {value.dtype.name}", REMEDY)
    if value.size not in (1, count):
        raise ModelError(f"{node.op} '{node.name}': {value.size} zero points for {count} scales")
    return value.reshape(-1).astype(np.int64) - TYPES[value.dtype.name]


def _constant(ctx: Context, node: OnnxNode, data: Array, scale: int, zero: int) -> Parameter:
    """A constant of integers: int8 and uint8 with any zero point, int32 with none."""
    scales = ctx.weights(node, scale, "scales").reshape(-1)
    axis = None
    if scales.size > 1:
        where = int(node.attrs.get("axis", 1)) if data.ndim > 1 else 0
        axis = positive_axis(f"{node.op} '{node.name}'", where, data.ndim)
        if data.shape[axis] != scales.size:
            raise ModelError(
                f"{node.op} '{node.name}': {scales.size} scales along axis {axis} of "
                f"{list(data.shape)}"
            )
    floats = tuple(float(s) for s in scales)
    if data.dtype.name == "int32":
        quant = QuantParams(floats, (0,), axis)
        return Parameter(dequantize_array(data, quant), quant, data)
    if data.dtype.name not in TYPES:
        raise Refused(f"its constant is {data.dtype.name}", REMEDY)
    shift = TYPES[data.dtype.name]
    zeros = (
        np.full(scales.size, -shift)
        if not node.has_input(zero)
        else (_zero_points(ctx, node, zero, scales.size))
    )
    quant = QuantParams(floats, tuple(int(z) for z in zeros), axis)
    q = (data.astype(np.int16) - shift).astype(np.int8)
    return Parameter(dequantize_array(q, quant), quant, q)


def _along(values: NDArray[Any], quant: QuantParams, rank: int) -> NDArray[Any]:
    shape = [1] * rank
    if quant.axis is not None and values.size > 1:
        shape[quant.axis] = -1
    return values.reshape(shape)


def _activation(ctx: Context, node: OnnxNode, i: int) -> str:
    """Inputs i, i + 1, i + 2: an activation with its scale and zero point."""
    return ctx.tensor(dequantized(ctx, node, i, i + 1, i + 2), node.inputs[i])


def _weights(ctx: Context, node: OnnxNode, i: int, axis: int) -> Parameter:
    """Inputs i, i + 1, i + 2: constant weights, with scales along `axis` where they are several."""
    value = ctx.value(node, i)
    if not isinstance(value, np.ndarray):
        raise Refused("its weights are computed", "use constant weights")
    along = replace(node, attrs={**node.attrs, "axis": axis})
    return _constant(ctx, along, value, i + 1, i + 2)


def _bias(ctx: Context, node: OnnxNode, i: int, x: str, weights: Parameter) -> Parameter | None:
    """Input i: an int32 bias at input scale * weight scale."""
    if not node.has_input(i):
        return None
    value = ctx.value(node, i)
    if not isinstance(value, np.ndarray) or value.dtype.name != "int32":
        raise Refused("its bias is no int32 constant", REMEDY)
    x_quant, w_quant = ctx.builder.tensors[x].quant, weights.quant
    assert x_quant is not None
    assert w_quant is not None
    scales = np.float32(x_quant.scale[0]) * w_quant.scales
    axis = 0 if scales.size > 1 else None
    if scales.size not in (1, value.size):
        raise ModelError(f"{node.op} '{node.name}': {value.size} biases, {scales.size} scales")
    quant = QuantParams(tuple(float(s) for s in scales), (0,), axis)
    q = value.reshape(-1)
    return Parameter(dequantize_array(q, quant), quant, q)


def _out(ctx: Context, node: OnnxNode, y: str, scale: int, zero: int) -> str:
    """The output of a QLinear op with its parameters noted."""
    quant = _parameters(ctx, node, scale, zero, len(ctx.shape(y)))
    return note(ctx, node, y, quant, out=f"{node.outputs[0]}_q")


def qlinear_conv(ctx: Context, node: OnnxNode) -> Value:
    x, weights = _activation(ctx, node, 0), _weights(ctx, node, 3, 0)
    bias = _bias(ctx, node, 8, x, weights)
    names = (node.inputs[3], node.inputs[8] if bias is not None else "")
    return _out(ctx, node, convolve(ctx, node, x, weights, bias, names), 6, 7)


def qlinear_matmul(ctx: Context, node: OnnxNode) -> Value:
    x, weights = _activation(ctx, node, 0), _weights(ctx, node, 3, 1)
    return _out(ctx, node, matrix.times_constant(ctx, node, x, weights, node.inputs[3]), 6, 7)


def qgemm(ctx: Context, node: OnnxNode) -> Value:
    """Inputs: A, B, each with scale and zero point, C, and the output's scale and zero point."""
    x = matrix.gemm_rows(ctx, node, _activation(ctx, node, 0))
    axis = 0 if int(node.attrs.get("transB", 0)) else 1
    weights = matrix.gemm_weights(node, _weights(ctx, node, 3, axis))
    bias = _bias(ctx, node, 6, x, weights)
    names = (node.inputs[3], node.inputs[6] if bias is not None else "")
    y = matrix.fully_connected(ctx, node, x, weights, bias, names)
    return _out(ctx, node, y, 7, 8) if node.has_input(7) else y


def qlinear_add(ctx: Context, node: OnnxNode) -> Value:
    inputs = [_activation(ctx, node, 0), _activation(ctx, node, 3)]
    y = ctx.emit("add", inputs, AddAttrs(), node=node.name, out=node.outputs[0])
    return _out(ctx, node, y, 6, 7)


def qlinear_mul(ctx: Context, node: OnnxNode) -> Value:
    inputs = [_activation(ctx, node, 0), _activation(ctx, node, 3)]
    y = ctx.emit("mul", inputs, MulAttrs(), node=node.name, out=node.outputs[0])
    return _out(ctx, node, y, 6, 7)


def qlinear_concat(ctx: Context, node: OnnxNode) -> Value:
    """The output's scale and zero point, then every input with its own."""
    inputs = [_activation(ctx, node, i) for i in range(2, len(node.inputs), 3)]
    rank = len(ctx.shape(inputs[0]))
    axis = positive_axis(f"{node.op} '{node.name}'", int(node.attrs["axis"]), rank)
    attrs = ConcatenationAttrs(axis)
    y = ctx.emit("concatenation", inputs, attrs, node=node.name, out=node.outputs[0])
    return _out(ctx, node, y, 0, 1)


def qlinear_sigmoid(ctx: Context, node: OnnxNode) -> Value:
    x = _activation(ctx, node, 0)
    y = ctx.emit("logistic", [x], node=node.name, out=node.outputs[0])
    return _out(ctx, node, y, 3, 4)


def qlinear_leaky_relu(ctx: Context, node: OnnxNode) -> Value:
    attrs = LeakyReluAttrs(float(node.attrs.get("alpha", 0.01)))
    x = _activation(ctx, node, 0)
    y = ctx.emit("leaky_relu", [x], attrs, node=node.name, out=node.outputs[0])
    return _out(ctx, node, y, 3, 4)


def qlinear_softmax(ctx: Context, node: OnnxNode) -> Value:
    return _out(ctx, node, along_axis(ctx, node, _activation(ctx, node, 0), "softmax"), 3, 4)


def qlinear_global_average_pool(ctx: Context, node: OnnxNode) -> Value:
    _refuse_channels_last(node)
    return _out(ctx, node, average_of_image(ctx, node, _activation(ctx, node, 0)), 3, 4)


def qlinear_average_pool(ctx: Context, node: OnnxNode) -> Value:
    _refuse_channels_last(node)
    return _out(ctx, node, average_pool_of(ctx, node, _activation(ctx, node, 0)), 3, 4)


def _refuse_channels_last(node: OnnxNode) -> None:
    if int(node.attrs.get("channels_last", 0)):
        raise Refused("it has channels last", "export it with channels first")
