"""How .tflite's ops that join and cut tensors, and its element-by-element ops, become IR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ai_edge_litert import schema_py_generated as schema

from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.frontends.tflite_file import FileOperator
from tinsmith.pipeline.frontends.tflite_import import Importer
from tinsmith.pipeline.frontends.tflite_options import (
    MAX_SHOWN,
    OpImporter,
    activation_of,
    axis_of,
    import_plain,
    options_of,
)
from tinsmith.pipeline.frontends.tflite_uint8_rules import on_one_scale
from tinsmith.pipeline.graph import Shape, Tensor
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.leaky_relu import LeakyReluAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.slice import SliceAttrs
from tinsmith.pipeline.ops.split import SplitAttrs


def _all_inputs(im: Importer, op: FileOperator) -> list[Tensor]:
    if not op.inputs:
        raise ModelError(f"{im.label(op)}: it has no input")
    return [im.input(op, i) for i in range(len(op.inputs))]


def import_concatenation(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.ConcatenationOptionsT)
    if o.fusedActivationFunction != schema.ActivationFunctionType.NONE:
        raise UnsupportedModel("it has a fused activation; allowed: none")
    inputs = _all_inputs(im, op)
    if op.as_uint8:
        inputs = on_one_scale(im, op, inputs)
    _one_scale(im, op, inputs)
    axis = axis_of(im, op, [o.axis], len(inputs[0].shape))
    im.node(op, "concatenation", inputs, ConcatenationAttrs(axis))


def _one_scale(im: Importer, op: FileOperator, inputs: Sequence[Tensor]) -> None:
    """TFLite's kernels compare and move integers, which means nothing among several scales."""
    outputs = [im.described(i) for i in op.outputs]
    if len({t.quant for t in (*inputs, *outputs)}) > 1:
        raise UnsupportedModel("its inputs and outputs have different scales; allowed: one for all")


def import_pack(im: Importer, op: FileOperator) -> None:
    """A concatenation along the axis, of which a reshape makes two."""
    o = options_of(im, op, schema.PackOptionsT)
    inputs = _all_inputs(im, op)
    _one_scale(im, op, inputs)
    shape = inputs[0].shape
    if any(t.shape != shape for t in inputs) or o.valuesCount != len(inputs):
        raise ModelError(f"{im.label(op)}: {len(inputs)} inputs; allowed: as told, of one shape")
    axis = axis_of(im, op, [o.axis], len(shape) + 1)
    if axis == len(shape):
        attrs = ReshapeAttrs((*shape, 1))
        inputs = [im.moved(op, "reshape", [t], attrs, f"input{i}")[0] for i, t in enumerate(inputs)]
    (joined,) = im.moved(op, "concatenation", inputs, ConcatenationAttrs(axis), "joined")
    im.node(op, "reshape", [joined], ReshapeAttrs((*shape[:axis], len(inputs), *shape[axis:])))


def import_unpack(im: Importer, op: FileOperator) -> None:
    """A split along the axis into parts of 1, which reshapes take away."""
    o = options_of(im, op, schema.UnpackOptionsT)
    x = im.input(op, 0)
    axis = axis_of(im, op, [o.axis], len(x.shape))
    count = x.shape[axis]
    if o.num != count or len(op.outputs) != count:
        raise ModelError(
            f"{im.label(op)}: {o.num} parts, {len(op.outputs)} outputs of {list(x.shape)} along "
            f"axis {axis}"
        )
    parts = im.moved(op, "split", [x], SplitAttrs(axis, (1,) * count), "split")
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    for index, part in zip(op.outputs, parts, strict=True):
        im.node(replace(op, outputs=(index,)), "reshape", [part], ReshapeAttrs(shape))


def import_split(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.SplitOptionsT)
    x = im.input(op, 1)
    axis = axis_of(im, op, im.integers(op, 0, "axes"), len(x.shape))
    count = len(op.outputs)
    if o.numSplits != count or x.shape[axis] % count:
        raise ModelError(
            f"{im.label(op)}: {list(x.shape)} along axis {axis} into {o.numSplits} for {count} "
            "outputs; allowed: equal parts, one an output"
        )
    im.node(op, "split", [x], SplitAttrs(axis, (x.shape[axis] // count,) * count))


def import_split_v(im: Importer, op: FileOperator) -> None:
    x = im.input(op, 0)
    sizes = im.integers(op, 1, "sizes")
    axis = axis_of(im, op, im.integers(op, 2, "axes"), len(x.shape))
    if sizes.count(-1) == 1:
        rest = x.shape[axis] - sum(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = rest
    im.node(op, "split", [x], SplitAttrs(axis, tuple(sizes)))


def import_slice(im: Importer, op: FileOperator) -> None:
    x = im.input(op, 0)
    begin, size = im.integers(op, 1, "begins"), im.integers(op, 2, "sizes")
    if len(begin) != len(x.shape) or len(size) != len(x.shape):
        raise ModelError(f"{im.label(op)}: {len(begin)} begins of an input of rank {len(x.shape)}")
    filled = [d - b if s == -1 else s for d, b, s in zip(x.shape, begin, size, strict=True)]
    im.node(op, "slice", [x], SliceAttrs(tuple(begin), tuple(filled)))


def import_strided_slice(im: Importer, op: FileOperator) -> None:
    """A slice of all axes, and a reshape where axes come or go."""
    x = im.input(op, 0)
    attrs, shape = _strided(im, op, x.shape)
    if attrs.size == shape:
        im.node(op, "slice", [x], attrs)
        return
    if attrs.size != x.shape or set(attrs.steps) != {1}:
        (x,) = im.moved(op, "slice", [x], attrs, "slice")
    im.node(op, "reshape", [x], ReshapeAttrs(shape))


def _strided(im: Importer, op: FileOperator, shape: Shape) -> tuple[SliceAttrs, Shape]:
    """(the slice of every axis of the input, the shape after axes are dropped and made)."""
    o = options_of(im, op, schema.StridedSliceOptionsT)
    begin, end = im.integers(op, 1, "begins"), im.integers(op, 2, "ends")
    steps = im.integers(op, 3, "strides")
    if not len(begin) == len(end) == len(steps) or 0 in steps:
        raise ModelError(
            f"{im.label(op)}: begins {begin[:MAX_SHOWN]}, ends {end[:MAX_SHOWN]}, strides "
            f"{steps[:MAX_SHOWN]}; allowed: as many of each, no stride 0"
        )
    taken = sum(1 for i in range(len(begin)) if not _new(o, i) and not o.ellipsisMask >> i & 1)
    if taken > len(shape) or bin(o.ellipsisMask & ((1 << len(begin)) - 1)).count("1") > 1:
        raise ModelError(f"{im.label(op)}: it slices {taken} axes of {len(shape)}")
    chosen: list[range] = []
    kept: list[int] = []
    for i in range(len(begin)):
        if o.ellipsisMask >> i & 1:
            spanned = shape[len(chosen) : len(shape) - (taken - len(chosen))]
            if not spanned:  # where TFLite's kernel takes an axis all the same
                raise UnsupportedModel("its ellipsis stands for no axis; allowed: one and more")
            for d in spanned:
                chosen.append(range(d))
                kept.append(d)
            taken = len(shape)
        elif _new(o, i):
            kept.append(1)
        else:
            part = _chosen(o, i, shape[len(chosen)], begin[i], end[i], steps[i])
            if not part:
                raise UnsupportedModel(f"nothing is left of axis {len(chosen)}")
            chosen.append(part)
            if not o.shrinkAxisMask >> i & 1:
                kept.append(len(part))
    for d in shape[len(chosen) :]:
        chosen.append(range(d))
        kept.append(d)
    step = tuple(r.step for r in chosen)
    attrs = SliceAttrs(
        tuple(r.start for r in chosen),
        tuple(len(r) for r in chosen),
        step if set(step) != {1} else (),
    )
    return attrs, tuple(kept)


def _new(o: schema.StridedSliceOptionsT, i: int) -> bool:
    """Whether entry i makes an axis of 1; an ellipsis comes before that."""
    return bool(o.newAxisMask >> i & 1) and not o.ellipsisMask >> i & 1


def _chosen(
    o: schema.StridedSliceOptionsT, i: int, size: int, begin: int, end: int, step: int
) -> range:
    """The indices that entry i takes of an axis of `size`."""
    first = None if o.beginMask >> i & 1 else begin
    if o.shrinkAxisMask >> i & 1:
        at = (0 if step > 0 else size - 1) if first is None else first
        at = at + size if at < 0 else at
        return range(at, at + 1) if 0 <= at < size else range(0)
    whole = range(size)[slice(first, None, step)]
    if o.endMask >> i & 1:
        return whole
    if o.offset:
        end += whole.start
    elif end < 0:
        end = max(end + size, -1)
    # -1 stands for the place before the first element, which Python's slices can't name.
    last = None if end == -1 and step < 0 else max(end, 0)
    return range(size)[slice(first, last, step)]


def import_sub(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.SubOptionsT)
    attrs = AddAttrs(activation_of(o.fusedActivationFunction))
    im.node(op, "sub", [im.input(op, 0), im.input(op, 1)], attrs)


def import_mul(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.MulOptionsT)
    attrs = MulAttrs(activation_of(o.fusedActivationFunction))
    im.node(op, "mul", [im.input(op, 0), im.input(op, 1)], attrs)


def _import_extremum(name: str) -> OpImporter:
    def run(im: Importer, op: FileOperator) -> None:
        inputs = [im.input(op, 0), im.input(op, 1)]
        _one_scale(im, op, inputs)
        im.node(op, name, inputs)

    return run


def import_leaky_relu(im: Importer, op: FileOperator) -> None:
    o = options_of(im, op, schema.LeakyReluOptionsT)
    im.node(op, "leaky_relu", [im.input(op, 0)], LeakyReluAttrs(float(o.alpha)))


ELEMENTWISE_IMPORTERS: Mapping[str, OpImporter] = {
    "CONCATENATION": import_concatenation,
    "PACK": import_pack,
    "UNPACK": import_unpack,
    "SPLIT": import_split,
    "SPLIT_V": import_split_v,
    "SLICE": import_slice,
    "STRIDED_SLICE": import_strided_slice,
    "SUB": import_sub,
    "MUL": import_mul,
    "MAXIMUM": _import_extremum("maximum"),
    "MINIMUM": _import_extremum("minimum"),
    "RELU_N1_TO_1": import_plain("relu_n1_to_1"),
    "RELU_0_TO_1": import_plain("relu_0_to_1"),
    "LEAKY_RELU": import_leaky_relu,
    "PRELU": import_plain("prelu", 2),
    "LOGISTIC": import_plain("logistic"),
    "TANH": import_plain("tanh"),
    "HARD_SWISH": import_plain("hard_swish"),
}
