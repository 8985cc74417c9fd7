"""Channels that were flattened into others are no channels: none of them is taken out alone."""

from __future__ import annotations

import numpy as np

from support.nets import Net
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.passes.dead_channels import dead_channels
from tinsmith.pipeline.verify import verify


def test_a_flattened_tensor_keeps_all_its_elements_where_weights_behind_it_are_zero() -> None:
    net = Net("net", np.random.default_rng(0))
    x = net.input((1, 3, 1, 4))
    y = net.node("conv2d", [x, net.weights((8, 1, 1, 4), x, axis=0)], Conv2dAttrs())
    flat = net.node("reshape", [y], ReshapeAttrs((1, 24)))
    w = net.weights((5, 24), flat, axis=0)
    tensor = net.builder.tensors[w]
    data = tensor.value().copy()
    data[:, 4:12] = 0
    object.__setattr__(tensor, "data", data)
    graph = net.graph([net.node("fully_connected", [flat, w], FullyConnectedAttrs())])
    slim = verify(dead_channels(graph))
    samples = np.random.default_rng(1).integers(-128, 128, (20, 1, 3, 1, 4)).astype(np.int8)
    (want,), (got,) = (interpreter.run_samples(g, {x: samples}) for g in (graph, slim))
    np.testing.assert_array_equal(got, want)
    assert len(np.unique(want)) > 8
