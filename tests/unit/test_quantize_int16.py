"""Quantization to int16 activations: parameters, biases, the error that is left, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from support.case import q
from support.float_nets import exact_net, residual_net, samples_of
from support.more_growers import lstm_node
from support.nets import Net
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.errors import ConfigError, UnsupportedModel
from tinsmith.pipeline.exporters.onnx import to_onnx_qdq
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.onnx import read_onnx
from tinsmith.pipeline.graph import Array, DType, Graph, GraphBuilder, dequantize_array
from tinsmith.pipeline.numerics import quantize_array
from tinsmith.pipeline.ops import OPS, lstm
from tinsmith.pipeline.ops.lstm import LstmAttrs
from tinsmith.pipeline.quantization import QuantizeOptions, quantize
from tinsmith.pipeline.quantization.observers import OBSERVERS
from tinsmith.pipeline.quantization.ranges import symmetric

WIDE = QuantizeOptions(activations=16)


def real_outputs(graph: Graph, samples: dict[str, Array]) -> Array:
    """The first output as real numbers, of float samples."""
    feeds = {
        name: x if (t := graph.tensors[name]).quant is None else quantize_array(x, t.quant, t.dtype)
        for name, x in samples.items()
    }
    out = graph.tensors[graph.outputs[0]]
    y = interpreter.run_samples(graph, feeds)[0]
    return y if out.quant is None else dequantize_array(y, out.quant)


def error(graph: Graph, bits: int) -> float:
    """The root of the mean squared difference from float, over that of the float outputs."""
    samples = samples_of(graph, 40)
    want = real_outputs(graph, samples)
    quantized = quantize(graph, samples, QuantizeOptions(activations=bits))
    got = real_outputs(quantized, samples)
    return float(np.sqrt(np.mean((got - want) ** 2) / np.mean((want - want.mean()) ** 2)))


def test_with_weights_that_int8_holds_the_error_is_a_hundredth_of_that_of_int8() -> None:
    assert error(exact_net(), 16) < error(exact_net(), 8) / 100


def test_the_error_of_the_weights_is_what_is_left_beside_int16() -> None:
    assert error(residual_net(), 16) < error(residual_net(), 8) * 0.7


def test_activations_are_symmetric_int16_and_weights_int8_with_int64_biases() -> None:
    graph = residual_net()
    quantized = quantize(graph, samples_of(graph), WIDE)
    biases = 0
    for node in quantized.nodes:
        op, tensors = OPS[node.op], [quantized.tensors[i] for i in node.inputs if i]
        for i, t in enumerate(tensors):
            if i == op.weights:
                assert (t.dtype, t.quant is not None and t.quant.zero_point) == (DType.INT8, (0,))
            elif i == op.bias:
                assert t.dtype is DType.INT64
                biases += 1
            elif not t.is_constant:
                assert t.dtype is DType.INT16 and t.zero_point == 0
    assert biases > 3


def test_a_range_becomes_the_scale_that_holds_both_of_its_ends() -> None:
    assert symmetric(-2.0, 1.0).scale[0] == np.float32(2.0 / 32767)
    assert symmetric(-1.0, 5.0).scale[0] == np.float32(5.0 / 32767)
    assert symmetric(0.0, 0.0).scale == (1.0,)
    assert symmetric(-1e-44, 1e-44).scale == (1.0,)


def test_outputs_of_softmax_have_the_scale_that_the_op_fixes_for_int16() -> None:
    graph = residual_net()
    quantized = quantize(graph, samples_of(graph), WIDE)
    assert quantized.tensors[quantized.outputs[0]].scale == 1 / 32768


@pytest.mark.parametrize("observer", sorted(OBSERVERS))
def test_every_observer_has_the_steps_of_int16(observer: str) -> None:
    graph = exact_net()
    samples = samples_of(graph, 30)
    options = QuantizeOptions(activations=16, observer=observer, percentile=100.0)
    quantized = quantize(graph, samples, options)
    peak = float(np.abs(samples["x"]).max())
    assert quantized.tensors["x"].scale == pytest.approx(peak / 32767, rel=0.02)


def test_the_file_of_an_int16_network_computes_the_same_in_tflite_micro() -> None:
    if "tflite-micro" not in oracles.installed_oracles():
        pytest.skip("the oracle tflite-micro is not installed")
    graph = residual_net()
    quantized = quantize(graph, samples_of(graph), WIDE)
    x = quantized.tensors["x"]
    assert x.quant is not None
    feeds = {"x": quantize_array(samples_of(graph, 9)["x"], x.quant, x.dtype)}
    theirs = oracles.oracle("tflite-micro").run(to_tflite(quantized), feeds)[0]
    np.testing.assert_array_equal(interpreter.run_samples(quantized, feeds)[0], theirs)


def test_float_borders_are_named_by_their_type() -> None:
    graph = exact_net()
    options = QuantizeOptions(activations=16, float_io=True)
    quantized = quantize(graph, samples_of(graph), options)
    assert quantized.tensors["x_int16"].dtype is DType.INT16
    assert quantized.tensors[quantized.outputs[0]].dtype is DType.FLOAT32


def test_other_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match="activations of 12 bits; allowed: 8, 16"):
        QuantizeOptions(activations=12)


def test_layers_without_an_int16_form_are_listed() -> None:
    b = GraphBuilder("net")
    x = b.input("x", (1, 4, 4, 2))
    graph = b.build([b.node("hard_swish", [x], name="act")])
    with pytest.raises(
        UnsupportedModel, match=r"(?s)no int16 form:\n  hard_swish 'act': type int16"
    ):
        quantize(graph, samples_of(graph), WIDE)


def test_a_model_that_carries_int8_parameters_keeps_them() -> None:
    graph = exact_net()
    carried = read_onnx(to_onnx_qdq(quantize(graph, samples_of(graph))))
    assert not carried.is_quantized or carried.tensors["x"].dtype is DType.INT8
    if not carried.is_quantized:
        with pytest.raises(UnsupportedModel, match="carries the parameters of an int8 model"):
            quantize(carried, None, WIDE)


def test_an_lstm_keeps_its_cell_and_gets_int64_biases() -> None:
    net = Net("net", np.random.default_rng(3))
    x = net.input((1, 5, 7), dtype=DType.FLOAT32)
    graph = net.graph([lstm_node(net, x, 6, LstmAttrs(), q(1.0))])
    samples = samples_of(graph, 30)
    quantized = quantize(graph, samples, WIDE)
    node = next(n for n in quantized.nodes if n.op == "lstm")
    assert {quantized.tensors[node.inputs[i]].dtype for i in lstm.BIASES} == {DType.INT64}
    assert quantized.tensors[node.inputs[lstm.HIDDEN]].dtype is DType.INT16
    want, got = real_outputs(graph, samples), real_outputs(quantized, samples)
    assert float(np.abs(got - want).max()) < 0.02
