"""What `make demo` left: the example's promises hold. Run `make demo` first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinsmith.pipeline import interpreter
from tinsmith.pipeline.model_files import read_model, to_input
from tinsmith.pipeline.oracles import installed_oracles

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "mnist"


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    if not (OUT / "report.json").exists():
        pytest.skip("there is no build/mnist: run `make demo`")
    loaded: dict[str, Any] = json.loads((OUT / "report.json").read_text())
    return loaded


def test_the_teacher_is_accurate_and_the_student_small_and_near_it(report: dict[str, Any]) -> None:
    accuracy, parameters = report["accuracy"], report["parameters"]
    assert report["test_samples"] == 1000
    assert accuracy["teacher"] >= 97.0
    assert parameters["student"] <= parameters["teacher"] / 10
    assert accuracy["teacher"] - accuracy["student"] <= 1.0 + 1e-9


def test_pruning_and_int8_cost_little(report: dict[str, Any]) -> None:
    accuracy, macs = report["accuracy"], report["macs"]
    assert macs["pruned"] <= 0.7 * macs["student"]
    assert accuracy["student"] - accuracy["pruned"] <= 0.5 + 1e-9
    assert accuracy["pruned"] - accuracy["int8"] <= 0.5 + 1e-9


def test_every_device_equals_the_interpreter_on_all_outputs(report: dict[str, Any]) -> None:
    for target in ("host", "cortex-m0plus", "cortex-m4", "raspberry-pi-4"):
        fields = report["validation"][target]
        assert fields["samples"] == 1000
        assert fields["mismatches"] == 0
        assert fields["accuracy"] == report["accuracy"]["int8"]
    assert all(count == 0 for count in report["validation"]["host"]["oracles"].values())


def test_the_firmware_fits_a_small_cortex_m0plus(report: dict[str, Any]) -> None:
    fields = report["validation"]["cortex-m0plus"]
    # What the model leaves: 2 KB of flash for start-up and the application's own, 1 KB of RAM.
    assert fields["flash_bytes"] <= (32 - 2) * 1024
    assert fields["arena_bytes"] + fields["stack_bytes"] <= (8 - 1) * 1024


@pytest.mark.parametrize("name", ["tflite-micro", "tflite-runtime"])
def test_every_layer_of_the_exported_model_equals_the_oracle(
    report: dict[str, Any], name: str
) -> None:
    oracle = installed_oracles().get(name)
    if oracle is None:
        pytest.skip(f"the oracle {name} is not installed")
    path = OUT / "quantize" / "model.tflite"
    graph = read_model(path).graph
    entry = graph.tensors[graph.inputs[0]]
    with np.load(OUT / "load" / "data.npz") as file:
        images = to_input(file["x_test"][:20].transpose(0, 2, 3, 1), entry, "the test images")
    for image in images:
        tensors, _ = interpreter.run(graph, {entry.name: image})
        layers = oracle.run_layers(path.read_bytes(), {entry.name: image})
        shared = [n for node in graph.nodes for n in node.outputs if n in layers]
        assert len(shared) >= len(graph.nodes) - 1
        for tensor in shared:
            assert np.array_equal(layers[tensor].reshape(-1), tensors[tensor].reshape(-1)), tensor
