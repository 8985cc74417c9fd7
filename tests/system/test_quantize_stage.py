"""The stage `quantize` with weights of few bits, a budget of bytes and learned rounding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")

from support.corner_network import SAMPLES, trained  # noqa: E402
from tinsmith.pipeline.config import load_config  # noqa: E402
from tinsmith.pipeline.errors import ConfigError  # noqa: E402
from tinsmith.pipeline.flow import Artifact  # noqa: E402
from tinsmith.pipeline.model_files import read_model  # noqa: E402
from tinsmith.pipeline.quantization.quantize import layers_with_weights  # noqa: E402
from tinsmith.pipeline.report.run_report import collect  # noqa: E402
from tinsmith.pipeline.stages.quantize import QuantizeStudent  # noqa: E402

CONFIG = """
[data]
source = "npz"
path = "data.npz"
[teacher]
model = "corner_network.py:Net"
[distil]
model = "corner_network.py:Net"
[generate]
targets = ["cortex-m4"]
[quantize]
calibration = 100
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """What the stages before leave: samples, and a trained network."""
    load, prune = (tmp_path_factory.mktemp(name) for name in ("load", "prune"))
    np.savez(
        load / "data.npz",
        x_train=SAMPLES.x_train.numpy(),
        y_train=SAMPLES.y_train.numpy(),
        x_test=SAMPLES.x_test.numpy(),
        y_test=SAMPLES.y_test.numpy(),
        classes=np.int64(4),
        pixels=np.bool_(True),
    )
    trained(prune)
    return {name: Artifact(name, "", "", p) for name, p in (("load", load), ("prune", prune))}


def quantized(folder: Path, before: dict[str, Artifact], keys: str) -> dict[str, Any]:
    """The metrics of the stage run with these keys; told what it says."""
    (folder / "tinsmith.toml").write_text(CONFIG + keys)
    out = folder / "out"
    out.mkdir()
    lines: list[str] = []

    def tell(message: str, fraction: float | None = None) -> None:
        lines.append(message)

    QuantizeStudent.from_config(load_config(folder)).run(before, out, tell)
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return {**metrics, "told": lines}


def most(folder: Path) -> list[int]:
    """The largest integer of each layer's weights in the file."""
    graph = read_model(folder / "out" / "model.tflite").graph
    nodes = {node.name: node for node in graph.nodes}
    return [
        int(np.abs(graph.tensors[nodes[name].inputs[1]].value()).max())
        for name in layers_with_weights(graph)
    ]


def test_a_budget_of_weight_bytes_is_kept_and_reported(
    before: dict[str, Artifact], tmp_path: Path
) -> None:
    # 54 + 54 + 36 + 432 + 96 + 48 weights
    found = quantized(tmp_path, before, "weight_bytes = 400\n")
    assert found["weight_bytes"] <= 400
    assert {"int4"} < set(found["layers"].values()) <= {"int8", "int4", "int2"}
    assert any(line.startswith("layer 6/6 '") for line in found["told"])
    limits = {"int8": 127, "int4": 7, "int2": 2}
    largest = [limits[grid] for grid in found["layers"].values()]
    assert all(a <= b for a, b in zip(most(tmp_path), largest, strict=True))
    report = collect(load_config(tmp_path), {"quantize": tmp_path / "out"})
    assert report["weights"] == {k: found[k] for k in ("weight_bytes", "layers")}


def test_a_budget_that_is_too_small_says_what_is_needed(
    before: dict[str, Artifact], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"weight_bytes = 150 can't be met: .* take 181 bytes"):
        quantized(tmp_path, before, "weight_bytes = 150\n")


def test_rounding_is_learned_on_the_calibration_images(
    before: dict[str, Artifact], tmp_path: Path
) -> None:
    found = quantized(tmp_path, before, 'weights = "int4"\nrounding = "adaround"\n')
    assert max(most(tmp_path)) <= 7
    lines = [line for line in found["told"] if line.startswith("rounding layer")]
    shares = [int(line.rpartition(": ")[2].split(" %")[0]) for line in lines]
    assert len(shares) == 6
    assert min(shares) < 80
    assert max(shares) <= 100


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('weights = "int4"\nweight_bytes = 900\n', 'leave weights = "int4" out'),
        ('rounding = "adaround"\nepochs = 2\n', "training moves the weights away"),
        ('rounding = "adaround"\nweights = "binary"\n', "allowed with it: int8, int4, int2"),
        ('weights = "int3"\n', "weights.*int8"),
        ("weight_bytes = 0\n", "weight_bytes"),
    ],
)
def test_keys_that_do_not_go_together_are_refused_by_name(
    keys: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "tinsmith.toml").write_text(CONFIG + keys)
    with pytest.raises(ConfigError, match=rf"(?s)\[quantize\].*{message}"):
        load_config(tmp_path)
