"""Requantization without long multiplies, as kernels of cores that have none read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinsmith.codegen.kernels.dsp import as_words, channels_of
from tinsmith.codegen.kernels.mac import bias_of
from tinsmith.codegen.kernels.packing import mac_constants
from tinsmith.pipeline import requant_proofs as proofs
from tinsmith.pipeline.ops import OpCall
from tinsmith.pipeline.ops.mac import Requant


@dataclass(frozen=True, eq=False)
class Steps:
    """What clamp_multiply or mirrored_multiply reads.

    start: int64 [channels], what sums start from, bias included. words: uint32 [channels, 4 or 5]:
    reach; both halves of the multiplier; addend; right shift, greatest and least output as bytes;
    where mirrored, the zero point.
    """

    start: NDArray[np.int64]
    words: NDArray[np.uint32]
    half: int
    mirrored: bool

    @property
    def kind(self) -> str:
        return "mirrored" if self.mirrored else "steps"


def steps_of(weights: NDArray[np.int8], call: OpCall, r: Requant) -> Steps | None:
    """The requantization of weights [channels, taps] by short products, where it is proven."""
    constants = mac_constants(weights, bias_of(call), r)
    if constants.acc_bound >= 1 << 31:
        return None
    bias = constants.bias.astype(np.int64)
    channels = channels_of(weights, bias, r)
    found, mirrored = proofs.clamped_multiply(channels), False
    if found is None:
        found, mirrored = proofs.mirrored_multiply(channels), True
    if found is None or not _fit_words(channels.low + found.offset, channels.high + found.offset):
        return None
    bounds = (found.most & 0xFF) << 8 | (found.least & 0xFF) << 16
    columns = [found.reach, found.low | found.high << 16, found.c, found.right | bounds]
    if mirrored:
        columns.append(np.full(len(bias), r.output_zero_point, np.int64))
    words = np.stack([as_words(c) for c in columns], axis=1)
    return Steps(found.offset + bias, words, found.half, mirrored)


def _fit_words(low: NDArray[np.int64], high: NDArray[np.int64]) -> bool:
    return int(low.min()) >= -(1 << 31) and int(high.max()) < 1 << 31
