"""What .tflite files hold becomes a graph, or one message with every reason why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from support.nets import Net
from support.tflite_edit import FileMaker, edit
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import Activation, DType, Graph, GraphBuilder, QuantParams
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.mean import ReduceAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs

T = schema.TensorType


def quantization(scale: list[float], zero: list[int], axis: int = 0) -> Any:
    return schema.QuantizationParametersT(
        scale=np.array(scale, np.float32),
        zeroPoint=np.array(zero, np.int64),
        quantizedDimension=axis,
    )


def small() -> Graph:
    """x -> conv -> fully connected, with per-channel weights and a bias."""
    net = Net("small", np.random.default_rng(0))
    x = net.input((1, 4, 4, 2))
    w = net.weights((3, 3, 3, 2), x, axis=0)
    b = net.bias(w, x, 3)
    attrs = Conv2dAttrs((1, 1), (1, 1), (1, 1, 1, 1), Activation.RELU)
    y = net.node("conv2d", [x, w, b], attrs, name="conv")
    w2 = net.weights((5, 48), y, name="w2")
    return net.graph([net.node("fully_connected", [y, w2], FullyConnectedAttrs(), name="fc")])


def same_outputs(a: Graph, b: Graph) -> None:
    rng = np.random.default_rng(1)
    x = {a.inputs[0]: rng.integers(-128, 128, (3, *a.tensors[a.inputs[0]].shape)).astype(np.int8)}
    other = {b.inputs[0]: x[a.inputs[0]]}
    for y, z in zip(interpreter.run_samples(a, x), interpreter.run_samples(b, other), strict=True):
        np.testing.assert_array_equal(y, z)


# What a file may leave out or say oddly


def test_names_that_are_empty_or_double_are_made_unique() -> None:
    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors[1:]:
            tensor.name = "twin"
        model.subgraphs[0].tensors[0].name = None

    graph = read_tflite(edit(to_tflite(small()), change))
    assert graph.inputs == ("tensor_0",)
    assert len(graph.nodes) == 2
    assert all(name.startswith("twin") for name in graph.tensors if name != "tensor_0")
    same_outputs(small(), graph)


def test_a_graph_is_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "my_model.tflite"
    path.write_bytes(to_tflite(small()))
    assert read_tflite(path).name == "my_model"
    assert read_tflite(str(path), "other").name == "other"
    assert read_tflite(path.read_bytes()).name == "model"


def test_the_larger_of_the_two_builtin_codes_counts() -> None:
    def old(model: Any) -> None:
        for code in model.operatorCodes:
            code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, 0

    def new(model: Any) -> None:
        for code in model.operatorCodes:
            code.deprecatedBuiltinCode = 0

    for change in (old, new):
        same_outputs(small(), read_tflite(edit(to_tflite(small()), change)))


def test_a_free_batch_in_the_signature_is_the_one_of_the_shape() -> None:
    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)

    assert read_tflite(edit(to_tflite(small()), change)).tensors["x"].shape == (1, 4, 4, 2)


def test_an_absurd_axis_of_a_bias_is_overlooked_since_nobody_reads_it() -> None:
    def change(model: Any) -> None:
        bias = next(t for t in model.subgraphs[0].tensors if t.name == b"b")
        bias.quantization.quantizedDimension = 3

    graph = read_tflite(edit(to_tflite(small()), change))
    quant = graph.tensors["b"].quant
    assert quant is not None
    assert quant.axis == 0
    same_outputs(small(), graph)


def test_a_zero_scale_is_an_error_only_where_it_is_used() -> None:
    def set_scale(name: bytes) -> Any:
        def change(model: Any) -> None:
            tensor = next(t for t in model.subgraphs[0].tensors if t.name == name)
            tensor.quantization.scale = np.zeros_like(tensor.quantization.scale)

        return change

    same_outputs(small(), read_tflite(edit(to_tflite(small()), set_scale(b"b"))))
    with pytest.raises(ModelError, match=r"tensor 'w': scale 0\.0 is not allowed"):
        read_tflite(edit(to_tflite(small()), set_scale(b"w")))


def test_zero_points_that_are_left_out_are_zero() -> None:
    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if tensor.name in (b"w", b"w2"):
                tensor.quantization.zeroPoint = None

    graph = read_tflite(edit(to_tflite(small()), change))
    quant = graph.tensors["w"].quant
    assert quant is not None
    assert quant.zero_point == (0, 0, 0)
    same_outputs(small(), graph)


def test_several_inputs_and_outputs_keep_their_order() -> None:
    m = FileMaker()
    quant = quantization([0.5], [0])
    a, b, s, r = (m.tensor(n, (1, 4), T.INT8, quantization=quant) for n in ("a", "b", "s", "r"))
    m.operator("ADD", [a, b], [s], schema.AddOptionsT())
    m.operator("RELU", [s], [r])
    graph = read_tflite(m.finish([b, a], [r, s, a]))
    assert graph.inputs == ("b", "a")
    assert graph.outputs == ("r", "s", "a")
    assert [n.op for n in graph.nodes] == ["add", "relu"]


def test_squeeze_and_expand_dims_are_reshapes() -> None:
    m = FileMaker()
    x = m.tensor("x", (1, 1, 4))
    y = m.tensor("y", (4,))
    z = m.tensor("z", (4, 1))
    axis = m.tensor("axis", (1,), T.INT32, np.array([1], np.int32))
    m.operator("SQUEEZE", [x], [y], schema.SqueezeOptionsT(squeezeDims=np.array([0, 1], np.int32)))
    m.operator("EXPAND_DIMS", [y, axis], [z], schema.ExpandDimsOptionsT())
    graph = read_tflite(m.finish([x], [z]))
    assert [n.attrs for n in graph.nodes] == [ReshapeAttrs((4,)), ReshapeAttrs((4, 1))]


def test_negative_and_double_axes_are_put_in_order() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (1, 3, 4, 2)), m.tensor("y", (1, 2))
    axes = m.tensor("axes", (3,), T.INT32, np.array([-2, 1, 2], np.int32))
    m.operator("MEAN", [x, axes], [y], schema.ReducerOptionsT(keepDims=False))
    assert read_tflite(m.finish([x], [y])).nodes[0].attrs == ReduceAttrs((1, 2), False)


def test_operators_that_no_output_needs_are_left_out() -> None:
    m = FileMaker()
    x, y, z = (m.tensor(n, (1, 4)) for n in ("x", "y", "z"))
    m.operator("SIN", [x], [z])
    m.operator("RELU", [x], [y])
    graph = read_tflite(m.finish([x], [y]))
    assert [n.op for n in graph.nodes] == ["relu"]
    assert set(graph.tensors) == {"x", "y"}


def test_a_computed_shape_of_a_reshape_is_not_needed() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (1, 2, 2)), m.tensor("y", (1, 4))
    shape = m.tensor("shape", (2,), T.INT32)
    m.operator("SHAPE", [x], [shape], schema.ShapeOptionsT(outType=T.INT32))
    m.operator("RESHAPE", [x, shape], [y], schema.ReshapeOptionsT())
    assert [n.op for n in read_tflite(m.finish([x], [y])).nodes] == ["reshape"]


def test_float16_weights_are_folded_into_float32() -> None:
    rng = np.random.default_rng(0)
    half = rng.normal(size=(3, 5)).astype(np.float16)
    m = FileMaker()
    x, y = m.tensor("x", (1, 5)), m.tensor("y", (1, 3))
    stored = m.tensor("stored", (3, 5), T.FLOAT16, half)
    w = m.tensor("w", (3, 5))
    m.operator("DEQUANTIZE", [stored], [w], schema.DequantizeOptionsT())
    m.operator("FULLY_CONNECTED", [x, w, -1], [y], schema.FullyConnectedOptionsT())
    graph = read_tflite(m.finish([x], [y]))
    assert [n.op for n in graph.nodes] == ["fully_connected"]
    value = rng.normal(size=(1, 5)).astype(np.float32)
    tensors, _ = interpreter.run(graph, {"x": value})
    np.testing.assert_allclose(tensors["y"], value @ half.astype(np.float32).T, rtol=1e-5)


def test_int8_weights_dequantized_to_float_are_folded() -> None:
    data = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    m = FileMaker()
    x, y = m.tensor("x", (1, 4)), m.tensor("y", (1, 3))
    stored = m.tensor("stored", (3, 4), T.INT8, data, quantization([0.5, 0.25, 2.0], [0, 0, 0], 0))
    w = m.tensor("w", (3, 4))
    m.operator("DEQUANTIZE", [stored], [w], schema.DequantizeOptionsT())
    m.operator("FULLY_CONNECTED", [x, w, -1], [y], schema.FullyConnectedOptionsT())
    graph = read_tflite(m.finish([x], [y]))
    want = data * np.array([[0.5], [0.25], [2.0]], np.float32)
    np.testing.assert_array_equal(graph.tensors["w"].value(), want)


# Sparse constants


def level(
    dense: int = 0, segments: list[int] | None = None, indices: list[int] | None = None
) -> Any:
    if segments is None:
        return schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=dense)
    return schema.DimensionMetadataT(
        format=schema.DimensionType.SPARSE_CSR,
        arraySegmentsType=schema.SparseIndexVector.Int32Vector,
        arraySegments=schema.Int32VectorT(np.array(segments, np.int32)),
        arrayIndicesType=schema.SparseIndexVector.Uint8Vector,
        arrayIndices=schema.Uint8VectorT(np.array(indices, np.uint8)),
    )


def sparse_file(dense: np.ndarray, stored: list[float], sparsity: Any) -> bytes:
    rows, columns = dense.shape
    m = FileMaker()
    x, y = m.tensor("x", (1, columns)), m.tensor("y", (1, rows))
    values = np.array(stored, np.float32)
    s = m.tensor("sparse", dense.shape, T.FLOAT32, values, sparsity=sparsity)
    w = m.tensor("w", dense.shape)
    m.operator("DENSIFY", [s], [w], schema.DensifyOptionsT())
    m.operator("FULLY_CONNECTED", [x, w, -1], [y], schema.FullyConnectedOptionsT())
    return m.finish([x], [y])


CSR = (
    np.array([[0, 0, 3, 0], [1, 0, 0, 2], [0, 0, 0, 0]], np.float32),
    [3.0, 1.0, 2.0],
    schema.SparsityParametersT(
        traversalOrder=np.array([0, 1], np.int32),
        dimMetadata=[level(dense=3), level(segments=[0, 1, 3, 3], indices=[2, 0, 3])],
    ),
)
BLOCKS = (
    np.array([[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]], np.float32),
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
    schema.SparsityParametersT(
        traversalOrder=np.array([0, 1, 2, 3], np.int32),
        blockMap=np.array([0, 1], np.int32),
        dimMetadata=[
            level(dense=2),
            level(segments=[0, 1, 2], indices=[0, 1]),
            level(dense=2),
            level(dense=2),
        ],
    ),
)


@pytest.mark.parametrize(("dense", "stored", "sparsity"), [CSR, BLOCKS], ids=["csr", "blocks"])
def test_sparse_weights_become_dense_as_in_tflite(
    dense: np.ndarray, stored: list[float], sparsity: Any
) -> None:
    model = sparse_file(dense, stored, sparsity)
    graph = read_tflite(model)
    weights = graph.tensors[graph.nodes[0].inputs[1]].value()
    np.testing.assert_array_equal(weights, dense)
    if oracles.TFLITE_REF.name in oracles.installed_oracles():
        x = np.eye(dense.shape[1], dtype=np.float32)[:, None]
        (y,) = oracles.TFLITE_REF.run(model, {"x": x})
        np.testing.assert_array_equal(y[:, 0].T, dense)


def broken_levels(**changes: Any) -> Any:
    dense, sparse = level(dense=3), level(segments=[0, 1, 3, 3], indices=[2, 0, 3])
    order = np.array(changes.get("order", [0, 1]), np.int32)
    if "segments" in changes:
        sparse.arraySegments.values = np.array(changes["segments"], np.int32)
    if "indices" in changes:
        sparse.arrayIndices.values = np.array(changes["indices"], np.uint8)
    if "dense" in changes:
        dense.denseSize = changes["dense"]
    return schema.SparsityParametersT(traversalOrder=order, dimMetadata=[dense, sparse])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": [0, 0]}, "sparsity of tensor 2 'sparse' does not fit its shape"),
        ({"order": [0]}, "sparsity of tensor 2 'sparse' does not fit its shape"),
        ({"segments": [0, 1, 3, 2]}, "segments of .* are broken"),
        ({"segments": [0, 1, 3]}, "segments of .* are broken"),
        ({"indices": [2, 0, 4]}, "lies outside of its shape"),
        ({"dense": 2_000_000_000}, "beyond the tensor's size"),
        ({"dense": -1}, "beyond the tensor's size"),
        ({"segments": [0, 1, 2, 2], "indices": [2, 0]}, "3 sparse values|2 sparse values"),
    ],
)
def test_broken_sparsity_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_tflite(sparse_file(CSR[0], CSR[1], broken_levels(**changes)))


# Variables


def stateful() -> Graph:
    half = QuantParams.per_tensor(0.5, 3)
    b = GraphBuilder("stateful")
    x = b.input("x", (1, 2), DType.INT8, half)
    held = b.state_var("total", np.array([[1, 2]], np.int8), half)
    y = b.node("add", [held, x], AddAttrs(), quant=half)
    b.assign("total", y)
    return b.build([y])


def test_a_variable_without_a_first_value_is_an_error() -> None:
    def change(model: Any) -> None:
        model.subgraphs[0].operators = model.subgraphs[0].operators[1:]

    with pytest.raises(ModelError, match="variable 'total' is given no first value"):
        read_tflite(edit(to_tflite(stateful()), change))


def test_a_variable_of_another_shape_than_its_first_value_is_an_error() -> None:
    def change(model: Any) -> None:
        for tensor in model.subgraphs[1].tensors:
            if tensor.name == b"total/initial":
                tensor.shape = np.array([2, 1], np.int32)

    message = r"'total' starts as int8\[2, 1\], but is read as int8\[1, 2\]"
    with pytest.raises(ModelError, match=message):
        read_tflite(edit(to_tflite(stateful()), change))


def test_a_variable_read_after_it_is_assigned_holds_the_new_value() -> None:
    """Operators run in the file's order; two reads around an assignment differ."""

    def change(model: Any) -> None:
        main = model.subgraphs[0]
        read = next(op for op in main.operators if len(op.inputs) == 1 and len(op.outputs) == 1)
        late = schema.TensorT(
            shape=np.array([1, 2], np.int32),
            type=T.INT8,
            name="late",
            quantization=quantization([0.5], [3]),
        )
        main.tensors.append(late)
        index = len(main.tensors) - 1
        again = schema.OperatorT(
            opcodeIndex=read.opcodeIndex,
            inputs=read.inputs,
            outputs=np.array([index], np.int32),
            builtinOptionsType=read.builtinOptionsType,
            builtinOptions=read.builtinOptions,
        )
        main.operators.append(again)
        main.outputs = np.array([*main.outputs, index], np.int32)

    graph = read_tflite(edit(to_tflite(stateful()), change))
    assert graph.outputs[0] == graph.outputs[1]


# What is refused


def test_everything_that_is_not_supported_is_listed_at_once() -> None:
    m = FileMaker()
    x, a, b, c, y = (m.tensor(n, (1, 4)) for n in ("x", "a", "b", "c", "y"))
    m.operator("SIN", [x], [a])
    m.operator("RELU", [a], [b])
    m.operator("COS", [b], [c])
    m.operator("ADD", [c, x], [y], schema.AddOptionsT(fusedActivationFunction=4))
    with pytest.raises(UnsupportedModel) as error:
        read_tflite(m.finish([x], [y]), "waves")
    message = str(error.value)
    assert "model 'waves' is sound, but has what is not supported" in message
    assert "SIN 'a' (operator 0): the op is not supported" in message
    assert "COS 'c' (operator 2): the op is not supported" in message
    assert "Replace these layers" in message
    assert "`tinsmith ops`" in message
    assert "RELU" not in message


def test_custom_ops_are_named() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (1, 4)), m.tensor("y", (1, 4))
    m.operator("CUSTOM", [x], [y])
    m.codes[0].customCode = "Sparkle"
    with pytest.raises(UnsupportedModel, match="CUSTOM:Sparkle 'y'"):
        read_tflite(m.finish([x], [y]))


def test_an_op_that_the_schema_does_not_know_is_named_by_number() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (1, 4)), m.tensor("y", (1, 4))
    m.operator(9999, [x], [y])
    with pytest.raises(UnsupportedModel, match="builtin 9999 'y'"):
        read_tflite(m.finish([x], [y]))


def test_an_unknown_fused_activation_is_refused() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (1, 4)), m.tensor("y", (1, 4))
    m.operator("ADD", [x, x], [y], schema.AddOptionsT(fusedActivationFunction=4))
    with pytest.raises(UnsupportedModel, match="fused activation 4; allowed: none, relu, relu6"):
        read_tflite(m.finish([x], [y]))


def test_dynamic_range_quantization_is_refused_with_what_to_do() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (1, 4)), m.tensor("y", (1, 3))
    data = np.ones((3, 4), np.int8)
    w = m.tensor("w", (3, 4), T.INT8, data, quantization([0.5], [0]))
    m.operator("FULLY_CONNECTED", [x, w, -1], [y], schema.FullyConnectedOptionsT())
    with pytest.raises(UnsupportedModel, match=r"dynamic-range quantization.*quantize the whole"):
        read_tflite(m.finish([x], [y]))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (T.INT64, r"the bias is int64; allowed: int32"),
        (T.UINT32, r"tensor 'b' is UINT32; allowed: FLOAT32, INT8"),
    ],
)
def test_a_bias_of_another_type_is_refused(kind: int, message: str) -> None:
    m = FileMaker()
    quant = quantization([0.5], [0])
    x, y = (m.tensor(n, (1, 4), T.INT8, quantization=quant) for n in ("x", "y"))
    w = m.tensor("w", (4, 4), T.INT8, np.ones((4, 4), np.int8), quant)
    width = np.int64 if kind == T.INT64 else np.uint32
    b = m.tensor("b", (4,), kind, np.ones(4, width))
    m.operator("FULLY_CONNECTED", [x, w, b], [y], schema.FullyConnectedOptionsT())
    with pytest.raises(UnsupportedModel, match=message):
        read_tflite(m.finish([x], [y]))


def test_weights_with_scales_along_another_axis_are_refused() -> None:
    m = FileMaker()
    quant = quantization([0.5], [0])
    x = m.tensor("x", (1, 4, 4, 3), T.INT8, quantization=quant)
    y = m.tensor("y", (1, 4, 4, 2), T.INT8, quantization=quant)
    per_input = quantization([0.5, 0.5, 0.5], [0, 0, 0], 3)
    w = m.tensor("w", (2, 1, 1, 3), T.INT8, np.ones((2, 1, 1, 3), np.int8), per_input)
    m.operator("CONV_2D", [x, w], [y], schema.Conv2DOptionsT(1, 1, 1))
    with pytest.raises(UnsupportedModel, match="scales along axis 3; allowed: axis 0"):
        read_tflite(m.finish([x], [y]))


def test_activations_with_a_scale_a_channel_are_refused() -> None:
    m = FileMaker()
    x = m.tensor("x", (1, 2), T.INT8, quantization=quantization([0.5, 0.25], [0, 0], 1))
    y = m.tensor("y", (1, 2), T.INT8, quantization=quantization([0.5], [0]))
    m.operator("RELU", [x], [y])
    with pytest.raises(UnsupportedModel, match="'x' has 2 scales; allowed: one"):
        read_tflite(m.finish([x], [y]))


def test_int8_without_a_scale_is_refused_where_it_is_computed_with() -> None:
    m = FileMaker()
    x, y = (m.tensor(n, (1, 4), T.INT8) for n in ("x", "y"))
    m.operator("RELU", [x], [y])
    with pytest.raises(UnsupportedModel, match="'x' is int8 without a scale"):
        read_tflite(m.finish([x], [y]))


def test_axes_that_are_computed_are_refused() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (1, 4)), m.tensor("y", (1,))
    axes = m.tensor("axes", (1,), T.INT32)
    m.operator("MEAN", [x, axes], [y], schema.ReducerOptionsT())
    with pytest.raises(UnsupportedModel, match="axes are computed at run time"):
        read_tflite(m.finish([x, axes], [y]))


def test_tensors_without_elements_are_refused() -> None:
    m = FileMaker()
    x, y = m.tensor("x", (1, 0)), m.tensor("y", (1, 0))
    m.operator("RELU", [x], [y])
    with pytest.raises(UnsupportedModel, match=r"tensor 'x' has no elements: \[1, 0\]"):
        read_tflite(m.finish([x], [y]))
