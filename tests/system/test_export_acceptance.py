"""What we write is taken by everybody: tflite-micro, tflite-runtime, LiteRT, Vela, onnxruntime."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.goldens import INT8, Golden, goldens, load, model_path
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.onnx import to_onnx_qdq
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.onnx import read_onnx
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import Array, Graph, dequantize_array
from tinsmith.pipeline.model_files import read_model, to_input
from tinsmith.pipeline.quantization import quantize
from tinsmith.pipeline.validation import interpret

SAMPLES = 6
OURS = ("mlperf_tiny/ic_resnet8_float", "mlperf_tiny/ad01_fp32", "tflm/mnist_lstm_float")
# LiteRT, tflite-runtime and onnxruntime round fully connected layers otherwise than tflite-micro
# (see docs/validation.md); by how many steps of the output.
ROUNDING_STEPS = 8


@functools.cache
def graph_of(name: str) -> Graph:
    """An int8 model as we write it: one that is int8 already, or a float one that we quantized."""
    graph = read_model(model_path(name)).graph
    if graph.is_quantized:
        return graph
    tensor = graph.tensors[graph.inputs[0]]
    (golden, *_) = goldens(graph, name)
    return quantize(graph, {tensor.name: to_input(golden.x, tensor, "x")})


def samples_of(graph: Graph, name: str) -> tuple[Golden, Array]:
    """A golden and its first samples in the graph's own type."""
    golden = goldens(graph, name)[0]
    return golden, to_input(golden.x[:SAMPLES], graph.tensors[graph.inputs[0]], "x")


def expected(graph: Graph, golden: Golden, x: Array) -> Array:
    feeds = {graph.inputs[0]: x}
    run = interpret if golden.stateful else interpreter.run_samples
    return run(graph, feeds)[0]


@pytest.mark.parametrize("name", [*INT8, *OURS])
def test_tflite_micro_gives_the_same_bytes_for_what_we_write(name: str) -> None:
    if oracles.TFLM.name not in oracles.installed_oracles():
        pytest.skip("tflite-micro is not installed")
    graph = graph_of(name)
    golden, x = samples_of(graph, name)
    want = expected(graph, golden, x)
    model = to_tflite(graph)
    theirs = oracles.TFLM.run(model, {0: x}, stateful=golden.stateful, isolated=True)[0]
    np.testing.assert_array_equal(theirs.reshape(want.shape), want)


def litert(model: bytes, x: Array) -> Array:
    interpreter_of: Any = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    session = interpreter_of(model_content=model)
    session.allocate_tensors()
    place, out = session.get_input_details()[0], session.get_output_details()[0]
    rows = []
    for sample in x:
        session.set_tensor(place["index"], sample.reshape(place["shape"]))
        session.invoke()
        rows.append(session.get_tensor(out["index"]))
    return np.stack(rows)


def tflite_runtime(model: bytes, x: Array) -> Array:
    if oracles.TFLITE_REF.name not in oracles.installed_oracles():
        pytest.skip("tflite-runtime is not installed")
    return oracles.TFLITE_REF.run(model, {0: x}, stateful=True, isolated=True)[0]


@pytest.mark.parametrize("runtime", [litert, tflite_runtime])
@pytest.mark.parametrize("name", [*INT8, *OURS])
def test_the_other_runtimes_take_what_we_write_and_differ_by_their_rounding_alone(
    name: str, runtime: Any
) -> None:
    graph = graph_of(name)
    golden, x = samples_of(graph, name)
    if graph.state and not golden.stateful:
        x = x[:1]  # they keep the state from sample to sample
    want = expected(graph, golden, x)
    theirs = runtime(to_tflite(graph), x).reshape(want.shape)
    gap = np.abs(theirs.astype(int) - want.astype(int)).max()
    exact = not any(n.op in ("fully_connected", "lstm") for n in graph.nodes)
    if exact and runtime is tflite_runtime:
        assert gap == 0
    assert gap <= ROUNDING_STEPS


@pytest.mark.parametrize("name", [*INT8, *OURS])
def test_vela_compiles_what_we_write_for_the_ethos_u55(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("ethosu") is None:
        pytest.skip("ethos-u-vela is not installed")
    graph = graph_of(name)
    model = tmp_path / "model.tflite"
    model.write_bytes(to_tflite(graph))
    code = "from ethosu.vela.vela import main; main()"
    flags = ["--accelerator-config", "ethos-u55-128", "--output-dir", str(tmp_path), str(model)]
    done = subprocess.run(
        [sys.executable, "-c", code, *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "model_vela.tflite").exists()
    found = re.search(r"CPU operators = (\d+)", done.stdout)
    assert found is not None
    if not name.startswith("microwakeword"):  # variables stay on the processor
        assert int(found[1]) == 0


@pytest.mark.parametrize("name", [*INT8, *OURS])
def test_onnxruntime_gives_the_same_values_for_the_qdq_model_but_for_rounding(name: str) -> None:
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    graph = graph_of(name)
    if graph.state or any(n.op == "lstm" for n in graph.nodes):
        with pytest.raises(UnsupportedModel, match=r"state|not exported to ONNX"):
            to_onnx_qdq(graph)
        return
    golden, x = samples_of(graph, name)
    source, out = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    assert source.quant is not None and out.quant is not None
    want = expected(graph, golden, x)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(to_onnx_qdq(graph), options, ["CPUExecutionProvider"])
    place = session.get_inputs()[0]
    rows = []
    for sample in x:
        real = dequantize_array(sample, source.quant)
        if real.ndim == 4:
            real = real.transpose(0, 3, 1, 2)
        rows.append(session.run(None, {place.name: real.reshape(place.shape)})[0])
    gap = np.abs(np.stack(rows).reshape(want.shape) - dequantize_array(want, out.quant))
    assert float(gap.max()) <= (ROUNDING_STEPS + 0.5) * out.scale
    assert float(gap.mean()) <= out.scale


@pytest.mark.parametrize("name", [*INT8, *OURS])
def test_what_we_write_is_read_again_as_the_same_graph_and_written_as_the_same_bytes(
    name: str,
) -> None:
    first = read_tflite(to_tflite(graph_of(name)), "net")
    written = to_tflite(first)
    again = read_tflite(written, "net")
    assert again.nodes == first.nodes
    assert (again.inputs, again.outputs) == (first.inputs, first.outputs)
    assert list(again.tensors) == list(first.tensors)
    for tensor, other in zip(again.tensors.values(), first.tensors.values(), strict=True):
        facts = [(t.name, t.shape, t.dtype, t.quant, t.is_constant) for t in (tensor, other)]
        assert facts[0] == facts[1]
        if tensor.is_constant:
            np.testing.assert_array_equal(tensor.value(), other.value())
    assert to_tflite(again) == written


@pytest.mark.parametrize("name", ["mlperf_tiny/kws_ref_model_int8", "tflm/person_detect_int8"])
def test_a_qdq_model_that_we_write_is_read_again_as_the_same_bytes(name: str) -> None:
    graph = graph_of(name)
    golden, x = samples_of(graph, name)
    again = read_onnx(to_onnx_qdq(graph))
    (tensor,) = (again.tensors[n] for n in again.inputs)
    (got,) = interpreter.run_samples(again, {tensor.name: x.reshape(len(x), *tensor.shape)})
    want = expected(graph, golden, x)
    np.testing.assert_array_equal(got.reshape(want.shape), want)


def test_a_model_that_litert_refuses_is_taken_after_we_wrote_it() -> None:
    """The file's scales have the axis of the weights for the bias too, as old converters wrote."""
    path = model_path("tflm/person_detect_int8")
    x = np.zeros((1, 1, 96, 96, 1), np.int8)
    with pytest.raises((RuntimeError, ValueError)):
        litert(path.read_bytes(), x)
    assert litert(to_tflite(load("tflm/person_detect_int8")), x).shape[0] == 1
