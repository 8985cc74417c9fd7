"""From a folder of WAV files to a program that hears: the whole way, on words that are chirps."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import tarfile
from pathlib import Path, PurePosixPath
from types import ModuleType

import numpy as np
import pytest

from support.wav_files import save_wav, save_words

pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")

from tinsmith.pipeline.flow import run_flow
from tinsmith.pipeline.model_files import read_model
from tinsmith.pipeline.stages import stages_of
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import WARNINGS, find_toolchain, run_compiler

ROOT = Path(__file__).resolve().parents[2]

MODELS = """
from torch import nn

class Small(nn.Sequential):
    def __init__(self, classes):
        super().__init__(
            nn.Conv2d(1, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 12, 3, stride=2), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Flatten(), nn.Linear(12 * 3 * 5, classes))
"""
CONFIG = """
[run]
name = "chirps"
[data]
source = "wav"
path = "."
[audio]
clip_ms = 500
ceiling_db = 15
copies = 2
[teacher]
model = "models.py:Small"
epochs = 6
batch = 20
learning_rate = 1e-2
[distil]
model = "models.py:Small"
epochs = 6
batch = 20
learning_rate = 1e-2
[prune]
macs = 1
[generate]
targets = ["host", "cortex-m4"]
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What a run gives, by stage, on 60 chirps to train on and 30 to test."""
    from tinsmith.pipeline.config import load_config

    folder = tmp_path_factory.mktemp("chirps")
    save_words(folder, np.random.default_rng(0), train=20, test=10, samples=8000)
    (folder / "models.py").write_text(MODELS)
    (folder / "tinsmith.toml").write_text(CONFIG)
    config = load_config(folder)
    return run_flow(stages_of(config), config.run.out)


def test_words_are_told_apart_on_the_device(folders: dict[str, Path]) -> None:
    validation = json.loads((folders["validate"] / "validation.json").read_text())
    for target in ("host", "cortex-m4"):
        assert validation[target]["mismatches"] == 0
        assert validation[target]["accuracy"] >= 80


def test_the_models_input_is_what_the_front_end_writes(folders: dict[str, Path]) -> None:
    graph = read_model(folders["quantize"] / "model.tflite").graph
    entry = graph.tensors[graph.inputs[0]]
    assert entry.shape == (1, 25, 40, 1)
    assert entry.quant is not None
    assert entry.quant.zero_point == (-128,)
    assert entry.quant.scale[0] == pytest.approx(1 / 255)
    with np.load(folders["load"] / "data.npz") as file:
        assert file["x_train"].max() < 1  # no pixel is white; the scale is that of pixels anyway


def test_the_folder_has_the_front_end_and_its_self_test_passes(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = folders["generate"] / "host"
    readme = (folder / "README.md").read_text()
    assert "| front end: context (RAM, not in the sums) | 2,368 |" in readme
    assert "Compile `chirps.c` and `chirps_frontend.c`" in readme
    assert "STATIC chirps.c chirps_frontend.c)" in (folder / "CMakeLists.txt").read_text()
    device = (folders["generate"] / "cortex-m4" / "README.md").read_text()
    assert "A frame of the front end takes " in device
    check_selftest(folder, tmp_path / "selftest")


def test_words_are_told_apart_by_coefficients(tmp_path: Path) -> None:
    from tinsmith.pipeline.config import load_config

    save_words(tmp_path, np.random.default_rng(0), train=20, test=10, samples=8000)
    (tmp_path / "models.py").write_text(MODELS.replace("12 * 3 * 5", "12 * 3 * 1"))
    text = CONFIG.replace("[audio]", "[audio]\ncoefficients = 13").replace(', "cortex-m4"', "")
    (tmp_path / "tinsmith.toml").write_text(text)
    config = load_config(tmp_path)
    made = run_flow(stages_of(config), config.run.out)
    result = json.loads((made["validate"] / "validation.json").read_text())["host"]
    assert result["mismatches"] == 0
    assert result["accuracy"] >= 70
    folder = made["generate"] / "host"
    assert "25 frames of 13 values" in (folder / "README.md").read_text()
    assert "13 coefficients of their cosine" in (folder / "chirps_frontend.c").read_text()
    check_selftest(folder, tmp_path / "selftest")


def check_selftest(folder: Path, program: Path) -> None:
    """The self-test of generated C, front end included, passes on this computer."""
    files = ("chirps.c", "chirps_frontend.c", "selftest/chirps_selftest.c")
    compiler = find_toolchain(None, target_named("host"))
    run_compiler(compiler, (*WARNINGS, "-O1", *files, "-o", str(program)), folder)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "chirps: passed, 4 samples\n")


@pytest.fixture
def unpacking() -> ModuleType:
    spec = importlib.util.spec_from_file_location("u", ROOT / "examples/keywords/unpack.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_archive_is_unpacked_with_no_speaker_in_both_splits(
    tmp_path: Path, unpacking: ModuleType
) -> None:
    source = tmp_path / "source"
    for speaker in range(1, 7):
        split = "train" if speaker < 5 else "val"
        save_wav(source / split / "yes" / f"{speaker:08}_NO_01.wav", np.zeros(9))
        save_wav(source / split / "_unknown_" / f"zero_{speaker:08}_NO_02.wav", np.zeros(9))
    save_wav(source / "_background_noise_" / "hum.wav", np.zeros(9))
    archive = tmp_path / "words.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        for path in source.iterdir():
            tar.add(path, path.name)
    for fold, tests in ((None, {5, 6}), (1, {2, 5})):
        folder = tmp_path / f"clips{fold}"
        unpacking.unpack(archive, folder, fold, 3)
        found = {
            split: {
                int(unpacking.speaker_of(PurePosixPath(p))) for p in folder.rglob(f"{split}/*/*")
            }
            for split in ("train", "test")
        }
        assert found == {"train": set(range(1, 7)) - tests, "test": tests}
        assert len(list(folder.rglob("*.wav"))) == 13
        assert (folder / "noise" / "hum.wav").is_file()
