"""Small forms of the benchmarks of compression: their own functions on tasks of seconds.

What they hold to is what the benchmarks' tables rest on: integers near the float network, the
device's bytes equal to the interpreter's, fewer MACs and bytes where these are promised, and a
section with all its rows.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("torch_pruning", reason="pruning needs torch-pruning")

from support.corners import corner_samples, corners  # noqa: E402
from support.wav_files import save_words  # noqa: E402
from tinsmith.pipeline.audio.dataset import front_end_of  # noqa: E402
from tinsmith.pipeline.audio.device import measure_front_end  # noqa: E402
from tinsmith.pipeline.config import load_config  # noqa: E402
from tinsmith.pipeline.flow import Artifact, run_flow  # noqa: E402
from tinsmith.pipeline.search.space import knobs_of  # noqa: E402
from tinsmith.pipeline.stages.load import Load  # noqa: E402
from tinsmith.pipeline.stages.teacher import TrainTeacher  # noqa: E402
from tinsmith.pipeline.training.loop import repeatable  # noqa: E402
from tinsmith.pipeline.training.results import read_network, read_samples  # noqa: E402
from tinsmith.targets.target import target_named  # noqa: E402

BENCH = Path(__file__).resolve().parents[2] / "bench"

MODELS = """
from torch import nn

class Signal(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Flatten(1, 2), nn.Conv1d(12, 16, 3), nn.ReLU(),
                         nn.Conv1d(16, 12, 3, stride=2), nn.ReLU(),
                         nn.Flatten(), nn.Linear(12 * 4, classes))

class Sound(nn.Sequential):
    def __init__(self, classes):
        super().__init__(
            nn.Conv2d(1, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 12, 3, stride=2), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Flatten(), nn.Linear(12 * 3 * 5, classes))

class Net(nn.Module):
    def __init__(self, classes, width=8):
        super().__init__()
        self.down2 = nn.Sequential(nn.Conv2d(1, width, 3, stride=2), nn.ReLU())
        self.head = nn.Linear(25 * width, classes)

    def forward(self, x):
        return self.head(self.down2(x).flatten(1))

class Wide(Net):
    def __init__(self, classes):
        super().__init__(classes, 16)
"""
CONFIG = """
[run]
out = "out"
[data]
{data}
[augment]
rotate_degrees = 0
shift_pixels = 0
scale = 0
shear = 0
[teacher]
model = "models.py:{teacher}"
epochs = 6
batch = 20
learning_rate = 1e-2
[distil]
model = "models.py:{student}"
epochs = 6
batch = 20
learning_rate = 1e-2
[prune]
macs = 1
[generate]
targets = ["cortex-m4"]
"""
CLIPS = 'source = "wav"\npath = "."\n[audio]\nclip_ms = 500\nceiling_db = 15'
IMAGES = 'source = "npz"\npath = "data.npz"'


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A script as a module; it finds those beside it as it does when it is started."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCH)):
            del sys.modules[name]


def project(folder: Path, data: str, teacher: str, student: str) -> Any:
    (folder / "models.py").write_text(MODELS)
    (folder / "tinsmith.toml").write_text(
        CONFIG.format(data=data, teacher=teacher, student=student)
    )
    return load_config(folder)


def image_project(folder: Path, teacher: str, student: str) -> Any:
    parts = {}
    for seed, (name, count) in enumerate({"train": 160, "test": 40}.items()):
        x, y = corners(count, seed)
        parts[f"x_{name}"] = (255 * x[:, 0]).round().byte().numpy()
        parts[f"y_{name}"] = y.numpy()
    np.savez(folder / "data.npz", **parts)
    return project(folder, IMAGES, teacher, student)


def test_motion_says_of_a_fold_what_float_int8_and_the_device_get_right(
    bench: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    motion = bench("motion")
    fold = motion.measure(image_project(tmp_path, "Signal", "Signal"))
    assert 100 * fold.in_float.mean() >= 80
    assert abs(fold.in_float.mean() - fold.in_int8.mean()) <= 0.1
    assert fold.device["bit_exact"]
    text = motion.section({"cnn": [fold, fold], "lstm": [fold]})
    assert [line.split(" |")[0] for line in text.splitlines() if ", " in line[:12]] == [
        "| cnn, fold 0", "| cnn, fold 1", "| cnn, all", "| lstm, fold 0", "| lstm, all",
    ]  # fmt: skip
    assert f"| {fold.device['instructions']:,} |" in text


def test_keywords_runs_every_clip_on_the_device_and_counts_the_front_end(
    bench: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    keywords = bench("keywords")
    save_words(tmp_path, np.random.default_rng(0), train=16, test=6, samples=8000)
    config = project(tmp_path, CLIPS, "Sound", "Sound")
    fold = keywords.measure(config)
    assert len(fold.right) == 18
    assert fold.accuracy["int8"] == pytest.approx(100 * fold.right.mean(), abs=1e-3)
    assert abs(fold.accuracy["int8"] - fold.accuracy["student"]) <= 12
    assert fold.device["flash"] > fold.device["int8 weights"] > 0
    sound = measure_front_end(front_end_of(config.audio), target_named("cortex-m4"))
    rows = keywords.device_table(fold.device, sound, 3)
    assert f"{3 * sound.instructions:,} |" in rows[-1]
    assert [row.split(" |")[0] for row in keywords.fold_table([fold])[2:]] == ["| fold 0", "| all"]


def test_quantization_measures_rows_of_each_kind_and_keeps_them(
    bench: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    quantization = bench("quantization")
    samples = corner_samples(240, 80)
    subject = quantization.subject_of("student", tmp_path / "student", 0, samples, samples, 3)
    before = quantization.right_answers(subject.network, samples.x_test, samples.y_test)
    int8, entropy, int4, trained = (
        quantization.Row(name, **more)
        for name, more in (
            ("int8", {"device": True}),
            ("entropy", {"options": {"observer": "entropy"}}),
            ("4 bits", {"share": 0.6}),
            ("trained", {"epochs": 1}),
        )
    )
    results = {
        row.name: quantization.measure(row, subject, tmp_path)
        for row in (int8, entropy, int4, trained)
    }
    for row in (int8, entropy, trained):
        assert abs(results[row.name].right.mean() - before.mean()) <= 0.1, row.name
    assert {*results["4 bits"].layers.values()} - {"int8"}
    assert set(results["int8"].device) == set(quantization.CORES)
    assert len(quantization.device_lines(results)) == 3
    lines = quantization.rows_of((int8, int4), results, {"student": before}, results["int8"].right)
    assert [line[0] for line in lines] == ["int8", "4 bits"]
    assert lines[0][3] == "+0.00 ± 0.00"
    again = quantization.measure(int8, subject, tmp_path)
    assert again.minutes == results["int8"].minutes


def test_low_rank_saves_macs_and_instructions(
    bench: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    low_rank = bench("low_rank")
    samples = corner_samples(240, 80)
    with repeatable(0, 1):
        network = low_rank.trained(samples, 2, 0, tmp_path)
        whole, half = (
            low_rank.result_of(name, network, samples, 1, 0, tmp_path)
            for name in ("as it is", "automatic, 50 %")
        )
    assert half["macs"] <= 0.5 * whole["macs"]
    assert half["layers"] > 0
    assert half["instructions"] < whole["instructions"]
    assert half["flash"] < whole["flash"]
    assert whole["int8"] >= whole["float"] - 10
    assert low_rank.row("half", half, whole)[5].count("±") == 1


def test_distillation_trains_a_kind_and_measures_it_in_int8(
    bench: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    distillation = bench("distillation")
    config = image_project(tmp_path, "Wide", "Net")
    folders = run_flow([s.from_config(config) for s in (Load, TrainTeacher)], tmp_path / "out")
    done = {name: Artifact(name, path.name, "", path) for name, path in folders.items()}
    samples, results = read_samples(folders["load"]), []
    for kind in ("alone", "soft"):
        folder = distillation.train(config, kind, done)
        network = read_network(folder, config.distil.model, samples)
        right = distillation.right_answers(network, samples.x_test, samples.y_test)
        results.append(distillation.Result(folder, kind, right, 0.0))
    int8 = distillation.int8_right_answers(results[-1].folder, samples)
    assert abs(int8.mean() - results[-1].right.mean()) <= 0.1
    assert all(result.accuracy >= 75 for result in results)
    text = distillation.table(99.0, results)
    assert text.splitlines()[-1].startswith(f"| soft | {results[-1].accuracy:.2f} % | ")


def test_deep_compression_measures_the_network_of_the_file(
    bench: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = bench("deep_compression")
    small = corner_samples(60, 60)
    pad = torch.nn.functional.pad
    large = replace(
        small, x_train=pad(small.x_train, (8, 8, 8, 8)), x_test=pad(small.x_test, (8, 8, 8, 8))
    )
    monkeypatch.setattr(deep, "samples_of", lambda data, seed: large)
    monkeypatch.setattr(deep, "OUT", tmp_path)
    found = deep.measure("lenet-300-100", "mnist", 0)
    assert found["drop"] <= 10
    assert found["nonzero"] < 0.1 * found["values"]
    assert found["float_bytes"] > 20 * found["file_bytes"]
    assert (
        found["file_bytes"] == (tmp_path / "lenet-300-100-mnist-0" / "weights.tsw").stat().st_size
    )


def test_what_the_search_tries_is_allowed(bench: Callable[[str], ModuleType]) -> None:
    config = bench("compress").configuration(None, 0)
    assert [knob.name for knob in knobs_of(config, takes_width=True)] == [
        "distil.width", "generate.objective", "prune.macs",
    ]  # fmt: skip
