"""Models of uint8, as old converters wrote them, are read as int8 with the outputs of the runtime's
uint8 kernels, or refused with the reason."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from cases import CASES
from support.nets import Net, random_samples
from support.tflite_edit import FileMaker, edit
from support.uint8_nets import to_uint8, uint8_network
from tinsmith.pipeline import oracles
from tinsmith.pipeline.cut import cut
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.onnx import to_onnx_qdq
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import Array, DType, Graph, rebuild
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.layer_traces import trace
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.passes import INT_PASSES, run_passes
from tinsmith.pipeline.validation import ask_oracles

SEEDS = 100
REMEDY = "convert the model again to int8, or give the float model and --calibrate"
# Ops of the table of cases that uint8 kernels compute as int8 ones do, so that all is taken.
SAME = (
    "conv2d", "depthwise_conv2d", "fully_connected", "transpose_conv2d", "add", "sub", "mul",
    "max_pool2d", "average_pool2d", "mean", "pad", "reshape", "transpose", "softmax", "relu6",
    "relu_n1_to_1", "hard_swish", "reduce_max", "reduce_min", "arg_max", "arg_min", "maximum",
    "minimum", "prelu", "resize_nearest", "depth_to_space", "space_to_depth", "gather",
    "concatenation", "split", "slice",
)  # fmt: skip
# Ops that are taken where every output is proven to be the same, and refused where not.
WHERE_EQUAL = ("relu", "leaky_relu", "logistic", "tanh")
REFUSED = ("resize_bilinear", "l2_normalization", "log_softmax", "sum")


def runtime() -> oracles.Oracle:
    found = oracles.installed_oracles().get(oracles.TFLITE_REF.name)
    if found is None:
        pytest.skip("the oracle tflite-runtime is not installed")
    return found


def assert_equal_to_the_runtime(model: bytes, rng: np.random.Generator, graph: Graph) -> None:
    samples = random_samples(graph, rng, 6)
    assert all(a.dtype != np.int8 for a in samples.values())
    ours = run_samples(graph, samples)
    theirs = runtime().run(model, dict(enumerate(samples.values())))
    for y, z in zip(ours, theirs, strict=True):
        assert y.dtype == z.dtype
        np.testing.assert_array_equal(y, z)


def uint8_cases(op: str) -> list[tuple[str, bytes]]:
    """The cases of an op that old converters could have written."""
    found = []
    for case in CASES[op]:
        graph = case.build(np.random.default_rng(zlib.crc32(f"{op}/{case.name}".encode())))
        tensors = graph.tensors.values()
        plain = all(t.dtype not in (DType.FLOAT32, DType.INT16, DType.INT64) for t in tensors)
        bytes_ = all(t.quant is None or t.quant.bits == 8 for t in tensors)
        if plain and bytes_ and graph.tensors[graph.inputs[0]].dtype is DType.INT8:
            found.append((case.name, to_uint8(to_tflite(graph))))
    return found


@pytest.mark.parametrize("first", range(0, SEEDS, 25))
def test_random_networks_of_uint8_give_the_bytes_of_the_runtime(first: int) -> None:
    wide = 0
    for seed in range(first, first + 25):
        model = uint8_network(seed)
        graph = read_tflite(model)
        wide += sum(t.dtype is DType.INT16 for t in graph.tensors.values())
        assert_equal_to_the_runtime(model, np.random.default_rng(seed), graph)
    assert wide > 5


def test_the_passes_keep_every_byte_of_a_network_of_uint8() -> None:
    for seed in range(10):
        graph = read_tflite(uint8_network(seed))
        samples = random_samples(graph, np.random.default_rng(seed), 3)
        ours = run_samples(run_passes(graph, INT_PASSES), samples)
        for y, z in zip(ours, run_samples(graph, samples), strict=True):
            np.testing.assert_array_equal(y, z)


def test_a_network_of_uint8_is_compared_with_the_runtime_layer_by_layer() -> None:
    """It is written as uint8 again, so that a runtime can be asked about every layer."""
    name = runtime().name
    compared = 0
    for seed in range(8):
        graph = read_tflite(uint8_network(seed))
        samples = random_samples(graph, np.random.default_rng(seed), 1)
        ours, theirs = trace(graph, samples), trace(graph, samples, name)
        for layer, values in theirs.items():
            assert values.dtype == ours[layer].dtype
            np.testing.assert_array_equal(ours[layer], values)
            compared += 1
    assert compared > 40


def test_a_part_of_a_network_of_uint8_is_asked_of_the_runtime_with_int8_at_its_ends() -> None:
    whole = read_tflite(uint8_network(0))
    layers = [n.outputs[0] for n in whole.nodes if n.op in ("conv2d", "fully_connected")]
    part = cut(whole, [layers[0]], [layers[-1]])
    ends = (*part.inputs, *part.outputs)
    assert {part.tensors[n].dtype for n in ends} == {DType.INT8}
    samples = random_samples(part, np.random.default_rng(0), 4)
    found, _ = ask_oracles(part, samples, run_samples(part, samples))
    assert found == {runtime().name: 0}
    name = runtime().name
    for layer, values in trace(part, samples, name).items():
        np.testing.assert_array_equal(trace(part, samples)[layer], values)


@pytest.mark.parametrize("op", SAME)
def test_an_op_of_uint8_gives_the_bytes_of_the_runtime(op: str) -> None:
    cases = uint8_cases(op)
    assert cases
    for name, model in cases:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        assert_equal_to_the_runtime(model, rng, read_tflite(model))


@pytest.mark.parametrize("op", WHERE_EQUAL)
def test_an_op_of_uint8_is_taken_where_it_is_proven_and_else_refused(op: str) -> None:
    taken = 0
    refused = []
    for name, model in uint8_cases(op):
        try:
            graph = read_tflite(model)
        except UnsupportedModel as e:
            refused.append(str(e))
            continue
        taken += 1
        assert_equal_to_the_runtime(model, np.random.default_rng(zlib.crc32(name.encode())), graph)
    assert taken > 5
    assert refused
    assert all(REMEDY in reason for reason in refused)


@pytest.mark.parametrize("op", REFUSED)
def test_an_op_that_is_another_in_uint8_is_refused_by_name(op: str) -> None:
    model = uint8_cases(op)[0][1]
    with pytest.raises(UnsupportedModel, match="in uint8 it computes otherwise than in int8") as e:
        read_tflite(model)
    assert REMEDY in str(e.value)
    assert "_int8'" not in str(e.value)


def test_the_multiplier_is_the_float32_product_that_the_runtime_forms() -> None:
    """A case whose sums lie near ties: with the double product of int8 it would differ."""
    (model,) = [m for n, m in uint8_cases("fully_connected") if n == "near_ties_of_rounded_scales"]
    graph = read_tflite(model)
    (node,) = [n for n in graph.nodes if n.op == "fully_connected"]
    assert node.attrs.as_uint8
    samples = random_samples(graph, np.random.default_rng(1), 200)
    theirs = runtime().run(model, samples)[0]
    np.testing.assert_array_equal(run_samples(graph, samples)[0], theirs)
    double = replace(node, attrs=replace(node.attrs, as_uint8=False))
    nodes = [double if n is node else n for n in graph.nodes]
    assert np.any(run_samples(rebuild(graph, nodes=nodes), samples)[0] != theirs)


def test_weights_are_int8_where_they_fit_and_int16_of_nine_bits_where_not() -> None:
    def with_zero(zero: int) -> tuple[DType, Array]:
        def change(model: Any) -> None:
            (weights,) = [t for t in model.subgraphs[0].tensors if list(t.shape) == [8, 8]]
            weights.quantization.zeroPoint = [zero]

        graph = read_tflite(edit(dense(), change))
        (node,) = [n for n in graph.nodes if n.op == "fully_connected"]
        w = graph.tensors[node.inputs[1]]
        return w.dtype, w.value()

    stored = with_zero(0)[1]
    kinds = {}
    for zero in (0, 128, 200):
        kind, w = with_zero(zero)
        np.testing.assert_array_equal(w.astype(np.int64), stored.astype(np.int64) - zero)
        kinds[zero] = kind
    assert kinds == {0: DType.INT16, 128: DType.INT8, 200: DType.INT16}


def dense() -> bytes:
    net = Net("net", np.random.default_rng(0))
    x = net.input((1, 8))
    y = net.node("fully_connected", [x, net.weights((8, 8), x)], FullyConnectedAttrs(), name="fc")
    return to_uint8(to_tflite(net.graph([y])))


def test_inputs_and_outputs_keep_their_names_and_stay_uint8() -> None:
    file = schema.ModelT.InitFromPackedBuf(dense(), 0).subgraphs[0]
    graph = read_tflite(dense())
    names = [file.tensors[i].name.decode() for i in (*file.inputs, *file.outputs)]
    assert [*graph.inputs, *graph.outputs] == names
    assert {graph.tensors[n].dtype for n in names} == {DType.UINT8}


def test_a_layer_of_uint8_has_no_form_in_onnx() -> None:
    with pytest.raises(UnsupportedModel, match=r"'fc.*computes as TFLite's uint8 kernel does"):
        to_onnx_qdq(read_tflite(dense()))


def _cast(model: Any) -> None:
    sub = model.subgraphs[0]
    out = schema.TensorT(shape=[1, 8], type=schema.TensorType.INT32, buffer=0, name="wide")
    sub.tensors.append(out)
    code = schema.OperatorCodeT(deprecatedBuiltinCode=53, builtinCode=53)
    model.operatorCodes.append(code)
    sub.operators.append(
        schema.OperatorT(
            opcodeIndex=len(model.operatorCodes) - 1,
            inputs=np.array([sub.outputs[0]], np.int32),
            outputs=np.array([len(sub.tensors) - 1], np.int32),
        )
    )
    sub.outputs = np.array([len(sub.tensors) - 1], np.int32)


def _int8_output(model: Any) -> None:
    sub = model.subgraphs[0]
    out = sub.tensors[sub.outputs[0]]
    out.type, out.quantization.zeroPoint = schema.TensorType.INT8, [0]


def _several_scales(model: Any) -> None:
    (weights,) = [t for t in model.subgraphs[0].tensors if list(t.shape) == [8, 8]]
    weights.quantization.scale = np.full(8, 0.01, np.float32)
    weights.quantization.zeroPoint = np.full(8, 128, np.int64)


def _no_scale(model: Any) -> None:
    sub = model.subgraphs[0]
    sub.tensors[sub.outputs[0]].quantization = None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_cast, "CAST 'wide'.*it casts quantized uint8 values"),
        (_int8_output, "mixes uint8 with other quantized types"),
        (_several_scales, "is uint8 with 8 scales; allowed: one"),
        (_no_scale, "is uint8 without a scale, in a model of quantized uint8"),
    ],
)
def test_tensors_without_a_counterpart_in_int8_are_refused(
    change: Callable[[Any], None], reason: str
) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        read_tflite(edit(dense(), change))


def test_all_constant_inputs_of_a_checked_op_are_refused() -> None:
    maker = FileMaker()
    quant = schema.QuantizationParametersT(scale=[0.1], zeroPoint=[3])
    kind = schema.TensorType.UINT8
    x = maker.tensor("x", (1, 4), kind, quantization=quant)
    c = maker.tensor("c", (1, 4), kind, np.arange(4, dtype=np.uint8), quant)
    product = maker.tensor("product", (1, 4), kind, quantization=quant)
    y = maker.tensor("y", (1, 4), kind, quantization=quant)
    maker.operator("MUL", [c, c], [product], schema.MulOptionsT())
    maker.operator("ADD", [x, product], [y], schema.AddOptionsT())
    with pytest.raises(UnsupportedModel, match="its uint8 inputs are all constant"):
        read_tflite(maker.finish([x], [y]))


def joined(seed: int) -> bytes:
    """A concatenation of two inputs of other scales than the output's, and one of the same."""
    rng = np.random.default_rng(seed)
    maker, kind = FileMaker(), schema.TensorType.UINT8

    def quant(factor: float) -> Any:
        zero = int(rng.integers(0, 256))
        return schema.QuantizationParametersT(scale=[0.1 * factor], zeroPoint=[zero])

    same = quant(1.0)
    quants = [quant(rng.uniform(0.2, 3)), same, quant(rng.uniform(0.2, 3))]
    inputs = [maker.tensor(f"x{i}", (1, 6, 8), kind, quantization=q) for i, q in enumerate(quants)]
    y = maker.tensor("y", (1, 18, 8), kind, quantization=same)
    maker.operator("CONCATENATION", inputs, [y], schema.ConcatenationOptionsT(axis=1))
    return maker.finish(inputs, [y])


def test_a_concatenation_of_several_scales_is_taken_where_it_is_proven_and_else_refused() -> None:
    taken = 0
    refused = []
    for seed in range(40):
        try:
            graph = read_tflite(joined(seed))
        except UnsupportedModel as e:
            refused.append(str(e))
            continue
        taken += 1
        assert_equal_to_the_runtime(joined(seed), np.random.default_rng(seed), graph)
    assert taken > 10
    assert refused
    assert all("has another scale than the output" in r and REMEDY in r for r in refused)


def test_a_model_that_only_converts_uint8_is_read_as_it_is() -> None:
    def change(model: Any) -> None:
        sub = model.subgraphs[0]
        x = sub.tensors[sub.inputs[0]]
        outer = schema.TensorT(
            shape=x.shape,
            type=schema.TensorType.UINT8,
            buffer=0,
            name="bytes",
            quantization=schema.QuantizationParametersT(
                scale=x.quantization.scale, zeroPoint=[x.quantization.zeroPoint[0] + 128]
            ),
        )
        sub.tensors.append(outer)
        code = schema.OperatorCodeT(deprecatedBuiltinCode=114, builtinCode=114)
        model.operatorCodes.append(code)
        convert = schema.OperatorT(
            opcodeIndex=len(model.operatorCodes) - 1,
            inputs=np.array([len(sub.tensors) - 1], np.int32),
            outputs=np.array([sub.inputs[0]], np.int32),
        )
        sub.operators.insert(0, convert)
        sub.inputs = np.array([len(sub.tensors) - 1], np.int32)

    net = Net("net", np.random.default_rng(0))
    x = net.input((1, 8))
    y = net.node("fully_connected", [x, net.weights((8, 8), x)], FullyConnectedAttrs())
    graph = read_tflite(edit(to_tflite(net.graph([y])), change))
    assert [n.op for n in graph.nodes] == ["quantize", "fully_connected"]
    assert not graph.nodes[1].attrs.as_uint8
