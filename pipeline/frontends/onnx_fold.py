"""Constant parts of an ONNX graph, evaluated at import by ONNX's own reference implementation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends.onnx_file import MAX_ELEMENTS, OnnxNode, tensor_array
from tinsmith.pipeline.graph import Array

MAX_FOLDED = 1 << 26  # elements of all results of a model

Bound = Callable[[OnnxNode, Sequence[Array]], int]


def _broadcast(node: OnnxNode, xs: Sequence[Array]) -> int:
    try:
        return math.prod(np.broadcast_shapes(*(x.shape for x in xs)))
    except ValueError as e:
        shapes = ", ".join(str(list(x.shape)) for x in xs)
        raise ModelError(f"{node.op} '{node.name}': shapes {shapes} do not broadcast") from e


def _total(node: OnnxNode, xs: Sequence[Array]) -> int:
    return sum(x.size for x in xs)


def _product_of_last(node: OnnxNode, xs: Sequence[Array]) -> int:
    return math.prod(max(int(d), 0) for d in xs[-1].reshape(-1))


def _expanded(node: OnnxNode, xs: Sequence[Array]) -> int:
    return max(xs[0].size, 1) * max(_product_of_last(node, xs), 1)


def _gathered(node: OnnxNode, xs: Sequence[Array]) -> int:
    return int(xs[0].size) * max(int(xs[1].size), 1)


def _range(node: OnnxNode, xs: Sequence[Array]) -> int:
    start, limit, delta = (float(x.reshape(-1)[0]) for x in xs)
    return math.ceil(abs(limit - start) / abs(delta)) if delta else MAX_ELEMENTS + 1


# Ops that are evaluated where all inputs are constant, with a bound of the elements they make.
FOLDABLE: dict[str, Bound] = {
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Min", "Max", "Equal", "Less", "Greater",
         "LessOrEqual", "GreaterOrEqual", "And", "Or", "Where", "PRelu"),
        _broadcast,
    ),
    **dict.fromkeys(
        ("Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log", "Floor", "Ceil", "Round", "Not", "Cast",
         "Identity", "Clip", "Relu", "Sigmoid", "Tanh", "Sign", "Shape", "Size", "Reshape",
         "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Concat", "Slice", "Split", "ReduceProd",
         "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"),
        _total,
    ),
    "ConstantOfShape": _product_of_last,
    "Expand": _expanded,
    "Tile": _expanded,
    "Gather": _gathered,
    "Range": _range,
}  # fmt: skip


def fold(node: OnnxNode, values: Sequence[Array | None], opset: int) -> tuple[Array, ...] | None:
    """The outputs of a node whose inputs are all constant, or None where it isn't foldable."""
    if node.domain or node.op not in FOLDABLE:
        return None
    present = [v for v in values if v is not None]
    try:
        bound = FOLDABLE[node.op](node, present)
    except (IndexError, ValueError, TypeError, OverflowError) as e:
        raise ModelError(f"{node.op} '{node.name}': its constant inputs are not valid: {e}") from e
    if bound > MAX_ELEMENTS:
        raise ModelError(
            f"{node.op} '{node.name}': its constant result would have {bound} elements; "
            f"allowed: up to {MAX_ELEMENTS}"
        )
    return _evaluate(node, values, opset)


def _evaluate(node: OnnxNode, values: Sequence[Array | None], opset: int) -> tuple[Array, ...]:
    feeds = {
        name: value for name, value in zip(node.inputs, values, strict=True) if value is not None
    }
    infos = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in feeds.items()
    ]
    outs = [onnx.helper.make_value_info(o, onnx.TypeProto()) for o in node.outputs if o]
    graph = onnx.helper.make_graph([node.proto], "constant", infos, outs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    # The reference implementation raises whatever numpy raises; all of it means a damaged model.
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, feeds)
    except Exception as e:
        raise ModelError(f"{node.op} '{node.name}': its constant value has none: {e}") from e
    return tuple(np.asarray(r) for r in results)


def constant_value(node: OnnxNode) -> Array:
    """The value of a Constant node."""
    for key, value in node.attrs.items():
        if key == "value":
            return tensor_array(value)
        if key in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if key in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    raise ModelError(
        f"Constant '{node.name}': its value is {', '.join(node.attrs) or 'absent'}; "
        "allowed: value, value_float(s), value_int(s)"
    )
