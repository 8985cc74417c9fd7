"""The stage that lets weights share values: what it leaves, files, stops, devices."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.command import run as command

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("torch_pruning", reason="pruning needs torch-pruning")

from support.corners import corner_samples  # noqa: E402
from tinsmith.pipeline.coding.container import decode_weights  # noqa: E402
from tinsmith.pipeline.config import load_config  # noqa: E402
from tinsmith.pipeline.flow import Event, run_flow  # noqa: E402
from tinsmith.pipeline.stages import stages_of  # noqa: E402
from tinsmith.pipeline.stages.cluster import CODED  # noqa: E402

MODELS = """
from torch import nn

def Big(classes): return net(16, classes)
def Small(classes): return net(8, classes)

def net(width, classes):
    return nn.Sequential(nn.Conv2d(1, width, 3, stride=2, bias=False), nn.BatchNorm2d(width),
                         nn.ReLU(), nn.Conv2d(width, 16, 3), nn.ReLU(), nn.Flatten(),
                         nn.Linear(16 * 9, classes))

class Rows(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.lstm = nn.LSTM(12, 12, batch_first=True)
        self.head = nn.Linear(12, classes)
    def forward(self, x):
        return self.head(self.lstm(x.flatten(1, 2))[0][:, -1])
"""

CONFIG = """
[run]
name = "few"
out = "out"
[data]
source = "npz"
path = "data.npz"
[teacher]
model = "models.py:Big"
epochs = 4
batch = 20
[distil]
model = "models.py:Small"
epochs = 6
batch = 20
learning_rate = 1e-2
[prune]
scope = "weights"
density = 0.4
epochs = 3
batch = 20
[cluster]
bits = 4
layer_bits = { "0" = 6 }
epochs = 3
batch = 20
[quantize]
calibration = 50
[generate]
targets = ["cortex-m0plus"]
[gates]
cluster_drop = 20
"""


def project_in(folder: Path, config: str = CONFIG) -> Path:
    samples = corner_samples(240, 40)
    x, y = (samples.x_train[:, 0] * 255).to(torch.uint8).numpy(), samples.y_train.numpy()
    np.savez(folder / "data.npz", x_train=x[:180], y_train=y[:180], x_test=x[180:], y_test=y[180:])
    (folder / "models.py").write_text(MODELS)
    (folder / "tinsmith.toml").write_text(config)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the tests that leave it as it is."""
    return project_in(tmp_path_factory.mktemp("cluster"))


def run(project: Path, out: str, stop: str | None = None) -> dict[str, Path]:
    def listen(event: Event) -> None:
        if stop and event.stage == "cluster" and event.message.startswith(stop):
            raise KeyboardInterrupt

    stages = stages_of(load_config(project))
    return run_flow(stages, project / out, to="cluster", progress=listen)


def weights(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "weights.pt", weights_only=True)
    return found


def test_weights_share_values_zeros_stay_and_the_file_is_what_was_measured(project: Path) -> None:
    folders = run(project, "out")
    pruned, clustered = weights(folders["prune"]), weights(folders["cluster"])
    most = {"0": 63, "3": 15, "6": 15}
    metrics = json.loads((folders["cluster"] / "metrics.json").read_text())
    for name, count in most.items():
        before, after = pruned[f"{name}.weight"], clustered[f"{name}.weight"]
        assert torch.equal(before == 0, after == 0)
        values = after[after != 0].unique()
        assert 1 < len(values) <= count
        assert metrics["values"][name] == len(values)
        assert not torch.equal(before, after)
    data = (folders["cluster"] / CODED).read_bytes()
    for name, array in decode_weights(data).items():
        np.testing.assert_array_equal(array, clustered[name].float().numpy())
    coded = metrics["coded_bytes"]
    assert coded["shared"] == len(data)
    assert coded["shared"] < coded["int8"] < coded["float32"]
    assert coded["float32"] == 4 * sum(w.numel() for w in pruned.values())
    assert metrics["accuracy"] >= metrics["before"]["accuracy"] - 10


def test_a_run_reports_it_and_the_device_computes_its_bytes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("run", project) == 0
    printed = " ".join(capsys.readouterr().out.split())
    report = json.loads((project / "out" / "report.json").read_text())
    coded = report["coded_bytes"]
    assert f"weights, coded in a file: {coded['shared']:,} bytes" in printed
    assert list(report["accuracy"]) == [
        "teacher", "student", "pruned", "clustered", "int8", "device"
    ]  # fmt: skip
    assert report["accuracy"]["device"] == report["accuracy"]["int8"]
    assert "cluster_drop" in {gate["name"] for gate in report["gates"]}
    assert report["validation"]["cortex-m0plus"]["mismatches"] == 0


def test_a_stage_that_was_stopped_goes_on_to_the_same_file(project: Path) -> None:
    whole = run(project, "out")
    shutil.copytree(project / "out", project / "stopped", symlinks=True)
    for kept in (project / "stopped" / ".cache").glob("cluster-*"):
        shutil.rmtree(kept)
    with pytest.raises(KeyboardInterrupt):
        run(project, "stopped", "epoch 2/3")
    rest = run(project, "stopped")
    for name in (CODED, "weights.pt", "metrics.json"):
        assert (whole["cluster"] / name).read_bytes() == (rest["cluster"] / name).read_bytes()


def test_matrices_of_an_lstm_share_values_and_are_trained(tmp_path: Path) -> None:
    text = CONFIG.replace("Small", "Rows").replace('{ "0" = 6 }', '{ "lstm.weight_hh_l0" = 5 }')
    folders = run(project_in(tmp_path, text), "out")
    pruned, clustered = weights(folders["prune"]), weights(folders["cluster"])
    for name, count in {
        "lstm.weight_ih_l0": 15,
        "lstm.weight_hh_l0": 31,
        "head.weight": 15,
    }.items():
        before, after = pruned[name], clustered[name]
        assert torch.equal(before == 0, after == 0)
        assert 1 < len(after[after != 0].unique()) <= count
    metrics = json.loads((folders["cluster"] / "metrics.json").read_text())
    assert metrics["epochs"][-1]["loss"] < metrics["epochs"][0]["loss"]


def test_without_bits_the_stage_takes_no_part_and_one_layer_is_enough(tmp_path: Path) -> None:
    def names(cluster: str) -> list[str]:
        head, _, tail = CONFIG.partition("[cluster]")
        rest = tail[tail.index("[quantize]") :]
        text = f"{head}[cluster]\n{cluster}\n{rest}"
        return [stage.name for stage in stages_of(load_config(project_in(tmp_path, text)))]

    assert "cluster" not in names("epochs = 3")
    assert "cluster" in names('layer_bits = { "6" = 3 }')


def test_a_layer_that_is_not_there_is_told_with_those_that_are(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(project, "out")
    shutil.copytree(project, tmp_path / "other", symlinks=True)
    (tmp_path / "other" / "tinsmith.toml").write_text(CONFIG.replace('"0" = 6', '"9" = 6'))
    assert command("run", tmp_path / "other", "--to", "cluster") == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert "[cluster] layer_bits: there is no layer '9'; allowed: 0, 3, 6" in printed
