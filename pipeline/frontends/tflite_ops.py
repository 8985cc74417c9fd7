"""How each builtin op of .tflite becomes IR: one importer an op, and the table that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.frontends.tflite_elementwise_ops import ELEMENTWISE_IMPORTERS
from tinsmith.pipeline.frontends.tflite_file import FileOperator
from tinsmith.pipeline.frontends.tflite_import import Importer, Variable
from tinsmith.pipeline.frontends.tflite_more_ops import MORE_IMPORTERS
from tinsmith.pipeline.frontends.tflite_options import (
    MAX_SHOWN,
    OpImporter,
    activation_of,
    axes_of,
    import_plain,
    options_of,
)
from tinsmith.pipeline.graph import DType, Tensor
from tinsmith.pipeline.ops import window
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.pad import PadAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.pipeline.ops.transpose import TransposeAttrs


def _pair(im: Importer, op: FileOperator, what: str, h: int, w: int) -> window.Pair:
    if h < 1 or w < 1:
        raise ModelError(f"{im.label(op)}: {what} {h}x{w}; allowed: at least 1")
    return int(h), int(w)


def _pads(
    im: Importer,
    op: FileOperator,
    x: Tensor,
    padding: int,
    kernel: window.Pair,
    stride: window.Pair,
    dilation: window.Pair = (1, 1),
) -> window.Pads:
    if padding == schema.Padding.VALID:
        return window.NO_PADS
    if padding != schema.Padding.SAME:
        raise ModelError(f"{im.label(op)}: padding {padding}; allowed: 0 (SAME), 1 (VALID)")
    return window.same_pads((x.shape[1], x.shape[2]), kernel, stride, dilation)


def _rank4(im: Importer, op: FileOperator, *tensors: Tensor) -> None:
    for t in tensors:
        if len(t.shape) != 4:
            raise ModelError(f"{im.label(op)}: '{t.name}' is {list(t.shape)}; allowed: rank 4")


def _mac_inputs(im: Importer, op: FileOperator) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """(input, weights, all inputs); a bias that is absent at the end is left out."""
    x, w, bias = im.input(op, 0), im.input(op, 1), im.optional(op, 2)
    if x.dtype is DType.FLOAT32 and w.dtype is DType.INT8:
        raise UnsupportedModel(
            "float activations with int8 weights (dynamic-range quantization) have no exact "
            "meaning; quantize the whole model to int8, or keep the weights in float"
        )
    return x, w, [x, w] if bias is None else [x, w, bias]


def import_conv2d(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.Conv2DOptionsT)
    x, w, inputs = _mac_inputs(im, op)
    _rank4(im, op, x, w)
    stride = _pair(im, op, "stride", o.strideH, o.strideW)
    dilation = _pair(im, op, "dilation", o.dilationHFactor, o.dilationWFactor)
    kernel = _pair(im, op, "kernel", w.shape[1], w.shape[2])
    pads = _pads(im, op, x, o.padding, kernel, stride, dilation)
    activation = activation_of(o.fusedActivationFunction)
    attrs = Conv2dAttrs(stride, dilation, pads, activation, op.as_uint8)
    im.node(op, "conv2d", inputs, attrs)


def import_depthwise_conv2d(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.DepthwiseConv2DOptionsT)
    x, w, inputs = _mac_inputs(im, op)
    _rank4(im, op, x, w)
    stride = _pair(im, op, "stride", o.strideH, o.strideW)
    dilation = _pair(im, op, "dilation", o.dilationHFactor, o.dilationWFactor)
    kernel = _pair(im, op, "kernel", w.shape[1], w.shape[2])
    if o.depthMultiplier and o.depthMultiplier * x.shape[3] != w.shape[3]:
        raise ModelError(
            f"{im.label(op)}: depth multiplier {o.depthMultiplier} of {x.shape[3]} channels, "
            f"but the weights have {w.shape[3]}"
        )
    pads = _pads(im, op, x, o.padding, kernel, stride, dilation)
    activation = activation_of(o.fusedActivationFunction)
    attrs = DepthwiseConv2dAttrs(stride, dilation, pads, activation, op.as_uint8)
    im.node(op, "depthwise_conv2d", inputs, attrs)


def import_fully_connected(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.FullyConnectedOptionsT)
    if o.weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        raise UnsupportedModel(f"weights format {o.weightsFormat}; allowed: 0 (plain)")
    x, _, inputs = _mac_inputs(im, op)
    activation = activation_of(o.fusedActivationFunction)
    # TFLM goes by the declared output alone, whatever keep_num_dims says.
    rank = len(im.declared(op.outputs[0]).shape) if op.outputs else 2
    keep = bool(o.keepNumDims) if rank == 2 else rank == len(x.shape)
    im.node(op, "fully_connected", inputs, FullyConnectedAttrs(activation, keep, op.as_uint8))


def import_add(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.AddOptionsT)
    inputs = [im.input(op, 0), im.input(op, 1)]
    im.node(op, "add", inputs, AddAttrs(activation_of(o.fusedActivationFunction)))


def _import_pool(name: str) -> OpImporter:
    def run(im: Importer, op: FileOperator) -> None:
        o = options_of(im, op, schema.Pool2DOptionsT)
        x = im.input(op, 0)
        _rank4(im, op, x)
        kernel = _pair(im, op, "kernel", o.filterHeight, o.filterWidth)
        stride = _pair(im, op, "stride", o.strideH, o.strideW)
        pads = _pads(im, op, x, o.padding, kernel, stride)
        activation = activation_of(o.fusedActivationFunction)
        up = op.as_uint8 and name == "average_pool2d"
        im.node(op, name, [x], Pool2dAttrs(kernel, stride, pads, activation, up))

    return run


def import_mean(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.ReducerOptionsT)
    x = im.input(op, 0)
    axes = axes_of(im, op, im.integers(op, 1, "axes"), len(x.shape))
    im.node(op, "mean", [x], ReduceAttrs(axes, bool(o.keepDims)))


def _pad_pairs(im: Importer, op: FileOperator, x: Tensor) -> tuple[tuple[int, int], ...]:
    flat = im.integers(op, 1, "pads")
    if len(flat) != 2 * len(x.shape) or min(flat, default=0) < 0:
        raise ModelError(
            f"{im.label(op)}: pads {flat[:MAX_SHOWN]} for an input of rank {len(x.shape)}"
        )
    return tuple(zip(flat[0::2], flat[1::2], strict=True))


def import_pad(im: Importer, op: FileOperator) -> None:
    x = im.input(op, 0)
    im.node(op, "pad", [x], PadAttrs(_pad_pairs(im, op, x)))


def import_padv2(im: Importer, op: FileOperator) -> None:
    x, border = im.input(op, 0), im.input(op, 2)
    if border.data is None or border.size != 1:
        raise UnsupportedModel("the border is computed at run time; allowed: a constant value")
    value = float(border.data.reshape(-1)[0])
    if x.dtype is not DType.FLOAT32 and x.quant is not None and not x.quant.per_channel:
        # The stored border goes into the output as it is, whatever scale it has itself.
        value = (value - x.zero_point) * x.scale
    im.node(op, "pad", [x], PadAttrs(_pad_pairs(im, op, x), value))


def import_reshape(im: Importer, op: FileOperator) -> None:
    """Also SQUEEZE and EXPAND_DIMS: the file says what shape comes out."""
    x = im.input(op, 0)
    shape = im.declared(op.outputs[0]).shape if op.outputs else ()
    im.node(op, "reshape", [x], ReshapeAttrs(shape))


def import_transpose(im: Importer, op: FileOperator) -> None:
    x = im.input(op, 0)
    rank = len(x.shape)
    perm = im.integers(op, 1, "axes")
    if sorted(p % max(rank, 1) for p in perm) != list(range(rank)):
        raise ModelError(f"{im.label(op)}: {perm[:MAX_SHOWN]} is no order of {rank} axes")
    im.node(op, "transpose", [x], TransposeAttrs(tuple(p % rank for p in perm)))


def import_softmax(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.SoftmaxOptionsT)
    beta = 1.0 if op.options is None else float(o.beta)
    if not np.isfinite(beta) or beta <= 0:
        raise ModelError(f"{im.label(op)}: beta {beta}; allowed: above 0")
    im.node(op, "softmax", [im.input(op, 0)], SoftmaxAttrs(beta))


def import_dequantize(im: Importer, op: FileOperator) -> None:
    """float16 constants are float already, and stay so."""
    x = im.input(op, 0)
    if im.declared(im.input_index(op, 0)).type == "FLOAT16":
        for index in op.outputs:
            im.alias(index, x)
        return
    im.node(op, "dequantize", [x])


def import_densify(im: Importer, op: FileOperator) -> None:
    """A sparse constant was made dense when the file was read."""
    x = im.input(op, 0)
    if x.data is None:
        raise ModelError(f"{im.label(op)}: '{x.name}' is no constant")
    for index in op.outputs:
        im.alias(index, x)


# Variables


def _variable(im: Importer, op: FileOperator, options: Any) -> Variable:
    def text(value: Any) -> str:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")

    container, name = text(options.container), text(options.sharedName)
    key = f"{container}/{name}" if container else name
    return im.variables.setdefault(key, Variable(key or f"variable_{len(im.variables)}"))


def import_var_handle(im: Importer, op: FileOperator) -> None:
    variable = _variable(im, op, options_of(im, op, schema.VarHandleOptionsT))
    for index in op.outputs:
        im.handles[index] = variable


def _handle(im: Importer, op: FileOperator) -> Variable:
    index = im.input_index(op, 0)
    if index not in im.handles:
        raise ModelError(f"{im.label(op)}: '{im.names[index]}' is no variable")
    return im.handles[index]


def import_read_variable(im: Importer, op: FileOperator) -> None:
    var = _handle(im, op)
    if len(op.outputs) != 1:
        raise ModelError(f"{im.label(op)}: {len(op.outputs)} outputs, expected 1")
    out = op.outputs[0]
    declared = im.described(out)
    if var.now is None:
        initial = var.initial
        if initial is None or initial.data is None:
            raise ModelError(f"{im.label(op)}: variable '{var.name}' is given no first value")
        found = (initial.shape, initial.data.dtype)
        if found != (declared.shape, declared.dtype.numpy):
            raise ModelError(
                f"{im.label(op)}: variable '{var.name}' starts as {found[1]}{list(found[0])}, "
                f"but is read as {declared.dtype.value}{list(declared.shape)}"
            )
        var.start = var.now = im.keep(out, declared)
        return
    now = var.now
    if (now.shape, now.dtype, now.quant) != (declared.shape, declared.dtype, declared.quant):
        raise UnsupportedModel(f"variable '{var.name}' is read as another type than it was given")
    im.alias(out, now)


def import_assign_variable(im: Importer, op: FileOperator) -> None:
    _handle(im, op).now = im.input(op, 1)


def import_call_once(im: Importer, op: FileOperator) -> None:
    """The subgraph that gives the variables their first values: constants assigned, no more."""
    number = options_of(im, op, schema.CallOnceOptionsT).initSubgraphIndex
    if not 0 < number < len(im.file.subgraphs):
        raise ModelError(f"{im.label(op)}: subgraph {number} of {len(im.file.subgraphs)}")
    start = im.file.subgraphs[number]
    handles: dict[int, Variable] = {}
    for inner in start.operators:
        if inner.code == "VAR_HANDLE" and isinstance(inner.options, schema.VarHandleOptionsT):
            for index in inner.outputs:
                handles[index] = _variable(im, op, inner.options)
        elif inner.code == "ASSIGN_VARIABLE" and len(inner.inputs) == 2:
            handle, value = inner.inputs
            if handle not in handles or value < 0 or start.tensors[value].data is None:
                raise UnsupportedModel(
                    "a variable starts from a computed value; allowed: constants"
                )
            handles[handle].initial = start.tensors[value]
        else:
            raise UnsupportedModel(f"{inner.code} in the initialization; allowed: constants")


OP_IMPORTERS: Mapping[str, OpImporter] = {
    "CONV_2D": import_conv2d,
    "DEPTHWISE_CONV_2D": import_depthwise_conv2d,
    "FULLY_CONNECTED": import_fully_connected,
    "ADD": import_add,
    "MAX_POOL_2D": _import_pool("max_pool2d"),
    "AVERAGE_POOL_2D": _import_pool("average_pool2d"),
    "MEAN": import_mean,
    "PAD": import_pad,
    "PADV2": import_padv2,
    "RESHAPE": import_reshape,
    "SQUEEZE": import_reshape,
    "EXPAND_DIMS": import_reshape,
    "TRANSPOSE": import_transpose,
    "RELU": import_plain("relu"),
    "RELU6": import_plain("relu6"),
    "SOFTMAX": import_softmax,
    "QUANTIZE": import_plain("quantize"),
    "DEQUANTIZE": import_dequantize,
    **ELEMENTWISE_IMPORTERS,
    **MORE_IMPORTERS,
    "DENSIFY": import_densify,
    "CALL_ONCE": import_call_once,
    "VAR_HANDLE": import_var_handle,
    "READ_VARIABLE": import_read_variable,
    "ASSIGN_VARIABLE": import_assign_variable,
}
