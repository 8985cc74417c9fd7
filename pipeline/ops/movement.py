"""What the ops that only move values accept."""

from __future__ import annotations

from tinsmith.pipeline.graph import DType
from tinsmith.pipeline.ops.op import OpCall

MAX_RANK = 5
TYPES = (DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32)


def accepts(call: OpCall) -> tuple[str, ...]:
    """Reasons of type and rank; the first input stands for all, since they are alike."""
    x, reasons = call.input(0), []
    if x.dtype not in TYPES:
        names = ", ".join(t.value for t in TYPES)
        reasons.append(f"type {x.dtype.value}; allowed: {names}")
    if not 1 <= len(x.shape) <= MAX_RANK:
        reasons.append(f"rank {len(x.shape)}; allowed: 1 to {MAX_RANK}")
    return tuple(reasons)
