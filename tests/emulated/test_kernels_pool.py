"""Pools at their edges: means by one product and by division, windows inside, cut and beyond."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from support.devices import differences
from support.merge import merge
from support.nets import Net
from tinsmith.codegen.emit import emit
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.pipeline.graph import Activation, Array, DType, Graph
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.targets.cores import CORES_BY_NAME
from tinsmith.targets.toolchains import sanitizers_available

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
NONE, RELU6 = Activation.NONE, Activation.RELU6
NO_PADS, SAME = (0, 0, 0, 0), (1, 1, 1, 1)

# Image, window, stride, padding, activation.
SHAPES: tuple[tuple[tuple[int, int, int, int], Pair, Pair, Pads, Activation], ...] = (
    ((1, 1, 1, 5), (1, 1), (1, 1), NO_PADS, NONE),
    ((1, 1, 1, 3), (3, 3), (1, 1), SAME, NONE),
    ((1, 2, 3, 3), (4, 5), (1, 1), (3, 2, 4, 3), NONE),
    ((1, 9, 7, 3), (2, 2), (3, 4), NO_PADS, NONE),
    ((1, 7, 6, 4), (3, 3), (2, 2), SAME, NONE),
    ((2, 6, 5, 3), (3, 2), (1, 1), (0, 2, 1, 0), RELU6),
    ((1, 5, 5, 2), (2, 2), (1, 1), (0, 1, 0, 1), NONE),
    ((1, 1, 19, 4), (1, 3), (1, 2), (0, 0, 1, 1), NONE),
    ((1, 8, 8, 3), (8, 8), (8, 8), NO_PADS, NONE),
    ((1, 10, 11, 2), (9, 8), (1, 1), (4, 4, 3, 3), NONE),  # more values than there are factors
    ((1, 7, 29, 2), (7, 29), (1, 1), NO_PADS, NONE),  # 203: no product is exact
    ((1, 7, 21, 2), (7, 21), (1, 1), NO_PADS, RELU6),  # 147: none where ties go up
    ((1, 16, 16, 2), (16, 16), (1, 1), NO_PADS, NONE),
)


def pool(index: int, op: str, dtype: DType, as_uint8: bool) -> Graph:
    image, kernel, stride, pads, activation = SHAPES[index]
    net = Net(f"{op}{index}", np.random.default_rng(index))
    x = net.input(image, 0.1, 0 if dtype is DType.INT16 else -9, dtype)
    attrs = Pool2dAttrs(kernel, stride, pads, activation, as_uint8)
    return net.graph([net.node(op, [x], attrs)])


def samples(graph: Graph) -> dict[str, Array]:
    """Many ties, everything between, and both ends of the range."""
    rng = np.random.default_rng(4)
    found = {}
    for name in graph.inputs:
        x = graph.tensors[name]
        low, high = np.iinfo(x.dtype.numpy).min, np.iinfo(x.dtype.numpy).max
        rows = [
            rng.integers(-1, 2, x.shape), rng.integers(-9, 4, x.shape),
            rng.integers(low, high + 1, x.shape), rng.choice((low, high), x.shape),
            np.full(x.shape, low), np.full(x.shape, high),
        ]  # fmt: skip
        found[name] = np.stack(rows).astype(x.dtype.numpy)
    return found


@pytest.fixture(scope="module")
def edges() -> Graph:
    average, int8 = "average_pool2d", DType.INT8
    graphs = [pool(i, average, int8, False) for i in range(len(SHAPES))]
    graphs += [pool(i, average, int8, True) for i in (1, 2, 4, 5, 9, 11)]
    graphs += [pool(i, average, DType.INT16, False) for i in (0, 2, 4, 5, 8)]
    graphs += [pool(i, "max_pool2d", int8, False) for i in (0, 1, 2, 3, 4, 5, 6)]
    return merge("pools", graphs)


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4"])
def test_pools_equal_the_interpreter(core: str, edges: Graph, tmp_path: Path) -> None:
    found = differences(edges, core, tmp_path, samples(edges))
    assert not {name: count for name, count in found.items() if count}


def test_pools_are_the_same_on_the_host(edges: Graph, tmp_path: Path) -> None:
    if not sanitizers_available():
        pytest.skip("needs gcc or clang with AddressSanitizer")
    found = differences(edges, "host", tmp_path, samples(edges), sanitize=True)
    assert not {name: count for name, count in found.items() if count}


@pytest.mark.parametrize(
    ("index", "as_uint8", "divides"),
    [(4, False, False), (4, True, False), (9, False, True), (10, False, True), (11, True, True)],
)
def test_a_mean_is_divided_only_where_no_product_is_proven(
    index: int, as_uint8: bool, divides: bool
) -> None:
    graph = pool(index, "average_pool2d", DType.INT8, as_uint8)
    text = emit(lower(graph, "net", CORES_BY_NAME["cortex-m0plus"].isa, LowerOptions())).model
    assert bool(re.search(r" / (count|\d+)", text["net.c"])) == divides
