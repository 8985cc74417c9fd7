"""The stage `prune` in other scopes than channels, from the configuration to what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("torch_pruning", reason="pruning needs torch-pruning")

from support.corners import corners  # noqa: E402
from tinsmith.pipeline.config import load_config  # noqa: E402
from tinsmith.pipeline.deployment import make_program, temporary_build  # noqa: E402
from tinsmith.pipeline.errors import ConfigError  # noqa: E402
from tinsmith.pipeline.flow import Event, run_flow  # noqa: E402
from tinsmith.pipeline.interpreter import run_samples  # noqa: E402
from tinsmith.pipeline.model_files import read_model  # noqa: E402
from tinsmith.pipeline.quantization import quantize  # noqa: E402
from tinsmith.pipeline.stages.distil import DistilStudent  # noqa: E402
from tinsmith.pipeline.stages.load import Load  # noqa: E402
from tinsmith.pipeline.stages.prune import PruneStudent  # noqa: E402
from tinsmith.pipeline.stages.teacher import TrainTeacher  # noqa: E402
from tinsmith.pipeline.validation import random_samples, run_device  # noqa: E402
from tinsmith.targets.target import target_named  # noqa: E402

MODELS = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                         nn.Flatten(), nn.Linear(200, classes))

class Wide(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
                         nn.Conv2d(16, 24, 3, stride=2, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
                         nn.Flatten(), nn.Linear(24 * 16, classes))

class Signal(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Flatten(1, 2), nn.Conv1d(12, 24, 3, bias=False), nn.BatchNorm1d(24),
                         nn.ReLU(), nn.Conv1d(24, 32, 3, stride=2), nn.ReLU(),
                         nn.Flatten(), nn.Linear(32 * 4, classes))

class Rows(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.lstm = nn.LSTM(12, 24, batch_first=True)
        self.head = nn.Linear(24 * 12, classes)

    def forward(self, x):
        return self.head(self.lstm(x.flatten(1, 2))[0].flatten(1))
"""

CONFIG = """
[data]
source = "npz"
path = "data.npz"
[augment]
rotate_degrees = 0
shift_pixels = 0
scale = 0
shear = 0
[teacher]
model = "models.py:{model}"
epochs = 8
batch = 20
learning_rate = 8e-3
[distil]
model = "models.py:{model}"
start = "teacher"
epochs = {epochs}
batch = 20
[prune]
epochs = 3
batch = 20
{prune}
"""


def run(folder: Path, prune: str, model: str = "Net", epochs: int = 0) -> tuple[Any, list[str]]:
    parts = {}
    for seed, (name, count) in enumerate({"train": 160, "test": 80}.items()):
        x, y = corners(count, seed)
        parts[f"x_{name}"] = (255 * x[:, 0]).round().byte().numpy()
        parts[f"y_{name}"] = y.numpy()
    np.savez(folder / "data.npz", **parts)
    (folder / "models.py").write_text(MODELS)
    (folder / "tinsmith.toml").write_text(CONFIG.format(prune=prune, model=model, epochs=epochs))
    config, told = load_config(folder), []

    def listen(event: Event) -> None:
        if event.stage == "prune":
            told.append(event.message)

    stages = [s.from_config(config) for s in (Load, TrainTeacher, DistilStudent, PruneStudent)]
    return run_flow(stages, folder / "out", progress=listen), told


def metrics(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("prune", "message"),
    [
        ("macs = 0.01", r"\[prune\] macs: \d+ MACs can't be reached"),
        ('scope = "hidden"', "no hidden units can go: the network has no LSTM"),
    ],
)
def test_what_can_not_go_is_told_before_the_teacher_is_trained(
    prune: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, prune)
    cache = tmp_path / "out" / ".cache"
    assert any(cache.glob("load-*")) and not any(cache.glob("teacher-*"))


def test_two_of_four_weights_are_zeros_in_the_integer_graph_and_the_stage_says_what_for(
    tmp_path: Path,
) -> None:
    made, told = run(
        tmp_path, 'scope = "blocks"\nblock = 1\nof = 4\nallocation = "uniform"\nsteps = 1'
    )
    # The student is its teacher: nothing was trained between them.
    same = ("accuracy", "parameters", "macs")
    assert [metrics(made["distil"])[k] for k in same] == [metrics(made["teacher"])[k] for k in same]
    found = metrics(made["prune"])
    assert found["density"]["4"] == 0.5
    assert found["macs"] == found["before"]["macs"]
    coded = found["coded_bytes"]
    assert coded["after"] < 0.9 * coded["before"]
    assert f"coded as int8 {coded['after']:,} bytes instead of {coded['before']:,}" in told[-2]
    assert "firmware holds zeros like other weights" in told[-2]
    graph = read_model(made["prune"] / "model.onnx").graph
    integers = quantize(graph, random_samples(graph, 8))
    (dense,) = [n for n in integers.nodes if n.op == "fully_connected"]
    weights = integers.tensors[dense.inputs[1]].data
    assert weights is not None
    assert np.count_nonzero(weights) <= weights.size // 2


def test_rewinding_takes_the_weights_that_distil_kept(tmp_path: Path) -> None:
    made, _ = run(
        tmp_path, 'schedule = "rewind"\nmacs = 0.5\nsteps = 2\nrewind_epoch = 1', epochs=3
    )
    assert (made["distil"] / "early.pt").exists()
    found = metrics(made["prune"])
    assert found["macs"] <= 0.5 * found["before"]["macs"]
    assert len(found["epochs"]) == 6
    assert found["accuracy"] >= 90


@pytest.mark.parametrize(
    ("model", "prune", "layers"),
    [
        ("Rows", 'scope = "hidden"\nmacs = 0.5\nsteps = 1', ["lstm"]),
        ("Wide", 'criterion = "taylor"\nmacs = 0.5\nsteps = 1', ["0", "3"]),
        ("Signal", 'criterion = "entropy"\nmacs = 0.5\nsteps = 1', ["1", "4"]),
    ],
)
def test_fewer_units_and_channels_are_fewer_instructions_and_bytes_on_the_device(
    model: str, prune: str, layers: list[str], tmp_path: Path
) -> None:
    made, _ = run(tmp_path, prune, model)
    found = metrics(made["prune"])
    assert found["macs"] <= 0.5 * found["before"]["macs"]
    assert found["accuracy"] >= found["before"]["accuracy"] - 2
    assert {r["layer"] for r in found["removed"]} <= {*layers}
    counted = []
    for stage in ("distil", "prune"):
        graph = read_model(made[stage] / "model.onnx").graph
        integers = quantize(graph, random_samples(graph, 8))
        program = make_program(integers, "net", target_named("cortex-m4"))
        with temporary_build(program, target_named("cortex-m4")) as built:
            shown = random_samples(integers, 1)
            said, instructions, _ = run_device(built, shown)
            sizes = built.image.sizes
        assert np.array_equal(said[0], run_samples(integers, shown)[0])
        assert sizes is not None
        counted.append((instructions, sizes.flash_bytes))
    (before, before_flash), (after, after_flash) = counted
    assert after < 0.7 * before
    assert after_flash < before_flash
