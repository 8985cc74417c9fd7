"""Models of uint8, as converters before int8 wrote them, turned into int8 with the same outputs.

A uint8 value q of zero point z is the int8 value q - 128 of zero point z - 128: every tensor is
shifted so, but for the model's inputs and outputs, which stay uint8 behind a QUANTIZE. Weights have
their zero point taken out, which makes them int8 where they fit and int16 of 9 bits where not. The
importers of int8 do the rest; where TFLite's uint8 kernels differ from its int8 ones, see
tflite_uint8_rules.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from tinsmith.pipeline.frontends.tflite_file import FileOperator, FileSubgraph, FileTensor

SHIFT = 128
# These take uint8 beside other types, and are no sign of a model that computes in uint8.
_CONVERTERS = ("QUANTIZE", "DEQUANTIZE", "CAST")
# The input of each op that is weights.
_WEIGHTS: Mapping[str, int] = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "FULLY_CONNECTED": 1,
    "TRANSPOSE_CONV": 1,
}


def without_uint8(sub: FileSubgraph) -> tuple[FileSubgraph, Mapping[int, str]]:
    """The subgraph in int8, and why operators can't be turned, by their index.

    Operators that computed in uint8 are marked `as_uint8`. Unchanged where no operator does more
    with uint8 than to convert it.
    """
    computing = [op for op in sub.operators if op.code not in _CONVERTERS]
    if not any(_is_quantized(t) for op in computing for t in _tensors(sub, op)):
        return sub, {}
    reasons = {op.index: reason for op in sub.operators if (reason := _refusal(sub, op))}
    return _shifted_subgraph(sub), reasons


def _is_quantized(t: FileTensor) -> bool:
    return t.type == "UINT8" and t.quant is not None and t.quant.scale.size > 0


def _tensors(sub: FileSubgraph, op: FileOperator) -> Iterator[FileTensor]:
    return (sub.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0)


def _refusal(sub: FileSubgraph, op: FileOperator) -> str:
    """What of an operator's tensors has no counterpart in int8, empty where all has."""
    tensors = list(_tensors(sub, op))
    of_uint8 = [t for t in tensors if t.type == "UINT8"]
    if not of_uint8:
        return ""
    if op.code == "CAST":
        return "it casts quantized uint8 values, which int8 ones stand for here"
    for t in of_uint8:
        if not _is_quantized(t):
            return f"'{t.name}' is uint8 without a scale, in a model of quantized uint8"
        if t.quant is not None and t.quant.scale.size != 1:
            return f"'{t.name}' is uint8 with {t.quant.scale.size} scales; allowed: one"
    if op.code not in _CONVERTERS and any(t.type in ("INT8", "INT16") for t in tensors):
        return "it mixes uint8 with other quantized types"
    return ""


def _shifted_subgraph(sub: FileSubgraph) -> FileSubgraph:
    """Inputs and outputs get a tensor of int8 beside them, everything else changes in place."""
    weights = {
        op.inputs[_WEIGHTS[op.code]]
        for op in sub.operators
        if op.code in _WEIGHTS and len(op.inputs) > _WEIGHTS[op.code]
    }
    tensors, inner = list(sub.tensors), dict[int, int]()
    for i, t in enumerate(sub.tensors):
        if not _is_quantized(t):
            continue
        if i in (*sub.inputs, *sub.outputs) and t.data is None:
            inner[i] = len(tensors)
            beside = replace(_shifted(t), index=inner[i], name=f"{t.name}_int8")
            tensors.append(beside)
        else:
            tensors[i] = _centred(t) if i in weights else _shifted(t)
    operators = tuple(
        replace(
            op,
            inputs=tuple(inner.get(i, i) for i in op.inputs),
            outputs=tuple(inner.get(i, i) for i in op.outputs),
            as_uint8=any(_is_quantized(t) for t in _tensors(sub, op)),
        )
        for op in sub.operators
    )
    computed = {i for op in sub.operators for i in op.outputs}
    before = [(i, inner[i]) for i in dict.fromkeys(sub.inputs) if i in inner]
    after = [(inner[i], i) for i in dict.fromkeys(sub.outputs) if i in inner and i in computed]
    free = 1 + max(op.index for op in sub.operators)
    made = [
        FileOperator(free + n, "QUANTIZE", 1, (source,), (target,), (), None)
        for n, (source, target) in enumerate((*before, *after))
    ]
    ordered = (*made[: len(before)], *operators, *made[len(before) :])
    return replace(sub, tensors=tuple(tensors), operators=ordered)


def _zero_point(t: FileTensor) -> int:
    assert t.quant is not None
    return int(t.quant.zero_point[0]) if t.quant.zero_point.size else 0


def _shifted(t: FileTensor) -> FileTensor:
    assert t.quant is not None
    zero = np.zeros(1, np.int64) if t.quant.zero_point.size == 0 else t.quant.zero_point
    data = None if t.data is None else (t.data.astype(np.int16) - SHIFT).astype(np.int8)
    return replace(t, type="INT8", quant=replace(t.quant, zero_point=zero - SHIFT), data=data)


def _centred(t: FileTensor) -> FileTensor:
    """Constant weights less their zero point, in the narrower type that holds them."""
    if t.data is None or not 0 <= _zero_point(t) <= 255:
        return _shifted(t)
    assert t.quant is not None
    data = t.data.astype(np.int16) - np.int16(_zero_point(t))
    quant = replace(t.quant, zero_point=np.zeros(1, np.int64))
    if data.min(initial=0) >= -128 and data.max(initial=0) <= 127:
        return replace(t, type="INT8", quant=quant, data=data.astype(np.int8))
    return replace(t, type="INT16", quant=quant, data=data)
