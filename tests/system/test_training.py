"""Training: a tiny task from images to a pruned network, stopped, gone on with, and repeated."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("torch_pruning", reason="pruning needs torch-pruning")

from torch import Tensor, nn  # noqa: E402

from tinsmith.pipeline.config import Augment, CodeRef, Config, load_config  # noqa: E402
from tinsmith.pipeline.errors import ConfigError, TinsmithError, ToolMissing  # noqa: E402
from tinsmith.pipeline.flow import Event, Stage, run_flow  # noqa: E402
from tinsmith.pipeline.stages.distil import DistilStudent  # noqa: E402
from tinsmith.pipeline.stages.load import Load  # noqa: E402
from tinsmith.pipeline.stages.prune import PruneStudent  # noqa: E402
from tinsmith.pipeline.stages.quantize import QuantizeStudent  # noqa: E402
from tinsmith.pipeline.stages.teacher import TrainTeacher  # noqa: E402
from tinsmith.pipeline.tasks import Task  # noqa: E402
from tinsmith.pipeline.training import sources  # noqa: E402
from tinsmith.pipeline.training.augment import augment  # noqa: E402
from tinsmith.pipeline.training.criteria import Norms  # noqa: E402
from tinsmith.pipeline.training.export import export_onnx  # noqa: E402
from tinsmith.pipeline.training.loop import (  # noqa: E402
    Recipe,
    Samples,
    TrainingDiverged,
    fit,
    learning_rate,
    repeatable,
)
from tinsmith.pipeline.training.losses import label_loss  # noqa: E402
from tinsmith.pipeline.training.networks import (  # noqa: E402
    cost,
    load_weights,
    make_network,
    widths,
)
from tinsmith.pipeline.training.pruning import remove_channels  # noqa: E402
from tinsmith.pipeline.user_code import local_sources  # noqa: E402

MODELS = """
from torch import nn

def conv(i, o, k, **options):
    return [nn.Conv2d(i, o, k, bias=False, **options), nn.BatchNorm2d(o), nn.ReLU()]

class Big(nn.Sequential):
    def __init__(self, classes):
        super().__init__(*conv(1, 24, 3), *conv(24, 24, 3, stride=2), nn.Flatten(),
                         nn.Dropout(0.2), nn.Linear(24 * 16, classes))

class Small(nn.Sequential):
    def __init__(self, classes):
        super().__init__(*conv(1, 8, 3, stride=2), *conv(8, 8, 3, groups=8), *conv(8, 12, 1),
                         nn.Flatten(), nn.Linear(12 * 9, classes))
"""

CONFIG = """
[data]
source = "npz"
path = "data.npz"
[augment]
rotate_degrees = 5
shift_pixels = 1
[teacher]
model = "models.py:Big"
epochs = 6
batch = 20
[distil]
model = "models.py:Small"
epochs = 8
batch = 20
[prune]
macs = 0.7
steps = 2
step_epochs = 2
epochs = 3
batch = 20
"""

STILL = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0)


class Residual(nn.Module):
    """A convolution, a depthwise-separable branch added to it, another convolution, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 16, 1)
        self.last = nn.Conv2d(16, 24, 3)
        self.head = nn.Linear(24 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = x + self.pointwise(self.depthwise(x))
        return self.head(torch.relu(self.last(x)).flatten(1))


def images(count: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Bright bars on noise, 12 x 12: lying, standing, slanting."""
    labels = np.arange(count) % 3
    x = rng.integers(0, 60, (count, 12, 12), dtype=np.uint8)
    for image, label in zip(x, labels, strict=True):
        place = rng.integers(2, 10)
        if label == 0:
            image[place] = 220
        elif label == 1:
            image[:, place] = 220
        else:
            np.fill_diagonal(image, 220)
    return x, labels


@pytest.fixture
def project(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (x_train, y_train), (x_test, y_test) = images(240, rng), images(60, rng)
    np.savez(tmp_path / "data.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "tinsmith.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def samples() -> Samples:
    rng = np.random.default_rng(1)
    parts = {}
    for name, count in (("train", 120), ("test", 30)):
        x, y = images(count, rng)
        parts[f"x_{name}"] = torch.from_numpy(x.astype(np.float32)[:, None] / 255)
        parts[f"y_{name}"] = torch.from_numpy(y.astype(np.int64))
    return Samples(**parts, tasks=(Task("", 3),))


def stages_of(config: Config) -> list[Stage]:
    stages = (Load, TrainTeacher, DistilStudent, PruneStudent)
    return [stage.from_config(config) for stage in stages]


def small_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(8 * 25, 3),
    )


def recipe(epochs: int = 4, **changes: Any) -> Recipe:
    options = {"batch": 20, "learning_rate": 1e-2, "weight_decay": 1e-4, "augment": Augment()}
    return Recipe(**{"epochs": epochs, "seed": 7, **options, **changes})


def quiet(message: str, fraction: float | None = None) -> None:
    """Progress that nobody looks at."""


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


def metrics_of(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def test_the_stages_learn_shrink_and_keep_what_was_learnt(project: Path) -> None:
    results = run_flow(stages_of(load_config(project)), project / "out")
    teacher, student, pruned = (
        metrics_of(results[name]) for name in ("teacher", "distil", "prune")
    )
    assert teacher["accuracy"] >= 95
    assert student["accuracy"] >= 90
    assert student["parameters"] * 5 <= teacher["parameters"]
    assert pruned["macs"] <= 0.7 * student["macs"]
    assert pruned["before"]["macs"] == student["macs"]
    assert pruned["removed"]
    assert all(removal["after"] % 4 == 0 for removal in pruned["removed"])
    assert [epoch["epoch"] for epoch in teacher["epochs"]] == list(range(1, 7))


def test_the_onnx_file_computes_what_was_measured(project: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="runs the exported file")
    results = run_flow(stages_of(load_config(project)), project / "out")
    with np.load(results["load"] / "data.npz") as data:
        x, y = data["x_test"], data["y_test"]
    for stage in ("teacher", "distil", "prune"):
        session = onnxruntime.InferenceSession(results[stage] / "model.onnx")
        assert session.get_inputs()[0].shape == [1, 1, 12, 12]
        logits = np.concatenate([session.run(None, {"input": one[None]})[0] for one in x])
        assert 100 * np.mean(logits.argmax(1) == y) == pytest.approx(
            metrics_of(results[stage])["accuracy"], abs=0.01
        )


def test_two_runs_give_the_same_bytes_wherever_they_lie(project: Path, tmp_path: Path) -> None:
    first = run_flow(stages_of(load_config(project)), project / "out")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("data.npz", "models.py", "tinsmith.toml"):
        (moved / name).write_bytes((project / name).read_bytes())
    second = run_flow(stages_of(load_config(moved)), moved / "out")
    for stage, folder in first.items():
        assert folder.name == second[stage].name
        for path in folder.iterdir():
            if path.name != "entry.json":
                assert path.read_bytes() == (second[stage] / path.name).read_bytes(), path
    assert str(tmp_path).encode() not in (first["prune"] / "model.onnx").read_bytes()


def test_a_run_stopped_in_any_stage_goes_on_to_the_same_result(project: Path) -> None:
    stages = stages_of(load_config(project))
    whole = run_flow(stages, project / "whole")
    out = project / "stopped"
    for stage, line in (
        ("teacher", "epoch 3/6"),
        ("distil", "epoch 5/8"),
        ("prune", "step 1/2  epoch 1/2"),
        ("prune", "step 2/2  epoch 2/3"),
    ):

        def stop(event: Event, stage: str = stage, line: str = line) -> None:
            if event.stage == stage and event.message.startswith(line):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_flow(stages, out, progress=stop)
    events: list[Event] = []
    rest = run_flow(stages, out, progress=events.append)
    kinds = [(event.stage, event.kind) for event in events if event.kind != "progress"]
    assert kinds[-2:] == [("prune", "resumed"), ("prune", "done")]
    for stage, folder in whole.items():
        for path in folder.iterdir():
            if path.name != "entry.json":
                assert path.read_bytes() == (rest[stage] / path.name).read_bytes(), path
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            path.name for path in rest[stage].iterdir()
        )


def test_training_in_integers_is_part_of_the_run_and_goes_on_where_it_was(project: Path) -> None:
    with (project / "tinsmith.toml").open("a") as file:
        file.write('[quantize]\nepochs = 2\nranges = "pact"\nbatch = 20\n')
    config = load_config(project)
    stages = [*stages_of(config), QuantizeStudent.from_config(config)]

    def stop(event: Event) -> None:
        if event.stage == "quantize" and event.message.startswith("epoch 1/2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_flow(stages, project / "out", progress=stop)
    rest = run_flow(stages, project / "out")["quantize"]
    whole = run_flow(stages, project / "whole")["quantize"]
    assert (rest / "model.tflite").read_bytes() == (whole / "model.tflite").read_bytes()
    found = metrics_of(rest)
    assert [epoch["epoch"] for epoch in found["epochs"]] == [1, 2]
    assert found["accuracy"] == pytest.approx(found["epochs"][-1]["accuracy"])


@pytest.mark.parametrize("stage", [TrainTeacher, DistilStudent, PruneStudent, QuantizeStudent])
def test_the_key_of_a_stage_counts_the_modules_of_training_that_it_loads(
    stage: type[Stage],
) -> None:
    text = inspect.getsource(stage)
    names = re.findall(r"from (tinsmith\.pipeline\.training\.\w+) import", text)
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {m for m in done.stdout.split() if m.startswith("tinsmith.pipeline.training.")}
    assert names
    assert loaded <= {*stage.sources, "tinsmith.pipeline.training.sources"}


def test_a_change_in_the_users_file_trains_again(project: Path) -> None:
    stages = stages_of(load_config(project))
    first = run_flow(stages, project / "out", to="teacher")
    with (project / "models.py").open("a") as file:
        file.write("\n# a comment\n")
    second = run_flow(stages, project / "out", to="teacher")
    assert first["load"] == second["load"]
    assert first["teacher"] != second["teacher"]


def test_a_file_that_the_models_import_counts_too(project: Path) -> None:
    (project / "parts.py").write_text("import layers\n")
    (project / "layers.py").write_text("")
    (project / "models.py").write_text("from parts import x\nimport torch\n")
    found = [path.name for path in local_sources(project / "models.py")]
    assert found == ["layers.py", "models.py", "parts.py"]


def test_nothing_is_pruned_where_all_macs_may_stay(project: Path) -> None:
    text = CONFIG.replace("macs = 0.7", "macs = 1.0")
    (project / "tinsmith.toml").write_text(text)
    results = run_flow(stages_of(load_config(project)), project / "out")
    pruned, student = metrics_of(results["prune"]), metrics_of(results["distil"])
    assert pruned["removed"] == []
    assert pruned["accuracy"] == student["accuracy"]


def test_a_share_of_macs_that_can_not_be_reached_is_refused(project: Path) -> None:
    (project / "tinsmith.toml").write_text(CONFIG.replace("macs = 0.7", "macs = 0.01"))
    with pytest.raises(ConfigError, match=r"\[prune\] macs: .* can't be reached; with 4 channels"):
        run_flow(stages_of(load_config(project)), project / "out")


def test_training_goes_on_from_a_checkpoint_to_the_same_weights(
    samples: Samples, tmp_path: Path
) -> None:
    def train(checkpoint: Path, stop_after: int | None) -> Mapping[str, Tensor]:
        def tell(message: str, fraction: float | None = None) -> None:
            if stop_after and message.startswith(f"epoch {stop_after}/"):
                raise KeyboardInterrupt

        with repeatable(3, 1):
            network = small_network()
            fit(network, samples, recipe(), label_loss, checkpoint, tell)
        return network.state_dict()

    whole = train(tmp_path / "whole.pt", None)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "part.pt", 2)
    assert same(whole, train(tmp_path / "part.pt", None))


def test_another_seed_gives_other_weights(samples: Samples, tmp_path: Path) -> None:
    weights = []
    for seed in (1, 2):
        with repeatable(3, 1):
            network = small_network()
            changed = recipe(1, seed=seed)
            fit(network, samples, changed, label_loss, tmp_path / f"{seed}.pt", quiet)
        weights.append(network.state_dict())
    assert not same(*weights)


def test_a_loss_that_is_not_a_number_stops_training_and_keeps_the_last_state(
    samples: Samples, tmp_path: Path
) -> None:
    calls = []

    def breaking(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        calls.append(1)
        return label_loss(network, x, y) * (float("nan") if len(calls) == 9 else 1)

    checkpoint = tmp_path / "checkpoint.pt"
    message = rf"epoch 2, step 3: the loss is nan; the state after epoch 1 is kept in '{checkpoint}"
    with pytest.raises(TrainingDiverged, match=message):
        fit(small_network(), samples, recipe(), breaking, checkpoint, quiet)
    weights = torch.load(checkpoint, weights_only=True)["network"]
    assert all(bool(torch.isfinite(weight).all()) for weight in weights.values())


def test_a_first_epoch_that_breaks_says_that_nothing_was_kept(
    samples: Samples, tmp_path: Path
) -> None:
    samples.x_train[:] = float("inf")
    with pytest.raises(TinsmithError, match=r"there was no good state yet\. Look for bad"):
        fit(small_network(), samples, recipe(), label_loss, tmp_path / "c.pt", quiet)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_almost_nothing() -> None:
    rates = [learning_rate(step, 100, 0.1) for step in range(100)]
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) == 19
    assert rates[0] < 0.01
    assert rates[-1] == pytest.approx(1e-5, rel=0.01)
    assert rates[19:] == sorted(rates[19:], reverse=True)
    assert rates[:20] == sorted(rates[:20])


def test_images_stay_as_they_are_without_augmentation(samples: Samples) -> None:
    x = samples.x_test
    torch.testing.assert_close(augment(x, STILL, torch.Generator()), x, atol=1e-5, rtol=0)


def test_a_shift_moves_an_image_by_so_many_pixels_at_most() -> None:
    x = torch.zeros(200, 1, 21, 21)
    x[:, :, 10, 10] = 1
    options = Augment(rotate_degrees=0, shift_pixels=3, scale=0, shear=0)
    moved = augment(x, options, torch.Generator().manual_seed(0))
    position = moved.sum((0, 1, 2)).nonzero().ravel()
    assert position.min() == 7
    assert position.max() == 13


def test_a_flip_mirrors_half_of_the_images() -> None:
    x = torch.zeros(400, 1, 8, 8)
    x[..., 0] = 1
    options = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0, flip=True)
    flipped = augment(x, options, torch.Generator().manual_seed(0))
    on_the_right = int((flipped[..., -1].sum((1, 2)) > 4).sum())
    assert 150 < on_the_right < 250
    torch.testing.assert_close(flipped.sum((1, 2, 3)), x.sum((1, 2, 3)))


def test_macs_are_counted_by_hand() -> None:
    measured = cost(Residual(), torch.zeros(1, 1, 12, 12))
    assert measured.macs == {
        "first": 25 * 16 * 9,
        "depthwise": 25 * 16 * 9,
        "pointwise": 25 * 16 * 16,
        "last": 9 * 24 * 16 * 9,
        "head": 24 * 9 * 3,
    }


def test_a_square_up_to_the_asked_for_size_is_erased() -> None:
    x = torch.ones(300, 2, 20, 20)
    options = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0, erase=0.5)
    erased = augment(x, options, torch.Generator().manual_seed(0)) < 0.5
    sides = erased[:, 0].any(2).sum(1)
    assert sides.max() == 10
    assert sides.min() == 0
    assert torch.equal(erased[:, 0], erased[:, 1])
    assert torch.equal(erased[:, 0].sum((1, 2)), sides * erased[:, 0].any(1).sum(1))


@pytest.mark.parametrize("multiple_of", [1, 2, 4])
@pytest.mark.parametrize("norm", [1, 2])
def test_channels_go_together_through_depthwise_and_residual_layers(
    multiple_of: int, norm: int
) -> None:
    torch.manual_seed(0)
    network, x = Residual(), torch.zeros(1, 1, 12, 12)
    before = cost(network, x).total_macs
    remove_channels(network, x, int(before * 0.5), multiple_of, Norms(norm))
    after = widths(network)
    assert cost(network, x).total_macs <= before * 0.5
    assert after["first"] == after["depthwise"] == after["pointwise"]
    assert after["head"] == 3
    assert all(after[name] % multiple_of == 0 for name in ("first", "last"))
    assert network(x).shape == (1, 3)


def test_channels_that_are_zero_go_first_and_change_nothing() -> None:
    torch.manual_seed(0)
    network = Residual().eval()
    dead = [1, 5, 6, 12]
    with torch.no_grad():
        network.last.weight[dead] = 0
        network.last.bias[dead] = 0
        network.head.weight.view(3, 24, 9)[:, dead] = 0
    x = torch.rand(5, 1, 12, 12)
    expected, before = network(x), cost(network, x[:1])
    saved = 4 * (before.macs["last"] // 24 + before.macs["head"] // 24)
    remove_channels(network, x[:1], before.total_macs - saved, multiple_of=4, criterion=Norms(2))
    assert widths(network)["last"] == 20
    torch.testing.assert_close(network(x), expected)


def test_weights_of_a_pruned_network_go_into_a_fresh_one() -> None:
    torch.manual_seed(0)
    network, x = Residual().eval(), torch.rand(2, 1, 12, 12)
    remove_channels(network, x[:1], 20_000, multiple_of=2, criterion=Norms(1))
    fresh = load_weights(Residual(), network.state_dict()).eval()
    torch.testing.assert_close(fresh(x), network.eval()(x))
    assert cost(fresh, x[:1]) == cost(network, x[:1])


def test_an_export_holds_no_path(tmp_path: Path) -> None:
    export_onnx(small_network(), torch.zeros(1, 1, 12, 12), tmp_path / "m.onnx")
    content = (tmp_path / "m.onnx").read_bytes()
    assert str(Path(__file__).parent).encode() not in content
    assert b"site-packages" not in content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (", "can't be imported"),
        ("\n1 / 0", r"can't be imported: ZeroDivisionError: .* \('.*models.py', line 2\)"),
        ("import torch\nclass Net(torch.nn.Linear): pass", "no function or class 'Small'; .* Net"),
        ("class Small: pass", "it gives a Small, not a torch.nn.Module"),
        (
            "import torch\nclass Small(torch.nn.Flatten): pass",
            r"its output is \[1, 144\]; needed: \[1, 3\], a logit for each class of the data",
        ),
        (
            "import torch\ndef Small(classes): return torch.nn.Conv2d(9, classes, 3)",
            r"can't be made and run on an input of shape \[1, 1, 12, 12\]",
        ),
    ],
)
def test_a_model_that_can_not_be_used_is_refused_with_the_reason(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "models.py").write_text(text)
    model = CodeRef(path=tmp_path / "models.py", attribute="Small")
    with pytest.raises(ConfigError, match=rf"(?s)models.py:Small'.*{message}"):
        make_network(model, torch.zeros(1, 1, 12, 12), (Task("", 3),))


def test_models_of_two_folders_may_import_files_of_one_name(tmp_path: Path) -> None:
    for folder, width in (("a", 4), ("b", 6)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "parts.py").write_text(f"WIDTH = {width}")
        (tmp_path / folder / "models.py").write_text(
            "import torch\nfrom parts import WIDTH\n"
            "def net(classes): return torch.nn.Sequential(torch.nn.Conv2d(1, WIDTH, 12),"
            " torch.nn.Flatten(), torch.nn.Linear(WIDTH, classes))"
        )
        model = CodeRef(path=tmp_path / folder / "models.py", attribute="net")
        assert widths(make_network(model, torch.zeros(1, 1, 12, 12), (Task("", 3),)))["0"] == width


def test_a_missing_file_of_models_is_refused(project: Path) -> None:
    (project / "models.py").unlink()
    with pytest.raises(ConfigError, match=r"model: there is no file '.*models.py'"):
        run_flow(stages_of(load_config(project)), project / "out")


def test_without_torch_the_command_that_installs_it_is_given(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match=re.escape("pip install 'tinsmith[train]'")):
        sources.need_torch("teacher")
