"""What a case is, and the simplest way to make one."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from support.nets import Net, random_samples
from tinsmith.pipeline.graph import NO_ATTRS, Array, DType, Graph, QuantParams
from tinsmith.pipeline.ops import Oracle


@dataclass(frozen=True)
class Case:
    """One use of an op: `build` makes the graph around it, from a seeded generator."""

    name: str
    build: Callable[[np.random.Generator], Graph]
    few_values: bool = False  # the output can't take 8 values
    oracle: Oracle | None = None  # instead of the op's own, where that refuses this use


def built(op: str, case: Case, count: int) -> tuple[Graph, dict[str, Array]]:
    """A case's graph and so many samples for it, the same whenever it is built."""
    rng = np.random.default_rng(zlib.crc32(f"{op}/{case.name}".encode()))
    graph = case.build(rng)
    return graph, random_samples(graph, rng, count)


def q(scale: float, zero_point: int = 0) -> QuantParams:
    return QuantParams.per_tensor(scale, zero_point)


def one_input(
    op: str,
    name: str,
    shape: tuple[int, ...],
    attrs: Any = NO_ATTRS,
    quant: tuple[float, int] = (0.05, 3),
    dtype: DType = DType.INT8,
    out_dtype: DType | None = None,
    saturate: float = 0.0,
    y_quant: QuantParams | None = None,
    few_values: bool = False,
    oracle: Oracle | None = None,
) -> Case:
    def build(rng: np.random.Generator) -> Graph:
        net = Net(name, rng)
        x = net.input(shape, *quant, dtype)
        y = net.node(op, [x], attrs, saturate=saturate, quant=y_quant, dtype=out_dtype)
        return net.graph([y])

    return Case(name, build, few_values, oracle)
