"""`tinsmith compress` on a tiny data set: stopped, gone on with, and a budget that can't be met."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.command import run

pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("torch_pruning", reason="pruning needs torch-pruning")
pytest.importorskip("optuna", reason="the search needs optuna: pip install 'tinsmith[search]'")

MODELS = """
from torch import nn

def conv(i, o, k, s):
    return nn.Sequential(nn.Conv2d(i, o, k, stride=s, bias=False), nn.BatchNorm2d(o), nn.ReLU())

class Teacher(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(conv(1, 16, 3, 2), nn.Flatten(), nn.Linear(16 * 25, classes))
    def forward(self, x):
        return self.layers(x)

class Fixed(Teacher):
    pass

class Student(nn.Module):
    def __init__(self, classes, width=1.0):
        super().__init__()
        a, b = int(8 * width), int(16 * width)
        if not a:
            raise ValueError("no channels are left")
        self.layers = nn.Sequential(
            conv(1, a, 3, 2), conv(a, b, 3, 2), nn.Flatten(), nn.Linear(b * 4, classes)
        )
    def forward(self, x):
        return self.layers(x)
"""

CONFIG = """
[run]
name = "bars"
[data]
source = "npz"
path = "data.npz"
[augment]
rotate_degrees = 0
shift_pixels = 0
scale = 0
shear = 0
[teacher]
model = "models.py:Teacher"
epochs = 6
batch = 16
[distil]
model = "models.py:Student"
epochs = 8
batch = 16
[prune]
macs = 1.0
epochs = 3
steps = 1
batch = 16
[quantize]
calibration = 50
[compress]
epochs = 4
[compress.search]
distil.width = [1.0, 2.0, 8.0]
prune.macs = [1.0, 0.7]
"""

BUDGET = "flash=24KiB,ram=4KiB"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars in noise: level, upright, and both, on 12 x 12 pixels."""
    folder = tmp_path_factory.mktemp("compress")
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(600) % 3)
    x = rng.integers(0, 90, (600, 12, 12))
    for image, label, place in zip(x, y, rng.integers(1, 11, (600, 2)), strict=True):
        if label != 1:
            image[place[0]] += 110
        if label != 0:
            image[:, place[1]] += 110
    x = x.clip(0, 255).astype(np.uint8)
    arrays = {"x_train": x[:450], "y_train": y[:450], "x_test": x[450:], "y_test": y[450:]}
    np.savez(folder / "data.npz", **arrays)
    (folder / "models.py").write_text(MODELS)
    (folder / "tinsmith.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def report(project: Path) -> dict[str, Any]:
    """Two trials, the first of which was interrupted when it was trained, but not measured."""
    from tinsmith.pipeline.search import trial

    measure, calls = trial.measure, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*arguments)

    command = ("compress", project, "-t", "cortex-m0plus", "--budget", BUDGET, "--out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "measure", interrupted)
        assert run(*command, project / "out", "--trials", "2") == 130
    [trained] = (project / "out" / "work" / ".cache").glob("distil-*/weights.pt")
    when = trained.stat().st_mtime_ns
    json_file = project / "report.json"
    assert run(*command, project / "out", "--trials", "2", "--json", json_file) == 0
    assert trained.stat().st_mtime_ns == when, "what was trained is not trained again"
    loaded: dict[str, Any] = json.loads(json_file.read_text())
    return loaded


def test_a_search_goes_on_where_it_was_stopped(project: Path, report: dict[str, Any]) -> None:
    assert [trial["number"] for trial in report["trials"]] == [0, 1]
    first = report["trials"][0]
    assert first["place"] == {"distil.width": 1.0, "prune.macs": 1.0}
    assert len({json.dumps(trial["place"]) for trial in report["trials"]}) == 2
    for trial in report["trials"]:
        assert trial["status"] in ("done", "too large")
        assert (trial["status"] == "too large") == (trial["place"]["distil.width"] == 8.0)
    assert (project / "out" / "study.db").stat().st_size > 0


def test_an_estimate_before_training_is_near_what_is_measured(report: dict[str, Any]) -> None:
    for trial in report["trials"]:
        if trial["status"] == "done":
            estimate, costs = trial["estimate"], trial["costs"]
            assert estimate["flash"] == pytest.approx(costs["flash"], rel=0.15, abs=1024)
            assert estimate["ram"] == pytest.approx(costs["ram"], rel=0.15)
            assert estimate["instructions"] == pytest.approx(costs["instructions"], rel=0.15)


def test_the_chosen_firmware_has_the_sizes_of_its_trial(
    project: Path, report: dict[str, Any]
) -> None:
    chosen = report["chosen"]
    assert chosen["firmware"] == chosen["costs"] == report["trials"][chosen["number"]]["costs"]
    assert chosen["bit_exact"]
    assert chosen["firmware"]["flash"] <= 24576 and chosen["firmware"]["ram"] <= 4096
    assert chosen["accuracy"] > 60  # a third would be luck
    best = project / "out" / "best"
    text = (best / "sources" / "README.md").read_text()
    assert f"{chosen['firmware']['flash']:,}" in text
    assert (best / "sources" / "bars.c").is_file()
    from tinsmith.pipeline.config import load_config

    config = load_config(best)
    assert config.distil.width == chosen["place"]["distil.width"]
    assert config.data.validation == 0.1
    limits = config.gates.target["cortex-m0plus"]
    assert (limits.flash_bytes, limits.ram_bytes) == (24576, 4096)


def test_test_images_are_told_of_the_front_and_decide_nothing(report: dict[str, Any]) -> None:
    assert report["test_samples"] == 150 and report["validation_samples"] == 45
    assert set(report["test_accuracy"]) == {str(number) for number in report["front"]}
    accuracies = [report["trials"][number]["accuracy"] for number in report["front"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert report["chosen"]["accuracy"] == accuracies[0]


def test_the_table_the_plot_and_all_trials_are_written(
    project: Path, report: dict[str, Any]
) -> None:
    text = (project / "out" / "pareto.md").read_text()
    assert "| trial | distil.width | prune.macs | accuracy | drop | test |" in text
    assert "| chosen |" in text
    assert text.count("\n- trial") == 2
    assert (project / "out" / "pareto.svg").read_text().startswith("<svg")
    assert json.loads((project / "out" / "pareto.json").read_text()) == report


def test_a_budget_that_can_not_be_met_says_how_near_it_came(
    project: Path, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("compress", project, "-t", "cortex-m0plus", "--budget", "flash=2KiB,ram=4KiB")
    capsys.readouterr()
    assert run(*command, "--out", project / "out", "--trials", "1") == 1
    printed = capsys.readouterr()
    assert "a new search begins" in printed.out and "another budget" in printed.out
    nearest = report["trials"][0]["estimate"]["flash"]
    assert "no trial of 1 keeps the budget (flash 2,048, ram 4,096)" in printed.err
    assert f"flash {nearest - 2048:,} over" in printed.err
    assert f"the least of any trial is {nearest:,} (trial 0, as estimated)" in printed.err
    assert "ram: the least of any trial is" in printed.err and "within the limit" in printed.err


def test_a_student_without_a_width_is_refused_before_any_training(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = project / "fixed.toml"
    config.write_text(CONFIG.replace("models.py:Student", "models.py:Fixed"))
    assert run("compress", config, "-t", "cortex-m0plus", "--out", tmp_path / "out") == 2
    message = "models.py:Fixed' takes no width; give it an argument `width`"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_width_that_the_student_can_not_have_is_refused_before_any_training(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = project / "narrow.toml"
    config.write_text(CONFIG.replace("[1.0, 2.0, 8.0]", "[0.01, 1.0]"))
    assert run("compress", config, "-t", "cortex-m0plus", "--out", tmp_path / "out") == 2
    assert "no channels are left" in capsys.readouterr().err
    assert not (tmp_path / "out" / "work" / "teacher").exists()
