"""Plan of the kernel that moves rows within their buffer, between the stripes of a chain."""

from __future__ import annotations

import numpy as np

from tinsmith.codegen.program import KernelPlan, Overlap, Pointer


def move_plan(nbytes: int, *, words: bool) -> KernelPlan:
    """Bytes to a place that is not above theirs. words: all is in multiples of 4 bytes."""
    pointers = (Pointer("const int8_t", "x", ("in", 0)), Pointer("int8_t", "y", ("out", 0)))
    shape = {"count": nbytes // 4 if words else nbytes}
    i = np.arange(nbytes, dtype=np.int64)
    return KernelPlan({"words": words}, shape, pointers, (), 0, {0: Overlap(i, i + 1, True)})
