"""What layers mind, and what compression did beyond the mean, by a configuration's networks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("torch_pruning", reason="pruning needs torch-pruning")

from torch import nn  # noqa: E402

from support.command import run  # noqa: E402
from support.corners import corner_samples  # noqa: E402
from tinsmith.pipeline.insight.disturbances import DISTURBANCES, disturbed  # noqa: E402
from tinsmith.pipeline.insight.effects import SHOWN, Flips, effects_of  # noqa: E402
from tinsmith.pipeline.insight.layers import (  # noqa: E402
    channels_readings,
    rank_readings,
    recurrent_layers,
    units_readings,
    weights_readings,
)
from tinsmith.pipeline.insight.saliency import saliency  # noqa: E402
from tinsmith.pipeline.insight.sensitivity import KINDS, Reading, Sensitivity, from_json  # noqa: E402
from tinsmith.pipeline.report.insight_page import insight_page  # noqa: E402
from tinsmith.pipeline.report.png import png  # noqa: E402
from tinsmith.pipeline.training.networks import accuracy  # noqa: E402

SAMPLES = corner_samples(240, 120)

MODELS = """
from torch import nn

def net(width, classes):
    return nn.Sequential(nn.Conv2d(1, width, 3, stride=2), nn.ReLU(), nn.Conv2d(width, 16, 3),
                         nn.ReLU(), nn.Flatten(), nn.Linear(16 * 9, classes))

def Big(classes): return net(16, classes)
def Small(classes): return net(8, classes)
"""

CONFIG = """
[run]
out = "out"
[data]
source = "npz"
path = "data.npz"
[augment]
rotate_degrees = 0
shift_pixels = 0
scale = 0
shear = 0
[teacher]
model = "models.py:Big"
epochs = 4
batch = 20
[distil]
model = "models.py:Small"
epochs = 4
batch = 20
[prune]
macs = 0.7
steps = 1
epochs = 2
multiple_of = 2
batch = 20
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    arrays = {}
    for part in ("train", "test"):
        x = getattr(SAMPLES, f"x_{part}")[:, 0] * 255
        arrays[f"x_{part}"] = x.to(torch.uint8).numpy()
        arrays[f"y_{part}"] = getattr(SAMPLES, f"y_{part}").numpy()
    np.savez(folder / "data.npz", **arrays)
    (folder / "models.py").write_text(MODELS)
    (folder / "tinsmith.toml").write_text(CONFIG)
    return folder


def test_sensitivity_of_a_run_is_a_table_a_plot_and_json_and_is_kept(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sensitivity", project, "--samples", "60", "--json", project / "s.json") == 0
    shown = capsys.readouterr().out
    found = from_json(json.loads((project / "s.json").read_text()))
    assert {reading.kind for reading in found.readings} == set(KINDS)
    assert found.layers() == ("0", "2", "5")
    assert (found.samples, found.evidence) == (60, "training samples")
    # The head has all classes to give: it loses no channels.
    assert {r.layer for r in found.readings if r.kind == "channels"} == {"0", "2"}
    for layer in found.layers():
        assert re.search(rf"^ +{layer} ", shown, re.M)
    assert "on 60 training samples; nothing was trained after a change" in shown
    plot = (project / "out" / "sensitivity" / "sensitivity.svg").read_text()
    for kind in KINDS.values():
        assert kind.title in plot
    assert run("sensitivity", project, "--samples", "60") == 0
    assert "sensitivity kept from an earlier run" in capsys.readouterr().out


def test_sensitivity_of_a_model_file_needs_labelled_samples(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert run("sensitivity", project, "--samples", "60") == 0
    model = project / "out" / "distil" / "model.onnx"
    x = SAMPLES.x_test.permute(0, 2, 3, 1).numpy()
    np.savez("samples.npz", x=x, y=SAMPLES.y_test.numpy())
    assert run("sensitivity", model, "--inputs", "samples.npz", "--json", "m.json") == 0
    found = from_json(json.loads(Path("m.json").read_text()))
    assert {reading.kind for reading in found.readings} == {"bits"}
    assert len(found.readings) == 3 * 3
    assert Path("model-sensitivity.svg").exists()
    assert "left out: weights, channels and rank need the network in torch" in (
        capsys.readouterr().out
    )
    np.savez("unlabelled.npz", x=x)
    np.savez("short.npz", x=x, y=SAMPLES.y_test.numpy()[:-1])
    for arguments, message in (
        ((model,), "needs labelled samples: --inputs X.npz"),
        ((model, "--inputs", "unlabelled.npz"), "needs the arrays x (samples) and y (labels)"),
        ((model, "--inputs", "short.npz"), "y is int64[119] beside 120 samples"),
        ((model, "--inputs", "absent.npz"), "there is no file of samples 'absent.npz'"),
        ((model, "--inputs", "samples.npz", "--test"), "--of and --test are for a configuration"),
        ((project, "--inputs", "samples.npz"), "--inputs, --plot and --shape are for a model file"),
        ((project, "--of", "teacher"), "--of teacher: allowed: student, pruned"),
    ):
        assert run("sensitivity", *arguments) == 2
        assert message in capsys.readouterr().err


def test_a_layer_that_can_spare_all_that_is_taken_loses_nothing() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 25, 24),
        nn.ReLU(), nn.Linear(24, 4),
    ).eval()  # fmt: skip
    with torch.no_grad():  # a hidden layer of rank 1, with four outputs and few weights that count
        net[4].weight.copy_(torch.outer(torch.arange(24.0) < 4, torch.arange(200.0) % 20 == 0))
        net[4].bias.zero_()
        # All four say the same number, and the class is the quarter in which it lies.
        x = SAMPLES.x_test
        quarters = net[:5](x)[:, 0].quantile(torch.tensor([0.25, 0.5, 0.75]))
        net[6].weight.zero_()
        net[6].weight[:, :4] = torch.arange(4.0)[:, None] / 4
        net[6].bias.copy_(-torch.cat([torch.zeros(1), quarters.cumsum(0)]))
    said = net(x).argmax(1)  # so that the network as it is says everything rightly

    def quiet(message: str, fraction: float) -> None:
        """Progress that nobody looks at."""

    before = {name: w.clone() for name, w in net.state_dict().items()}
    for read in (weights_readings, channels_readings, rank_readings):
        readings = {(r.layer, r.level): r.accuracy for r in read(net, x, said, quiet)}
        assert readings["4", 0.75] == 100
        assert min(readings[key] for key in readings if key[0] == "0") < 100
    assert accuracy(net, x, said) == 100
    assert all(torch.equal(w, before[name]) for name, w in net.state_dict().items())


def test_an_lstm_is_read_by_its_matrices_and_its_hidden_units() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(12, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(x.flatten(1, 2))[0][:, -1])

    torch.manual_seed(0)
    net = Rows().eval()
    with torch.no_grad():  # the last four units do nothing, and nothing reads them
        for weight in (net.lstm.weight_ih_l0, net.lstm.weight_hh_l0):
            weight.mul_(4).view(4, 8, -1)[:, 4:] = 0
        net.lstm.weight_hh_l0[:, 4:] = 0
        net.head.weight[:, 4:] = 0
        x = SAMPLES.x_test
        net.head.bias.sub_(net(x).mean(0))  # so that every class is said
    said = net(x).argmax(1)
    told: list[str] = []

    def listen(message: str, fraction: float) -> None:
        told.append(message)

    before = {name: w.clone() for name, w in net.state_dict().items()}
    units = {r.level: r.accuracy for r in units_readings(net, x, said, listen)}
    assert units[0.25] == units[0.5] == 100 > units[0.75]
    assert "50% of the units of 'lstm'" in told
    weights = {(r.layer, r.level): r.accuracy for r in weights_readings(net, x, said, listen)}
    assert weights["lstm", 0.5] == 100 > weights["lstm", 0.9]
    assert accuracy(net, x, said) == 100
    assert all(torch.equal(w, before[name]) for name, w in net.state_dict().items())
    assert recurrent_layers(net) == ["lstm"]
    assert not list(units_readings(nn.Sequential(nn.Linear(2, 2)), x, said, listen))


def test_layers_to_spare_are_those_that_mind_much_more_than_the_others() -> None:
    def found(**drops: float) -> Sensitivity:
        readings = tuple(Reading(name, "weights", 0.5, 90 - drop) for name, drop in drops.items())
        return Sensitivity("a network", "samples", 10, 90.0, readings)

    assert found(a=1, b=30, c=20, d=0).to_spare() == ("b", "c")
    assert found(a=0.1, b=0.9, c=0.1).to_spare() == ()
    assert found(a=5, b=5, c=5).to_spare() == ()


def test_insight_of_a_run_is_a_page_a_table_and_json_and_is_kept(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("insight", project, "--samples", "40", "--json", project / "i.json") == 0
    shown = capsys.readouterr().out
    found = json.loads((project / "i.json").read_text())
    networks = ["teacher", "student", "pruned", "int8"]
    assert found["networks"] == networks
    assert (found["samples"], found["disturbed_samples"]) == (120, 40)
    for name, stage in zip(networks, ("teacher", "distil", "prune", "quantize"), strict=True):
        metrics = json.loads((project / "out" / stage / "metrics.json").read_text())
        assert found["accuracy"][name] == pytest.approx(metrics["accuracy"], abs=1e-3)
        assert np.mean(found["per_class"][name]) == pytest.approx(metrics["accuracy"], abs=1e-3)
    assert found["agreement"]["teacher"] == 100
    assert {r["disturbance"] for r in found["robustness"]} == set(DISTURBANCES)
    assert found["notes"] == ["saliency of the integers: they have no gradient"]
    assert "teacher to int8:" in shown
    page = (project / "out" / "insight" / "insight.html").read_text()
    assert page.count("data:image/png;base64,") == 3 * len(found["flipped"])
    assert not re.search(r'(src|href)="(?!data:)', page)
    for sample in found["flipped"]:
        assert f"sample {sample['sample']}, class {sample['label']}" in page
    assert run("insight", project, "--samples", "40") == 0
    assert "insight kept from an earlier run" in capsys.readouterr().out


X = np.random.default_rng(0).random((60, 3, 9, 8)).astype(np.float32)


def test_disturbances_are_what_they_say() -> None:
    for name, disturbance in DISTURBANCES.items():
        for level in disturbance.levels:
            made = disturbed(X, name, level, 1, images=True)
            assert made.shape == X.shape
            assert made.dtype == np.float32
            assert made.min() >= 0
            assert made.max() <= 1
            assert np.array_equal(made, disturbed(X, name, level, 1, images=True))
            assert not np.array_equal(made, X)
    noisy = disturbed(X, "noise", 0.5, 2, images=False) - X
    assert noisy.std() == pytest.approx(0.5 * X.std(), rel=0.05)
    flat = np.full_like(X, 0.25)
    np.testing.assert_allclose(disturbed(flat, "blur", 2.0, 0, images=True), flat, rtol=1e-5)
    assert disturbed(X, "blur", 1.0, 0, images=True).std() < 0.5 * X.std()
    np.testing.assert_allclose(disturbed(flat, "brightness", 0.2, 0, images=True), 0.45, rtol=1e-6)
    moved = disturbed(X, "shift", 2, 3, images=True)
    ways = [
        (X[:, :, :-2, :-2], moved[:, :, 2:, 2:]), (X[:, :, 2:, 2:], moved[:, :, :-2, :-2]),
        (X[:, :, :-2, 2:], moved[:, :, 2:, :-2]), (X[:, :, 2:, :-2], moved[:, :, :-2, 2:]),
    ]  # fmt: skip
    fits = np.stack([(a == b).all((1, 2, 3)) for a, b in ways])
    assert (fits.sum(0) == 1).all()
    assert fits.any(1).all()
    assert (moved[fits[0]][:, :, :2] == 0).all()


def quiet(message: str, fraction: float) -> None:
    """Progress that nobody looks at."""


def test_effects_count_classes_agreement_and_flips() -> None:
    y = np.arange(60) % 3
    wrong = {"teacher": [0, 1, 2], "student": [2, 3], "int8": [1, 3, 4, 5]}

    def network(name: str) -> object:
        def say(x: np.ndarray) -> np.ndarray:
            outputs = np.eye(4)[y[: len(x)]] * np.arange(1, len(x) + 1)[:, None]
            if len(x) == len(y):
                outputs[wrong[name]] = outputs[wrong[name]][:, [1, 2, 0, 3]]
            return outputs

        return say

    found = effects_of(
        {name: network(name) for name in wrong}, X, y, 4, images=True, count=10, seed=0, tell=quiet
    )
    assert found.accuracy == {"teacher": 95.0, "student": 96.6667, "int8": 93.3333}
    assert found.per_class["int8"] == (95.0, 90.0, 95.0, None)
    assert found.per_class["teacher"] == (95.0, 95.0, 95.0, None)
    assert found.agreement == {"teacher": 100.0, "student": 95.0, "int8": 91.6667}
    assert found.flips == (
        Flips("teacher", "student", 1, 2),
        Flips("student", "int8", 3, 1),
        Flips("teacher", "int8", 3, 2),
    )
    # Those that the teacher was surest of come first.
    assert [(f.sample, f.lost) for f in found.flipped] == [
        (5, True), (4, True), (3, True), (2, False), (0, False),
    ]  # fmt: skip
    assert found.flipped[0].label == 2
    assert found.flipped[0].said == {"teacher": 2, "student": 2, "int8": 1}
    assert found.disturbed_samples == 10


def test_of_many_flips_some_are_shown() -> None:
    y = np.zeros(60, np.int64)
    networks = {
        "teacher": lambda x: np.eye(2)[(np.arange(len(x)) < 30).astype(int)],
        "int8": lambda x: np.eye(2)[(np.arange(len(x)) >= 30).astype(int)],
    }
    found = effects_of(networks, X, y, 2, images=True, count=5, seed=0, tell=quiet)
    assert found.flips == (Flips("teacher", "int8", 30, 30),)
    assert len(found.flipped) == SHOWN
    assert sum(f.lost for f in found.flipped) == SHOWN // 2


def test_samples_that_are_no_images_leave_out_what_makes_no_sense() -> None:
    x = X.reshape(60, 3, 72)
    y = np.arange(60) % 2
    found = effects_of(
        {"teacher": lambda x: np.eye(2)[np.arange(len(x)) % 2], "int8": lambda x: x[:, :2, 0]},
        x, y, 2, images=False, count=60, seed=0, tell=quiet,
    )  # fmt: skip
    assert {row.disturbance for row in found.robustness} == {"noise"}
    assert found.left_out == ("blur, brightness, shift: the samples are no images",)
    page = insight_page("a <run>", found, None, ["pictures: the samples are no images"])
    assert "data:image" not in page
    assert "<li>pictures: the samples are no images</li>" in page
    assert "a &lt;run&gt;" in page


def test_saliency_is_where_the_network_looks() -> None:
    class Looks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x[:, 0, 2, 3] - 0.5 * x[:, 1, 4, 4], x[:, 0, 0, 0]], dim=1)

    x = torch.ones(2, 2, 6, 6)
    maps = saliency(Looks(), x, torch.tensor([0, 1]), seed=0)
    assert maps.shape == (2, 6, 6)
    assert (maps[0].nonzero().tolist(), maps[1].nonzero().tolist()) == ([[2, 3], [4, 4]], [[0, 0]])
    assert maps[0, 4, 4] == pytest.approx(0.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_come_back_from_a_png(channels: int) -> None:
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    import io

    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    read = np.asarray(image.open(io.BytesIO(png(pixels))))
    assert np.array_equal(read.reshape(pixels.shape), pixels)
