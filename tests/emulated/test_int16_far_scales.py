"""int16 layers whose factors leave no room for one high word: they round in TFLite's two steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.case import q
from support.devices import differences
from support.merge import merge
from support.nets import Net, random_samples
from tinsmith.codegen.emit import emit
from tinsmith.codegen.lower import lower
from tinsmith.pipeline.graph import NO_ATTRS, DType, Graph, QuantParams
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.leaky_relu import LeakyReluAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.targets.target import target_named

INT16 = DType.INT16


def pair(op: str, attrs: Any, y: QuantParams) -> Graph:
    net = Net(op, np.random.default_rng(3))
    a = net.input((1, 3, 41), 0.5, 0, INT16)
    b = net.input((1, 3, 41), 0.3, 0, INT16)
    return net.graph([net.node(op, [a, b], attrs, quant=y)])


def one(op: str, y: QuantParams, attrs: Any = NO_ATTRS) -> Graph:
    net = Net(op, np.random.default_rng(3))
    x = net.input((1, 3, 41), 0.5, 0, INT16)
    return net.graph([net.node(op, [x], attrs, quant=y, dtype=INT16)])


FAR = (
    pair("add", AddAttrs(), q(1e-6)),
    pair("sub", AddAttrs(), q(1e-6)),
    pair("mul", MulAttrs(), q(0.01)),
    pair("squared_difference", NO_ATTRS, q(0.1)),
    one("relu", q(1e-6)),
    one("relu6", q(1e-6)),
    one("leaky_relu", q(1e-6), LeakyReluAttrs(0.3)),
    one("abs", q(1e-6)),
    one("quantize", q(1e-6)),
)


@pytest.mark.parametrize("graph", FAR, ids=lambda g: g.nodes[0].op)
def test_such_a_layer_rounds_in_two_steps(graph: Graph) -> None:
    text = emit(lower(graph, "net", target_named("cortex-m4").isa)).model["net.c"]
    assert " requantize(" in text


@pytest.mark.parametrize("target", ["host", "cortex-m0plus", "cortex-m4"])
def test_their_c_equals_the_interpreter(target: str, tmp_path: Path) -> None:
    graph = merge("far", FAR)
    samples = random_samples(graph, np.random.default_rng(5), 4)
    assert sum(differences(graph, target, tmp_path, samples).values()) == 0
