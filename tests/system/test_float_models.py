"""Float models that others trained: the same numbers as the runtimes give, and as int8 as good."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from support.goldens import FLOAT, model_path, pairs, stored
from tinsmith.pipeline import interpreter
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.graph import Array, Graph, dequantize_array
from tinsmith.pipeline.model_files import ReadOptions, read_model, to_input
from tinsmith.pipeline.quantization import quantize

CALIBRATION = 50  # samples of those there are


def run(graph: Graph, x: Array) -> list[NDArray[np.float64]]:
    """The outputs in real values, each sample flat."""
    tensor = graph.tensors[graph.inputs[0]]
    ys = interpreter.run_samples(graph, {tensor.name: to_input(x, tensor, "x")}, batch=8)
    real = []
    for name, y in zip(graph.outputs, ys, strict=True):
        quant = graph.tensors[name].quant
        values = y if quant is None else dequantize_array(y, quant)
        real.append(values.reshape(len(y), -1).astype(np.float64))
    return real


def quantized(name: str, kind: str) -> tuple[Graph, Graph, dict[str, Array]]:
    """(float graph, int8 graph calibrated on the first samples, all samples)."""
    graph, data = read_model(model_path(name)).graph, stored(kind, name)
    x = data["x"].astype(np.float32)
    tensor = graph.tensors[graph.inputs[0]]
    return graph, quantize(graph, {tensor.name: to_input(x[:CALIBRATION], tensor, "x")}), data


def relative(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize(("kind", "name"), pairs(FLOAT))
def test_a_float_model_gives_what_the_runtimes_give_within_a_hundred_thousandth(
    name: str, kind: str
) -> None:
    """More only where the runtimes, which sum in float32, are as far from each other."""
    data = stored(kind, name)
    outputs = run(read_model(model_path(name)).graph, data["x"])
    for i, y in enumerate(outputs):
        keys = [k for k in data if k in {f"y_{r}{s}" for r in ("tflm", "ref", "opt")
                                         for s in ("", f"_{i}")}]  # fmt: skip
        theirs = {k: data[k].reshape(y.shape).astype(np.float64) for k in keys}
        assert theirs
        spread = max(relative(a, b) for a in theirs.values() for b in theirs.values())
        nearest = min(relative(y, want) for want in theirs.values())
        assert nearest <= max(1e-5, spread), (nearest, spread)


@pytest.mark.parametrize("name", ["mlperf_tiny/ic_resnet8_float", "tflm/mnist_lstm_float"])
def test_a_float_classifier_made_int8_is_as_often_right(name: str) -> None:
    graph, small, data = quantized(name, "goldens_real")
    labels = data["label"]
    right = [float(np.mean(run(g, data["x"])[0].argmax(axis=1) == labels)) for g in (graph, small)]
    assert right[0] > 0.7
    assert right[1] >= right[0] - 0.02


def test_a_float_autoencoder_made_int8_reconstructs_as_well() -> None:
    """The figure of the task is the mean squared error; the int8 model of its makers has 10.265."""
    graph, small, data = quantized("mlperf_tiny/ad01_fp32", "goldens_real")
    x = data["x"].reshape(len(data["x"]), -1)
    errors = [float(np.mean((run(g, data["x"])[0] - x) ** 2)) for g in (graph, small)]
    assert errors[1] <= errors[0] * 1.1


def test_a_float_visual_wake_word_model_made_int8_decides_alike() -> None:
    graph, small, data = quantized("mlperf_tiny/vww_96_float", "goldens")
    real, near = run(graph, data["x"])[0], run(small, data["x"])[0]
    np.testing.assert_array_equal(real.argmax(axis=1), near.argmax(axis=1))
    assert np.abs(real - near).max() < 0.1


def test_a_speech_detector_of_branches_is_refused_with_every_layer_that_is_not_supported() -> None:
    shapes = {"input": (1, 576), "state": (2, 1, 128)}
    path = model_path("onnx/silero_vad_16k_op15")
    with pytest.raises(UnsupportedModel) as error:
        read_model(path, ReadOptions(shapes=shapes))
    told = str(error.value)
    for layer in ("stft/padding/Pad", "decoder/If", "decoder/If_1", "decoder/Equal", "model/If"):
        assert f"{layer}'" in told
    assert "supported ONNX ops" in told
