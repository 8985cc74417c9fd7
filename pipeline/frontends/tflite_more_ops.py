"""How .tflite's reductions, image ops, tables, lookups, and layers with a state become IR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.frontends.flatbuffer import MAX_EXPANDED_BYTES
from tinsmith.pipeline.frontends.tflite_file import FileOperator
from tinsmith.pipeline.frontends.tflite_import import TYPES, Importer, Variable
from tinsmith.pipeline.frontends.tflite_options import (
    MAX_SHOWN,
    OpImporter,
    activation_of,
    axes_of,
    axis_of,
    import_plain,
    options_of,
)
from tinsmith.pipeline.graph import Tensor
from tinsmith.pipeline.ops import window
from tinsmith.pipeline.ops.arg import ArgAttrs
from tinsmith.pipeline.ops.batch_matmul import BatchMatmulAttrs
from tinsmith.pipeline.ops.blocks import BlockAttrs
from tinsmith.pipeline.ops.cast import CastAttrs
from tinsmith.pipeline.ops.gather import GatherAttrs
from tinsmith.pipeline.ops.lstm import LstmAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.resize import ResizeAttrs
from tinsmith.pipeline.ops.svdf import SvdfAttrs
from tinsmith.pipeline.ops.transpose_conv2d import TransposeConv2dAttrs
from tinsmith.pipeline.ops.unary import GeluAttrs


def _import_reducer(name: str) -> OpImporter:
    def run(im: Importer, op: FileOperator) -> None:
        o = options_of(im, op, schema.ReducerOptionsT)
        x = im.input(op, 0)
        axes = axes_of(im, op, im.integers(op, 1, "axes"), len(x.shape))
        im.node(op, name, [x], ReduceAttrs(axes, bool(o.keepDims)))

    return run


def _import_arg(name: str) -> OpImporter:
    """The type of the output is what the file declares for it."""

    def run(im: Importer, op: FileOperator) -> None:
        x = im.input(op, 0)
        axis = axis_of(im, op, im.integers(op, 1, "axes"), len(x.shape))
        im.node(op, name, [x], ArgAttrs(axis, im.described(_output(im, op)).dtype))

    return run


def _output(im: Importer, op: FileOperator) -> int:
    if len(op.outputs) != 1:
        raise ModelError(f"{im.label(op)}: {len(op.outputs)} outputs, expected 1")
    return op.outputs[0]


def import_cast(im: Importer, op: FileOperator) -> None:
    im.node(op, "cast", [im.input(op, 0)], CastAttrs(im.described(_output(im, op)).dtype))


def _import_resize(name: str, kind: type[Any]) -> OpImporter:
    def run(im: Importer, op: FileOperator) -> None:
        o = options_of(im, op, kind)
        size = im.integers(op, 1, "sizes")
        if len(size) != 2:
            raise ModelError(f"{im.label(op)}: sizes {size[:MAX_SHOWN]}; allowed: two")
        attrs = ResizeAttrs((size[0], size[1]), bool(o.alignCorners), bool(o.halfPixelCenters))
        im.node(op, name, [im.input(op, 0)], attrs)

    return run


def _import_blocks(name: str, kind: type[Any]) -> OpImporter:
    def run(im: Importer, op: FileOperator) -> None:
        o = options_of(im, op, kind)
        im.node(op, name, [im.input(op, 0)], BlockAttrs(int(o.blockSize)))

    return run


def import_gather(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.GatherOptionsT)
    if o.batchDims:
        raise UnsupportedModel(f"batch_dims {o.batchDims}; allowed: 0")
    x = im.input(op, 0)
    axis = axis_of(im, op, [int(o.axis)], len(x.shape))
    im.node(op, "gather", [x, im.input(op, 1)], GatherAttrs(axis))


def import_embedding_lookup(im: Importer, op: FileOperator) -> None:
    """Rows of a table: a gather whose inputs stand the other way round."""
    im.node(op, "gather", [im.input(op, 1), im.input(op, 0)], GatherAttrs(0))


def import_batch_matmul(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.BatchMatMulOptionsT)
    attrs = BatchMatmulAttrs(bool(o.adjX), bool(o.adjY))
    im.node(op, "batch_matmul", [im.input(op, 0), im.input(op, 1)], attrs)


def import_transpose_conv(im: Importer, op: FileOperator) -> None:
    """The file gives the output's size, which says what is cut off at the bottom and right."""
    o = options_of(im, op, schema.TransposeConvOptionsT)
    shape = im.integers(op, 0, "sizes")
    w, x, bias = im.input(op, 1), im.input(op, 2), im.optional(op, 3)
    if len(shape) != 4 or len(x.shape) != 4 or len(w.shape) != 4:
        raise ModelError(
            f"{im.label(op)}: {list(x.shape)} with {list(w.shape)} to {shape[:MAX_SHOWN]}; "
            "allowed: rank 4"
        )
    stride, kernel = (int(o.strideH), int(o.strideW)), (w.shape[1], w.shape[2])
    if min(stride) < 1 or min(kernel) < 1 or min(shape) < 1:
        raise ModelError(f"{im.label(op)}: stride {stride}, kernel {kernel}, sizes {shape}")
    if o.padding not in (schema.Padding.SAME, schema.Padding.VALID):
        raise ModelError(f"{im.label(op)}: padding {o.padding}; allowed: 0 (SAME), 1 (VALID)")
    start = (0, 0)
    if o.padding == schema.Padding.SAME:
        same = window.same_pads((shape[1], shape[2]), kernel, stride)
        start = (same[0], same[2])
    end = [(x.shape[1 + i] - 1) * stride[i] + kernel[i] - start[i] - shape[1 + i] for i in (0, 1)]
    pads = (start[0], end[0], start[1], end[1])
    activation = activation_of(o.fusedActivationFunction)
    attrs = TransposeConv2dAttrs(stride, pads, activation, op.as_uint8)
    im.node(op, "transpose_conv2d", [x, w] if bias is None else [x, w, bias], attrs)


def import_l2_normalization(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.L2NormOptionsT)
    if o.fusedActivationFunction != schema.ActivationFunctionType.NONE:
        raise UnsupportedModel("it has a fused activation; allowed: none")
    im.node(op, "l2_normalization", [im.input(op, 0)])


def import_gelu(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.GeluOptionsT)
    im.node(op, "gelu", [im.input(op, 0)], GeluAttrs(bool(o.approximate)))


# Layers with a state, which the file keeps in variable tensors


def _state(im: Importer, op: FileOperator, i: int) -> tuple[Tensor, Variable | None]:
    """A layer's state as a step starts; a variable of the graph where the file has one."""
    index = im.input_index(op, i)
    declared = im.declared(index)
    if declared.data is not None or not declared.is_variable:
        return im.tensor(index), None
    if index in im.values:
        raise UnsupportedModel(f"its state '{im.names[index]}' is shared with another layer")
    tensor = im.keep(index, im.described(index))
    if tensor.nbytes > MAX_EXPANDED_BYTES:
        raise ModelError(
            f"{im.label(op)}: its state '{im.names[index]}' is {list(tensor.shape)}, beyond "
            f"{MAX_EXPANDED_BYTES >> 20} MB"
        )
    zero = 0 if tensor.quant is None else tensor.zero_point
    start = replace(declared, data=np.full(tensor.shape, zero, TYPES[declared.type].numpy))
    name = im.names[index]
    variable = im.variables.setdefault(f"tensor/{name}", Variable(name, start, tensor))
    return tensor, variable


def _stateful(
    im: Importer,
    op: FileOperator,
    name: str,
    inputs: list[Tensor | None],
    attrs: Any,
    states: list[tuple[Tensor, Variable | None]],
) -> None:
    """Adds a node whose outputs are the file's one output and the states as a step ends."""
    index = _output(im, op)
    out = im.described(index)
    after = [
        replace(tensor, name=im.fresh(f"{out.name}/state{i}"), data=None)
        for i, (tensor, _) in enumerate(states)
    ]
    im.node(op, name, inputs, attrs, also=after)
    for (_, variable), tensor in zip(states, after, strict=True):
        if variable is not None:
            variable.now = tensor


def _has_input(op: FileOperator, i: int) -> bool:
    return i < len(op.inputs) and op.inputs[i] >= 0


def import_lstm(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.UnidirectionalSequenceLSTMOptionsT)
    if o.fusedActivationFunction != schema.ActivationFunctionType.TANH:
        raise UnsupportedModel(f"activation {o.fusedActivationFunction}; allowed: 4 (tanh)")
    if len(op.inputs) not in (20, 24):
        raise ModelError(f"{im.label(op)}: {len(op.inputs)} inputs; allowed: 20, 24")
    extras = {"peepholes": range(9, 12), "a projection": range(16, 18), "layer norm": range(20, 24)}
    for what, indices in extras.items():
        if any(_has_input(op, i) for i in indices):
            raise UnsupportedModel(f"it has {what}; allowed: a plain lstm")
    if not all(_has_input(op, i) for i in (1, 5, 12)):
        raise UnsupportedModel("its input gate is coupled to the forget gate; allowed: four gates")
    states = [_state(im, op, i) for i in (18, 19)]
    inputs = [im.input(op, i) for i in (*range(9), *range(12, 16))]
    attrs = LstmAttrs(bool(o.timeMajor), float(o.cellClip))
    _stateful(im, op, "lstm", [*inputs, *(t for t, _ in states)], attrs, states)


def import_svdf(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.SVDFOptionsT)
    states = [_state(im, op, 4)]
    inputs = [im.input(op, 0), im.input(op, 1), im.input(op, 2), im.optional(op, 3)]
    attrs = SvdfAttrs(int(o.rank), activation_of(o.fusedActivationFunction))
    _stateful(im, op, "svdf", [*inputs, states[0][0]], attrs, states)


MORE_IMPORTERS: Mapping[str, OpImporter] = {
    "SUM": _import_reducer("sum"),
    "REDUCE_MAX": _import_reducer("reduce_max"),
    "REDUCE_MIN": _import_reducer("reduce_min"),
    "ARG_MAX": _import_arg("arg_max"),
    "ARG_MIN": _import_arg("arg_min"),
    "CAST": import_cast,
    "RESIZE_NEAREST_NEIGHBOR": _import_resize(
        "resize_nearest", schema.ResizeNearestNeighborOptionsT
    ),
    "RESIZE_BILINEAR": _import_resize("resize_bilinear", schema.ResizeBilinearOptionsT),
    "DEPTH_TO_SPACE": _import_blocks("depth_to_space", schema.DepthToSpaceOptionsT),
    "SPACE_TO_DEPTH": _import_blocks("space_to_depth", schema.SpaceToDepthOptionsT),
    "GATHER": import_gather,
    "EMBEDDING_LOOKUP": import_embedding_lookup,
    "BATCH_MATMUL": import_batch_matmul,
    "TRANSPOSE_CONV": import_transpose_conv,
    "SQUARED_DIFFERENCE": import_plain("squared_difference", 2),
    "L2_NORMALIZATION": import_l2_normalization,
    "LOG_SOFTMAX": import_plain("log_softmax"),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": import_lstm,
    "SVDF": import_svdf,
    "EXP": import_plain("exp"),
    "ELU": import_plain("elu"),
    "GELU": import_gelu,
    "SQRT": import_plain("sqrt"),
    "SQUARE": import_plain("square"),
    "RSQRT": import_plain("rsqrt"),
    "ABS": import_plain("abs"),
    "NEG": import_plain("neg"),
}
