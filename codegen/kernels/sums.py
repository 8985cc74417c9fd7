"""Plan of the fast elementwise sum: one weighted sum a value, proven on all pairs of bytes."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from tinsmith.codegen.kernels.elementwise import in_order, operands
from tinsmith.codegen.kernels.kernel import is_int8
from tinsmith.codegen.program import KernelPlan
from tinsmith.pipeline import numerics
from tinsmith.pipeline import requant_proofs as proofs
from tinsmith.pipeline.ops import OpCall, add


@functools.lru_cache(maxsize=64)
def _found(k: add.AddConstants, scales: tuple[float, float]) -> proofs.WeightedSum | None:
    values = np.arange(-128, 128, dtype=np.int64)
    terms = [
        numerics.requantize((values - zero) << k.left_shift, m.m, m.shift)
        for zero, m in zip(k.zero_points, k.multipliers, strict=True)
    ]
    total = terms[0][:, None] + terms[1][None, :]
    y = numerics.requantize(total, k.output.m, k.output.shift) + k.output_zero_point
    return proofs.weighted_sum(np.clip(y, k.act_min, k.act_max), scales, k.act_min, k.act_max)


def weighted(call: OpCall) -> proofs.WeightedSum | None:
    a, b, y = call.input(0), call.input(1), call.output
    return _found(add.constants(call), (a.scale / y.scale, b.scale / y.scale))


def weighted_when(call: OpCall) -> bool:
    same = is_int8(call) and call.input(0).shape == call.input(1).shape
    return same and weighted(call) is not None


def weighted_plan(call: OpCall) -> KernelPlan:
    found = weighted(call)
    assert found is not None
    k = add.constants(call)
    size = call.output.size
    pointers, constants = operands(call, ("a", "b"))
    overlap = {i: in_order(size, size, size) for i in (0, 1)}
    shape = {
        "size": size,
        "ma": found.ma,
        "mb": found.mb,
        "c": found.c,
        "y_min": k.act_min,
        "y_max": k.act_max,
    }
    return KernelPlan({"shift": found.shift}, shape, pointers, constants, 0, overlap)


def saturated_when(call: OpCall) -> bool:
    """Whether the sum is shifted, and limited, by one instruction."""
    found = weighted(call) if weighted_when(call) else None
    return found is not None and 1 <= found.shift <= 31


def saturated_plan(call: OpCall) -> KernelPlan:
    plan = weighted_plan(call)
    size = plan.shape["size"]
    clamped = (plan.shape["y_min"], plan.shape["y_max"]) != (-128, 127)
    fixed = {**plan.fixed, "clamped": clamped, "rest": size % 8 != 0}
    parts = {"sixteens": size // 16, "eights": size // 8 % 2, "rests": size % 8}
    # Of few values the parameters of a shared function would take more than the sums.
    return replace(plan, fixed=fixed, shape={**plan.shape, **parts}, literal=size < 16)
