"""The benchmark of pruning: what its tables say, and which bars it holds a network to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("torch_pruning", reason="pruning needs torch-pruning")

from tinsmith.pipeline.config import load_config  # noqa: E402
from tinsmith.pipeline.config.prune_rules import check_prune  # noqa: E402
from tinsmith.pipeline.tasks import Task  # noqa: E402
from tinsmith.pipeline.training.networks import cost, make_network  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import cifar

    yield cifar
    for name in ("cifar", "distillation", "page"):
        sys.modules.pop(name, None)


def test_the_example_is_the_network_of_mlperf_tiny() -> None:
    model, sample = (
        load_config(ROOT / "examples" / "cifar10").distil.model,
        torch.zeros(1, 3, 32, 32),
    )
    found = cost(make_network(model, sample, (Task("", 10),)), sample)
    assert (found.total_macs, found.parameters) == (12_501_632, 78_042)


def test_every_short_pruning_is_one_that_the_configuration_takes(bench: ModuleType) -> None:
    config = load_config(ROOT / "examples" / "cifar10")
    for name in bench.SHORT:
        options = bench.short_options(config, name, 3).prune
        check_prune(type(options)(**options.model_dump(exclude_unset=True)), name)
        assert options.step_epochs * (options.steps - 1) + options.epochs == 3
        assert options.macs == config.prune.macs


def test_bars_that_were_not_reached_are_named(bench: ModuleType) -> None:
    right = np.arange(1000) % 4 != 0
    device = {"instructions": 1000, "flash": 90, "ram": 30, "stack": 3}
    before = bench.Network(100, 80, right, 0.0, right, device)
    better = np.arange(1000) % 5 != 0
    good = bench.Network(50, 40, better, 1.0, better, {**device, "instructions": 550})
    assert bench.missed(before, good) == []
    rows = "\n".join(bench.device_table(before, good))
    assert "| accuracy, int8 | 75.00 % | 80.00 % | +5.00 ± " in rows
    assert "| cortex-m4: instructions | 1,000 | 550 | -45.0 % |" in rows
    worse = right & (np.arange(1000) >= 20)
    assert "1.50 points lost" in bench.missed(before, replace(good, int8_right=worse))[0]
    assert "51 MACs are more than half" in bench.missed(before, replace(good, macs=51))[0]
    slow = replace(good, device={**device, "instructions": 560})
    assert "44.0 % of the instructions saved" in bench.missed(before, slow)[0]
