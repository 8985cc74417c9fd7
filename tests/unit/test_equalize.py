"""Equalization and bias correction: the same float network, and less lost on the way to int8."""

from __future__ import annotations

import numpy as np
import pytest

from tinsmith.pipeline.errors import DataError
from tinsmith.pipeline.graph import Activation, Graph, GraphBuilder, dequantize_array
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.leaky_relu import LeakyReluAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.quantization import QuantizeOptions, quantize
from tinsmith.pipeline.quantization.equalize import equalize

RNG = np.random.default_rng(2)

SAME = (1, 1, 1, 1)
RELU = Activation.RELU


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def spread(count: int) -> np.ndarray:
    """Factors from a thousandth to a thousand."""
    return (10.0 ** RNG.uniform(-3, 3, count)).astype(np.float32)


def inverted_bottleneck(*, branch: bool = False) -> Graph:
    """Pointwise, depthwise of multiplier 2, pooling, leaky relu, pointwise, flatten, dense; the
    channels between have ranges that differ by up to a million, which the next layer undoes.

    branch: the first layer's channels are an output as well.
    """
    s, d, t = spread(6), spread(12), spread(5)
    b = GraphBuilder("net")
    x = b.input("x", (1, 6, 6, 3))
    w1 = b.constant("w1", floats(6, 1, 1, 3) * s[:, None, None, None])
    b1 = b.constant("b1", floats(6) * s)
    first = b.node("conv2d", [x, w1, b1], Conv2dAttrs(activation=RELU), name="expand")
    w2 = b.constant("w2", floats(1, 3, 3, 12) * d / np.repeat(s, 2))
    y = b.node(
        "depthwise_conv2d",
        [first, w2, b.constant("b2", floats(12) * d)],
        DepthwiseConv2dAttrs(pads=SAME, activation=RELU),
        name="depthwise",
    )
    y = b.node("average_pool2d", [y], Pool2dAttrs((2, 2), (2, 2)), name="pool")
    y = b.node("leaky_relu", [y], LeakyReluAttrs(0.1), name="leaky")
    w3 = b.constant("w3", floats(5, 1, 1, 12) * t[:, None, None, None] / d)
    y = b.node("conv2d", [y, w3], Conv2dAttrs(activation=RELU), name="project")
    y = b.node("reshape", [y], ReshapeAttrs((1, 45)), name="flat")
    w4 = b.constant("w4", floats(4, 45) / np.tile(t, 9))
    out = b.node("fully_connected", [y, w4], FullyConnectedAttrs(), name="dense")
    return b.build([out, first] if branch else [out])


def samples(count: int = 40) -> dict[str, np.ndarray]:
    return {"x": floats(count, 1, 6, 6, 3)}


def error(graph: Graph, options: QuantizeOptions, x: dict[str, np.ndarray]) -> float:
    """The root mean square error of the first output, beside its root mean square."""
    true = run_samples(graph, x)[0]
    quantized = quantize(graph, x, options)
    entry, out = (quantized.tensors[n[0]] for n in (quantized.inputs, quantized.outputs))
    q = np.rint(x["x"] / entry.scale + entry.zero_point).clip(-128, 127).astype(np.int8)
    got = dequantize_array(run_samples(quantized, {"x": q})[0], out.quant)
    return float(np.sqrt(np.mean((got - true) ** 2) / np.mean(true**2)))


def test_an_equalized_network_computes_the_same_with_like_ranges() -> None:
    graph, x = inverted_bottleneck(), samples()
    even = equalize(graph)
    np.testing.assert_allclose(
        run_samples(even, x)[0], run_samples(graph, x)[0], rtol=2e-4, atol=1e-3
    )

    def unevenness(g: Graph, name: str, axis: int) -> float:
        w = np.abs(np.moveaxis(g.tensors[name].value(), axis, 0))
        peaks = w.reshape(len(w), -1).max(axis=1)
        return float(peaks.max() / peaks.min())

    for name, axis in (("w1", 0), ("w2", 3), ("w3", 0)):
        assert unevenness(graph, name, axis) > 30
        assert unevenness(even, name, axis) < 8


def test_equalization_recovers_what_one_scale_a_tensor_loses() -> None:
    graph, x = inverted_bottleneck(), samples()
    lost = error(graph, QuantizeOptions(per_channel=False), x)
    kept = error(graph, QuantizeOptions(per_channel=False, equalize=True), x)
    assert lost > 0.5
    assert kept < 0.06


def test_channels_that_others_read_too_stay_as_they_are() -> None:
    graph = inverted_bottleneck(branch=True)
    even = equalize(graph)
    for name in ("w1", "b1"):
        np.testing.assert_array_equal(even.tensors[name].value(), graph.tensors[name].value())
    assert not np.array_equal(even.tensors["w3"].value(), graph.tensors["w3"].value())


def test_a_bound_that_does_not_scale_stops_equalization() -> None:
    b = GraphBuilder("net")
    x = b.input("x", (1, 4, 4, 2))
    y = b.node(
        "conv2d",
        [x, b.constant("w1", floats(3, 1, 1, 2))],
        Conv2dAttrs(activation=Activation.RELU6),
    )
    y = b.node("conv2d", [y, b.constant("w2", floats(2, 1, 1, 3))], Conv2dAttrs())
    graph = b.build([y])
    assert equalize(graph) is graph


def test_dead_channels_are_left_alone() -> None:
    b = GraphBuilder("net")
    w1, w2 = floats(3, 1, 1, 2), floats(2, 1, 1, 3)
    w1[1], w2[..., 2] = 0, 0
    x = b.input("x", (1, 4, 4, 2))
    y = b.node("conv2d", [x, b.constant("w1", w1)], Conv2dAttrs(activation=RELU))
    graph = b.build([b.node("conv2d", [y, b.constant("w2", w2)], Conv2dAttrs())])
    even = equalize(graph)
    assert np.isfinite(even.tensors["w1"].value()).all()
    np.testing.assert_array_equal(even.tensors["w1"].value()[2], w1[2])


def test_corrected_biases_take_back_the_mean_shift_of_rounded_weights() -> None:
    b = GraphBuilder("net")
    x = b.input("x", (1, 5, 5, 8))
    # Weights that are all rounded the same way: one large, the rest at 0.4 of a step.
    w = np.full((3, 1, 1, 8), 0.4, np.float32)
    w[..., 0] = 127
    dw = np.full((1, 3, 3, 6), 0.4, np.float32)
    dw[0, 1, 1] = 127
    y = b.node("conv2d", [x, b.constant("w", w)], Conv2dAttrs(activation=RELU), name="conv")
    y = b.node("conv2d", [y, b.constant("g", floats(6, 1, 1, 3))], Conv2dAttrs(), name="mix")
    graph = b.build([b.node("depthwise_conv2d", [y, b.constant("dw", dw)], DepthwiseConv2dAttrs())])
    x = {"x": (RNG.random((60, 1, 5, 5, 8)) + 0.5).astype(np.float32)}
    true = run_samples(graph, x)[0].mean(axis=(0, 1, 2, 3))

    def shift(options: QuantizeOptions) -> float:
        quantized = quantize(graph, x, options)
        entry, out = (quantized.tensors[n[0]] for n in (quantized.inputs, quantized.outputs))
        q = np.rint(x["x"] / entry.scale + entry.zero_point).clip(-128, 127).astype(np.int8)
        got = dequantize_array(run_samples(quantized, {"x": q})[0], out.quant)
        return float(np.abs(got.mean(axis=(0, 1, 2, 3)) - true).max() / np.abs(true).max())

    assert shift(QuantizeOptions(correct_biases=True)) < 0.25 * shift(QuantizeOptions())


@pytest.mark.parametrize("inputs", [16, 4, 2, 3])
def test_biases_are_corrected_where_rows_are_not_the_last_axis(inputs: int) -> None:
    b = GraphBuilder("net")
    x = b.input("x", (1, 4, 3, 4))
    w = np.full((3, inputs), 0.4, np.float32)
    w[:, 0] = 127
    graph = b.build([b.node("fully_connected", [x, b.constant("w", w)], FullyConnectedAttrs())])
    x = {"x": (RNG.random((60, 1, 4, 3, 4)) + 0.5).astype(np.float32)}
    true = run_samples(graph, x)[0].mean()

    def shift(options: QuantizeOptions) -> float:
        quantized = quantize(graph, x, options)
        entry, out = (quantized.tensors[n[0]] for n in (quantized.inputs, quantized.outputs))
        q = np.rint(x["x"] / entry.scale + entry.zero_point).clip(-128, 127).astype(np.int8)
        return float(
            abs(dequantize_array(run_samples(quantized, {"x": q})[0], out.quant).mean() - true)
        )

    assert shift(QuantizeOptions(correct_biases=True)) < 0.5 * shift(QuantizeOptions())


@pytest.mark.parametrize("option", ["equalize", "correct_biases"])
def test_samples_are_needed(option: str) -> None:
    with pytest.raises(DataError, match="need calibration samples; give some"):
        quantize(inverted_bottleneck(), None, QuantizeOptions(**{option: True}))
