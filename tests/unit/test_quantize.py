"""Quantization after training: parameters, scale rules, given ranges, calibration data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tinsmith.pipeline.errors import ConfigError, DataError, UnsupportedModel
from tinsmith.pipeline.graph import (
    Activation,
    DType,
    Graph,
    GraphBuilder,
    QuantParams,
    dequantize_array,
)
from tinsmith.pipeline.interpreter import run, run_samples
from tinsmith.pipeline.ops.add import AddAttrs
from tinsmith.pipeline.ops.arg import ArgAttrs
from tinsmith.pipeline.ops.concatenation import ConcatenationAttrs
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.lstm import LstmAttrs
from tinsmith.pipeline.ops.pad import PadAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.softmax import SoftmaxAttrs
from tinsmith.pipeline.quantization import QuantizeOptions, calibrate, check_samples, quantize
from tinsmith.pipeline.quantization.observers import OBSERVERS, Seen
from tinsmith.pipeline.quantization.parameters import integer_parameters
from tinsmith.pipeline.quantization.ranges import asymmetric

RNG = np.random.default_rng(2)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def small_net() -> Graph:
    """conv with relu, depthwise, pool, flatten, fully connected, softmax; input x [1, 8, 8, 3]."""
    b = GraphBuilder("net")
    x = b.input("x", (1, 8, 8, 3))
    w, bias = b.constant("w", floats(4, 3, 3, 3)), b.constant("bias", floats(4))
    y = b.node("conv2d", [x, w, bias], Conv2dAttrs((2, 2), activation=Activation.RELU), name="conv")
    dw = b.constant("dw", floats(1, 3, 3, 4))
    y = b.node("depthwise_conv2d", [y, dw], DepthwiseConv2dAttrs(pads=(1, 1, 1, 1)), name="dws")
    y = b.node("max_pool2d", [y], Pool2dAttrs((2, 2), (1, 1)), name="pool")
    y = b.node("reshape", [y], ReshapeAttrs((1, 16)), name="flat")
    # Scaled by the fan-in: a softmax of logits of 60 would show the last bit of one of them.
    v = b.constant("v", floats(3, 16) / np.float32(16))
    y = b.node("fully_connected", [y, v], FullyConnectedAttrs(), name="fc")
    return b.build([b.node("softmax", [y], SoftmaxAttrs(), name="prob")])


def samples(graph: Graph, count: int = 8) -> dict[str, np.ndarray]:
    return {i: floats(count, *graph.tensors[i].shape) for i in graph.inputs}


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero"),
    [
        (-1.0, 1.0, 2 / 255, 0),  # -128 + 127.5 = -0.5, which rounds away from zero to -1 or 0
        (0.0, 6.0, 6 / 255, -128),
        (0.5, 2.0, 2 / 255, -128),
        (-3.0, -1.0, 3 / 255, 127),
        (-1.0, 3.0, 4 / 255, -64),
        (0.0, 0.0, 1.0, -128),
        (0.0, 1e-45, 1.0, -128),
    ],
)
def test_the_range_of_activations_holds_zero_as_tflites_converter_has_it(low, high, scale, zero):
    quant = asymmetric(low, high)
    assert quant.scale[0] == pytest.approx(scale, rel=1e-6)
    assert quant.zero_point[0] == pytest.approx(zero, abs=1 if low == -1.0 == -high else 0)
    assert dequantize_array(np.int8([quant.zero_point[0]]), quant)[0] == 0


def test_weights_are_symmetric_per_channel_and_never_minus_128():
    w = floats(4, 3, 3, 2)
    made = integer_parameters(w, np.zeros(4, np.float32), 0, 0.5)
    assert made.weights.min() >= -127
    assert np.abs(made.weights.reshape(4, -1)).max(axis=1).tolist() == [127] * 4
    np.testing.assert_allclose(made.weights_quant.scale, np.abs(w).max(axis=(1, 2, 3)) / 127, 1e-6)
    error = np.abs(dequantize_array(made.weights, made.weights_quant) - w)
    assert np.all(error <= made.weights_quant.scales.reshape(4, 1, 1, 1) * 0.5001)


def test_the_bias_has_the_float32_product_of_the_scales():
    w, b = floats(4, 5), floats(4)
    for axis in (0, None):
        made = integer_parameters(w, b, axis, 0.3)
        product = np.float32(0.3) * made.weights_quant.scales
        assert made.bias_quant.scale == tuple(float(p) for p in product)
        assert made.bias.dtype == np.int32
        np.testing.assert_allclose(
            dequantize_array(made.bias, made.bias_quant), b, atol=product.max()
        )


@pytest.mark.parametrize("axis", [0, None])
def test_a_bias_beyond_int32_raises_the_scale_of_its_weights(axis):
    w = np.array([[1e-9, -1e-9], [0.5, 1.0]], np.float32)
    if axis is None:
        w = w[:1]
    b = np.array([3.0, 0.1], np.float32)[: len(w)]
    made = integer_parameters(w, b, axis, 0.01)
    assert np.abs(made.bias.astype(np.int64)).max() <= (1 << 30) + 1
    np.testing.assert_allclose(dequantize_array(made.bias, made.bias_quant), b, rtol=1e-3)


def test_a_channel_of_zeros_keeps_its_bias():
    w = np.array([[0.0, 0.0], [0.5, 1.0]], np.float32)
    made = integer_parameters(w, np.array([0.25, 0.5], np.float32), 0, 0.01)
    np.testing.assert_allclose(dequantize_array(made.bias, made.bias_quant), [0.25, 0.5], rtol=1e-3)
    zeros = integer_parameters(np.zeros((2, 2), np.float32), np.zeros(2, np.float32), 0, 0.01)
    assert not zeros.weights.any()


@pytest.mark.parametrize("tiny", [1e-30, 1e-40])
def test_weights_near_zero_have_scales_that_float32_can_multiply(tiny):
    made = integer_parameters(np.full((2, 2), tiny, np.float32), np.zeros(2, np.float32), 0, 1e-9)
    assert all(s > 0 for s in made.bias_quant.scale)


def test_an_int8_graph_has_the_names_and_parameters_that_the_contract_says():
    graph = small_net()
    integer = quantize(graph, samples(graph))
    assert [n.name for n in integer.nodes] == [n.name for n in graph.nodes]
    assert [n.outputs for n in integer.nodes] == [n.outputs for n in graph.nodes]
    assert integer.is_quantized
    t = integer.tensors
    assert t["x"].dtype is t[integer.outputs[0]].dtype is DType.INT8
    assert (t["w"].quant.axis, t["dw"].quant.axis, t["v"].quant.axis) == (0, 3, None)
    assert t["bias"].quant.axis == 0
    assert t["conv_out"].zero_point == -128
    assert t["dws_out"].quant == t["pool_out"].quant == t["flat_out"].quant
    assert (t["prob_out"].scale, t["prob_out"].zero_point) == (1 / 256, -128)
    assert all(len(n.inputs) == 3 for n in integer.nodes if n.op in ("conv2d", "fully_connected"))


def test_scales_per_tensor_and_per_channel_are_options():
    graph = small_net()
    t = quantize(graph, samples(graph), QuantizeOptions(per_channel=False, per_channel_fc=True))
    assert (t.tensors["w"].quant.axis, t.tensors["v"].quant.axis) == (None, 0)


def test_int8_outputs_are_near_float_outputs():
    graph = small_net()
    x = samples(graph, 40)
    integer = quantize(graph, x, QuantizeOptions(float_io=True))
    assert integer.tensors["x"].dtype is DType.FLOAT32
    assert integer.outputs == graph.outputs
    assert [n.op for n in integer.nodes][:: len(integer.nodes) - 1] == ["quantize", "dequantize"]
    (want,), (got,) = run_samples(graph, x), run_samples(integer, x)
    assert np.abs(got - want).max() < 0.05


def test_given_ranges_replace_what_is_seen():
    graph = small_net()
    ranges = {"x": (0.0, 1.0), "conv_out": (0.0, 6.0), "pool_out": (-2.0, 2.0)}
    t = quantize(graph, samples(graph), QuantizeOptions(ranges=ranges)).tensors
    assert (t["x"].scale, t["x"].zero_point) == (float(np.float32(1) / np.float32(255)), -128)
    assert t["conv_out"].scale == float(np.float32(6) / np.float32(255))
    # A pool and a flatten have the scale of their input, so that what is given for one is for all.
    assert t["dws_out"].quant == t["flat_out"].quant == asymmetric(-2.0, 2.0)


@pytest.mark.parametrize("power_of_two", [False, True])
def test_symmetric_activations_have_the_zero_point_0_and_127_steps(power_of_two: bool) -> None:
    graph = small_net()
    x = samples(graph, 40)
    options = QuantizeOptions(symmetric=True, power_of_two=power_of_two)
    integer = quantize(graph, x, options)
    plain = quantize(graph, x, QuantizeOptions())
    assert integer.tensors["x"].zero_point == plain.tensors["x"].zero_point != 0
    t = integer.tensors
    made = [t[name] for node in integer.nodes[:-1] for name in node.outputs]
    assert {tensor.zero_point for tensor in made} == {0}
    assert t[integer.outputs[0]].zero_point == -128  # of softmax, which fixes it
    ranges = {"conv_out": (-0.5, 6.35), "pool_out": (-2.54, 2.0)}
    t = quantize(graph, x, replace(options, ranges=ranges)).tensors
    steps = (6.35 / 127, 2.54 / 127)
    if power_of_two:
        steps = (2.0**-4, 2.0**-5)
    assert (t["conv_out"].scale, t["dws_out"].scale) == pytest.approx(steps)
    borders = quantize(graph, x, replace(options, float_io=True))
    (want,), (got,) = run_samples(graph, x), run_samples(borders, x)
    assert np.abs(got - want).max() < 0.1


def test_a_constant_that_is_added_has_its_own_range():
    b = GraphBuilder("g")
    x = b.input("x", (1, 4, 4, 2))
    c = b.constant("c", np.array([[[[0.0, 5.1]]]], np.float32))
    graph = b.build([b.node("add", [x, c], AddAttrs())])
    t = quantize(graph, samples(graph)).tensors["c"]
    assert (t.dtype, t.zero_point, t.value().ravel().tolist()) == (DType.INT8, -128, [-128, 127])


def test_the_border_of_a_pad_belongs_to_the_range_of_its_input():
    b = GraphBuilder("g")
    x = b.input("x", (1, 4))
    graph = b.build([b.node("pad", [x], PadAttrs(((0, 0), (1, 1)), 50.0))])
    t = quantize(graph, samples(graph)).tensors
    assert t["x"].scale * (127 - t["x"].zero_point) == pytest.approx(50.0, rel=0.01)


def test_an_input_of_a_fixed_scale_changes_it_before_a_concatenation():
    b = GraphBuilder("g")
    x = b.input("x", (1, 4))
    p = b.node("softmax", [x], SoftmaxAttrs(), name="p")
    flat = b.node("reshape", [p], ReshapeAttrs((1, 4)), name="flat")
    y = b.node("concatenation", [flat, x], ConcatenationAttrs(1), name="y")
    graph = b.build([y])
    integer = quantize(graph, samples(graph))
    assert [n.op for n in integer.nodes] == ["softmax", "reshape", "quantize", "concatenation"]
    t = integer.tensors
    assert t["flat_out"].quant == t["p_out"].quant == QuantParams.per_tensor(1 / 256, -128)
    assert t["x"].quant == t["y_out"].quant


def test_a_bound_belongs_to_the_range_of_what_it_bounds():
    b = GraphBuilder("g")
    x = b.input("x", (1, 4))
    bound = b.constant("bound", np.float32(7.5).reshape(()))
    graph = b.build([b.node("minimum", [x, bound], name="low")])
    t = quantize(graph, samples(graph)).tensors
    assert t["x"].quant == t["bound"].quant == t["low_out"].quant
    assert int(t["bound"].value()) == 127


def lstm_net(steps: int) -> Graph:
    """A layer of 5 units over a sequence [1, steps, 3], with its state kept or not."""
    b = GraphBuilder("net")
    x = b.input("x", (1, steps, 3))
    sizes = [(5, 3)] * 4 + [(5, 5)] * 4 + [(5,)] * 4
    constants = [b.constant(f"p{i}", floats(*s)) for i, s in enumerate(sizes)]
    states = [b.state_var(n, np.zeros((1, 5), np.float32)) for n in ("hidden", "cell")]
    y, h, c = b.node_multi("lstm", [x, *constants, *states], LstmAttrs(), name="lstm")
    b.assign("hidden", h)
    b.assign("cell", c)
    return b.build([y])


def test_an_lstm_has_an_int16_cell_state_with_a_power_of_two_that_holds_every_step():
    graph = lstm_net(12)
    integer = quantize(graph, samples(graph, 20))
    t = integer.tensors
    cell, hidden = (next(s for s in integer.state if s.name == n) for n in ("cell", "hidden"))
    assert (t[cell.tensor].dtype, cell.initial.dtype) == (DType.INT16, np.int16)
    assert t[cell.tensor].quant == t[cell.next].quant
    assert np.log2(t[cell.tensor].scale) == round(np.log2(t[cell.tensor].scale))
    assert t[hidden.tensor].quant == t[hidden.next].quant == t[integer.outputs[0]].quant
    assert t["p0"].quant.axis is None
    assert t["p8"].scale == float(np.float32(t["x"].scale) * np.float32(t["p0"].scale))


def test_the_cell_state_between_the_steps_is_seen_too():
    """A sequence of many steps and one of single steps with the state kept have the same range."""
    graph = lstm_net(12)
    x = floats(1, 1, 12, 3)
    whole = calibrate(graph, {"x": x})
    single = calibrate(replace_input(graph, (1, 1, 3)), {"x": x.reshape(12, 1, 1, 3)})
    (cell,) = [s.next for s in graph.state if s.name == "cell"]
    assert whole[cell] == pytest.approx(single[cell], rel=1e-5)


def replace_input(graph: Graph, shape: tuple[int, ...]) -> Graph:
    tensors = {**graph.tensors, "x": replace(graph.tensors["x"], shape=shape)}
    out = graph.outputs[0]
    tensors[out] = replace(tensors[out], shape=(*shape[:2], 5))
    return Graph(graph.name, tensors, graph.nodes, graph.inputs, graph.outputs, graph.state)


def test_int8_lstm_outputs_follow_float_outputs():
    graph = lstm_net(12)
    x = samples(graph, 20)
    integer = quantize(graph, x, QuantizeOptions(float_io=True))
    (want,), (got,) = run_samples(graph, x), run_samples(integer, x)
    assert np.corrcoef(want.ravel(), got.ravel())[0, 1] > 0.99


def test_an_output_of_indices_stays_what_it_is_at_float_borders():
    b = GraphBuilder("g")
    graph = b.build([b.node("arg_max", [b.input("x", (1, 4))], ArgAttrs(1))])
    integer = quantize(graph, samples(graph), QuantizeOptions(float_io=True))
    assert [n.op for n in integer.nodes] == ["quantize", "arg_max"]


def test_constants_shared_by_two_layers_are_quantized_for_each():
    b = GraphBuilder("g")
    x = b.input("x", (1, 4))
    w, bias = b.constant("w", floats(4, 4)), b.constant("bias", floats(4))
    y = b.node("fully_connected", [x, w, bias], FullyConnectedAttrs())
    graph = b.build([b.node("fully_connected", [y, w, bias], FullyConnectedAttrs())])
    integer = quantize(graph, samples(graph))
    first, second = integer.nodes
    assert first.inputs[2] != second.inputs[2]
    for node in integer.nodes:
        x_t, w_t, b_t = (integer.tensors[i] for i in node.inputs)
        assert b_t.scale == float(np.float32(x_t.scale) * np.float32(w_t.scale))


def test_a_graph_of_zeros_is_quantized():
    graph = small_net()
    zeros = {"x": np.zeros((2, 1, 8, 8, 3), np.float32)}
    integer = quantize(graph, zeros)
    assert integer.tensors["x"].scale == 1.0
    run(integer, {"x": np.zeros((1, 8, 8, 3), np.int8)})


def test_samples_may_leave_out_a_leading_one_and_be_integers():
    graph = small_net()
    x = RNG.integers(0, 255, (5, 8, 8, 3)).astype(np.uint8)
    by_image = quantize(graph, {"x": x})
    by_sample = quantize(graph, {"x": x[:, None].astype(np.float32)})
    assert by_image.tensors["x"].quant == by_sample.tensors["x"].quant


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"no calibration samples, but 6 tensors have no range: x, conv_out"),
        ({"y": np.zeros((1, 1, 8, 8, 3))}, r"for the inputs \['y'\]; expected \['x'\]"),
        ({"x": np.zeros((2, 8, 8))}, r"have the shape \[2, 8, 8\]; expected \[N, 1, 8, 8, 3\]"),
        ({"x": np.float32(0)}, r"have the shape \[\]; expected"),
        ({"x": np.zeros((0, 1, 8, 8, 3))}, r"no calibration samples of 'x'"),
        ({"x": np.array([["a"]])}, r"are <U1; expected float32"),
        ({"x": np.full((1, 1, 8, 8, 3), np.nan)}, r"hold 192 values that are NaN or infinite"),
        ({"x": np.full((1, 1, 8, 8, 3), np.inf)}, r"hold 192 values that are NaN or infinite"),
    ],
)
def test_samples_that_do_not_fit_are_refused_with_what_is_expected(given, message):
    with pytest.raises(DataError, match=message):
        quantize(small_net(), given)


def test_inputs_with_samples_in_different_numbers_are_refused():
    b = GraphBuilder("g")
    x, z = b.input("x", (1, 2)), b.input("z", (1, 2))
    graph = b.build([b.node("add", [x, z], AddAttrs())])
    with pytest.raises(DataError, match=r"differ in number: \{'x': 3, 'z': 2\}"):
        quantize(graph, {"x": floats(3, 1, 2), "z": floats(2, 1, 2)})


def test_a_network_that_overflows_names_the_tensor():
    b = GraphBuilder("g")
    x = b.input("x", (1, 2))
    w = b.constant("w", np.full((2, 2), 3e38, np.float32))
    graph = b.build([b.node("fully_connected", [x, w], FullyConnectedAttrs(), name="fc")])
    with (
        np.errstate(all="ignore"),
        pytest.raises(DataError, match=r"'fc_out' becomes NaN or infinite"),
    ):
        quantize(graph, {"x": np.full((1, 1, 2), 1e3, np.float32)})


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match=r"observer 'mean' does not exist; allowed: minmax"):
        QuantizeOptions(observer="mean")
    with pytest.raises(ConfigError, match=r"percentile 20\.0; allowed: above 50"):
        QuantizeOptions(percentile=20.0)
    with pytest.raises(ConfigError, match=r"the range of 'x' is \[2\.0, 1\.0\]"):
        QuantizeOptions(ranges={"x": (2.0, 1.0)})
    graph = small_net()
    with pytest.raises(DataError, match=r"ranges are given for q, which the graph has not"):
        quantize(graph, samples(graph), QuantizeOptions(ranges={"q": (0.0, 1.0)}))


def test_a_quantized_graph_is_not_quantized_again():
    graph = small_net()
    with pytest.raises(DataError, match="is quantized already"):
        quantize(quantize(graph, samples(graph)), samples(graph))


def test_every_layer_without_an_int8_form_is_listed():
    graph = small_net()
    nodes = []
    for node in graph.nodes:
        if node.op in ("conv2d", "fully_connected"):  # as if their weights were computed
            node = replace(node, inputs=(node.inputs[0], f"{node.inputs[1]}_in", *node.inputs[2:]))
        nodes.append(node)
    tensors = dict(graph.tensors)
    for name in ("w", "v"):
        tensors[f"{name}_in"] = replace(tensors[name], name=f"{name}_in", data=None)
    broken = Graph("net", tensors, tuple(nodes), ("x", "w_in", "v_in"), graph.outputs)
    with pytest.raises(UnsupportedModel) as caught:
        quantize(broken, {})
    assert "conv2d 'conv': the weights are computed" in str(caught.value)
    assert "fully_connected 'fc': the weights are computed" in str(caught.value)


def test_many_samples_are_seen_like_single_ones():
    graph = small_net()
    x = check_samples(graph, samples(graph, 70))
    together = calibrate(graph, x)
    one_by_one = [calibrate(graph, {"x": x["x"][i : i + 1]}) for i in range(70)]
    for name, (low, high) in together.items():
        assert low == pytest.approx(min(r[name][0] for r in one_by_one), rel=1e-6)
        assert high == pytest.approx(max(r[name][1] for r in one_by_one), rel=1e-6)


def seen(values: np.ndarray) -> Seen:
    counts, edges = np.histogram(values, 2048)
    return Seen(float(edges[0]), float(edges[-1]), counts)


def test_percentile_and_mse_leave_out_what_is_rare():
    values = np.append(RNG.normal(size=100_000), [40.0, -30.0])
    whole = OBSERVERS["minmax"].choose(seen(values), 99.9)
    assert whole == (-30.0, 40.0)
    low, high = OBSERVERS["percentile"].choose(seen(values), 99.9)
    assert np.mean((values >= low) & (values <= high)) == pytest.approx(0.999, abs=5e-4)
    for observer in ("mse", "entropy"):
        low, high = OBSERVERS[observer].choose(seen(values), 99.9)
        assert -30.0 < low < -4.0
        assert 4.0 < high < 40.0


def test_entropy_keeps_all_of_values_that_are_spread_evenly():
    values = np.linspace(-1.0, 3.0, 50_000)
    assert OBSERVERS["entropy"].choose(seen(values), 99.9) == pytest.approx((-1.0, 3.0), abs=0.06)


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_entropy_does_not_mind_how_many_values_are_zero(low: float) -> None:
    values = RNG.normal(size=50_000).clip(low)
    some = values[values != 0]
    expected = OBSERVERS["entropy"].choose(seen(np.append(some, 0.0)), 99.9)
    many = np.append(some, np.zeros(500_000))
    assert OBSERVERS["entropy"].choose(seen(many), 99.9) == expected
    assert expected[1] > 0.5 * values.max()


@pytest.mark.parametrize("observer", OBSERVERS)
def test_an_observer_of_a_constant_gives_that_constant(observer):
    graph = small_net()
    x = np.full((4, 1, 8, 8, 3), 2.0, np.float32)
    quant = quantize(graph, {"x": x}, QuantizeOptions(observer=observer)).tensors["x"].quant
    assert quant == QuantParams.per_tensor(float(np.float32(2) / np.float32(255)), -128)
