"""Constants as kernels want them: names, folded biases, requantization arrays. No scale
arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.program import Constant
from tinsmith.pipeline.ops import OpCall
from tinsmith.pipeline.ops.mac import Requant

# Room for what an array's name says besides its layer, within 40 characters.
MAX_IDENTIFIER = 28


def c_identifier(text: str, most: int = MAX_IDENTIFIER) -> str:
    """A C identifier made of any text, at most `most` long: ASCII letters, digits, underscores."""
    name = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_").lower()
    name = name if name and not name[0].isdigit() else f"n{name}"
    return name[:most].rstrip("_")


def c_comment(text: str) -> str:
    """Text that can't end a comment, start a line or hide a letter: printable ASCII on one line."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/").replace("??", "? ?")


def shape_text(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(str(d) for d in shape) + "]"


def split_weights(w: NDArray[np.generic]) -> tuple[NDArray[np.int8], int]:
    """(bytes, offset) whose sum is the weights: offset 0 for int8 ones, whatever fits for others.

    A sum of x * w is then one of x * bytes and offset times the sum of x.
    """
    wide = w.astype(np.int64)
    low, high = int(wide.min(initial=0)), int(wide.max(initial=0))
    assert high - low <= 255, "weights beyond what uint8 can say"
    offset = min(max(0, high - 127), low + 128)
    return (wide - offset).astype(np.int8), offset


@dataclass(frozen=True, eq=False)
class MacConstants:
    """The requantization of a multiply-accumulate op, ready to print.

    bias has the input's zero point folded in: bias - zero_point * sum(weights), so that kernels
    multiply the raw input (padding is the zero point).
    right_only: no channel shifts left.
    """

    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int8]
    right_only: bool
    acc_bound: int


def mac_constants(
    weights: NDArray[np.signedinteger[Any]], bias: NDArray[np.generic] | None, requant: Requant
) -> MacConstants:
    """weights: [output channels, taps], symmetric. bias: [output channels] or None.

    acc_bound is an upper bound of the magnitude of every partial sum, in any order of the taps.
    shift is as TFLite has it, negated where no channel shifts left, so that it is a right shift.
    """
    w = weights.astype(np.int64)
    start = np.zeros(len(w), np.int64) if bias is None else bias.reshape(-1).astype(np.int64)
    folded = start - requant.input_zero_point * w.sum(axis=1)
    bound = int((np.abs(folded) + 128 * np.abs(w).sum(axis=1)).max())
    right_only = bool(np.all(requant.shift <= 0))
    shift = -requant.shift if right_only else requant.shift
    return MacConstants(
        # The folded bias may leave the int32 range; accumulation wraps back, as TFLite's does.
        folded.astype(np.int32),
        requant.multiplier.astype(np.int32),
        shift.astype(np.int8),
        right_only,
        bound,
    )


def mac_arrays(call: OpCall, k: MacConstants) -> tuple[Constant, Constant, Constant]:
    """The bias, multiplier and shift arrays of a layer."""
    base, label = c_identifier(call.name), c_comment(call.name)
    side = "right" if k.right_only else "left"
    return (
        Constant(f"{base}_bias", "int32_t", k.bias, f"{label}: bias, input zero point folded in"),
        Constant(f"{base}_multiplier", "int32_t", k.multiplier, f"{label}: multipliers, Q31"),
        Constant(f"{base}_shift", "int8_t", k.shift, f"{label}: {side} shifts"),
    )
