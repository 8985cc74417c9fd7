"""Channels of one value go out of integer graphs; every output byte stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support.nets import Net
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.graph import Activation, Graph
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.passes.dead_channels import dead_channels
from tinsmith.pipeline.verify import verify

SAME, VALID = (1, 1, 1, 1), (0, 0, 0, 0)
DEAD = [1, 2, 5, 6]


def with_zeros(net: Net, w: str, channels: list[int]) -> str:
    """The weights with all taps of these output channels zero."""
    tensor = net.builder.tensors[w]
    data = tensor.value().copy()
    data[channels] = 0
    net.builder.tensors[w] = replace(tensor, data=data)
    return w


def chain(seed: int, pads: tuple[int, int, int, int], bias: bool, residual: bool) -> Graph:
    """1x1 with dead channels, depthwise 3x3, 1x1. bias: dead channels have their own constants."""
    net = Net("chain", np.random.default_rng(seed))
    x = net.input((1, 6, 5, 8), 0.05, 3)
    w = with_zeros(net, net.weights((8, 1, 1, 8), x, axis=0), DEAD)
    inputs = [x, w, net.bias(w, x, 8)] if bias else [x, w]
    y = net.node("conv2d", inputs, Conv2dAttrs(activation=Activation.RELU))
    if residual:
        y = net.node("add", [y, x], AddAttrs())
    w = net.weights((1, 3, 3, 8), y, axis=3, fan_in=9)
    y = net.node("depthwise_conv2d", [y, w, net.bias(w, y, 8)], DepthwiseConv2dAttrs(pads=pads))
    w = net.weights((4, 1, 1, 8), y, axis=0)
    return net.graph([net.node("conv2d", [y, w, net.bias(w, y, 4)], Conv2dAttrs())])


def outputs(graph: Graph, seed: int) -> np.ndarray:
    shape = (12, *graph.tensors[graph.inputs[0]].shape)
    samples = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
    return interpreter.run_samples(graph, {graph.inputs[0]: samples})[0]


def narrowest(graph: Graph) -> int:
    return min(graph.tensors[n.outputs[0]].shape[-1] for n in graph.nodes[:-1])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("pads", [SAME, VALID])
@pytest.mark.parametrize("residual", [False, True])
def test_every_output_byte_stays(
    seed: int, bias: bool, pads: tuple[int, int, int, int], residual: bool
) -> None:
    graph = chain(seed, pads, bias, residual)
    slim = verify(dead_channels(graph))
    want = outputs(graph, seed)
    np.testing.assert_array_equal(outputs(slim, seed), want)
    assert len(np.unique(want)) > 8


@pytest.mark.parametrize("pads", [SAME, VALID])
def test_dead_channels_go_through_depthwise_layers(pads: tuple[int, int, int, int]) -> None:
    slim = dead_channels(chain(0, pads, bias=False, residual=False))
    assert narrowest(slim) == 4
    assert sum(t.nbytes for t in slim.tensors.values() if t.is_constant) < 200


def test_a_residual_keeps_the_channels_of_what_it_adds_to() -> None:
    assert narrowest(dead_channels(chain(0, SAME, bias=False, residual=True))) == 8


def test_a_constant_that_meets_a_border_stays_where_the_border_shows_in_it() -> None:
    """With a bias the dead channels differ from the border's zero point, VALID has no border."""
    at_border = narrowest(dead_channels(chain(0, SAME, bias=True, residual=False)))
    inside = narrowest(dead_channels(chain(0, VALID, bias=True, residual=False)))
    assert inside == 4
    assert inside < at_border
