"""Plans of the kernels that join and cut tensors of any type: concatenation, split, slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.movement import copy_pointers, dense_axes, merge_axes
from tinsmith.codegen.kernels.packing import c_comment, c_identifier
from tinsmith.codegen.program import C_TYPES, Constant, KernelPlan, Overlap, Pointer
from tinsmith.pipeline.ops import OpCall, concatenation, movement


def is_movable(call: OpCall) -> bool:
    return call.input(0).dtype in movement.TYPES


def runs_in_order(read: NDArray[np.int64], write: NDArray[np.int64]) -> Overlap:
    """The trace of runs copied first to last: the bytes where each starts to read and to write."""
    # A copy may lie over its own source where it is not above it, hence the unit in front, after
    # which nothing is written yet.
    later = np.minimum.accumulate(read[::-1])[::-1]
    low = np.concatenate([later[:1], later])
    high = np.concatenate([write, write[-1:]])
    return Overlap(low.astype(np.int64), high.astype(np.int64), True)


WORD = 4  # bytes; every buffer of the arena starts at a multiple of it


def _is_words(call: OpCall, *elements: int) -> bool:
    """True where all these distances are whole words, so that every run starts at one."""
    return all(n * call.input(0).dtype.bytes % WORD == 0 for n in elements)


def concatenation_plan(call: OpCall) -> KernelPlan:
    """Row by row: a row of the output is a row of each input."""
    rows, runs = concatenation.blocks(call)
    ctype = C_TYPES[call.output.dtype]
    pointers: list[Pointer] = []
    constants: list[Constant] = []
    for i in range(len(runs)):
        tensor = call.input(i)
        source = ("in", i)
        if tensor.data is not None:
            source = ("const", len(constants))
            name = f"{c_identifier(call.name)}_{i}"
            comment = f"{c_comment(call.name)}: constant input {i}"
            constants.append(Constant(name, ctype, tensor.data, comment, align=WORD))
        pointers.append(Pointer(f"const {ctype}", f"x{i}", source))
    pointers.append(Pointer(ctype, "y", ("out", 0)))
    fixed = _rows_fixed(call, rows, runs)
    overlap = {i: _joined(call, rows, runs, i) for i in range(len(runs))}
    return KernelPlan(fixed, {"rows": rows}, tuple(pointers), tuple(constants), 0, overlap)


def _rows_fixed(call: OpCall, rows: int, runs: tuple[int, ...]) -> dict[str, object]:
    size = call.input(0).dtype.bytes
    return {"runs": runs, "bytes": size, "single": rows == 1, "words": _is_words(call, *runs)}


def _joined(call: OpCall, rows: int, runs: tuple[int, ...], i: int) -> Overlap:
    """How the output may lie over input i: the trace of the runs that read that input."""
    size, before = call.output.dtype.bytes, sum(runs[:i])
    row = np.arange(rows, dtype=np.int64)
    # Up to input i's run of a row, all that is written is below that run.
    return runs_in_order(row * runs[i] * size, (row * sum(runs) + before) * size)


def split_plan(call: OpCall) -> KernelPlan:
    """Row by row: a row of the input is a row of each output."""
    x, axis = call.input(0), call.attrs.axis
    rows = int(np.prod(x.shape[:axis], dtype=np.int64))
    runs = tuple(t.size // rows for t in call.outputs)
    ctype = C_TYPES[x.dtype]
    pointers = [Pointer(f"const {ctype}", "x", ("in", 0))]
    pointers += [Pointer(ctype, f"y{i}", ("out", i)) for i in range(len(runs))]
    fixed = _rows_fixed(call, rows, runs)
    row = np.arange(rows, dtype=np.int64)
    overlap = {0: runs_in_order(row * sum(runs) * x.dtype.bytes, row * runs[0] * x.dtype.bytes)}
    return KernelPlan(fixed, {"rows": rows}, tuple(pointers), (), 0, overlap)


def slice_plan(call: OpCall) -> KernelPlan:
    """Contiguous runs where the last axis has them, else element by element."""
    x, a = call.input(0), call.attrs
    strides = [s for _, s in dense_axes(x.shape)]
    start = sum(b * s for b, s in zip(a.begin, strides, strict=True))
    steps = [s * step for s, step in zip(strides, a.steps, strict=True)]
    walk = merge_axes(list(zip(a.size, steps, strict=True)))
    run = walk[-1][0] if walk[-1][1] == 1 else 1
    outer = walk[:-1] if walk[-1][1] == 1 else walk
    fixed = {
        "walk": outer, "run": run, "bytes": x.dtype.bytes, "type": C_TYPES[x.dtype],
        "words": _is_words(call, start, run, *(stride for _, stride in outer)),
    }  # fmt: skip
    places = np.array([start], np.int64)
    for extent, stride in outer:
        places = (places[:, None] + np.arange(extent) * stride).reshape(-1)
    writes = np.arange(len(places), dtype=np.int64) * run
    overlap = {0: runs_in_order(places * x.dtype.bytes, writes * x.dtype.bytes)}
    return KernelPlan(fixed, {"start": start}, copy_pointers(call), (), 0, overlap)
