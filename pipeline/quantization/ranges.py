"""From ranges to quantization parameters: which tensors share one, and what it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.graph import DType, Graph, QuantParams
from tinsmith.pipeline.ops import OPS, ScaleRule
from tinsmith.pipeline.quantization.observers import Range

INT8_MIN, INT8_MAX = -128, 127
INT16_MAX = 32767


def asymmetric(low: float, high: float, *, power_of_two: bool = False) -> QuantParams:
    """int8 parameters of a range, as TFLite's converter chooses them.

    The range is widened to include 0, which becomes an integer: the zero point is
    round(-128 - low / scale), all in float32 (GetAsymmetricQuantizationParams). A range of nothing
    but 0 gets the scale 1.
    power_of_two: the scale is the next power of two, so that a value x is round(x * 2^b) + zero
    point; both ends of the range move out by the same factor.
    """
    lo = np.float32(min(low, 0.0))
    hi = np.float32(max(high, 0.0))
    scale = np.float32((float(hi) - float(lo)) / (INT8_MAX - INT8_MIN))
    if not scale >= np.finfo(np.float32).tiny:
        return QuantParams.per_tensor(1.0, 0 if lo < 0 else INT8_MIN)
    zero = np.float32(INT8_MIN) - lo / scale
    rounded = int(np.floor(float(zero) + 0.5)) if zero >= 0 else int(np.ceil(float(zero) - 0.5))
    step = float(numerics.power_of_two_from(scale)) if power_of_two else float(scale)
    return QuantParams.per_tensor(step, min(max(rounded, INT8_MIN), INT8_MAX))


def symmetric(low: float, high: float, *, power_of_two: bool = False) -> QuantParams:
    """int16 parameters of a range, as TFLite's converter chooses them: zero point 0.

    A range of nothing but 0 gets the scale 1. power_of_two: the scale is the next power of two.
    """
    scale = np.float32(max(abs(low), abs(high)) / INT16_MAX)
    if not scale >= np.finfo(np.float32).tiny:
        return QuantParams.per_tensor(1.0, 0, 16)
    step = float(numerics.power_of_two_from(scale)) if power_of_two else float(scale)
    return QuantParams.per_tensor(step, 0, 16)


def even(low: float, high: float) -> Range:
    """The least range around one whose int8 zero point is 0: the larger side is 127 steps."""
    reach = max(-low, high, 0.0)
    return reach * INT8_MIN / INT8_MAX, reach


class Groups:
    """Sets of tensors that must have the same parameters."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        while (parent := self._parent.get(name, name)) != name:
            name = parent
        return name

    def join(self, a: str, b: str) -> None:
        self._parent[self.root(b)] = self.root(a)


def fixed_parameters(graph: Graph, *, wide: bool = False) -> dict[str, QuantParams]:
    """The outputs whose parameters their ops fix. wide: for int16 activations."""
    dtype, bits = (DType.INT16, 16) if wide else (DType.INT8, 8)
    return {
        out: QuantParams.per_tensor(*fixed, bits)
        for node in graph.nodes
        if OPS[node.op].scale_rule is ScaleRule.FIXED
        and (fixed := OPS[node.op].fixed_quant_of(dtype)) is not None
        for out in node.outputs
    }


def shared_groups(graph: Graph) -> Groups:
    """Which tensors share parameters by the ops' scale rules, and state with what becomes it."""
    groups = Groups()
    for node in graph.nodes:
        op = OPS[node.op]
        same: list[str] = []
        if op.scale_rule is ScaleRule.SAME:
            same = [node.inputs[0], *node.outputs]
        elif op.scale_rule is ScaleRule.ALL_SAME:
            same = [*filter(None, node.inputs[: op.data_inputs]), *node.outputs]
        for name in same[1:]:
            groups.join(same[0], name)
    for var in graph.state:
        groups.join(var.tensor, var.next)
    return groups


def parameters_of_ranges(
    names: Iterable[str],
    groups: Groups,
    known: Mapping[str, QuantParams],
    given: Mapping[str, Range],
    seen: Mapping[str, Range],
    *,
    wide: bool = False,
    power_of_two: bool = False,
    own_zero: frozenset[str] | None = None,
) -> dict[str, QuantParams]:
    """The parameters of each named tensor: int8, or int16 where wide; scales are powers of two
    where that is asked for.

    known: those of groups, by root, that are decided. The others get the parameters of the union of
    their members' given ranges, else of their seen ranges. own_zero: where zero points are to be 0,
    the roots of the groups that keep their own.
    """
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(groups.root(name), []).append(name)
    result: dict[str, QuantParams] = {}
    for root, group in members.items():
        params = known.get(root)
        if params is None:
            ranges = [given[n] for n in group if n in given] or [
                seen[n] for n in group if n in seen
            ]
            low = min((r[0] for r in ranges), default=0.0)
            high = max((r[1] for r in ranges), default=0.0)
            if own_zero is not None and root not in own_zero:
                low, high = even(low, high)
            made = symmetric if wide else asymmetric
            params = made(low, high, power_of_two=power_of_two)
        result.update(dict.fromkeys(group, params))
    return result
