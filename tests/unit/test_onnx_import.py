"""ONNX ops one by one: read, simplified, and compared with ONNX's own reference implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.frontends.onnx import read_onnx
from tinsmith.pipeline.graph import Array, DType, Graph
from tinsmith.pipeline.interpreter import outputs, run
from tinsmith.pipeline.passes import FLOAT_PASSES, run_passes
from tinsmith.pipeline.quantization import quantize

RNG = np.random.default_rng(0)


def weights(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def node(op: str, inputs: Sequence[str], out: str, **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [out], name=f"{op.lower()}_{out}", **attrs)


def model(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str] | dict[str, Sequence[int | str]],
    constants: dict[str, Array] | None = None,
    out: Sequence[str] = ("y",),
    opset: int = 20,
) -> onnx.ModelProto:
    """A model with the input x (or several, by name) and outputs of any shape."""
    shapes = shape if isinstance(shape, dict) else {"x": shape}
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(s))
        for name, s in shapes.items()
    ]
    outs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in out]
    tensors = [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "net", inputs, outs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def to_graph_layout(graph: Graph, name: str, x: Array) -> Array:
    """An array of the model as the graph has it: channels last where the shapes differ."""
    if x.ndim == 4 or (x.ndim == 3 and x.shape != graph.tensors[name].shape):
        return np.ascontiguousarray(np.moveaxis(x, 1, -1))
    return x


def compare(proto: onnx.ModelProto, rtol: float = 1e-5) -> Graph:
    """The graph after the float passes, once it and the graph before them agree with ONNX."""
    raw = read_onnx(proto)
    simple = run_passes(raw, FLOAT_PASSES)
    xs = {
        i.name: RNG.normal(size=[d.dim_value or 1 for d in i.type.tensor_type.shape.dim]).astype(
            np.float32
        )
        for i in proto.graph.input
    }
    wants = ReferenceEvaluator(proto).run(None, xs)
    for graph in (raw, simple):
        assert graph.outputs == tuple(o.name for o in proto.graph.output)
        feeds = {n: to_graph_layout(graph, n, x) for n, x in xs.items()}
        gots = outputs(graph, run(graph, feeds)[0])
        for got, want in zip(gots, wants, strict=True):
            want = np.moveaxis(want, 1, -1) if want.ndim == 4 else want
            assert got.shape == want.shape
            error, peak = np.abs(got - want).max(initial=0), np.abs(want).max(initial=1)
            assert error <= rtol * peak
    return simple


def count(graph: Graph, op: str) -> int:
    return sum(n.op == op for n in graph.nodes)


@dataclass(frozen=True)
class Case:
    """Nodes and constants of a model with the input x; the ops that are left after the passes."""

    name: str
    shape: tuple[int, ...]
    nodes: list[onnx.NodeProto]
    constants: dict[str, Array]
    left: tuple[str, ...]


def conv_case(
    name: str, x: tuple[int, ...], w: tuple[int, ...], left: str = "conv2d", **attrs: Any
) -> Case:
    constants = {"w": weights(*w), "b": weights(w[0])}
    return Case(f"Conv {name}", x, [node("Conv", "xwb", "y", **attrs)], constants, (left,))


def one(
    name: str,
    shape: tuple[int, ...],
    op: str,
    left: tuple[str, ...],
    constants: dict[str, Array] | None = None,
    inputs: Sequence[str] = (),
    **attrs: Any,
) -> Case:
    constants = constants or {}
    inputs = inputs or ["x", *constants]
    return Case(f"{op} {name}", shape, [node(op, inputs, "y", **attrs)], constants, left)


DW = "depthwise_conv2d"
UNARY = [
    ("Sigmoid", "logistic"), ("Tanh", "tanh"), ("HardSwish", "hard_swish"), ("Exp", "exp"),
    ("Abs", "abs"), ("Neg", "neg"), ("Elu", "elu"), ("Gelu", "gelu"),
]  # fmt: skip
CASES = [
    conv_case("3x3 with asymmetric pads", (1, 3, 7, 8), (4, 3, 3, 3), pads=[1, 0, 2, 1]),
    conv_case("strided and dilated", (1, 3, 11, 9), (4, 3, 3, 2), strides=[2, 1], dilations=[2, 3]),
    conv_case("depthwise", (1, 4, 6, 6), (4, 1, 3, 3), DW, group=4, pads=[1, 1, 1, 1]),
    conv_case("depthwise with multiplier 2", (1, 3, 6, 6), (6, 1, 3, 3), DW, group=3),
    conv_case("in two groups", (1, 4, 6, 6), (6, 2, 3, 3), group=2),
    conv_case("auto_pad SAME_UPPER", (1, 2, 7, 8), (3, 2, 2, 3), auto_pad="SAME_UPPER",
              strides=[2, 2]),
    conv_case("auto_pad SAME_LOWER", (1, 2, 7, 8), (3, 2, 2, 3), auto_pad="SAME_LOWER",
              strides=[2, 2]),
    conv_case("auto_pad VALID", (1, 2, 7, 8), (3, 2, 2, 3), auto_pad="VALID"),
    one("without a bias", (2, 2, 5, 5), "Conv", ("conv2d",), {"w": weights(3, 2, 3, 3)}),
    Case("Conv 1-D", (1, 3, 9), [node("Conv", "xw", "y", pads=[1, 1])], {"w": weights(4, 3, 3)},
         ("reshape", "conv2d", "reshape", "transpose")),
    one("2x2", (1, 3, 6, 8), "MaxPool", ("max_pool2d",), kernel_shape=[2, 2], strides=[2, 2]),
    one("with pads", (1, 3, 6, 8), "MaxPool", ("max_pool2d",), kernel_shape=[3, 3], strides=[2, 2],
        pads=[1, 1, 1, 1]),
    one("with ceil_mode", (1, 3, 6, 8), "MaxPool", ("max_pool2d",), kernel_shape=[3, 3],
        strides=[2, 2], ceil_mode=1),
    one("without pads", (1, 3, 6, 8), "AveragePool", ("average_pool2d",), kernel_shape=[2, 3]),
    one("whose padding counts", (1, 3, 6, 8), "AveragePool", ("pad", "average_pool2d"),
        kernel_shape=[3, 3], strides=[2, 1], pads=[1, 1, 1, 1], count_include_pad=1),
    one("whose padding does not count", (1, 3, 6, 8), "AveragePool", ("average_pool2d",),
        kernel_shape=[3, 3], strides=[2, 1], pads=[1, 1, 1, 1]),
    one("of an image", (1, 3, 6, 8), "GlobalAveragePool", ("mean",)),
    one("of an image", (1, 3, 6, 8), "GlobalMaxPool", ("max_pool2d",)),
    one("of the image axes", (1, 3, 6, 8), "ReduceMean", ("mean",), {"a": ints(2, -1)}, keepdims=0),
    one("of the channels", (1, 3, 6, 8), "ReduceMean", ("mean",), {"a": ints(1)}),
    one("of everything", (1, 3, 6), "ReduceMean", ("mean",), keepdims=0),
    one("with B transposed", (2, 5), "Gemm", ("fully_connected",),
        {"w": weights(4, 5), "b": weights(4)}, transB=1),
    one("with alpha and beta", (2, 5), "Gemm", ("fully_connected",),
        {"w": weights(5, 4), "b": weights(1, 4)}, alpha=0.5, beta=-2.0),
    one("with A transposed", (5, 2), "Gemm", ("transpose", "fully_connected"),
        {"w": weights(5, 4)}, transA=1),
    one("with a matrix as C", (2, 5), "Gemm", ("fully_connected", "add"),
        {"w": weights(5, 4), "b": weights(2, 4)}),
    one("with a scalar as C", (2, 5), "Gemm", ("fully_connected",),
        {"w": weights(5, 4), "b": np.float32(0.75).reshape(())}),
    one("by a matrix", (2, 3, 5), "MatMul", ("fully_connected",), {"w": weights(5, 4)}),
    one("by a vector", (2, 5), "MatMul", ("fully_connected", "reshape"), {"w": weights(5)}),
    one("of a vector", (5,), "MatMul", ("reshape", "fully_connected", "reshape"),
        {"w": weights(5, 4)}),
    one("of a constant", (5, 3), "MatMul", ("transpose", "fully_connected", "transpose"),
        {"w": weights(4, 5)}, inputs=["w", "x"]),
    one("of rank 4", (1, 3, 4, 5), "Relu", ("relu",)),
    one("0 to 6", (1, 3), "Clip", ("relu6",), {"l": np.float32(0), "h": np.float32(6)}),
    one("from 0", (1, 3), "Clip", ("relu",), {"l": np.float32(0)}),
    one("without bounds", (1, 3), "Clip", ("reshape",)),
    one("of a constant per channel", (1, 3, 4, 5), "Add", ("add",), {"c": weights(3, 1, 1)}),
    one("over the last axis", (2, 5), "Softmax", ("softmax",)),
    one("over the channels", (1, 5, 3, 4), "Softmax", ("softmax",), axis=1),
    one("at axis 1", (1, 3, 2, 4), "Flatten", ("transpose", "reshape")),
    one("at axis 2", (2, 3, 4), "Flatten", ("reshape",), axis=2),
    one("with 0 and -1", (2, 3, 4), "Reshape", ("reshape",), {"s": ints(0, -1)}),
    one("of some axes", (1, 3, 1), "Squeeze", ("reshape",), {"a": ints(-1)}),
    one("of all axes", (1, 3, 1), "Squeeze", ("reshape",)),
    one("at both ends", (3,), "Unsqueeze", ("reshape",), {"a": ints(0, -1)}),
    one("reversed", (2, 3, 4), "Transpose", ("transpose",)),
    one("of a matrix", (3, 4), "Identity", ("reshape",)),
    one("at inference", (3, 4), "Dropout", ("reshape",)),
    one("of the image axes", (1, 2, 3, 4), "Pad", ("pad",),
        {"p": ints(0, 0, 1, 2, 0, 0, 0, 1), "v": np.float32(1.5)}),
    one("of given axes", (1, 2, 3, 4), "Pad", ("pad",),
        {"p": ints(1, 2), "v": np.float32(0), "a": ints(-1)}),
    *(one("of an image", (1, 3, 4, 5), op, (left,)) for op, left in UNARY),
    one("of a sequence", (2, 5), "LeakyRelu", ("leaky_relu",), alpha=0.2),
    one("per channel", (1, 3, 4, 5), "PRelu", ("prelu",), {"s": weights(3, 1, 1)}),
    one("by tanh", (2, 5), "Gelu", ("gelu",), approximate="tanh"),
    one("of a matrix", (2, 5), "HardSigmoid", ("mul", "add", "relu_0_to_1"), alpha=0.3),
    one("-1 to 1", (1, 3), "Clip", ("relu_n1_to_1",), {"l": np.float32(-1), "h": np.float32(1)}),
    one("0 to 1", (1, 3), "Clip", ("relu_0_to_1",), {"l": np.float32(0), "h": np.float32(1)}),
    one("-0.5 to 0.3", (1, 3), "Clip", ("maximum", "minimum"),
        {"l": np.float32(-0.5), "h": np.float32(0.3)}),
    one("over the channels", (1, 5, 3, 4), "LogSoftmax", ("log_softmax",), axis=1),
    one("over the channels", (1, 5, 3, 4), "LpNormalization", ("l2_normalization",), axis=1),
    one("of rows", (2, 3, 8), "LayerNormalization",
        ("mean", "sub", "square", "mean", "add", "rsqrt", "mul", "mul", "add"),
        {"s": weights(8), "b": weights(8)}),
    one("of a constant", (1, 3, 4, 5), "Sub", ("add",), {"c": weights(3, 1, 1)}),
    one("from a constant", (1, 3, 4, 5), "Sub", ("sub",), {"c": weights(3, 1, 1)}, "cx"),
    one("by a constant", (1, 3, 4, 5), "Mul", ("mul",), {"c": weights(5)}),
    one("by a constant", (1, 3, 4, 5), "Div", ("mul",), {"c": weights(3, 1, 1)}),
    one("of 2", (2, 5), "Pow", ("square",), {"e": np.float32(2)}),
    one("of 1", (2, 5), "Pow", ("reshape",), {"e": np.float32(1)}),
    one("of three", (2, 5), "Max", ("maximum", "maximum"), {"c": weights(5)}, "xcx"),
    one("of one", (2, 5), "Min", ("reshape",)),
    one("of three", (2, 5), "Sum", ("add", "add"), {"c": weights(5)}, "xcx"),
    one("of the image axes", (1, 3, 6, 8), "ReduceSum", ("sum",), {"a": ints(2, 3)}, keepdims=0),
    one("of the channels", (1, 3, 6, 8), "ReduceMax", ("reduce_max",), {"a": ints(1)}),
    one("of everything", (2, 3), "ReduceMin", ("reduce_min",), keepdims=0),
    one("of channels with a constant", (1, 3, 4, 5), "Concat", ("concatenation",),
        {"c": weights(1, 2, 4, 5)}, "xcx", axis=1),
    one("of some axes", (1, 6, 8, 7), "Slice", ("slice",),
        {"b": ints(1, -1), "e": ints(5, -100), "a": ints(1, 3), "s": ints(2, -2)}),
    one("of one channel", (1, 6, 4, 5), "Gather", ("slice", "reshape"),
        {"i": np.int64(-2).reshape(())}, axis=1),
    one("of channels", (1, 6, 4, 5), "Gather", ("gather",), {"i": ints(4, 0, -1)}, axis=1),
    one("to the same type", (1, 3), "Cast", ("reshape",), to=TensorProto.FLOAT),
    one("to the same shape", (2, 3), "Expand", ("reshape",), {"s": ints(1, 3)}),
    one("nearest, twice as large", (1, 2, 3, 4), "Resize", ("resize_nearest",),
        {"r": np.float32([]), "s": np.float32([1, 1, 2, 2])}, mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    one("nearest, half pixel", (1, 2, 4, 6), "Resize", ("resize_nearest",),
        {"r": np.float32([]), "s": np.float32([]), "z": ints(1, 2, 8, 3)}, mode="nearest",
        nearest_mode="round_prefer_ceil"),
    *(one(f"linear, {mode}", (1, 2, 3, 5), "Resize", ("resize_bilinear",),
          {"r": np.float32([]), "s": np.float32([]), "z": ints(1, 2, 7, 8)}, mode="linear",
          coordinate_transformation_mode=mode)
      for mode in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")),
    one("DCR", (1, 8, 2, 3), "DepthToSpace", ("depth_to_space",), blocksize=2),
    one("CRD", (1, 8, 2, 3), "DepthToSpace", ("gather", "depth_to_space"), blocksize=2, mode="CRD"),
    one("of blocks of 2", (1, 3, 4, 6), "SpaceToDepth", ("space_to_depth",), blocksize=2),
    one("strided with pads", (1, 3, 4, 5), "ConvTranspose", ("transpose_conv2d",),
        {"w": weights(3, 4, 3, 3), "b": weights(4)}, strides=[2, 2], pads=[1, 0, 1, 1],
        output_padding=[1, 0]),
    one("of an image", (1, 3, 4, 5), "BatchNormalization", (DW,),
        {"s": weights(3), "b": weights(3), "m": weights(3), "v": np.abs(weights(3))}),
    one("of a matrix", (2, 3), "BatchNormalization", ("reshape", DW, "reshape"),
        {"s": weights(3), "b": weights(3), "m": weights(3), "v": np.abs(weights(3))}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_an_op_computes_what_onnx_says_and_leaves_the_nodes_that_it_needs(case: Case):
    graph = compare(model(case.nodes, case.shape, case.constants))
    assert tuple(n.op for n in graph.nodes) == case.left


def test_two_inputs_are_added_in_nhwc():
    graph = compare(model([node("Add", "xz", "y")], {"x": (1, 3, 4, 5), "z": (1, 3, 1, 1)}))
    assert [n.op for n in graph.nodes] == ["add"]
    assert graph.tensors["z"].shape == (1, 1, 1, 3)


def test_split_concat_and_shuffle_of_channels_need_no_transpose_in_nhwc():
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], "split", axis=1, num_outputs=2),
        node("Sigmoid", "b", "s"),
        node("Mul", ["a", "s"], "m"),
        node("Concat", ["m", "b"], "y", axis=1),
    ]
    graph = compare(model(nodes, (1, 6, 3, 4)))
    assert [n.op for n in graph.nodes] == ["split", "logistic", "mul", "concatenation"]


def test_attention_needs_no_transpose_of_its_keys():
    nodes = [
        node("MatMul", ["x", "q"], "a"),
        node("MatMul", ["x", "k"], "b"),
        node("Transpose", "b", "t", perm=[0, 2, 1]),
        node("MatMul", ["a", "t"], "p"),
        node("Softmax", "p", "w"),
        node("MatMul", ["w", "x"], "y"),
    ]
    graph = compare(model(nodes, (1, 4, 6), {"q": weights(6, 3), "k": weights(6, 3)}))
    assert count(graph, "transpose") == 0
    assert count(graph, "batch_matmul") == 2


def test_the_greatest_channel_of_each_pixel_is_taken_in_nhwc():
    proto = model([node("ArgMax", "x", "i", axis=1, keepdims=0)], (1, 5, 3, 4), out=("i",))
    graph = run_passes(read_onnx(proto), FLOAT_PASSES)
    x = RNG.normal(size=(1, 5, 3, 4)).astype(np.float32)
    (got,) = outputs(graph, run(graph, {"x": np.moveaxis(x, 1, -1).copy()})[0])
    np.testing.assert_array_equal(got, x.argmax(1))
    assert [n.op for n in graph.nodes] == ["arg_max"]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_an_lstm_computes_what_onnx_says(direction, initial, batch):
    dirs = 2 if direction == "bidirectional" else 1
    tensors = {"w": weights(dirs, 12, 4), "r": weights(dirs, 12, 3), "b": weights(dirs, 24)}
    inputs = ["x", *tensors]
    if initial:
        tensors |= {"h": weights(dirs, batch, 3), "c": weights(dirs, batch, 3)}
        inputs += ["", "h", "c"]
    layer = helper.make_node(
        "LSTM", inputs, ["y", "yh", "yc"], "lstm", hidden_size=3, direction=direction
    )
    # Outputs of rank 4 are images to the graph: those of an LSTM are brought to rank 3 first.
    nodes = [layer, node("Reshape", ["y", "s"], "z")]
    tensors["s"] = ints(5, dirs * batch, 3)
    proto = model(nodes, (5, batch, 4), tensors, out=("z", "yh", "yc"))
    if direction == "forward":
        graph = compare(proto)
    else:
        ort = pytest.importorskip("onnxruntime", reason="ONNX's reference knows forward only")
        x = RNG.normal(size=(5, batch, 4)).astype(np.float32)
        graph = run_passes(read_onnx(proto), FLOAT_PASSES)
        wants = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
        for got, want in zip(outputs(graph, run(graph, {"x": x})[0]), wants, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert count(graph, "lstm") == dirs
    # One sequence is batch first, so that samples can run side by side.
    majors = {n.attrs.time_major for n in graph.nodes if n.op == "lstm"}
    assert majors == {batch > 1}


def test_ceil_mode_leaves_out_a_window_that_starts_in_the_padding_at_the_end():
    attrs = {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1, "pads": [0, 0, 1, 1]}
    graph = read_onnx(model([node("AveragePool", "x", "y", **attrs)], (1, 1, 6, 6)))
    assert graph.tensors["y"].shape == (1, 2, 2, 1)


def test_shapes_computed_by_the_model_become_constants():
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", ["s", "zero"], "n"),
        node("Unsqueeze", ["n", "axis"], "n1"),
        node("Concat", ["n1", "rest"], "target", axis=0),
        node("Reshape", ["x", "target"], "y"),
    ]
    constants = {"zero": np.int64(0).reshape(()), "axis": ints(0), "rest": ints(-1)}
    graph = compare(model(nodes, (2, 3, 5), constants))
    assert [n.op for n in graph.nodes] == ["reshape"]


def test_constant_nodes_and_constant_arithmetic_become_weights():
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        node("Mul", ["w", "two"], "w2"),
        node("Transpose", ["w2"], "w3", perm=[1, 0]),
        node("MatMul", ["x", "w3"], "y"),
    ]
    graph = compare(model(nodes, (1, 4), {"w": weights(3, 4)}))
    assert [n.op for n in graph.nodes] == ["fully_connected"]


def test_functions_of_a_model_are_inlined():
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Add", ["b", "a"], ["c"])]
    function = helper.make_function(
        "local", "Twice", ["a"], ["c"], body, [helper.make_opsetid("", 20)]
    )
    proto = model([helper.make_node("Twice", ["x"], ["y"], domain="local")], (1, 4))
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("local", 1))
    assert [n.op for n in read_onnx(proto).nodes] == ["relu", "add"]


def test_indices_look_up_rows_of_an_embedding():
    proto = model([node("Gather", "ei", "a"), node("Add", "ax", "y")], {"x": (1, 4), "i": (3,)},
                  {"e": weights(7, 4)})  # fmt: skip
    proto.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    graph = run_passes(read_onnx(proto), FLOAT_PASSES)
    x, i = weights(1, 4), ints(6, 0, 2)
    (want,) = ReferenceEvaluator(proto).run(None, {"x": x, "i": i})
    (got,) = outputs(graph, run(graph, {"x": x, "i": i})[0])
    np.testing.assert_array_equal(got, want)
    samples = {"x": weights(9, 1, 4), "i": RNG.integers(0, 7, (9, 3))}
    integer = quantize(graph, samples)
    assert (integer.tensors["i"].dtype, integer.tensors["e"].dtype) == (DType.INT64, DType.INT8)


def test_half_precision_is_float32_here():
    proto = model([node("Relu", "x", "a"), node("Cast", "a", "b", to=TensorProto.FLOAT16),
                   node("Add", "bc", "y")], (1, 4), {"c": np.float16([1, 2, 3, 4])})  # fmt: skip
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    graph = run_passes(read_onnx(proto), FLOAT_PASSES)
    assert [n.op for n in graph.nodes] == ["relu", "add"]
    assert {t.dtype for t in graph.tensors.values()} == {DType.FLOAT32}


def test_an_open_batch_is_one_and_other_open_dimensions_are_asked_for():
    proto = model([node("Relu", "x", "y")], ("batch", 3, "h", "w"))
    with pytest.raises(ModelError, match=r"input 'x' has the open shape \[\?, 3, \?, \?\]"):
        read_onnx(proto)
    graph = read_onnx(proto, shapes={"x": (1, 3, 8, 6)})
    assert graph.tensors["x"].shape == (1, 8, 6, 3)
    with pytest.raises(ModelError, match=r"which \[1, 4, 8, 6\] does not fit"):
        read_onnx(proto, shapes={"x": (1, 4, 8, 6)})


def test_tensors_keep_the_names_of_their_onnx_values():
    nodes = [
        node("Conv", "xw", "conv", pads=[1, 1, 1, 1]),
        node("Relu", ["conv"], "act"),
        node("MaxPool", ["act"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["pool"], "mean"),
        node("Flatten", ["mean"], "flat"),
        node("Gemm", ["flat", "v"], "y", transB=1),
    ]
    proto = model(nodes, (1, 3, 8, 8), {"w": weights(4, 3, 3, 3), "v": weights(2, 4)})
    graph = compare(proto)
    assert [o for n in graph.nodes for o in n.outputs] == ["act", "pool", "mean", "y"]
    assert graph.nodes[0].name == "conv_conv"
    assert count(graph, "transpose") == 0


def test_an_output_may_be_an_input_or_a_constant_or_come_twice():
    nodes = [node("Identity", "x", "y"), node("Relu", "x", "a"), node("Identity", "a", "b")]
    graph = compare(model(nodes, (1, 3), {"c": weights(2)}, out=("y", "a", "b", "c")))
    assert graph.outputs == ("y", "a", "b", "c")


def test_everything_that_cannot_be_imported_is_listed_at_once():
    nodes = [
        node("Einsum", ["x"], "a", equation="ij->ji"),
        node("Relu", ["a"], "b"),
        node("NonZero", ["b"], "c"),
        node("MaxPool", ["z"], "d", kernel_shape=[2, 2], dilations=[2, 2]),
        helper.make_node("FusedConv", ["z", "d"], ["e"], name="fused", domain="com.microsoft"),
    ]
    proto = model(nodes, {"x": (2, 3), "z": (1, 2, 8, 8)}, out=("c", "e"))
    with pytest.raises(UnsupportedModel) as caught:
        read_onnx(proto)
    text = str(caught.value)
    assert "4 layer(s) of the ONNX model can't be imported" in text
    assert "Einsum 'einsum_a': the op is not supported; replace it by ops that are" in text
    assert "NonZero 'nonzero_c'" in text
    assert "MaxPool 'maxpool_d': dilations [2, 2]; use pooling without dilation" in text
    assert "FusedConv 'fused': the op is not supported (domain com.microsoft)" in text
    assert "supported ONNX ops: Abs, Add, ArgMax, ArgMin, AveragePool" in text


REFUSED: list[tuple[str, Callable[[], onnx.ModelProto]]] = [
    (r"its weights are computed; use constant weights",
     lambda: model([node("Conv", "xz", "y")], {"x": (1, 1, 4, 4), "z": (1, 1, 3, 3)})),
    (r"use 1-D or 2-D",
     lambda: model([node("Conv", "xw", "y")], (1, 1, 4, 4, 4), {"w": weights(1, 1, 2, 2, 2)})),
    (r"pads \[-1, 0, 0, 0\] are negative",
     lambda: model([node("Conv", "xw", "y", pads=[-1, 0, 0, 0])], (1, 1, 4, 4),
                   {"w": weights(1, 1, 2, 2)})),
    (r"mode 'reflect'",
     lambda: model([node("Pad", "xp", "y", mode="reflect")], (4,), {"p": ints(1, 1)})),
    (r"its shape is computed at run time",
     lambda: model([node("Reshape", ["x", "x"], "y")], (4,))),
    (r"its type is string; use float32 inputs",
     lambda: _typed_input(TensorProto.STRING)),
    (r"it is in training mode; export the module after module\.eval\(\)",
     lambda: model([node("BatchNormalization", "xabcd", "y", training_mode=1)], (1, 2, 3, 3),
                   {k: np.ones(2, np.float32) for k in "abcd"})),
    (r"its exponent is 3; use one of 1, 2, 0\.5, -0\.5",
     lambda: model([node("Pow", "xe", "y")], (2,), {"e": np.float32(3)})),
    (r"it divides by a computed tensor", lambda: model([node("Div", "xx", "y")], (2,))),
    (r"it divides by zero",
     lambda: model([node("Div", "xc", "y")], (2,), {"c": np.float32([0, 1])})),
    (r"alpha 0\.5; use alpha 1", lambda: model([node("Elu", "x", "y", alpha=0.5)], (2,))),
    (r"it expands \[1, 3\] to \[4, 3\]",
     lambda: model([node("Expand", "xs", "y")], (1, 3), {"s": ints(4, 3)})),
    (r"mode 'cubic'; resize height and width by nearest or linear",
     lambda: model([node("Resize", ["x", "", "s"], "y", mode="cubic")], (1, 1, 4, 4),
                   {"s": np.float32([1, 1, 2, 2])})),
    (r"its way to choose the nearest pixel",
     lambda: model([node("Resize", ["x", "", "s"], "y", nearest_mode="ceil")], (1, 1, 4, 4),
                   {"s": np.float32([1, 1, 2, 2])})),
    (r"it resizes \[1, 1, 4, 4\] to \[1, 2, 4, 4\]",
     lambda: model([node("Resize", ["x", "", "s"], "y")], (1, 1, 4, 4),
                   {"s": np.float32([1, 2, 1, 1])})),
    (r"it has groups or dilation",
     lambda: model([node("ConvTranspose", "xw", "y", group=2)], (1, 2, 4, 4),
                   {"w": weights(2, 1, 2, 2)})),
    (r"it casts to string", lambda: model([node("Cast", "x", "y", to=8)], (2,))),
    (r"it selects the last of equals",
     lambda: model([node("ArgMax", "x", "y", select_last_index=1)], (2, 3))),
    (r"its activations are \['relu', 'tanh', 'tanh'\]; use Sigmoid, Tanh, Tanh",
     lambda: _lstm(activations=["Relu", "Tanh", "Tanh"])),
    (r"its input and forget gates are coupled", lambda: _lstm(input_forget=1)),
    (r"rank 6; allowed: 1 to 5",
     lambda: model([node("Transpose", "x", "y")], (1, 2, 3, 2, 2, 2))),
]  # fmt: skip


def _lstm(**attrs: Any) -> onnx.ModelProto:
    tensors = {"w": weights(1, 8, 3), "r": weights(1, 8, 2)}
    return model([node("LSTM", "xwr", "y", hidden_size=2, **attrs)], (4, 1, 3), tensors)


def _typed_input(kind: int) -> onnx.ModelProto:
    proto = model([node("Relu", "x", "y")], (1, 3))
    proto.graph.input[0].type.tensor_type.elem_type = kind
    return proto


@pytest.mark.parametrize(("message", "make"), REFUSED, ids=[m for m, _ in REFUSED])
def test_what_an_importer_refuses_is_said_with_a_remedy(message, make):
    with pytest.raises(UnsupportedModel, match=message):
        read_onnx(make())
