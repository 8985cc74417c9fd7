"""int16 layers whose factors are beyond the one high word: the general kernels compute them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.case import q
from support.devices import differences
from support.merge import merge
from support.nets import Net, random_samples
from tinsmith.codegen.lower import lower
from tinsmith.pipeline.graph import NO_ATTRS, DType, Graph, QuantParams
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.targets.target import target_named

INT16 = DType.INT16


def pair(op: str, attrs: Any, y: QuantParams) -> Graph:
    net = Net(op, np.random.default_rng(3))
    a = net.input((1, 3, 41), 0.5, 0, INT16)
    b = net.input((1, 3, 41), 0.3, 0, INT16)
    return net.graph([net.node(op, [a, b], attrs, quant=y)])


def one(op: str, y: QuantParams, dtype: DType = INT16) -> Graph:
    net = Net(op, np.random.default_rng(3))
    x = net.input((1, 3, 41), 0.5, 0, INT16)
    return net.graph([net.node(op, [x], NO_ATTRS, quant=y, dtype=dtype)])


FAR = {
    "add_c": pair("add", AddAttrs(), q(1e-6)),
    "sub_c": pair("sub", AddAttrs(), q(1e-6)),
    "mul_c": pair("mul", MulAttrs(), q(0.01)),
    "squared_difference_c": pair("squared_difference", NO_ATTRS, q(0.1)),
    "relu_c": one("relu", q(1e-6)),
    "relu6_c": one("relu6", q(1e-6)),
    "requantize_c": one("quantize", q(1e-6)),
}


def test_the_general_kernels_are_chosen() -> None:
    for kernel, graph in FAR.items():
        program = lower(graph, "net", target_named("cortex-m4").isa)
        assert [step.kernel for step in program.steps] == [kernel]


@pytest.mark.parametrize("target", ["host", "cortex-m0plus", "cortex-m4"])
def test_the_general_kernels_equal_the_interpreter(target: str, tmp_path: Path) -> None:
    graph = merge("far", list(FAR.values()))
    samples = random_samples(graph, np.random.default_rng(5), 4)
    assert sum(differences(graph, target, tmp_path, samples).values()) == 0
