"""A depthwise convolution of one input channel becomes a convolution, of the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from support.nets import Net, random_samples
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.graph import Activation, DType, Graph
from tinsmith.pipeline.ops.depthwise_conv2d import DepthwiseConv2dAttrs
from tinsmith.pipeline.oracles import installed_oracles
from tinsmith.pipeline.passes import INT_PASSES, run_passes


def depthwise(
    channels: int, multiplier: int, axis: int | None = 3, bias: bool = True,
    dtype: DType = DType.INT8,
) -> Graph:  # fmt: skip
    net = Net("net", np.random.default_rng(1))
    x = net.input((1, 9, 11, channels), 0.05, 4 if dtype is DType.INT8 else 0, dtype)
    w = net.weights((1, 4, 3, channels * multiplier), x, axis=axis, fan_in=12)
    operands = [x, w, net.bias(w, x, channels * multiplier)] if bias else [x, w]
    attrs = DepthwiseConv2dAttrs((2, 1), (1, 2), (1, 2, 2, 1), Activation.RELU)
    return net.graph([net.node("depthwise_conv2d", operands, attrs, saturate=0.02)])


@pytest.mark.parametrize("multiplier", [1, 8])
@pytest.mark.parametrize("axis", [3, None])
@pytest.mark.parametrize("bias", [True, False])
def test_one_input_channel_is_a_convolution_of_the_same_bytes(
    multiplier: int, axis: int | None, bias: bool
) -> None:
    before = depthwise(1, multiplier, axis, bias)
    after = run_passes(before, INT_PASSES)
    assert [n.op for n in after.nodes] == ["conv2d"]
    samples = random_samples(before, np.random.default_rng(2), 6)
    (want,) = interpreter.run_samples(before, samples)
    (have,) = interpreter.run_samples(after, samples)
    np.testing.assert_array_equal(have, want)
    assert len(np.unique(want)) > 20
    for oracle in installed_oracles().values():
        for graph in (before, after):
            (got,) = oracle.run(to_tflite(graph), dict(samples))
            np.testing.assert_array_equal(got.reshape(want.shape), want)


@pytest.mark.parametrize(("channels", "dtype"), [(2, DType.INT8), (1, DType.INT16)])
def test_others_stay_what_they_are(channels: int, dtype: DType) -> None:
    graph = depthwise(channels, 2, dtype=dtype)
    assert [n.op for n in run_passes(graph, INT_PASSES).nodes] == ["depthwise_conv2d"]
