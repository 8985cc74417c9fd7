"""The Cortex-M benchmark: its section of the page, absent models, wrong bytes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "cortex_m.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_cortex_m", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rows(bench: ModuleType, mismatches: int = 0) -> list[object]:
    return [
        bench.Row(m, c, 1_000_000 * (i + 1), 100, 90, 2000, 3000, 64, 8, mismatches)
        for i, m in enumerate(bench.MODELS) for c in bench.CORES
    ]  # fmt: skip


def test_the_section_sets_ours_beside_the_opponents_of_the_same_core(bench: ModuleType) -> None:
    text = bench.section(rows(bench))
    lines = text.splitlines()
    ours = lines.index(
        "| **tinsmith, cortex-m4** | **1.000M** | **2.000M** | **3.000M** | **4.000M** |"
    )
    assert "TFLM + CMSIS-NN, fastest, cortex-m4 | 0.573M | 7.227M" in lines[ours + 1]
    assert "| **tinsmith, cortex-m0plus: flash** | 5,000 | 5,000 | 5,000 | 5,000 |" in lines


def test_a_section_takes_the_place_of_the_old_one_and_nothing_else(
    bench: ModuleType, tmp_path: Path
) -> None:
    page = tmp_path / "benchmarks.md"
    bench.write_section(page, "first")
    page.write_text(page.read_text() + "\n## Raspberry Pi\nkept\n")
    bench.write_section(page, "second")
    text = page.read_text()
    assert "second" in text and "first" not in text
    assert text.endswith("## Raspberry Pi\nkept\n")
    assert text.count(bench.BEGIN) == text.count(bench.END) == 1


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
    right = bench.measure("tiny", graph, "cortex-m0plus", samples.reshape(3, -1), y)
    assert right.mismatches == 0 and right.instructions > 0
    wrong = bench.measure("tiny", graph, "cortex-m0plus", samples.reshape(3, -1), y ^ 1)
    assert wrong.mismatches == y.size
