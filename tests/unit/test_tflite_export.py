"""Graphs written as .tflite: deterministic, sound, and read by every runtime that is installed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from cases import CASES, Case
from support.case import built
from support.nets import Net, random_samples
from support.random_network import random_network
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import (
    Activation,
    DType,
    Graph,
    GraphBuilder,
    QuantParams,
    rebuild,
)
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs

ALL = [pytest.param(op, case, id=f"{op}-{case.name}") for op in CASES for case in CASES[op]]


def unpack(model: bytes) -> Any:
    return schema.ModelT.InitFromPackedBuf(model, 0)


def codes(model: Any) -> list[str]:
    names = {v: k for k, v in vars(schema.BuiltinOperator).items()}
    main = model.subgraphs[0]
    return [names[model.operatorCodes[op.opcodeIndex].builtinCode] for op in main.operators]


def convolution(pads: tuple[int, int, int, int], stride: tuple[int, int] = (1, 1)) -> Graph:
    net = Net("convolution", np.random.default_rng(0))
    x = net.input((1, 6, 6, 2))
    w = net.weights((3, 3, 3, 2), x, axis=0)
    b = net.bias(w, x, 3)
    attrs = Conv2dAttrs(stride, (1, 1), pads, Activation.RELU)
    return net.graph([net.node("conv2d", [x, w, b], attrs, name="conv")])


@pytest.mark.parametrize(("op", "case"), ALL)
def test_what_is_written_is_read_again_with_the_same_outputs(op: str, case: Case) -> None:
    graph, samples = built(op, case, 3)
    model = to_tflite(graph)
    again = read_tflite(model)
    assert (again.inputs, again.outputs) == (graph.inputs, graph.outputs)
    for y, z in zip(
        interpreter.run_samples(graph, samples),
        interpreter.run_samples(again, samples),
        strict=True,
    ):
        assert y.dtype == z.dtype
        np.testing.assert_array_equal(y, z)
    assert to_tflite(read_tflite(to_tflite(again))) == to_tflite(again)


@pytest.mark.parametrize("seed", range(20))
def test_a_graph_is_written_with_the_same_bytes_each_time(seed: int) -> None:
    model = to_tflite(random_network(seed))
    assert model == to_tflite(random_network(seed))
    assert model[4:8] == b"TFL3"


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_come_back_with_the_same_outputs(seed: int) -> None:
    graph = random_network(seed, float_borders=seed % 3 == 0)
    samples = random_samples(graph, np.random.default_rng(seed), 2)
    again = read_tflite(to_tflite(graph))
    for y, z in zip(
        interpreter.run_samples(graph, samples),
        interpreter.run_samples(again, samples),
        strict=True,
    ):
        np.testing.assert_array_equal(y, z)


@pytest.mark.parametrize(
    ("pads", "stride", "want", "padding"),
    [
        ((0, 0, 0, 0), (1, 1), ["CONV_2D"], schema.Padding.VALID),
        ((1, 1, 1, 1), (1, 1), ["CONV_2D"], schema.Padding.SAME),
        ((0, 1, 0, 1), (2, 2), ["CONV_2D"], schema.Padding.SAME),
        ((1, 1, 1, 1), (2, 2), ["PAD", "CONV_2D"], schema.Padding.VALID),
        ((1, 0, 0, 2), (1, 1), ["PAD", "CONV_2D"], schema.Padding.VALID),
    ],
)
def test_pads_become_same_or_valid_or_a_pad(
    pads: tuple[int, int, int, int], stride: tuple[int, int], want: list[str], padding: int
) -> None:
    model = unpack(to_tflite(convolution(pads, stride)))
    assert codes(model) == want
    assert model.subgraphs[0].operators[-1].builtinOptions.padding == padding


def test_a_pad_before_max_pool_holds_the_lowest_value() -> None:
    net = Net("pool", np.random.default_rng(0))
    x = net.input((1, 6, 6, 2))
    attrs = Pool2dAttrs((3, 3), (2, 2), (1, 1, 1, 1))
    model = unpack(to_tflite(net.graph([net.node("max_pool2d", [x], attrs)])))
    assert codes(model) == ["PADV2", "MAX_POOL_2D"]
    main = model.subgraphs[0]
    border = main.tensors[main.operators[0].inputs[2]]
    assert model.buffers[border.buffer].data.view(np.int8).tolist() == [-128]
    assert border.quantization.scale.tolist() == [np.float32(0.05)]


def test_average_pool_with_pads_of_its_own_is_refused() -> None:
    net = Net("pool", np.random.default_rng(0))
    x = net.input((1, 6, 6, 2))
    y = net.node("average_pool2d", [x], Pool2dAttrs((3, 3), (2, 2), (1, 1, 1, 1)), name="pool")
    message = r"average_pool2d 'pool': padding \(1, 1, 1, 1\).*allowed: none, or \(0, 1, 0, 1\)"
    with pytest.raises(UnsupportedModel, match=message):
        to_tflite(net.graph([y]))


def test_an_op_that_the_format_lacks_is_refused_by_name() -> None:
    graph = convolution((0, 0, 0, 0))
    node = graph.nodes[0]
    other = rebuild(graph, nodes=[replace(node, op="no_such_op")])
    with pytest.raises(UnsupportedModel, match="no_such_op 'conv': the op has no counterpart"):
        to_tflite(other)


def test_names_buffers_and_quantization_are_as_the_schema_asks() -> None:
    model = unpack(to_tflite(convolution((0, 0, 0, 0))))
    main = model.subgraphs[0]
    assert (model.version, model.description) == (3, b"tinsmith")
    assert model.buffers[0].data is None
    tensors = {t.name.decode(): t for t in main.tensors}
    assert set(tensors) == {"x", "w", "b", "conv_out"}
    assert tensors["x"].buffer == tensors["conv_out"].buffer == 0
    weights = tensors["w"].quantization
    assert weights.quantizedDimension == 0
    assert weights.zeroPoint.tolist() == [0, 0, 0]
    bias = tensors["b"].quantization
    np.testing.assert_array_equal(bias.scale, tensors["x"].quantization.scale[0] * weights.scale)
    code = model.operatorCodes[0]
    assert (code.deprecatedBuiltinCode, code.builtinCode, code.version) == (3, 3, 3)


def test_constants_start_at_multiples_of_sixteen() -> None:
    graph = random_network(7, ["conv2d", "pad"])
    model = to_tflite(graph)
    file = schema.Model.GetRootAs(model, 0)
    found = 0
    for i in range(file.BuffersLength()):
        buffer = file.Buffers(i)
        if buffer.DataLength():
            data = buffer.DataAsNumpy()
            whole = np.frombuffer(model, np.uint8)
            offset = data.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
            assert offset % 16 == 0
            found += 1
    assert found > 2


def test_depthwise_weights_are_quantized_along_their_last_axis() -> None:
    net = Net("depthwise", np.random.default_rng(0))
    x = net.input((1, 4, 4, 3))
    w = net.weights((1, 3, 3, 6), x, axis=3, fan_in=9)
    y = net.node("depthwise_conv2d", [x, w], DepthwiseConv2dAttrs())
    main = unpack(to_tflite(net.graph([y]))).subgraphs[0]
    weights = main.tensors[main.operators[0].inputs[1]]
    assert weights.quantization.quantizedDimension == 3
    assert len(weights.quantization.scale) == 6
    assert main.operators[0].builtinOptions.depthMultiplier == 2


def test_four_bit_weights_are_stored_two_to_a_byte() -> None:
    b = GraphBuilder("nibbles")
    x = b.input("x", (1, 3), DType.INT8, QuantParams.per_tensor(0.5))
    data = np.array([[1, -2, 3]], np.int8)
    w = b.constant("w", data, QuantParams.per_tensor(0.5, 0, bits=4))
    y = b.node("fully_connected", [x, w], FullyConnectedAttrs(), quant=QuantParams.per_tensor(1.0))
    graph = b.build([y])
    model = unpack(to_tflite(graph))
    main = model.subgraphs[0]
    weights = main.tensors[main.operators[0].inputs[1]]
    assert weights.type == schema.TensorType.INT4
    assert model.buffers[weights.buffer].data.tolist() == [0xE1, 0x03]
    again = read_tflite(to_tflite(graph)).tensors["w"]
    assert again.value().tolist() == data.tolist()
    assert again.quant is not None
    assert again.quant.bits == 4


def test_helper_tensors_never_take_a_name_of_the_graph() -> None:
    b = GraphBuilder("clash")
    half = QuantParams.per_tensor(0.5)
    x = b.input("x", (1, 4), DType.INT8, half)
    y = b.node("reshape", [x], ReshapeAttrs((4, 1)), name="r", quant=half)
    k = b.constant("r/shape", np.ones((4, 1), np.int8), half)
    z = b.node("add", [y, k], AddAttrs(), quant=half)
    model = to_tflite(b.build([z]))
    names = [t.name for t in unpack(model).subgraphs[0].tensors]
    assert len(names) == len(set(names))
    assert read_tflite(model).outputs == (z,)


def test_litert_reads_what_is_written() -> None:
    from ai_edge_litert.interpreter import Interpreter

    graph = random_network(2, ["conv2d", "depthwise_conv2d", "max_pool2d", "reshape", "pad"])
    session = Interpreter(model_content=to_tflite(graph))
    session.allocate_tensors()
    assert [d["name"] for d in session.get_input_details()] == list(graph.inputs)
    assert [d["name"] for d in session.get_output_details()] == list(graph.outputs)


def test_state_is_written_as_variables_and_comes_back_as_state() -> None:
    half = QuantParams.per_tensor(0.5, 3)
    b = GraphBuilder("running_sum")
    x = b.input("x", (1, 2), DType.INT8, half)
    held = b.state_var("total", np.array([[1, 2]], np.int8), half)
    y = b.node("add", [held, x], AddAttrs(), quant=half)
    b.assign("total", y)
    graph = b.build([y])
    model = to_tflite(graph)
    assert codes(unpack(model)) == [
        "CALL_ONCE",
        "VAR_HANDLE",
        "READ_VARIABLE",
        "ADD",
        "ASSIGN_VARIABLE",
    ]
    again = read_tflite(model)
    assert [(s.name, s.tensor, s.next) for s in again.state] == [("total", held, y)]
    assert again.state[0].initial.tolist() == [[1, 2]]
    state = None
    for step in range(3):
        value = {"x": np.array([[step, 5]], np.int8)}
        tensors, next_state = interpreter.run(graph, value, state)
        others, _ = interpreter.run(again, value, state)
        np.testing.assert_array_equal(tensors[y], others[y])
        state = next_state
