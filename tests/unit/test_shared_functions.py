"""Which calls share a kernel's function: those whose sizes may be parameters at no great cost."""

from __future__ import annotations

import re

import numpy as np
import pytest

from support.nets import Net
from tinsmith.codegen.emit import emit
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.targets.cores import CORES_BY_NAME


def pools() -> Graph:
    """Two shapes, one of them twice."""
    net = Net("pools", np.random.default_rng(0))
    wide, small = net.input((1, 8, 8, 3)), net.input((1, 6, 6, 5))
    attrs = Pool2dAttrs((2, 2), (2, 2))
    return net.graph([net.node("max_pool2d", [x], attrs) for x in (wide, small, wide)])


def short_windows() -> Graph:
    """Depthwise convolutions over the steps of time, which the plain C kernel takes on every core:
    two lengths."""
    net = Net("windows", np.random.default_rng(0))
    outputs = []
    for steps in (5, 7):
        x = net.input((1, steps, 1, 6))
        w = net.weights((1, steps, 1, 6), x, axis=3, fan_in=steps)
        inputs = [x, w, net.bias(w, x, 6)]
        outputs.append(net.node("depthwise_conv2d", inputs, DepthwiseConv2dAttrs()))
    return net.graph(outputs)


def functions(graph: Graph, core: str, objective: str, kernel: str) -> int:
    program = lower(graph, "net", CORES_BY_NAME[core].isa, LowerOptions(objective))
    assert {step.kernel for step in program.steps} == {kernel}
    text = emit(program).model["net.c"]
    return len(re.findall(rf"^static .*void {kernel}(_\d+)?\(", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("core", "objective", "count"),
    [("cortex-m0plus", "balanced", 2), ("cortex-m4", "balanced", 2), ("cortex-m4", "size", 1)],
)
def test_pools_share_a_function_where_their_shapes_agree(
    core: str, objective: str, count: int
) -> None:
    assert functions(pools(), core, objective, "max_pool2d_c") == count


@pytest.mark.parametrize(
    ("core", "objective", "count"),
    [
        ("cortex-m0plus", "balanced", 2), ("cortex-m0plus", "size", 1),
        ("cortex-m0plus", "time", 1), ("cortex-m3", "balanced", 1),
    ],
)  # fmt: skip
def test_windows_have_a_function_each_where_parameters_would_lie_on_the_stack(
    core: str, objective: str, count: int
) -> None:
    assert functions(short_windows(), core, objective, "depthwise_conv2d_c") == count
