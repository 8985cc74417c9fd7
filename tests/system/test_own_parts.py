"""Parts of the user's own: data that are no images, losses, changes to samples; down to the C."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("onnxscript", reason="the export needs onnxscript")

from torch import Tensor, nn  # noqa: E402

from support.command import run  # noqa: E402
from tinsmith.pipeline.config import (  # noqa: E402
    Augment,
    CodeRef,
    Distil,
    DistilTerm,
    load_config,
)
from tinsmith.pipeline.errors import ConfigError  # noqa: E402
from tinsmith.pipeline.flow import run_flow  # noqa: E402
from tinsmith.pipeline.frontends.onnx import input_axes  # noqa: E402
from tinsmith.pipeline.interpreter import run_samples  # noqa: E402
from tinsmith.pipeline.model_files import read_model, started_afresh, to_input  # noqa: E402
from tinsmith.pipeline.quantization import QuantizeOptions, quantize  # noqa: E402
from tinsmith.pipeline.stages.load import Load  # noqa: E402
from tinsmith.pipeline.stages.teacher import TrainTeacher  # noqa: E402
from tinsmith.pipeline.training.augment import augmentation  # noqa: E402
from tinsmith.pipeline.training.distillation import distillation  # noqa: E402
from tinsmith.pipeline.training.export import export_onnx  # noqa: E402
from tinsmith.pipeline.training.integer_network import IntegerNetwork  # noqa: E402
from tinsmith.pipeline.training.loop import TrainingDiverged  # noqa: E402
from tinsmith.pipeline.training.losses import label_loss  # noqa: E402
from tinsmith.pipeline.training.networks import cost  # noqa: E402
from tinsmith.pipeline.training.user_losses import LossOfLabels  # noqa: E402

DATA = """
import numpy as np

def waves(count, rng):
    y = np.arange(count) % 3
    t = np.arange(16)[None, :, None]
    phase = rng.uniform(0, 6.28, (count, 1, 4))
    x = 5 * np.sin(phase + t * (0.3 + 0.5 * y[:, None, None])) + rng.normal(size=(count, 16, 4))
    return x.astype(np.float32), y

def load():
    rng = np.random.default_rng(0)
    return waves(240, rng), waves(60, rng)
"""

MODELS = """
from torch import nn

class Big(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, classes))

class Recurrent(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=True)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.lstm(x)[0].mean(1))

class FourClasses(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))

    def forward(self, x):
        return self.layers(x)
"""

LOSSES = """
import torch
from torch import nn
from torch.nn import functional as F

def smooth(logits, labels):
    return F.cross_entropy(logits, labels, label_smoothing=0.1)

def margins(student, teacher, labels):
    return F.mse_loss(student.logits.softmax(1), teacher.logits.softmax(1))

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits, labels):
        return F.cross_entropy(self.scale * logits, labels)

def wide(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")

def constant(logits, labels):
    return torch.tensor(1.0)

def broken(logits, labels):
    return logits @ labels

CALLS = []

def vanishing(logits, labels):
    CALLS.append(1)
    return F.cross_entropy(logits, labels) * (float("nan") if len(CALLS) > 14 else 1)
"""

AUGMENT = """
import torch

def louder(x, generator):
    return x * (0.9 + 0.2 * torch.rand(len(x), 1, 1, generator=generator))

def shorter(x, generator):
    return x[:, 1:]
"""

CONFIG = """
[run]
name = "waves"
[data]
source = "python"
path = "data.py:load"
[augment]
function = "augment.py:louder"
[teacher]
model = "models.py:Big"
epochs = 6
batch = 20
loss = "losses.py:smooth"
[distil]
model = "models.py:Recurrent"
epochs = 12
batch = 20
learning_rate = 3e-2
[[distil.terms]]
kind = "labels"
[[distil.terms]]
kind = "python"
loss = "losses.py:margins"
[prune]
macs = 1.0
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    files = {"data.py": DATA, "models.py": MODELS, "losses.py": LOSSES, "augment.py": AUGMENT}
    for name, text in {**files, "tinsmith.toml": CONFIG}.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def report(project: Path) -> dict[str, Any]:
    assert run("run", project) == 0
    loaded: dict[str, Any] = json.loads((project / "build" / "report.json").read_text())
    return loaded


def test_an_lstm_goes_whole_from_a_users_data_to_the_device(
    project: Path, report: dict[str, Any]
) -> None:
    accuracy = report["accuracy"]
    assert accuracy["student"] > 70
    assert accuracy["pruned"] == accuracy["student"]
    assert abs(accuracy["int8"] - accuracy["student"]) <= 10
    assert accuracy["device"] == accuracy["int8"]
    assert all(fields["bit_exact"] for fields in report["validation"].values())
    model = read_model(project / "build" / "quantize" / "model.tflite")
    assert [node.op for node in model.graph.nodes].count("lstm") == 1
    # The file keeps the state, as .tflite does; the C starts each window afresh, as torch did.
    assert len(model.graph.state) == 2
    assert started_afresh(model).graph.state == ()
    header = project / "build" / report["sources"]["cortex-m4"] / "waves.h"
    assert "this model keeps no state" in header.read_text()
    assert report["macs"]["student"] == 16 * (4 + 8) * 4 * 8 + 8 * 3


def test_the_header_tells_the_scale_of_the_users_data(
    project: Path, report: dict[str, Any]
) -> None:
    text = (project / "build" / report["sources"]["cortex-m4"] / "waves.h").read_text()
    scale = float(re.search(r"INPUT_0_SCALE ([\d.e-]+)f", text).group(1))  # type: ignore[union-attr]
    with np.load(project / "build" / "load" / "data.npz") as file:
        span = np.ptp(file["x_train"])
    assert 0.8 * span <= 255 * scale <= 1.2 * span
    assert re.search(r"int8_t \[1, ?16, ?4\]", text)


def test_a_second_run_calls_the_function_and_trains_nothing(
    project: Path, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("run", project) == 0
    printed = capsys.readouterr().out
    assert "240 samples to train on, 60 to test; 16 x 4, 3 classes" in printed
    assert "teacher kept" in printed
    assert "validate kept" in printed


def test_a_change_in_a_loss_trains_again_what_uses_it(project: Path) -> None:
    def keys() -> list[tuple[Path, ...]]:
        from tinsmith.pipeline.stages import stages_of

        stages = {stage.name: stage for stage in stages_of(load_config(project))}
        return [tuple(stages[name].files()) for name in ("teacher", "distil", "prune")]

    for files in keys():
        assert {"losses.py", "augment.py"} <= {path.name for path in files}


def test_signals_of_a_1d_convolution_reach_the_graph_with_their_channels_last(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv1d(3, 8, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()  # fmt: skip
    x = torch.randn(40, 3, 3 + 16)
    export_onnx(network, x[:1], tmp_path / "m.onnx")
    (axes,) = input_axes(tmp_path / "m.onnx").values()
    assert axes == (0, 2, 1)
    graph = read_model(tmp_path / "m.onnx").graph
    samples = {graph.inputs[0]: x.numpy().transpose(axes)}
    integers = quantize(graph, samples, QuantizeOptions())
    entry = integers.tensors[integers.inputs[0]]
    quantized = to_input(samples[graph.inputs[0]], entry, "here")
    given = run_samples(integers, {entry.name: quantized})[0].reshape(40, 3)
    wanted = network(x).detach().numpy()
    assert np.mean(given.argmax(1) == wanted.argmax(1)) >= 0.9
    # Training in integers sees the same bytes.
    trained = IntegerNetwork(graph, samples, QuantizeOptions(), "fixed", axes)
    quant = integers.tensors[integers.outputs[0]].quant
    assert quant is not None
    real = (given.astype(np.float32) - quant.zero_point[0]) * quant.scale[0]
    torch.testing.assert_close(trained(x).detach(), torch.from_numpy(real))


def ref(project: Path, name: str) -> CodeRef:
    file, _, attribute = name.partition(":")
    return CodeRef(path=project / file, attribute=attribute)


def test_a_loss_that_is_a_module_is_trained_along(project: Path) -> None:
    loss = LossOfLabels(ref(project, "losses.py:Scaled"))
    assert [name for name, _ in loss.named_parameters()] == ["loss.function.scale"]
    network = nn.Linear(2, 3)
    x, y = torch.randn(5, 2), torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(loss(network, x, y), label_loss(network, x, y))
    loss(network, x, y).backward()
    assert loss.loss.function.scale.grad is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wide", r"losses.py:wide': it gives \[5\]; needed: a scalar tensor"),
        ("constant", "its value has no gradient; compute it of the logits"),
        ("broken", r"it failed: RuntimeError: .*losses.py', line \d+\)"),
        ("absent", "has no function or class 'absent'; it has smooth, margins, Scaled"),
    ],
)
def test_a_loss_that_can_not_be_used_is_refused_with_the_reason(
    project: Path, name: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        LossOfLabels(ref(project, f"losses.py:{name}"))(
            nn.Linear(2, 3), torch.randn(5, 2), torch.tensor([0, 1, 2, 0, 1])
        )


def test_a_term_of_ones_own_is_weighed_and_made_anew(project: Path) -> None:
    student, teacher = nn.Linear(2, 3), nn.Linear(2, 3)
    x, y = torch.randn(5, 2), torch.tensor([0, 1, 2, 0, -1])

    def value(weight: float) -> Tensor:
        term = DistilTerm(kind="python", weight=weight, loss=f"{project}/losses.py:margins")
        options = Distil(model=f"{project}/models.py:Big", terms=[term])
        loss = distillation(options, teacher, student, x[:1])
        result: Tensor = loss(student, x, y)
        return result

    assert float(value(1.0).detach()) > 0
    torch.testing.assert_close(value(3.0), 3 * value(1.0))


def test_samples_that_are_no_images_are_not_turned_or_moved(project: Path) -> None:
    windows = torch.zeros(2, 16, 4)
    nothing = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0)
    generator = torch.Generator().manual_seed(0)
    assert augmentation(nothing, windows)(windows, generator) is windows
    message = r"\[augment\] rotate_degrees, .*: the samples are 16 x 4, but only images"
    with pytest.raises(ConfigError, match=message):
        augmentation(Augment(), windows)


def test_a_function_that_changes_the_shape_of_samples_is_refused(project: Path) -> None:
    change = augmentation(Augment(function=f"{project}/augment.py:shorter"), torch.zeros(2, 16, 4))
    message = r"augment.py:shorter': it gives \[2, 15, 4\]; needed: .* \[2, 16, 4\]"
    with pytest.raises(ConfigError, match=message):
        change(torch.zeros(2, 16, 4), torch.Generator())


def changed(project: Path, tmp_path: Path, old: str, new: str) -> Path:
    """The project with another configuration, in a folder of its own."""
    for file in project.glob("*.*"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "tinsmith.toml").write_text(CONFIG.replace(old, new))
    return tmp_path


def test_a_teacher_of_other_classes_is_refused(project: Path, tmp_path: Path) -> None:
    folder = changed(project, tmp_path, "models.py:Big", "models.py:FourClasses")
    config = load_config(folder)
    stages = [Load.from_config(config), TrainTeacher.from_config(config)]
    message = r"models.py:FourClasses': its output is \[1, 4\]; needed: \[1, 3\], a logit for each"
    with pytest.raises(ConfigError, match=message):
        run_flow(stages, folder / "out")


def test_a_loss_that_breaks_stops_the_run_and_the_last_good_state_stays(
    project: Path, tmp_path: Path
) -> None:
    folder = changed(project, tmp_path, "losses.py:smooth", "losses.py:vanishing")
    config = load_config(folder)
    stages = [Load.from_config(config), TrainTeacher.from_config(config)]
    with pytest.raises(TrainingDiverged, match=r"epoch 2, .*the loss is nan") as stop:
        run_flow(stages, folder / "out")
    kept = re.search(r"is kept in '([^']*)'", str(stop.value))
    assert kept is not None
    state = torch.load(kept[1], weights_only=True)
    assert len(state["history"]) == 1
    assert all(bool(w.isfinite().all()) for w in state["network"].values())


def test_an_lstm_counts_its_multiplies() -> None:
    found = cost(nn.LSTM(5, 7, batch_first=True), torch.zeros(1, 9, 5))
    assert found.total_macs == 9 * 4 * 7 * (5 + 7)
