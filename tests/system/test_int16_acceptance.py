"""What we write with int16 activations is taken by tflite-runtime, LiteRT and Vela."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.float_nets import exact_net, residual_net, samples_of
from support.goldens import goldens, model_path
from support.nets import random_samples
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.pipeline.model_files import read_model, to_input
from tinsmith.pipeline.quantization import QuantizeOptions, quantize

NETS = {"exact": exact_net, "residual": residual_net}


def int16_net(name: str) -> tuple[Graph, dict[str, Array]]:
    graph = NETS[name]()
    quantized = quantize(graph, samples_of(graph), QuantizeOptions(activations=16))
    return quantized, random_samples(quantized, np.random.default_rng(0), 5)


@pytest.mark.parametrize("name", NETS)
def test_tflite_runtime_gives_the_same_bytes_for_an_int16_network(name: str) -> None:
    if oracles.TFLITE_REF.name not in oracles.installed_oracles():
        pytest.skip("tflite-runtime is not installed")
    graph, samples = int16_net(name)
    theirs = oracles.TFLITE_REF.run(to_tflite(graph), samples, isolated=True)[0]
    np.testing.assert_array_equal(theirs, interpreter.run_samples(graph, samples)[0])


@pytest.mark.parametrize("name", NETS)
def test_litert_takes_an_int16_network_and_differs_by_a_step_at_most(name: str) -> None:
    runtime: Any = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    graph, samples = int16_net(name)
    session = runtime(model_content=to_tflite(graph))
    session.allocate_tensors()
    place, out = session.get_input_details()[0], session.get_output_details()[0]
    want = interpreter.run_samples(graph, samples)[0]
    for x, y in zip(samples["x"], want, strict=True):
        session.set_tensor(place["index"], x)
        session.invoke()
        gap = session.get_tensor(out["index"]).astype(int) - y.astype(int)
        assert np.abs(gap).max() <= 1


@pytest.mark.parametrize("name", NETS)
def test_vela_puts_every_layer_of_an_int16_network_on_the_ethos_u55(
    name: str, tmp_path: Path
) -> None:
    if importlib.util.find_spec("ethosu") is None:
        pytest.skip("ethos-u-vela is not installed")
    model = tmp_path / "model.tflite"
    model.write_bytes(to_tflite(int16_net(name)[0]))
    code = "from ethosu.vela.vela import main; main()"
    flags = ["--accelerator-config", "ethos-u55-128", "--output-dir", str(tmp_path), str(model)]
    done = subprocess.run(
        [sys.executable, "-c", code, *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CPU operators = 0 " in done.stdout


@pytest.mark.parametrize("name", ["mlperf_tiny/ic_resnet8_float", "mlperf_tiny/ad01_fp32"])
def test_a_trained_network_on_real_samples_gives_the_bytes_of_tflite_micro(name: str) -> None:
    if oracles.TFLM.name not in oracles.installed_oracles():
        pytest.skip("tflite-micro is not installed")
    graph = read_model(model_path(name)).graph
    (source,) = graph.inputs
    for golden in goldens(graph, name):
        x = to_input(golden.x, graph.tensors[source], name)
        quantized = quantize(graph, {source: x}, QuantizeOptions(activations=16))
        feeds = {source: to_input(x, quantized.tensors[source], name)}
        y = interpreter.run_samples(quantized, feeds)[0]
        theirs = oracles.TFLM.run(to_tflite(quantized), feeds, isolated=True)[0]
        assert len(np.unique(y)) > 8
        np.testing.assert_array_equal(theirs.reshape(y.shape), y)
