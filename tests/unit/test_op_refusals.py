"""What the ops refuse, and that they say why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from support.case import q
from support.more_growers import lstm_node
from support.nets import Net
from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.graph import (
    NO_ATTRS,
    Activation,
    Array,
    DType,
    Graph,
    GraphBuilder,
    QuantParams,
    rebuild,
)
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.arg import ArgAttrs
from tinsmith.pipeline.ops.batch_matmul import BatchMatmulAttrs
from tinsmith.pipeline.ops.blocks import BlockAttrs
from tinsmith.pipeline.ops.cast import CastAttrs
from tinsmith.pipeline.ops.gather import GatherAttrs
from tinsmith.pipeline.ops.lstm import LstmAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.resize import ResizeAttrs
from tinsmith.pipeline.ops.svdf import SvdfAttrs
from tinsmith.pipeline.ops.transpose_conv2d import TransposeConv2dAttrs
from tinsmith.pipeline.verify import verify


def built(op: str, attrs: Any, *shapes: tuple[int, ...], kinds: tuple[DType, ...] = ()) -> Graph:
    """A graph of one node over inputs of shapes, float unless kinds say otherwise."""
    b = GraphBuilder("net")
    inputs = []
    for i, shape in enumerate(shapes):
        kind = kinds[i] if kinds else DType.FLOAT32
        quant = q(0.1) if kind in (DType.INT8, DType.INT16) else None
        inputs.append(b.input(f"x{i}", shape, kind, quant))
    return b.build([b.node(op, inputs, attrs, name="node")])


@pytest.mark.parametrize(
    ("op", "attrs", "shapes", "message"),
    [
        ("sum", ReduceAttrs((2,)), [(1, 3)], r"'node': axes \(2,\) of an input of rank 2"),
        ("arg_max", ArgAttrs(2), [(1, 3)], r"'node': axis 2 of an input \[1, 3\]"),
        ("resize_nearest", ResizeAttrs((0, 2)), [(1, 3, 3, 1)], "allowed: rank 4"),
        ("resize_bilinear", ResizeAttrs((2, 2)), [(3, 3, 1)], "allowed: rank 4"),
        (
            "resize_bilinear", ResizeAttrs((2, 2), True, True), [(1, 3, 3, 1)],
            "align_corners and half_pixel_centers; allowed: one",
        ),
        ("depth_to_space", BlockAttrs(2), [(1, 3, 3, 6)], "6 channels are no multiple of 4"),
        ("depth_to_space", BlockAttrs(0), [(1, 3, 3, 6)], "blocks of at least 1"),
        ("space_to_depth", BlockAttrs(2), [(1, 4, 3, 6)], "4x3 has no whole blocks of 2x2"),
        ("gather", GatherAttrs(3), [(1, 3, 3), (2,)], r"axis 3 of an input \[1, 3, 3\]"),
        ("batch_matmul", BatchMatmulAttrs(), [(3,), (3, 2)], "allowed: rank 2 and more"),
        ("batch_matmul", BatchMatmulAttrs(), [(2, 3), (4, 2)], "inner sizes 3 and 4 differ"),
        ("batch_matmul", BatchMatmulAttrs(), [(2, 2, 3), (3, 3, 2)], "axes do not broadcast"),
        (
            "transpose_conv2d", TransposeConv2dAttrs(), [(1, 3, 3, 2), (4, 3, 3, 1)],
            r"weights \[4, 3, 3, 1\]; allowed: rank 4",
        ),
        (
            "transpose_conv2d", TransposeConv2dAttrs(pads=(3, 3, 0, 0)),
            [(1, 3, 3, 2), (4, 3, 3, 2)], "leave an output of -1x5",
        ),
        (
            "transpose_conv2d", TransposeConv2dAttrs(), [(1, 3, 3, 2), (4, 3, 3, 2), (5,)],
            r"bias \[5\], expected \[4\]",
        ),
        ("lstm", LstmAttrs(), [(1, 3, 2), (4, 2)], "2 inputs, the first .* allowed: 15 inputs"),
        (
            "lstm", LstmAttrs(), [(1, 3, 2), *[(4, 2)] * 4, *[(4, 4)] * 3, (4, 3), *[(4,)] * 4,
                                  *[(1, 4)] * 2],
            r"input 8 is \[4, 3\], expected \[4, 4\]",
        ),
        ("svdf", SvdfAttrs(2), [(1, 3), (5, 3), (5, 2), (2,), (1, 10)], "a multiple of the rank"),
        ("svdf", SvdfAttrs(), [(1, 3), (5, 3), (5, 2), (5,), (1, 9)], r"expected \[1, 10\]"),
        ("svdf", SvdfAttrs(), [(1, 3), (5, 3), (5, 2), (4,), (1, 10)], r"bias \[4\], expected"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(
    op: str, attrs: Any, shapes: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        built(op, attrs, *shapes)


@pytest.mark.parametrize(
    ("op", "attrs", "shapes", "kinds", "message"),
    [
        ("elu", NO_ATTRS, [(3,)], [DType.INT16], "no runtime defines the op on int16"),
        ("exp", NO_ATTRS, [(3,)], [DType.INT16], "input scale 0.1; allowed for int16: up to 0.002"),
        ("add", AddAttrs(), [(3,), (3,)], [DType.INT16, DType.INT8], "types int16, int8"),
        ("arg_max", ArgAttrs(0), [(3,)], [DType.INT16], "type int16; allowed: int8, float32"),
        ("arg_max", ArgAttrs(0, DType.INT8), [(3,)], [DType.FLOAT32], "output type int8"),
        ("cast", CastAttrs(DType.INT32), [(3,)], [DType.FLOAT32], "float32 to int32; allowed"),
        ("resize_nearest", ResizeAttrs((2, 2)), [(1, 2, 2, 1)], [DType.INT32], "type int32"),
        ("depth_to_space", BlockAttrs(1), [(1, 2, 2, 1)], [DType.INT16], "type int16"),
        ("gather", GatherAttrs(), [(3, 2), (2,)], [DType.FLOAT32, DType.FLOAT32], "indices are"),
        ("gather", GatherAttrs(), [(3, 2), (2,)], [DType.INT32, DType.INT32], "type int32"),
        (
            "batch_matmul", BatchMatmulAttrs(), [(3, 2), (2, 3)], [DType.INT16, DType.INT8],
            "types int16, int8; allowed: all of one type",
        ),
        ("batch_matmul", BatchMatmulAttrs(), [(1,) * 6] * 2, [DType.FLOAT32] * 2, "rank above 5"),
        ("l2_normalization", NO_ATTRS, [()], [DType.FLOAT32], "rank 0"),
        ("l2_normalization", NO_ATTRS, [(40000,)], [DType.FLOAT32], "rows of 40000"),
        ("log_softmax", NO_ATTRS, [()], [DType.FLOAT32], "rank 0"),
        ("transpose_conv2d", TransposeConv2dAttrs(), [(1, 2, 2, 1), (1, 1, 1, 1)],
         [DType.FLOAT32] * 2, "the weights are computed"),
        ("svdf", SvdfAttrs(), [(1, 3), (5, 3), (5, 2), (5,), (1, 10)], [DType.FLOAT32] * 5,
         "weights or biases are computed"),
        ("lstm", LstmAttrs(), [(1, 3, 2), *[(4, 2)] * 4, *[(4, 4)] * 4, *[(4,)] * 4,
                               *[(1, 4)] * 2], [DType.FLOAT32] * 15,
         "weights or biases are computed"),
    ],
)  # fmt: skip
def test_types_that_are_not_supported_are_refused(
    op: str, attrs: Any, shapes: list[tuple[int, ...]], kinds: list[DType], message: str
) -> None:
    b = GraphBuilder("net")
    inputs = [
        b.input(f"x{i}", s, k, q(0.1) if k in (DType.INT8, DType.INT16) else None)
        for i, (s, k) in enumerate(zip(shapes, kinds, strict=True))
    ]
    quant = q(0.1) if kinds[0] in (DType.INT8, DType.INT16) else None
    outputs = b.node_multi(op, inputs, attrs, quant=quant)
    with pytest.raises(UnsupportedModel, match=message):
        b.build(outputs[:1])


def test_constant_indices_out_of_bounds_are_refused() -> None:
    b = GraphBuilder("net")
    x = b.input("x", (3, 2))
    indices = b.constant("i", np.array([0, 3], np.int32))
    with pytest.raises(ModelError, match=r"indices 0\.\.3; allowed: 0 to 2"):
        b.node("gather", [x, indices], GatherAttrs(0))


# Recurrent layers


def lstm_graph(hidden: QuantParams | None = None, **k: Any) -> Graph:
    net = Net("net", np.random.default_rng(1))
    x = net.input((1, 4, 3))
    return net.graph([lstm_node(net, x, 5, LstmAttrs(), hidden or q(1 / 128), **k)])


def with_input(graph: Graph, i: int, **changes: Any) -> Graph:
    name = graph.nodes[0].inputs[i]
    return rebuild(graph, tensors=[replace(graph.tensors[name], **changes)])


@pytest.mark.parametrize(
    ("i", "changes", "message"),
    [
        (1, {"quant": q(0.1, 3)}, "'wi' has the zero point 3; allowed: 0"),
        (6, {"quant": QuantParams((0.1,) * 5, (0,), 0)}, "'rf' is not int8 with one scale"),
        (9, {"dtype": DType.INT8, "data": np.zeros(5, np.int8)}, "'b0' is int8; allowed: int32"),
        (13, {"quant": q(0.3)}, "the hidden state and the output have different scales"),
        (14, {"quant": q(0.25)}, "the cell state changes its scale"),
    ],
)
def test_an_lstm_with_other_quantization_is_refused(
    i: int, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        verify(with_input(lstm_graph(), i, **changes))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (q(0.001), "scale 0.001.*; allowed: powers of two, 2\\^-24 to 2\\^0"),
        (q(2.0**-30), "allowed: powers of two"),
        (q(2.0**-11, 3), "a zero point or no scale; allowed: symmetric"),
    ],
)
def test_a_cell_state_that_is_no_power_of_two_is_refused(cell: QuantParams, message: str) -> None:
    graph = lstm_graph()
    names = (graph.nodes[0].inputs[14], graph.nodes[0].outputs[2])
    tensors = [replace(graph.tensors[n], quant=cell) for n in names]
    with pytest.raises(UnsupportedModel, match=message):
        verify(rebuild(graph, tensors=tensors))


def svdf_graph(y: QuantParams, attrs: SvdfAttrs, time: QuantParams | None = None) -> Graph:
    b = GraphBuilder("net")
    x = b.input("x", (1, 3), DType.INT8, q(0.1))
    wf = b.constant("wf", np.ones((2, 3), np.int8), q(0.1))
    wt = b.constant("wt", np.ones((2, 2), np.int16), time or q(0.1))
    state = b.state_var("s", np.zeros((1, 4), np.int16), q(0.1))
    out, after = b.node_multi("svdf", [x, wf, wt, "", state], attrs, quant=[y, q(0.1)], name="svdf")
    b.assign("s", after)
    return b.build([out])


@pytest.mark.parametrize(
    ("y", "attrs", "time", "message"),
    [
        (q(0.1, -128), SvdfAttrs(activation=Activation.NONE), None, "activation none; allowed"),
        (q(0.1, 0), SvdfAttrs(), None, "output zero point 0; allowed: -128"),
        (q(0.1, -128), SvdfAttrs(), q(0.1, 3), "'wt' has several scales or a zero point"),
    ],
)
def test_an_svdf_that_the_integer_kernel_does_not_compute_is_refused(
    y: QuantParams, attrs: SvdfAttrs, time: QuantParams | None, message: str
) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        svdf_graph(y, attrs, time)


# What .tflite can't say


def test_a_state_that_is_an_output_too_is_refused_by_the_writer() -> None:
    graph = lstm_graph()
    both = rebuild(graph, outputs=[*graph.outputs, graph.nodes[0].outputs[2]])
    with pytest.raises(UnsupportedModel, match=r"its state .* is used elsewhere"):
        to_tflite(both)


def test_a_state_that_is_computed_is_refused_by_the_writer() -> None:
    graph = lstm_graph()
    inputs = [*graph.inputs, *(s.tensor for s in graph.state)]
    with pytest.raises(UnsupportedModel, match=r"its state 'h' comes from elsewhere"):
        to_tflite(rebuild(graph, inputs=inputs, state=[]))


@pytest.mark.parametrize("stateful", [True, False])
def test_a_state_that_does_not_start_at_zero_is_refused_by_the_writer(stateful: bool) -> None:
    graph = lstm_graph(stateful=stateful)
    other: Array = np.full((1, 5), 7, np.int16)
    if stateful:
        state = [replace(s, initial=other) if s.tensor.startswith("c") else s for s in graph.state]
        changed = rebuild(graph, state=state)
    else:
        changed = with_input(graph, 14, data=other)
    with pytest.raises(UnsupportedModel, match=r"does not start at 0|first state is not 0"):
        to_tflite(changed)


def test_pads_of_a_transposed_convolution_without_counterpart_are_refused() -> None:
    net = Net("net", np.random.default_rng(1))
    x = net.input((1, 4, 4, 2))
    w = net.weights((3, 3, 3, 2), x, axis=0)
    attrs = TransposeConv2dAttrs((2, 2), (2, 0, 0, 0))
    graph = net.graph([net.node("transpose_conv2d", [x, w], attrs, name="up")])
    with pytest.raises(UnsupportedModel, match=r"transpose_conv2d 'up': pads \(2, 0, 0, 0\)"):
        to_tflite(graph)
