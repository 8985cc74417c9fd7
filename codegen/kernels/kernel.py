"""What a kernel is: one entry of the table KERNELS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinsmith.codegen.program import KernelPlan
from tinsmith.pipeline.graph import DType
from tinsmith.pipeline.ops import OPS, OpCall


def is_int8(call: OpCall) -> bool:
    """True where the activations are int8: what kernels take unless they say otherwise."""
    return is_int8_of_any_weights(call) and not has_wide_weights(call)


def is_int8_of_any_weights(call: OpCall) -> bool:
    """The same of a kernel that also takes the weights of 9 bits that come of uint8 models."""
    return call.input(0).dtype is DType.INT8 and call.output.dtype is DType.INT8


def has_wide_weights(call: OpCall) -> bool:
    """Whether int8 activations meet int16 weights, which then span at most 255."""
    weights = OPS[call.op].weights
    wide = weights is not None and call.input(weights).dtype is DType.INT16
    return wide and call.input(0).dtype is DType.INT8


def is_int16(call: OpCall) -> bool:
    """True where the activations are int16."""
    return call.input(0).dtype is DType.INT16 and call.output.dtype is DType.INT16


def is_int8_or_int16(call: OpCall) -> bool:
    """True where the activations are all int8 or all int16."""
    return is_int8(call) or is_int16(call)


def always(call: OpCall) -> bool:
    return True


@dataclass(frozen=True)
class Kernel:
    """A way to compute an op on an instruction set.

    template: file in templates/kernels, without .c.j2.
    when: whether the kernel can compute this call; an earlier entry of the table wins.
    plan: constants, parameters, scratch and overlap for this call.
    worth: whether what it saves on a whole layer is worth its flash, unless time alone counts.
    """

    name: str
    op: str
    isa: str
    template: str
    plan: Callable[[OpCall], KernelPlan]
    when: Callable[[OpCall], bool] = is_int8
    worth: Callable[[OpCall], bool] = always
