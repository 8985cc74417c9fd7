"""Plans of the kernels that change an image's size: resizing, blocks, transposed convolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.mac import (
    INT32_SAFE,
    MAC_POINTERS,
    REQUANT_POINTERS,
    WEIGHTS_POINTER,
    bias_of,
    clamp_fields,
    mac_fixed,
    weights_constant,
)
from tinsmith.codegen.kernels.movement import copy_pointers, merge_axes
from tinsmith.codegen.kernels.packing import c_comment, c_identifier, mac_arrays, mac_constants
from tinsmith.codegen.program import C_TYPES, Constant, KernelPlan, Pointer
from tinsmith.pipeline.graph import DType
from tinsmith.pipeline.ops import OpCall, blocks, resize, transpose_conv2d


def _tables(
    call: OpCall, tables: list[tuple[str, NDArray[np.int64], str]]
) -> tuple[tuple[Pointer, ...], tuple[Constant, ...]]:
    """Constant arrays of places in the input, each of the smallest type that holds it."""
    base, label = c_identifier(call.name), c_comment(call.name)
    pointers: list[Pointer] = []
    constants: list[Constant] = []
    for name, data, what in tables:
        types = ((np.int16, "int16_t"), (np.int32, "int32_t"))
        kind, ctype = next(t for t in types if int(np.abs(data).max()) <= np.iinfo(t[0]).max)
        pointers.append(Pointer(f"const {ctype}", name, ("const", len(constants))))
        text = f"{label}: {what}"
        constants.append(Constant(f"{base}_{name}", ctype, data.astype(kind), text, role="table"))
    return tuple(pointers), tuple(constants)


def _image_fields(call: OpCall) -> dict[str, int]:
    n, ih, iw, c = call.input(0).shape
    _, oh, ow, _ = call.output.shape
    return {"images": n, "in_h": ih, "in_w": iw, "out_h": oh, "out_w": ow, "channels": c}


def resize_nearest_plan(call: OpCall) -> KernelPlan:
    a, (_, ih, iw, _) = call.attrs, call.input(0).shape
    pointers, constants = _tables(
        call,
        [
            ("rows", resize.nearest_indices(ih, a.size[0], a), "row of each output row"),
            ("columns", resize.nearest_indices(iw, a.size[1], a), "column of each output column"),
        ],
    )
    return KernelPlan({}, _image_fields(call), (*copy_pointers(call), *pointers), constants)


def resize_bilinear_plan(call: OpCall) -> KernelPlan:
    a, (_, ih, iw, _) = call.attrs, call.input(0).shape
    v = resize.interpolation(ih, a.size[0], a)
    h = resize.interpolation(iw, a.size[1], a)
    pointers, constants = _tables(
        call,
        [
            ("upper", v.lower, "row above each output row"),
            ("lower", v.upper, "row below each output row"),
            ("lower_weight", v.upper_weight, "weight of the row below, in 1/1024"),
            ("left", h.lower, "column left of each output column"),
            ("right", h.upper, "column right of each output column"),
            ("right_weight", h.upper_weight, "weight of the column right, in 1/1024"),
        ],
    )
    x = call.input(0)
    fixed = {
        "bits": resize.FRACTION_BITS, "type": C_TYPES[x.dtype], "wide": x.dtype is DType.INT16,
    }  # fmt: skip
    return KernelPlan(fixed, _image_fields(call), (*copy_pointers(call), *pointers), constants)


def blocks_plan(call: OpCall) -> KernelPlan:
    """A transpose of six axes: the output in order, the input by strides."""
    walk_of = (
        blocks.depth_to_space_walk if call.op == "depth_to_space" else blocks.space_to_depth_walk
    )
    shape, order = walk_of(call.input(0).shape, call.attrs.block)
    strides = [int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape))]
    walk = merge_axes([(shape[p], strides[p]) for p in order])
    fixed = {"walk": walk, "type": C_TYPES[call.input(0).dtype]}
    return KernelPlan(fixed, {}, copy_pointers(call))


def transpose_conv2d_plan(call: OpCall) -> KernelPlan:
    """Each output pixel gathers from the input pixels whose windows reach it."""
    w = call.input(1).value()
    oc, kh, kw, ic = w.shape
    requant = transpose_conv2d.requant(call)
    # How many taps meet an output pixel varies, so that the zero point can't go into the bias.
    k = mac_constants(w.reshape(oc, -1), bias_of(call), replace(requant, input_zero_point=0))
    sums = 255 * np.abs(w.astype(np.int64)).reshape(oc, -1).sum(axis=1)
    bound = int((sums + np.abs(k.bias.astype(np.int64))).max())
    ctype = C_TYPES[DType.of(w)]
    fields = _image_fields(call) | {
        "kernel_h": kh, "kernel_w": kw, "in_c": ic, "out_c": oc,
        "stride_h": call.attrs.stride[0], "stride_w": call.attrs.stride[1],
        "pad_top": call.attrs.pads[0], "pad_left": call.attrs.pads[2],
        "x_zero": requant.input_zero_point,
    }  # fmt: skip
    return KernelPlan(
        mac_fixed(bound, k.right_only) | {"wraps": bound > INT32_SAFE, "w_type": ctype},
        fields | clamp_fields(requant),
        (
            *MAC_POINTERS,
            replace(WEIGHTS_POINTER, ctype=f"const {ctype}"),
            *REQUANT_POINTERS,
        ),
        (weights_constant(call, w, "output, height, width, input channel"), *mac_arrays(call, k)),
    )
