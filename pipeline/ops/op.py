"""What an op is: one entry of the table OPS, made in one file an op."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tinsmith.pipeline.graph import NO_ATTRS, Array, DType, Graph, NoAttrs, Node, Shape, Tensor


class ScaleRule(enum.Enum):
    """How the scale of an op's output comes about."""

    FREE = "free"  # calibrated
    SAME = "same as the first input"  # the op moves or selects values
    ALL_SAME = "the same for all inputs and outputs"
    FIXED = "fixed by the op"  # see OpDef.fixed_quant_of
    NONE = "none"  # the output is not quantized


class Oracle(enum.Enum):
    """Who defines the integer arithmetic of an op, byte for byte."""

    TFLM = "tflite-micro"
    REF = "tflite-runtime BUILTIN_REF"
    OWN = "own definition"


@dataclass(frozen=True)
class OpCall:
    """A node with its tensors resolved: what every function of an op is given.

    inputs: None where an optional input is absent. outputs: empty during shape inference.
    """

    name: str
    attrs: Any
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    op: str = ""

    def input(self, i: int) -> Tensor:
        tensor = self.inputs[i]
        assert tensor is not None, f"{self.name}: input {i}"
        return tensor

    def optional(self, i: int) -> Tensor | None:
        return self.inputs[i] if i < len(self.inputs) else None

    @property
    def output(self) -> Tensor:
        return self.outputs[0]


@dataclass(frozen=True)
class TensorSpec:
    """Shape and type of an output, from an op's shape rule."""

    shape: Shape
    dtype: DType


Values = Sequence[Array | None]

EVERY_INPUT = 1 << 16  # data_inputs of an op that takes any number of activations


@dataclass(frozen=True)
class OpDef:
    """An op: its rules and its living definition.

    title: one line for `tinsmith ops`.
    infer: shapes and types of the outputs; raises ModelError for what can't be.
    run_float: float32 arrays in, float32 arrays out.
    run_int: integer arrays in, integer arrays out, bit-exact to the oracle.
    macs: multiply-accumulates of one call (0 for ops without).
    accepts: reasons why this call is not supported, empty where it is (types, ranks, attributes).
    fixed_quant: the (scale, zero point) of an int8 output where the scale rule is FIXED.
    fixed_quant_int16: the same of an int16 output.
    weights, bias: index of the weight and bias inputs, None where the op has none; weight_axis is
        the axis of the weights that may be quantized per channel.
    disagree: oracles that compute this op differently from its own, so that they are not asked.
    data_inputs: how many leading inputs are activations (the others are constants).
    int16: who defines the arithmetic on int16 activations (symmetric, TFLite's 16x8); None where no
        runtime has it, and `accepts` refuses it.
    """

    name: str
    title: str
    infer: Callable[[OpCall], tuple[TensorSpec, ...]]
    run_float: Callable[[OpCall, Values], tuple[Array, ...]]
    run_int: Callable[[OpCall, Values], tuple[Array, ...]]
    attrs: type = NoAttrs
    scale_rule: ScaleRule = ScaleRule.FREE
    oracle: Oracle = Oracle.TFLM
    macs: Callable[[OpCall], int] = lambda call: 0
    accepts: Callable[[OpCall], tuple[str, ...]] = lambda call: ()
    fixed_quant: tuple[float, int] | None = None
    fixed_quant_int16: tuple[float, int] | None = None
    weights: int | None = None
    bias: int | None = None
    weight_axis: int | None = None
    data_inputs: int = 1
    optional_inputs: tuple[int, ...] = ()
    disagree: tuple[Oracle, ...] = ()
    int16: Oracle | None = None

    def fixed_quant_of(self, dtype: DType) -> tuple[float, int] | None:
        """The fixed (scale, zero point) of an output of a type; None where it is free."""
        return self.fixed_quant_int16 if dtype is DType.INT16 else self.fixed_quant

    def definer(self, call: OpCall) -> Oracle:
        """Who defines the integer arithmetic of a call, which for int16 may be another runtime."""
        wide = DType.INT16 in (call.input(0).dtype, call.output.dtype)
        return self.int16 if wide and self.int16 is not None else self.oracle

    def is_computed_by(self, call: OpCall, oracle: Oracle) -> bool:
        """Whether a runtime gives a call's bytes; of int16 only what defines it is sure to."""
        if self.definer(call) is Oracle.OWN or oracle in self.disagree:
            return False
        wide = DType.INT16 in (call.input(0).dtype, call.output.dtype)
        return not wide or oracle is self.definer(call)


INT8_OR_FLOAT = (DType.INT8, DType.FLOAT32)
INT8_INT16_OR_FLOAT = (DType.INT8, DType.INT16, DType.FLOAT32)


def refused_types(allowed: Sequence[DType], *tensors: Tensor) -> tuple[str, ...]:
    """Reasons where activations are not all of one of the allowed types, or int16 is asymmetric."""
    kinds = list(dict.fromkeys(t.dtype for t in tensors))
    names = ", ".join(t.value for t in allowed)
    if len(kinds) > 1:
        found = ", ".join(k.value for k in kinds)
        return (f"types {found}; allowed: all of one type out of {names}",)
    if kinds[0] not in allowed:
        why = " (no runtime defines the op on int16)" if kinds[0] is DType.INT16 else ""
        return (f"type {kinds[0].value}; allowed: {names}{why}",)
    if kinds[0] is DType.INT16:
        return asymmetric(*tensors)
    return ()


def asymmetric(*tensors: Tensor) -> tuple[str, ...]:
    """Reasons where int16 or int32 activations have a zero point."""
    return tuple(
        f"'{t.name}' is {t.dtype.value} with zero point {t.quant.zero_point[0]}; allowed: 0"
        for t in tensors
        if t.dtype in (DType.INT16, DType.INT32) and t.quant is not None and any(t.quant.zero_point)
    )


def int8_or_float(call: OpCall) -> tuple[str, ...]:
    """`accepts` of an op that takes int8 and float32 and nothing else."""
    return refused_types(INT8_OR_FLOAT, call.input(0))


def int8_int16_or_float(call: OpCall) -> tuple[str, ...]:
    """`accepts` of an op that also takes int16, whose inputs and outputs are of one type.

    Such an op says by `OpDef.int16` whose arithmetic it is.
    """
    return refused_types(INT8_INT16_OR_FLOAT, call.input(0), *call.outputs)


def up_to_rank_5(call: OpCall) -> tuple[str, ...]:
    """Reasons of an op whose kernels walk up to five axes."""
    rank = len(call.input(0).shape)
    return () if 1 <= rank <= 5 else (f"rank {rank}; allowed: 1 to 5",)


def int8_int16_or_float_up_to_rank_5(call: OpCall) -> tuple[str, ...]:
    """`int8_int16_or_float` of an op whose kernels walk up to five axes."""
    return int8_int16_or_float(call) + up_to_rank_5(call)


def call_of(graph: Graph, node: Node) -> OpCall:
    return OpCall(node.name, node.attrs, graph.ins(node), graph.outs(node), node.op)


__all__ = [
    "NO_ATTRS",
    "OpCall",
    "OpDef",
    "Oracle",
    "ScaleRule",
    "TensorSpec",
    "Values",
    "call_of",
]
