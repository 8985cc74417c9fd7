"""Plans of the kernels that pool, reduce and move values: pools, mean, pad, transpose."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from tinsmith.codegen.kernels.mac import window_fields, window_overlap
from tinsmith.codegen.program import C_TYPES, KernelPlan, Pointer
from tinsmith.pipeline import numerics
from tinsmith.pipeline import requant_proofs as proofs
from tinsmith.pipeline.graph import DType, Tensor
from tinsmith.pipeline.ops import OpCall, mean, pad

MAX_RANK = 5
MOST_COUNTS = 64  # of a window at a border: 4 bytes each are in the function


def pool_plan(call: OpCall) -> KernelPlan:
    low, high = numerics.activation_range(call.attrs.activation, call.output)
    fields = window_fields(call, call.attrs.kernel)
    del fields["dilation_h"], fields["dilation_w"], fields["out_c"]
    fields |= {
        "images": call.input(0).shape[0], "y_min": low, "y_max": high,
        "padded": int(any(call.attrs.pads)), "count": call.attrs.kernel[0] * call.attrs.kernel[1],
    }  # fmt: skip
    fixed: dict[str, object] = {
        "clamped": (low, high) != numerics.integer_range(call.output.dtype),
        "type": C_TYPES[call.input(0).dtype],
        "lowest": numerics.integer_range(call.output.dtype)[0],
    }
    overlap = {0: window_overlap(call, reads_first=False)}
    pointers = copy_pointers(call)
    return KernelPlan(fixed, fields, pointers, (), 0, overlap, literal=True)


def average_plan(call: OpCall) -> KernelPlan:
    """A pool whose means are one product each where that is proven: by the factor of the window,
    or by those of the counts that a border leaves of it."""
    plan, ties_up = pool_plan(call), call.attrs.as_uint8
    count = plan.shape["count"]
    known = call.input(0).dtype is DType.INT8
    whole = proofs.exact_mean(count, ties_up=ties_up) if known else None
    fixed = {
        **plan.fixed, "ties_up": ties_up, "product": whole is not None,
        "mean_shift": proofs.MEAN_SHIFT, "mean_half": proofs.MEAN_HALF,
        "factors": _factors(count, ties_up) if known and count <= MOST_COUNTS else None,
    }  # fmt: skip
    m, c = (whole.m, whole.c) if whole else (0, 0)
    shape = {**plan.shape, "factor": m, "addend": c}
    return replace(plan, fixed=fixed, shape=shape)


@functools.cache
def _factors(most: int, ties_up: bool) -> tuple[int, ...]:
    """m by the count of values, from 1 on."""
    found = [proofs.exact_mean(count, ties_up=ties_up) for count in range(1, most + 1)]
    assert None not in found, most
    return tuple(mean.m for mean in found if mean)


def mean_plan(call: OpCall) -> KernelPlan:
    """The input as [outer, reduced, inner] where the reduced axes are adjacent, else by strides."""
    m = mean.multiplier(call)
    x, y = call.input(0), call.output
    count = mean.count(call)
    kept = [(d, s) for i, (d, s) in enumerate(dense_axes(x.shape)) if i not in call.attrs.axes]
    reduced = [(d, s) for i, (d, s) in enumerate(dense_axes(x.shape)) if i in call.attrs.axes]
    fixed = {
        "kept": merge_axes(kept), "reduced": merge_axes(reduced), "right_only": m.shift <= 0,
        "type": C_TYPES[x.dtype],
    }  # fmt: skip
    low, high = numerics.integer_range(y.dtype)
    fields = {
        "offset": -x.zero_point * count, "m": m.m, "shift": -m.shift if m.shift <= 0 else m.shift,
        "y_zero": y.zero_point, "y_min": low, "y_max": high,
    }  # fmt: skip
    return KernelPlan(fixed, fields, copy_pointers(call))


def dense_axes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """(extent, stride in elements) of each axis of a dense tensor."""
    strides = [int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape))]
    return list(zip(shape, strides, strict=True))


def merge_axes(axes: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same walk with fewer loops: axes of extent 1 dropped, adjacent ones joined."""
    merged: list[tuple[int, int]] = []
    for extent, stride in axes:
        if extent == 1:
            continue
        if merged and merged[-1][1] == stride * extent:
            merged[-1] = (merged[-1][0] * extent, stride)
        else:
            merged.append((extent, stride))
    return tuple(merged) or ((1, 0),)


def transpose_plan(call: OpCall) -> KernelPlan:
    """The output in order, the input by strides."""
    x = call.input(0)
    axes = dense_axes(x.shape)
    walk = merge_axes([axes[p] for p in call.attrs.perm])
    return KernelPlan({"walk": walk, "type": C_TYPES[x.dtype]}, {}, copy_pointers(call))


def copy_plan(tensor: Tensor) -> KernelPlan:
    """A tensor's bytes from one place to another."""
    ctype = C_TYPES[tensor.dtype]
    pointers = (
        Pointer(f"const {ctype}", "x", ("in", 0)),
        Pointer(ctype, "y", ("out", 0)),
    )
    return KernelPlan({"type": ctype}, {"size": tensor.size}, pointers)


def copy_pointers(call: OpCall) -> tuple[Pointer, ...]:
    ctype = C_TYPES[call.input(0).dtype]
    return (
        Pointer(f"const {ctype}", "x", ("in", 0)),
        Pointer(ctype, "y", ("out", 0)),
    )


def pad_plan(call: OpCall) -> KernelPlan:
    """The border everywhere, then the input's rows into the middle."""
    x, y = call.input(0), call.output
    strides = [s for _, s in dense_axes(y.shape)]
    start = sum(before * s for (before, _), s in zip(call.attrs.pads, strides, strict=True))
    walk = merge_axes(list(zip(x.shape, strides, strict=True)))
    if walk[-1][1] != 1:
        walk = (*walk, (1, 1))
    fixed = {"walk": walk[:-1], "type": C_TYPES[x.dtype]}
    fields = {
        "row": walk[-1][0], "start": start, "y_size": y.size, "border": pad.border(call),
    }  # fmt: skip
    return KernelPlan(fixed, fields, copy_pointers(call))
