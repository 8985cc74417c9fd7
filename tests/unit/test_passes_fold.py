"""Folding and fusing: the same outputs with fewer nodes, and only where that is exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Activation, DType, Graph, GraphBuilder, QuantParams, rebuild
from tinsmith.pipeline.interpreter import outputs, run
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.gather import GatherAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.pipeline.ops.pad import PadAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.passes import FLOAT_PASSES, INT_PASSES, Pass, run_passes
from tinsmith.pipeline.passes.fold_batch_norm import fold_batch_norm
from tinsmith.pipeline.passes.fold_bias import fold_bias
from tinsmith.pipeline.passes.fold_constants import fold_constants
from tinsmith.pipeline.passes.fold_gather import fold_gather
from tinsmith.pipeline.passes.fold_pad import fold_pad
from tinsmith.pipeline.passes.fuse_activation import fuse_activation
from tinsmith.pipeline.passes.fuse_squared_difference import fuse_squared_difference
from tinsmith.pipeline.passes.remove_dead import remove_dead
from tinsmith.pipeline.verify import verify

RNG = np.random.default_rng(1)
Q, R = QuantParams.per_tensor(0.05, 3), QuantParams.per_tensor(0.07, -11)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def after(step: Pass, before: Graph, tolerance: float = 1e-6) -> Graph:
    """The graph after a pass, once it gives the same outputs (integers: the same bytes)."""
    graph = verify(step(before))
    assert (graph.inputs, graph.outputs) == (before.inputs, before.outputs)
    feeds = {}
    for name in before.inputs:
        t = before.tensors[name]
        feeds[name] = (
            RNG.integers(-128, 128, t.shape).astype(np.int8)
            if t.dtype is DType.INT8
            else RNG.normal(size=t.shape).astype(np.float32)
        )
    wants, gots = outputs(before, run(before, feeds)[0]), outputs(graph, run(graph, feeds)[0])
    for want, got in zip(wants, gots, strict=True):
        atol = 0 if want.dtype == np.int8 else tolerance * max(1.0, np.abs(want).max())
        np.testing.assert_allclose(got.astype(float), want.astype(float), rtol=0, atol=atol)
    return graph


def scale_node(b: GraphBuilder, x: str, activation: Activation = Activation.NONE) -> str:
    """A batch normalization as the front end writes it."""
    channels = b.tensors[x].shape[3]
    w, shift = b.constant("scale", floats(1, 1, 1, channels)), b.constant("shift", floats(channels))
    attrs = DepthwiseConv2dAttrs(activation=activation)
    return b.node("depthwise_conv2d", [x, w, shift], attrs)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
def test_a_scale_behind_a_convolution_goes_into_its_weights(op, bias):
    b = GraphBuilder("g")
    x = b.input("x", (1, 6, 6, 4))
    w = b.constant("w", floats(5, 3, 3, 4) if op == "conv2d" else floats(1, 3, 3, 4))
    inputs = [x, w] + ([b.constant("b", floats(5 if op == "conv2d" else 4))] if bias else [])
    attrs = Conv2dAttrs if op == "conv2d" else DepthwiseConv2dAttrs
    y = scale_node(b, b.node(op, inputs, attrs(pads=(1, 1, 1, 1))), Activation.RELU6)
    graph = after(fold_batch_norm, b.build([y]))
    assert ops(graph) == [op]
    assert graph.nodes[0].attrs.activation is Activation.RELU6


def test_a_scale_behind_a_fully_connected_layer_goes_into_it_through_a_reshape():
    for activation, left in ((Activation.NONE, []), (Activation.RELU, ["relu"])):
        b = GraphBuilder("g")
        x = b.input("x", (1, 6))
        y = b.node("fully_connected", [x, b.constant("w", floats(4, 6))], FullyConnectedAttrs())
        y = scale_node(b, b.node("reshape", [y], ReshapeAttrs((1, 1, 1, 4))), activation)
        graph = after(fold_batch_norm, b.build([y]))
        assert ops(graph) == ["fully_connected", "reshape", *left]


def test_a_scale_before_a_fully_connected_layer_goes_into_it():
    b = GraphBuilder("g")
    x = b.input("x", (1, 1, 1, 6))
    flat = b.node("reshape", [scale_node(b, x)], ReshapeAttrs((1, 6)))
    y = b.node("fully_connected", [flat, b.constant("w", floats(4, 6))], FullyConnectedAttrs())
    assert ops(after(fold_batch_norm, b.build([y]))) == ["reshape", "fully_connected"]


def test_a_scale_stays_where_it_is_not_alone_or_an_activation_is_before_it():
    b = GraphBuilder("g")
    x = b.input("x", (1, 4, 4, 3))
    shared = b.node("conv2d", [x, b.constant("w", floats(3, 1, 1, 3))], Conv2dAttrs())
    clamped = b.node(
        "conv2d",
        [x, b.constant("v", floats(3, 1, 1, 3))],
        Conv2dAttrs(activation=Activation.RELU),
    )
    outs = [shared, scale_node(b, shared), scale_node(b, clamped), scale_node(b, x)]
    graph = after(fold_batch_norm, b.build(outs))
    assert ops(graph).count("depthwise_conv2d") == 3


@pytest.mark.parametrize("shape", [(), (5,), (1, 1, 1, 5), (1, 1)])
def test_a_constant_behind_a_layer_goes_into_its_bias(shape):
    b = GraphBuilder("g")
    x = b.input("x", (1, 4, 4, 3))
    y = b.node("conv2d", [x, b.constant("w", floats(5, 3, 3, 3))], Conv2dAttrs())
    c = b.constant("c", floats(*shape))
    y = b.node("add", [c, y], AddAttrs(Activation.RELU))
    graph = after(fold_bias, b.build([y]))
    assert ops(graph) == ["conv2d"]
    assert graph.nodes[0].attrs.activation is Activation.RELU


@pytest.mark.parametrize("shape", [(), (5,), (1, 1, 1, 5)])
def test_a_constant_factor_behind_a_layer_goes_into_its_weights(shape):
    b = GraphBuilder("g")
    x = b.input("x", (1, 4, 4, 3))
    inputs = [x, b.constant("w", floats(5, 3, 3, 3)), b.constant("b", floats(5))]
    y = b.node("conv2d", inputs, Conv2dAttrs())
    y = b.node("mul", [y, b.constant("c", floats(*shape))], MulAttrs(Activation.RELU))
    assert ops(after(fold_batch_norm, b.build([y]))) == ["conv2d"]


@pytest.mark.parametrize(("groups", "left"), [(1, ["conv2d"]), (2, ["conv2d", "gather"])])
def test_an_order_of_channels_goes_into_the_weights_before_it(groups, left):
    b = GraphBuilder("g")
    x = b.input("x", (1, 4, 4, 6))
    inputs = [x, b.constant("w", floats(4, 3, 3, 6 // groups)), b.constant("b", floats(4))]
    y = b.node("conv2d", inputs, Conv2dAttrs(activation=Activation.RELU))
    order = b.constant("order", np.array([2, 0, 3], np.int32))
    y = b.node("gather", [y, order], GatherAttrs(3))
    assert ops(after(fold_gather, b.build([y]))) == left


def test_a_constant_that_differs_within_a_channel_is_no_bias():
    b = GraphBuilder("g")
    x = b.input("x", (1, 5, 5, 3))
    y = b.node("conv2d", [x, b.constant("w", floats(5, 1, 1, 3))], Conv2dAttrs())
    y = b.node("add", [y, b.constant("c", floats(5, 1))], AddAttrs())
    assert ops(after(fold_bias, b.build([y]))) == ["conv2d", "add"]


@pytest.mark.parametrize("op", ["relu", "relu6"])
def test_an_activation_goes_into_every_op_that_can_clamp(op):
    b = GraphBuilder("g")
    x = b.input("x", (1, 6, 6, 4))
    a = b.node(op, [b.node("conv2d", [x, b.constant("w", floats(4, 1, 1, 4))], Conv2dAttrs())])
    c = b.node(op, [b.node("add", [a, x], AddAttrs())])
    d = b.node(op, [b.node("max_pool2d", [c], Pool2dAttrs((2, 2), (2, 2)))])
    e = b.node(op, [b.node("average_pool2d", [d], Pool2dAttrs((3, 3), (3, 3)))])
    f = b.node("fully_connected", [e, b.constant("v", floats(2, 4))], FullyConnectedAttrs())
    graph = after(fuse_activation, b.build([b.node(op, [f])]))
    assert ops(graph) == ["conv2d", "add", "max_pool2d", "average_pool2d", "fully_connected"]
    assert {n.attrs.activation for n in graph.nodes} == {Activation(op)}


def test_an_activation_stays_where_the_value_before_it_is_read_or_clamped():
    b = GraphBuilder("g")
    x = b.input("x", (1, 6, 6, 4))
    y = b.node("add", [x, x], AddAttrs())
    z = b.node("add", [x, x], AddAttrs(Activation.RELU_N1_TO_1))
    graph = after(fuse_activation, b.build([y, b.node("relu", [y]), b.node("relu", [z])]))
    assert ops(graph).count("relu") == 2


@pytest.mark.parametrize(("quant", "left"), [(Q, ["add"]), (R, ["add", "relu"])])
def test_an_integer_activation_is_fused_only_at_the_same_scale(quant, left):
    b = GraphBuilder("g")
    x = b.input("x", (1, 500), DType.INT8, Q)
    y = b.node("relu", [b.node("add", [x, x], AddAttrs(), quant=Q)], quant=quant)
    assert ops(after(fuse_activation, b.build([y]))) == left


@pytest.mark.parametrize(("op", "alone"), [("square", True), ("mul", True), ("mul", False)])
def test_the_square_of_a_difference_is_one_op_where_nothing_else_reads_it(op, alone):
    b = GraphBuilder("g")
    d = b.node("sub", [b.input("x", (1, 4)), b.input("z", (1, 4))], AddAttrs())
    y = b.node("square", [d]) if op == "square" else b.node("mul", [d, d], MulAttrs())
    graph = after(fuse_squared_difference, b.build([y] if alone else [y, d]))
    assert ops(graph) == (["squared_difference"] if alone else ["sub", op])


def padded(
    value: float, pads: tuple[tuple[int, int], ...], dtype: DType = DType.FLOAT32
) -> tuple[GraphBuilder, str]:
    b = GraphBuilder("g")
    quant = Q if dtype is DType.INT8 else None
    x = b.input("x", (1, 5, 6, 4), dtype, quant)
    return b, b.node("pad", [x], PadAttrs(pads, value), quant=quant)


IMAGE = ((0, 0), (1, 2), (0, 3), (0, 0))


@pytest.mark.parametrize(
    ("value", "pads", "left"),
    [
        (0.0, IMAGE, ["conv2d"]),
        (1.0, IMAGE, ["pad", "conv2d"]),
        (0.0, ((0, 0), (1, 1), (1, 1), (0, 1)), ["pad", "conv2d"]),
        (0.0, ((1, 0), (1, 1), (1, 1), (0, 0)), ["pad", "conv2d"]),
    ],
)
def test_a_zero_border_of_the_image_goes_into_a_convolution(value, pads, left):
    b, x = padded(value, pads)
    w = b.constant("w", floats(2, 3, 3, b.tensors[x].shape[3]))
    y = b.node("conv2d", [x, w], Conv2dAttrs(pads=(1, 0, 0, 1)))
    graph = after(fold_pad, b.build([y]))
    assert ops(graph) == left
    if left == ["conv2d"]:
        assert graph.nodes[0].attrs.pads == (2, 2, 0, 4)


@pytest.mark.parametrize(("value", "left"), [(0.0, 1), (0.02, 1), (0.05, 2)])
def test_an_integer_border_goes_into_a_depthwise_convolution_where_it_is_the_zero_point(
    value, left
):
    b, x = padded(value, IMAGE, DType.INT8)
    data = RNG.integers(-127, 128, (1, 3, 3, 4)).astype(np.int8)
    w = b.constant("w", data, QuantParams.per_tensor(0.01))
    y = b.node("depthwise_conv2d", [x, w], DepthwiseConv2dAttrs(), quant=R)
    assert len(after(fold_pad, b.build([y])).nodes) == left


@pytest.mark.parametrize(
    ("op", "value", "pads", "left"),
    [
        ("max_pool2d", -np.inf, IMAGE, ["pad", "max_pool2d"]),
        ("max_pool2d", -np.inf, ((0, 0), (1, 1), (0, 1), (0, 0)), ["max_pool2d"]),
        ("max_pool2d", 0.0, ((0, 0), (1, 1), (0, 1), (0, 0)), ["pad", "max_pool2d"]),
        ("average_pool2d", 0.0, ((0, 0), (1, 1), (0, 1), (0, 0)), ["pad", "average_pool2d"]),
    ],
)
def test_a_border_goes_into_a_pool_only_where_it_counts_as_nothing(op, value, pads, left):
    b, x = padded(value, pads)
    y = b.node(op, [x], Pool2dAttrs((3, 3), (2, 2)))
    assert ops(after(fold_pad, b.build([y]))) == left


def test_constant_nodes_are_computed_and_dead_ones_removed():
    b = GraphBuilder("g")
    x = b.input("x", (1, 4))
    c = b.node("relu", [b.node("reshape", [b.constant("c", floats(4))], ReshapeAttrs((1, 4)))])
    b.node("relu", [x], name="dead")
    y = b.node("add", [x, c], AddAttrs())
    before = b.build([y])
    assert ops(after(fold_constants, before)) == ["add"]
    assert "dead" not in [n.name for n in after(remove_dead, before).nodes]


def test_the_passes_never_change_the_graph_they_are_given():
    b = GraphBuilder("g")
    x = b.input("x", (1, 6, 6, 4))
    y = scale_node(b, b.node("conv2d", [x, b.constant("w", floats(4, 1, 1, 4))], Conv2dAttrs()))
    before = b.build([b.node("relu", [y])])
    nodes, tensors = before.nodes, dict(before.tensors)
    assert ops(run_passes(before, FLOAT_PASSES)) == ["conv2d"]
    assert (before.nodes, dict(before.tensors)) == (nodes, tensors)


def test_a_pass_that_breaks_a_graph_is_named_with_what_ran_before_it():
    def cut(graph: Graph) -> Graph:
        return rebuild(graph, nodes=())

    def shrink(graph: Graph) -> Graph:
        out = graph.tensors[graph.outputs[0]]
        return rebuild(graph, tensors=[replace(out, shape=(1, 2))])

    b = GraphBuilder("g")
    graph = b.build([b.node("relu", [b.input("x", (1, 4))])])
    with pytest.raises(ModelError, match=r"after the pass cut \(before it ran: nothing\): output"):
        run_passes(graph, (cut,))
    with pytest.raises(ModelError, match=r"pass shrink \(before it ran: remove_dead, fold_pad\)"):
        run_passes(graph, (remove_dead, fold_pad, shrink))


def test_the_tables_of_passes_keep_a_graph_of_nothing_to_do():
    b = GraphBuilder("g")
    graph = b.build([b.node("relu", [b.input("x", (1, 4), DType.INT8, Q)], quant=R)])
    assert run_passes(graph, INT_PASSES).nodes == graph.nodes
    assert run_passes(graph, FLOAT_PASSES).nodes == graph.nodes
