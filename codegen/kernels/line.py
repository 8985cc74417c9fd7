"""Plans of the C kernels for cores without dual multiplies: depthwise 3x3 from a line, dense by
fours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.dsp import HIGH_BYTE_BOUND, as_words, is_provable, layer
from tinsmith.codegen.kernels.dsp_window import by_channel, window_overlap_rows
from tinsmith.codegen.kernels.kernel import is_int8
from tinsmith.codegen.kernels.mac import MAC_POINTERS, WEIGHTS_POINTER, window_fields
from tinsmith.codegen.kernels.packing import c_comment, c_identifier
from tinsmith.codegen.kernels.short import steps_of
from tinsmith.codegen.kernels.tiles import lay_name, row_name, sums_name
from tinsmith.codegen.program import Constant, KernelPlan, Pointer
from tinsmith.pipeline import requant_proofs as proofs
from tinsmith.pipeline.ops import OpCall, depthwise_conv2d, fully_connected
from tinsmith.pipeline.ops.mac import Requant

CONSTANTS_POINTER = Pointer("const uint32_t", "constants", ("const", 1))
LINE_POINTER = Pointer("int32_t", "line", ("scratch", 0))


def line_when(call: OpCall) -> bool:
    """3x3 without dilation or multiplier."""
    if not is_int8(call):
        return False
    w = call.input(1).value()
    plain = w.shape[1:3] == (3, 3) and call.attrs.dilation == (1, 1) and call.attrs.stride[1] <= 3
    if not plain or w.shape[3] != call.input(0).shape[3]:
        return False
    return is_provable(by_channel(w), call, depthwise_conv2d.requant(call))


def longer_line_when(call: OpCall) -> bool:
    """The same but for lines that make one pixel, of which two of three columns are border."""
    return line_when(call) and call.output.shape[2] > 1


def line_when_short(call: OpCall) -> bool:
    """The same, by short products."""
    weights = by_channel(call.input(1).value()) if line_when(call) else None
    return (
        weights is not None and steps_of(weights, call, depthwise_conv2d.requant(call)) is not None
    )


def same_place(call: OpCall) -> bool:
    """Whether a channel's output takes the place of its input: the same size, a border of one."""
    a = call.attrs
    return (
        call.input(0).shape == call.output.shape and a.stride == (1, 1) and a.pads == (1, 1, 1, 1)
    )


def finish(
    weights: NDArray[np.int8], call: OpCall, requant: Requant, short: bool
) -> tuple[dict[str, object], dict[str, int], NDArray[np.uint32]]:
    """How accumulators become outputs: fixed and shape fields, and the words of each channel.

    short: by 32-bit products alone where that is proven.
    """
    bounds = {"y_min": requant.act_min, "y_max": requant.act_max}
    found = steps_of(weights, call, requant) if short else None
    if found is not None:
        words = np.concatenate([as_words(found.start[:, None]), found.words], axis=1)
        return {"by": found.kind, "half": found.half, "words": words.shape[1]}, bounds, words
    own = layer(weights, call, requant)
    words = np.concatenate([own.constants, as_words(own.bias[:, None])], axis=1)
    return {"by": "quick" if own.quick else "exact", "half": 0, "words": 4}, bounds, words


def line_plan(call: OpCall, *, short: bool = False) -> KernelPlan:
    requant = depthwise_conv2d.requant(call)
    weights = by_channel(call.input(1).value())
    fixed, bounds, words = finish(weights, call, requant, short)
    same = same_place(call)
    a = call.attrs
    columns = (call.output.shape[2] - 1) * a.stride[1] + 3
    left = min(a.pads[2], columns)
    inside = max(min(call.input(0).shape[2], columns - left), 0)
    shape = window_fields(call, (3, 3))
    shape |= {
        "images": call.input(0).shape[0], "columns": columns, "x_zero": requant.input_zero_point,
        "left": left, "inside": inside, "right": columns - left - inside,
    }  # fmt: skip
    clamped = fixed["by"] in ("quick", "exact") and tuple(bounds.values()) != (-128, 127)
    if clamped:
        limits = as_words(np.array([list(bounds.values())], np.int64))
        words = np.concatenate([words, np.repeat(limits, len(words), axis=0)], axis=1)
    fixed = {
        "tile": row_name(a.stride[1], str(fixed["by"]), int(str(fixed["half"])), clamped),
        "words": words.shape[1], "in_place": same, "lay": "" if same else lay_name(short),
    }  # fmt: skip
    base, label = c_identifier(call.name), c_comment(call.name)
    # Column by column, as the line has it.
    w = weights.reshape(-1, 3, 3).transpose(0, 2, 1)
    constants = (
        Constant(
            f"{base}_weights",
            "int8_t",
            np.ascontiguousarray(w),
            f"{label}: weights by channel and column",
        ),
        Constant(f"{base}_constants", "uint32_t", words, f"{label}: requantization and bias"),
    )
    overlap = window_overlap_rows(call, 1)
    if same:
        overlap = replace(overlap, exact=True)
    return KernelPlan(
        fixed, shape,
        (*MAC_POINTERS, WEIGHTS_POINTER, CONSTANTS_POINTER, LINE_POINTER), constants, 12 * columns,
        {0: overlap},
    )  # fmt: skip


def fours_when(call: OpCall) -> bool:
    return is_int8(call) and is_provable(call.input(1).value(), call, fully_connected.requant(call))


def rides(w: NDArray[np.int8]) -> bool:
    """Whether odd outputs may ride on the upper byte of even ones: their sums fit 24 bits."""
    low, high = proofs.reachable(w[1::2], np.zeros(len(w[1::2]), np.int64))
    fits = max(-int(low.min(initial=0)), int(high.max(initial=0))) < HIGH_BYTE_BOUND
    return fits and int(w[1::2].min(initial=0)) >= -127


def fours_plan(call: OpCall, *, short: bool = False) -> KernelPlan:
    """Weights of four outputs side by side; outputs are filled up with zero weights."""
    w = call.input(1).value()
    outputs, inputs = w.shape
    requant = fully_connected.requant(call)
    fixed, bounds, words = finish(w, call, requant, short)
    quads = -(-outputs // 4)
    packed = np.zeros((quads * 4, inputs), np.int8)
    packed[:outputs] = w
    tile = "" if inputs % 4 or (short and not rides(w)) else sums_name(short)
    if tile and short:
        packed[1::2] -= packed[::2] < 0
    words = np.pad(words, ((0, quads * 4 - outputs), (0, 0)))
    base, label = c_identifier(call.name), c_comment(call.name)
    constants = (
        Constant(
            f"{base}_weights", "int8_t", packed.reshape(quads, 4, inputs).transpose(0, 2, 1).copy(),
            f"{label}: weights, four outputs side by side", align=4,
        ),
        Constant(f"{base}_constants", "uint32_t", words, f"{label}: requantization and bias"),
    )  # fmt: skip
    shape = {
        "rows": call.input(0).size // inputs, "inputs": inputs, "outputs": outputs,
        **bounds,
    }  # fmt: skip
    return KernelPlan(
        fixed | {"rest": outputs % 4, "tile": tile}, shape,
        (*MAC_POINTERS, WEIGHTS_POINTER, CONSTANTS_POINTER), constants,
    )  # fmt: skip


def line_plan_short(call: OpCall) -> KernelPlan:
    """Without long multiplies."""
    return line_plan(call, short=True)


def fours_plan_short(call: OpCall) -> KernelPlan:
    """Without long multiplies."""
    return fours_plan(call, short=True)
