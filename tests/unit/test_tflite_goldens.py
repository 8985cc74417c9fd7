"""Whole models that others trained give, byte for byte, what tflite-micro gives for them."""

from __future__ import annotations

import numpy as np
import pytest

from support import goldens
from support.goldens import load, pairs
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import Array, Graph

# Models with state are fed as sequences elsewhere; here each sample stands alone.
INT8 = tuple(name for name in goldens.INT8 if not name.startswith("microwakeword"))
FLOAT = tuple(name for name in goldens.FLOAT if not name.startswith("mediapipe"))
SAMPLES = 24


def golden(kind: str, name: str) -> dict[str, Array]:
    stored = goldens.stored(kind, name)
    return {key: array[:SAMPLES] for key, array in stored.items() if array.ndim}


def run(graph: Graph, x: Array) -> Array:
    """The first output for samples without a batch dimension."""
    name = graph.inputs[0]
    samples = x.reshape(len(x), *graph.tensors[name].shape)
    return interpreter.run_samples(graph, {name: samples}, batch=8)[0]


@pytest.mark.parametrize(("kind", "name"), pairs(INT8))
def test_an_int8_model_gives_the_bytes_of_tflite_micro(kind: str, name: str) -> None:
    graph = load(name)
    want = golden(kind, name)
    y = run(graph, want["x"])
    np.testing.assert_array_equal(y.reshape(want["y_tflm"].shape), want["y_tflm"])


@pytest.mark.parametrize(("kind", "name"), pairs(FLOAT))
def test_a_float_model_is_as_near_as_the_runtimes_are_to_each_other(kind: str, name: str) -> None:
    """Sums in float32 depend on their order; ours are in float64."""
    graph = load(name)
    want = golden(kind, name)
    y = run(graph, want["x"]).reshape(want["y_tflm"].shape)
    runtimes = [want[k] for k in ("y_tflm", "y_ref", "y_opt") if k in want]
    spread = max(float(np.abs(a - b).max()) for a in runtimes for b in runtimes)
    size = max(1.0, float(np.abs(want["y_tflm"]).max()))
    assert float(np.abs(y - want["y_tflm"]).max()) <= spread + 1e-5 * size


@pytest.mark.parametrize("name", INT8)
def test_a_model_that_is_written_again_gives_the_same_bytes(name: str) -> None:
    graph = load(name)
    if oracles.TFLM.name not in oracles.installed_oracles():
        pytest.skip("tflite-micro is not installed")
    model = to_tflite(graph)
    x = golden("goldens", name)
    again = read_tflite(model)
    assert [n.op for n in again.nodes] == [n.op for n in graph.nodes]
    (theirs,) = oracles.TFLM.run(model, {0: x["x"][:4]})
    np.testing.assert_array_equal(theirs.reshape(x["y_tflm"][:4].shape), x["y_tflm"][:4])


def test_a_hybrid_model_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedModel, match="dynamic-range quantization"):
        load("mlperf_tiny/kws_ref_model_float32")


def test_a_model_of_custom_ops_is_refused_with_all_of_them() -> None:
    with pytest.raises(UnsupportedModel) as error:
        load("tflm/audio_preprocessor_int8")
    for op in ("SignalWindow", "SignalRfft", "SignalFilterBankLog"):
        assert f"CUSTOM:{op}" in str(error.value)
