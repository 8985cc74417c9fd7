"""The benchmarks of compression: small runs of both, and what their tables say."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("torch_pruning", reason="cutting needs torch-pruning")

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    monkeypatch.syspath_prepend(str(BENCH))
    import deep_compression
    import distillation

    yield {"deep_compression": deep_compression, "distillation": distillation}
    for name in ("deep_compression", "distillation", "page"):
        sys.modules.pop(name, None)


def test_a_difference_is_that_of_the_same_images_with_its_interval(
    bench: dict[str, ModuleType],
) -> None:
    ours = np.array([True] * 60 + [False] * 40)
    theirs = np.array([True] * 50 + [False] * 50)
    points, half = bench["distillation"].paired_difference(ours, theirs)
    assert points == pytest.approx(10.0)
    assert half == pytest.approx(100 * 1.96 * np.sqrt(0.1 * 0.9 / 99), rel=1e-6)
    assert bench["distillation"].paired_difference(ours, ours) == (0.0, 0.0)


def test_every_kind_of_distillation_is_one_that_the_configuration_takes(
    bench: dict[str, ModuleType],
) -> None:
    from tinsmith.pipeline.config import load_config

    distillation = bench["distillation"]
    base = load_config(BENCH / "distillation.toml").distil
    for kind in distillation.KINDS:
        options = distillation.options_of(kind, base)
        assert options.terms, kind
        assert (options.model_copy(update={"terms": base.terms}) != base) == (
            kind in ("assistant", "born again", "cut out")
        )


def test_the_networks_of_the_distillation_fit_their_budgets(bench: dict[str, ModuleType]) -> None:
    from fashion_models import assistant, student, teacher

    from tinsmith.pipeline.training.networks import cost

    sizes = [
        cost(make(10), torch.zeros(1, 1, 28, 28)).parameters
        for make in (student, assistant, teacher)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] <= 30_000


def test_a_row_of_deep_compression_counts_the_file(bench: dict[str, ModuleType]) -> None:
    found = {
        "float": 89.0, "coded": 88.8, "drop": 0.2, "half_interval": 0.1,
        "float_bytes": 1_000_000, "file_bytes": 20_000, "codebook_bytes": 60, "header_bytes": 90,
        "nonzero": 15_000, "values": 250_000,
    }  # fmt: skip
    row = bench["deep_compression"].row("lenet-5", "fashion", found)
    assert "-0.20 ± 0.10" in row
    assert "| 6.0 % |" in row
    assert "**50.0x** | 39x |" in row
    assert "## Deep Compression" in bench["deep_compression"].section([row], 0)


def test_the_networks_of_deep_compression_have_the_sizes_of_the_paper(
    bench: dict[str, ModuleType],
) -> None:
    deep = bench["deep_compression"]
    sizes = {
        name: sum(p.numel() for p in case.make().parameters())
        for (name, _), case in deep.CASES.items()
    }
    assert sizes == {"lenet-300-100": 266_610, "lenet-5": 431_080}
    for case in deep.CASES.values():
        layers = dict(case.make().named_modules())
        assert set(case.density) == set(case.bits) <= set(layers)
