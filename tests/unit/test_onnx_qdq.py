"""Quantized models in ONNX: in with their parameters, out, and back the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.onnx import to_onnx_qdq
from tinsmith.pipeline.frontends.onnx import read_onnx
from tinsmith.pipeline.graph import (
    Activation,
    Array,
    DType,
    Graph,
    GraphBuilder,
    QuantParams,
    StateVar,
    dequantize_array,
    rebuild,
)
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.numerics import quantize_array
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.arg import ArgAttrs
from tinsmith.pipeline.ops.batch_matmul import BatchMatmulAttrs
from tinsmith.pipeline.ops.blocks import BlockAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.gather import GatherAttrs
from tinsmith.pipeline.ops.leaky_relu import LeakyReluAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.mul import MulAttrs
from tinsmith.pipeline.ops.pad import PadAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.resize import ResizeAttrs
from tinsmith.pipeline.ops.slice import SliceAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.pipeline.ops.split import SplitAttrs
from tinsmith.pipeline.ops.transpose import TransposeAttrs
from tinsmith.pipeline.ops.transpose_conv2d import TransposeConv2dAttrs
from tinsmith.pipeline.passes import FLOAT_PASSES, INT_PASSES, run_passes
from tinsmith.pipeline.quantization import QuantizeOptions, quantize, tensors_without_range

RNG = np.random.default_rng(4)


def floats(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def residual_net() -> Graph:
    """Every op that images go through, with a branch; input x [1, 9, 9, 3]."""
    b = GraphBuilder("net")
    x = b.input("x", (1, 9, 9, 3))
    pads = (1, 1, 1, 1)
    a = b.node(
        "conv2d", [x, b.constant("w1", floats(4, 3, 3, 3)), b.constant("b1", floats(4))],
        Conv2dAttrs((2, 2), pads=pads, activation=Activation.RELU), name="stem",
    )  # fmt: skip
    d = b.node(
        "depthwise_conv2d", [a, b.constant("w2", floats(1, 3, 3, 4)), b.constant("b2", floats(4))],
        DepthwiseConv2dAttrs(pads=pads, activation=Activation.RELU6), name="depthwise",
    )  # fmt: skip
    g = b.node("conv2d", [d, b.constant("w3", floats(4, 1, 1, 2))], Conv2dAttrs(), name="groups")
    s = b.node("add", [a, g], AddAttrs(Activation.RELU), name="sum")
    s = b.node("add", [s, b.constant("c", floats(1, 1, 1, 4))], AddAttrs(), name="shift")
    p = b.node("pad", [s], PadAttrs(((0, 0), (1, 0), (0, 1), (0, 0)), 0.5), name="border")
    p = b.node("max_pool2d", [p], Pool2dAttrs((2, 2), (1, 1)), name="max")
    p = b.node("average_pool2d", [p], Pool2dAttrs((3, 3), (2, 2), pads), name="average")
    r = b.node("relu6", [b.node("relu", [p], name="relu")], name="relu6")
    m = b.node("mean", [r], ReduceAttrs((1, 2)), name="mean")
    t = b.node("transpose", [r], TransposeAttrs((0, 2, 1, 3)), name="turn")
    f = b.node("reshape", [t], ReshapeAttrs((1, 36)), name="flat")
    f = b.node(
        "fully_connected",
        [f, b.constant("v", np.float32(0.1) * floats(4, 36)), b.constant("vb", floats(4))],
        FullyConnectedAttrs(Activation.RELU), name="fc",
    )  # fmt: skip
    y = b.node("add", [f, m], AddAttrs(), name="both")
    k = b.node("mean", [r], ReduceAttrs((3,), True), name="channels")
    return b.build([b.node("softmax", [y], SoftmaxAttrs(), name="prob"), k])


def sequence_net() -> Graph:
    """Ops on tensors of rank 3; input x [1, 6, 5]."""
    b = GraphBuilder("net")
    x = b.input("x", (1, 6, 5))
    y = b.node(
        "fully_connected", [x, b.constant("w", floats(4, 5)), b.constant("b", floats(4))],
        FullyConnectedAttrs(keep_dims=True), name="rows",
    )  # fmt: skip
    y = b.node("softmax", [y], SoftmaxAttrs(), name="soft")
    y = b.node("transpose", [y], TransposeAttrs((0, 2, 1)), name="turn")
    return b.build([b.node("mean", [y], ReduceAttrs((2,)), name="mean")])


def image_ops_net() -> Graph:
    """The other ops of images; input x [1, 6, 8, 4]."""
    b = GraphBuilder("net")
    x = b.input("x", (1, 6, 8, 4))
    outs = []
    for op in ("logistic", "tanh", "hard_swish", "abs", "neg", "square", "elu", "relu_0_to_1"):
        outs.append(b.node(op, [x], name=op))
    gate = b.node("mul", [outs[0], outs[1]], MulAttrs(), name="gate")
    less = b.node("sub", [gate, b.constant("k", floats(4))], AddAttrs(), name="less")
    low = b.node("minimum", [less, b.constant("m", floats(8, 1))], name="low")
    high = b.node("maximum", [low, x], name="high")
    leaky = b.node("leaky_relu", [high], LeakyReluAttrs(0.1), name="leaky")
    slopes = b.node("prelu", [leaky, b.constant("a", floats(4))], name="slopes")
    join = b.node("concatenation", [slopes, outs[3], x], ConcatenationAttrs(3), name="join")
    parts = b.node_multi("split", [join], SplitAttrs(3, (3, 9)), name="parts")
    cut = b.node("slice", [parts[1]], SliceAttrs((0, 5, 1, 0), (1, 3, 4, 9), (1, -2, 2, 1)))
    order = b.constant("order", np.array([2, 0, 5, 1], np.int32))
    chosen = b.node("gather", [cut, order], GatherAttrs(3), name="chosen")
    up = b.node("transpose_conv2d", [chosen, b.constant("u", floats(5, 3, 3, 4))],
                TransposeConv2dAttrs((2, 2), (1, -1, 0, 1)), name="up")  # fmt: skip
    near = b.node("resize_nearest", [up], ResizeAttrs((9, 5)), name="near")
    linear = b.node("resize_bilinear", [near], ResizeAttrs((4, 8), half_pixel_centers=True),
                    name="linear")  # fmt: skip
    blocks = b.node("space_to_depth", [linear], BlockAttrs(2), name="blocks")
    back = b.node("depth_to_space", [blocks], BlockAttrs(2), name="back")
    unit = b.node("l2_normalization", [back], name="unit")
    logs = b.node("log_softmax", [back], name="logs")
    best = b.node("arg_max", [back], ArgAttrs(3), name="best")
    sums = b.node("sum", [parts[0]], ReduceAttrs((1, 2)), name="sums")
    peaks = b.node("reduce_max", [parts[0]], ReduceAttrs((3,), True), name="peaks")
    least = b.node("reduce_min", [parts[0]], ReduceAttrs((1,)), name="least")
    both = b.node("batch_matmul", [x, x], BatchMatmulAttrs(adjoint_b=True), name="both")
    far = b.node("squared_difference", [x, gate], name="far")
    ends = [unit, logs, best, sums, peaks, least, both, far, *outs[4:]]
    return b.build(ends)


def integer(graph: Graph, **options: bool) -> Graph:
    samples = {i: floats(16, *graph.tensors[i].shape) for i in graph.inputs}
    return run_passes(quantize(graph, samples, QuantizeOptions(**options)), INT_PASSES)


def quantized_samples(graph: Graph, count: int = 16) -> tuple[Array, Array]:
    """Samples of the one input as floats and as its integers."""
    t = graph.tensors[graph.inputs[0]]
    x = floats(count, *t.shape)
    assert t.quant is not None
    return x, np.asarray(quantize_array(x, t.quant, t.dtype))


def parameters(graph: Graph) -> list[str]:
    """All scales and all integers of constants, in any order."""
    found = [str(t.quant) for t in graph.tensors.values() if t.quant is not None]
    found += [str(np.sort(t.data, None).tolist()) for t in graph.tensors.values() if t.is_constant]
    return sorted(found)


def nchw(x: Array, axis: int = 1) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, -1, axis)) if x.ndim == axis + 3 else x


NETS: dict[str, Callable[[], Graph]] = {
    "residual": residual_net,
    "sequence": sequence_net,
    "image_ops": image_ops_net,
}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_a_graph_that_goes_out_as_qdq_comes_back_with_the_same_parameters_and_bytes(
    net, per_channel
):
    graph = integer(NETS[net](), per_channel=per_channel, per_channel_fc=per_channel)
    back = run_passes(read_onnx(to_onnx_qdq(graph)), INT_PASSES)
    assert back.is_quantized
    assert (back.inputs, back.outputs) == (graph.inputs, graph.outputs)
    assert parameters(back) == parameters(graph)
    if net != "image_ops":  # a split comes back as slices
        assert [n.op for n in back.nodes] == [n.op for n in graph.nodes]
    _, q = quantized_samples(graph)
    for got, want in zip(run_samples(back, {"x": q}), run_samples(graph, {"x": q}), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("net", NETS)
def test_onnxruntime_takes_the_qdq_model_and_differs_by_rounding_at_most(net):
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    graph = integer(NETS[net]())
    session = ort.InferenceSession(to_onnx_qdq(graph))
    x, q = quantized_samples(graph)
    wants = [session.run(None, {"x": nchw(sample)}) for sample in x]
    for i, got in enumerate(run_samples(graph, {"x": q})):
        t = graph.tensors[graph.outputs[i]]
        if t.quant is None:
            continue
        want = quantize_array(np.stack([w[i] for w in wants]), t.quant, t.dtype)
        # One step of a coarse tensor is several of a finer one behind it.
        assert np.median(np.abs(nchw(got, 2).astype(int) - want)) <= 1
        assert np.corrcoef(nchw(got, 2).ravel(), want.ravel())[0, 1] > 0.97


def test_the_same_graph_gives_the_same_bytes():
    graph = integer(residual_net())
    assert to_onnx_qdq(graph) == to_onnx_qdq(graph)


def test_a_graph_with_float_borders_goes_out_like_one_without():
    graph = residual_net()
    samples = {"x": floats(8, 1, 9, 9, 3)}
    bare, bordered = (
        quantize(graph, samples, QuantizeOptions(float_io=border)) for border in (False, True)
    )
    back = [run_passes(read_onnx(to_onnx_qdq(g)), INT_PASSES) for g in (bare, bordered)]
    assert parameters(back[0]) == parameters(back[1])


def test_biases_beyond_what_float32_holds_come_back_exactly():
    b = GraphBuilder("g")
    x = b.input("x", (1, 4), DType.INT8, QuantParams.per_tensor(0.1, 3))
    w = b.constant("w", np.int8([[1, 2, 3, 127], [5, 6, 7, 8]]), QuantParams((1e-6, 1e-7), (0,), 0))
    product = tuple(float(np.float32(0.1) * np.float32(s)) for s in (1e-6, 1e-7))
    bias = b.constant("b", np.int32([123456789, -987654321]), QuantParams(product, (0,), 0))
    quant = QuantParams.per_tensor(0.5)
    y = b.node("fully_connected", [x, w, bias], FullyConnectedAttrs(), quant=quant)
    back = read_onnx(to_onnx_qdq(b.build([y])))
    (node,) = back.nodes
    assert back.tensors[node.inputs[2]].value().tolist() == [123456789, -987654321]


def test_what_onnx_has_not_is_refused_by_the_exporter():
    graph = integer(sequence_net())
    state = StateVar("s", "x", graph.outputs[0], np.zeros((1, 4), np.int8))
    with pytest.raises(UnsupportedModel, match="the graph has state, which ONNX has not"):
        to_onnx_qdq(rebuild(graph, state=[state]))


# Models that onnxruntime's own quantizer writes


def branching_model(path: Path) -> None:
    """Sigmoid, mul, leaky relu, concatenation and softmax as a float model with input x."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["s"], "gate"),
        helper.make_node("Mul", ["c", "s"], ["m"], "gated"),
        helper.make_node("LeakyRelu", ["c"], ["l"], "leaky", alpha=0.125),
        helper.make_node("Concat", ["m", "l", "s"], ["j"], "join", axis=1),
        helper.make_node("AveragePool", ["j"], ["a"], "pool", kernel_shape=[8, 8]),
        helper.make_node("Flatten", ["a"], ["f"], "flat"),
        helper.make_node("Softmax", ["f"], ["y"], "soft"),
    ]
    graph = helper.make_graph(
        nodes, "net", [value("x", TensorProto.FLOAT, [1, 2, 8, 8])],
        [value("y", TensorProto.FLOAT, [1, 12])],
        [numpy_helper.from_array(floats(4, 2, 3, 3), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


def float_model(path: Path) -> None:
    """conv, relu, depthwise, max pool, add, average, gemm as a float model with input x."""
    tensors = {
        "w": floats(4, 2, 3, 3), "b": floats(4), "d": floats(4, 1, 3, 3), "v": floats(4, 3),
        "u": floats(3), "shape": np.array([0, -1], np.int64),
    }  # fmt: skip
    pads = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=pads),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "d"], ["e"], "depthwise", pads=pads, group=4),
        helper.make_node("Add", ["e", "r"], ["s"], "sum"),
        helper.make_node("MaxPool", ["s"], ["m"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["m"], ["a"], "average"),
        helper.make_node("Reshape", ["a", "shape"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "v", "u"], ["y"], "fc"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [value("x", TensorProto.FLOAT, [1, 2, 8, 8])],
        [value("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(v, k) for k, v in tensors.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


@pytest.mark.parametrize("write", [float_model, branching_model])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize(
    ("activations", "weights", "per_channel"),
    [("QInt8", "QInt8", True), ("QUInt8", "QInt8", False), ("QUInt8", "QUInt8", False)],
)
def test_a_model_of_onnxruntimes_quantizer_computes_what_onnxruntime_computes_but_for_rounding(
    tmp_path, write, form, activations, weights, per_channel
):
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self, samples: Array) -> None:
            self.rest = iter([{"x": s} for s in samples])

        def get_next(self):
            return next(self.rest, None)

    x = floats(16, 1, 2, 8, 8)
    write(tmp_path / "float.onnx")
    q.quantize_static(
        tmp_path / "float.onnx", tmp_path / "int.onnx", Reader(x),
        quant_format=q.QuantFormat[form], activation_type=q.QuantType[activations],
        weight_type=q.QuantType[weights], per_channel=per_channel,
        extra_options={"WeightSymmetric": True, "ActivationSymmetric": False},
    )  # fmt: skip
    graph = run_passes(read_onnx(tmp_path / "int.onnx"), INT_PASSES)
    assert graph.is_quantized
    assert not any(n.op == "transpose" for n in graph.nodes)
    assert any(t.quant is not None and t.quant.per_channel for t in graph.tensors.values()) is (
        per_channel
    )
    t_in, t_out = graph.tensors["x"], graph.tensors[graph.outputs[0]]
    images = np.moveaxis(x, 2, -1)
    (got,) = run_samples(graph, {"x": np.asarray(quantize_array(images, t_in.quant, t_in.dtype))})
    session = ort.InferenceSession(tmp_path / "int.onnx")
    want = np.stack([session.run(None, {"x": s})[0] for s in x])
    steps = np.abs(dequantize_array(got, t_out.quant) - want) / t_out.scale
    # Roundings that differ add up over six layers; a mistake is tens of steps everywhere.
    assert steps.max() < 6
    assert np.mean(steps > 1.5) < 0.15


# Single cases


def qdq_model(
    body: Sequence[onnx.NodeProto],
    tensors: dict[str, Array],
    shape: Sequence[int] = (1, 4),
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(body), "net", [value("x", kind, shape)], [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pair(x: str, y: str, scale: str = "s", zero: str = "z") -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [x, scale, zero], [f"{y}_q"], f"q_{y}"),
        helper.make_node("DequantizeLinear", [f"{y}_q", scale, zero], [y], f"dq_{y}"),
    ]


S, Z = np.float32(0.25), np.int8(5)


def test_uint8_activations_become_int8_less_128():
    body = [*pair("x", "a"), helper.make_node("Relu", ["a"], ["r"]), *pair("r", "y")]
    graph = read_onnx(qdq_model(body, {"s": S, "z": np.uint8(133)}))
    assert {t.quant for t in graph.tensors.values()} == {QuantParams.per_tensor(0.25, 5)}


@pytest.mark.parametrize(
    ("kind", "zero"), [(TensorProto.INT8, np.int8(5)), (TensorProto.UINT8, np.uint8(133))]
)
def test_a_model_whose_input_is_of_integers_already_is_read(kind, zero):
    body = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        *pair("r", "y"),
    ]
    graph = read_onnx(qdq_model(body, {"s": S, "z": zero}, kind=kind))
    assert graph.tensors["x"].quant == QuantParams.per_tensor(0.25, 5)
    assert [n.op for n in graph.nodes] == ["relu"]


def test_a_change_of_scale_stays():
    body = [*pair("x", "a"), *pair("a", "y", "t")]
    graph = read_onnx(qdq_model(body, {"s": S, "z": Z, "t": np.float32(0.5)}))
    assert [n.op for n in graph.nodes] == ["quantize"]
    assert graph.tensors["y"].scale == 0.5


def test_a_softmax_of_another_scale_is_rescaled():
    body = [*pair("x", "a"), helper.make_node("Softmax", ["a"], ["p"]), *pair("p", "y", "t")]
    graph = read_onnx(qdq_model(body, {"s": S, "z": Z, "t": np.float32(0.004)}))
    assert [n.op for n in graph.nodes] == ["softmax", "quantize"]


def test_a_model_that_is_quantized_in_part_is_float_and_keeps_what_it_carries():
    body = [*pair("x", "a"), helper.make_node("Add", ["a", "a"], ["y"], "sum")]
    graph = run_passes(read_onnx(qdq_model(body, {"s": S, "z": Z})), FLOAT_PASSES)
    assert tensors_without_range(graph) == ("y",)
    full = quantize(graph, {"x": floats(8, 1, 4)})
    assert full.is_quantized
    assert full.tensors["x"].quant == QuantParams.per_tensor(0.25, 5)


def test_asymmetric_weights_are_shifted_where_they_fit_and_refused_where_not():
    def model(zero: int) -> onnx.ModelProto:
        weights = np.array([[100], [140], [200], [150]], np.uint8)
        body = [
            *pair("x", "a"),
            helper.make_node("DequantizeLinear", ["w", "s", "zw"], ["wr"]),
            helper.make_node("MatMul", ["a", "wr"], ["m"], "fc"),
            *pair("m", "y"),
        ]
        return qdq_model(body, {"s": S, "z": Z, "w": weights, "zw": np.uint8(zero)})

    graph = read_onnx(model(120))
    (node,) = graph.nodes
    weights = graph.tensors[node.inputs[1]]
    assert weights.quant == QuantParams.per_tensor(0.25)
    assert weights.value().tolist() == [[-20, 20, 80, 30]]
    with pytest.raises(UnsupportedModel, match=r"MatMul 'fc': its weights are asymmetric.*int8"):
        read_onnx(model(10))


REFUSED = [
    ("its integers are int16", {"z": np.int16(0)}, {}),
    (
        "it has scales per block",
        {"s": np.float32([S] * 4), "z": np.int8([0] * 4)},
        {"block_size": 1},
    ),
    ("quantizes an activation per channel", {"s": np.float32([S] * 4), "z": np.int8([0] * 4)}, {}),
]


@pytest.mark.parametrize(("message", "tensors", "attrs"), REFUSED, ids=[r[0] for r in REFUSED])
def test_quantization_of_another_kind_is_refused(message, tensors, attrs):
    body = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attrs)]
    body += [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attrs)]
    proto = qdq_model(body, {"s": S, "z": Z, **tensors})
    proto.opset_import[0].version = 21
    with pytest.raises(UnsupportedModel, match=message):
        read_onnx(proto)


def test_reading_with_other_parameters_than_those_of_writing_is_refused():
    body = pair("x", "y")
    body[1].input[1] = "t"
    with pytest.raises(UnsupportedModel, match="with other parameters than it was written with"):
        read_onnx(qdq_model(body, {"s": S, "z": Z, "t": np.float32(0.5)}))


def test_an_input_of_integers_that_nothing_dequantizes_is_refused():
    body = [helper.make_node("Relu", ["x"], ["y"])]
    with pytest.raises(UnsupportedModel, match="input 'x': it is of integers that nothing"):
        read_onnx(qdq_model(body, {}, kind=TensorProto.INT8))
