"""The Cortex-M benchmark: its section of the page, absent models, wrong bytes."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    """The script as a module; it finds those beside it as it does when it is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        yield importlib.import_module("cortex_m")


def rows(bench: ModuleType, mismatches: int = 0) -> list[object]:
    return [
        bench.Row(
            m, b, 1_000_000 * (i + 1), 1_500_000, 2_000_000, 100, 90, 2000, 3000, 64, 8, mismatches
        )
        for i, m in enumerate(bench.MODELS) for b in bench.BUILDS
    ]  # fmt: skip


def test_the_section_sets_ours_beside_the_opponents_of_the_same_core(bench: ModuleType) -> None:
    text = bench.section(rows(bench))
    lines = text.splitlines()
    ours = lines.index(
        "| **tinsmith, cortex-m4** | **1.000M** | **2.000M** | **3.000M** | **4.000M** |"
    )
    assert lines[ours + 1] == "| our goal, at most | 0.350M | 3.600M | 14.000M | 6.500M |"
    assert lines[ours + 2].startswith("| tinsmith, cortex-m4, -O time | 1.000M")
    block = lines[ours : lines.index("", ours)]
    assert any("TFLM + CMSIS-NN, fastest, cortex-m4 | 0.573M | 7.227M" in line for line in block)
    assert (
        "| **tinsmith, cortex-m0plus: flash** | **5,000** | **5,000** | **5,000** | **5,000** |"
        in lines
    )
    cycles = "| tinsmith, cortex-m4, -O time | 1.500M-2.000M |"
    assert any(line.startswith(cycles) for line in lines)


def test_a_goal_that_is_missed_is_named_with_both_figures(bench: ModuleType) -> None:
    lines = bench.missed_goals(rows(bench))
    assert "ad, cortex-m4: instructions 1,000,000, goal 350,000" in lines
    assert "ad, cortex-m4, -O time: cycles_high 2,000,000, goal 480,000" in lines
    assert not any("kws, cortex-m4: instructions" in line for line in lines)


def test_a_build_without_its_compiler_is_left_out_and_named(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = bench.installed(bench.BUILDS)
    assert [b for b in bench.BUILDS if b not in found] == [
        b for b in bench.BUILDS if b.toolchain == "gcc"
    ]
    assert "cortex-m4, gcc: skipped: arm-none-eabi-gcc" in capsys.readouterr().err


def test_a_section_takes_the_place_of_the_old_one_and_nothing_else(
    bench: ModuleType, tmp_path: Path
) -> None:
    page = tmp_path / "benchmarks.md"
    bench.write_section(page, "cortex-m", "first")
    page.write_text(page.read_text() + "\n## Raspberry Pi\nkept\n")
    bench.write_section(page, "cortex-m", "second")
    bench.write_section(page, "networks", "third")
    text = page.read_text()
    assert "second" in text and "first" not in text
    assert "## Raspberry Pi\nkept\n" in text
    assert text.index("kept") < text.index("third")
    assert text.count("<!-- cortex-m: begin -->") == text.count("<!-- cortex-m: end -->") == 1


def test_models_that_are_absent_are_skipped_with_their_path(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--data", str(tmp_path), "--models", "ad"]) == 0
    assert f"ad: skipped, {tmp_path}" in capsys.readouterr().err


def test_a_wrong_byte_is_an_error(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "measure_all", lambda *_: rows(bench, mismatches=1))
    assert bench.main([]) == 1
    assert "bytes differ from tflite-micro's" in capsys.readouterr().err


def test_a_measured_model_is_compared_byte_for_byte(bench: ModuleType) -> None:
    pytest.importorskip("unicorn")
    from support.nets import Net
    from tinsmith.pipeline import interpreter
    from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs

    net = Net("tiny", np.random.default_rng(1))
    x = net.input((1, 8))
    w = net.weights((4, 8), x, axis=None)
    graph = net.graph(
        [net.node("fully_connected", [x, w, net.bias(w, x, 4)], FullyConnectedAttrs())]
    )
    samples = np.random.default_rng(2).integers(-128, 128, (3, 1, 8)).astype(np.int8)
    y = interpreter.run_samples(graph, {graph.inputs[0]: samples}, batch=3)[0]
    right = bench.measure("tiny", graph, bench.Build("cortex-m0plus"), samples.reshape(3, -1), y)
    assert right.mismatches == 0 and right.instructions > 0
    wrong = bench.measure(
        "tiny", graph, bench.Build("cortex-m0plus"), samples.reshape(3, -1), y ^ 1
    )
    assert wrong.mismatches == y.size
