"""Pruned weights, shared values, and the file they are coded in: each part, and all together."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrize  # noqa: E402

from support.corners import corner_samples  # noqa: E402
from tinsmith.pipeline.coding.container import decode_weights  # noqa: E402
from tinsmith.pipeline.config import Augment  # noqa: E402
from tinsmith.pipeline.errors import ConfigError  # noqa: E402
from tinsmith.pipeline.training.codebooks import centroids, share_weights, unshare  # noqa: E402
from tinsmith.pipeline.training.deep_compression import Plan, coded_file, compress  # noqa: E402
from tinsmith.pipeline.training.loop import Recipe, Samples, fit, repeatable  # noqa: E402
from tinsmith.pipeline.training.losses import label_loss  # noqa: E402
from tinsmith.pipeline.training.networks import accuracy  # noqa: E402
from tinsmith.pipeline.training.sparsity import (  # noqa: E402
    GradualPruning,
    Pattern,
    SparsityPlan,
    density_at,
    magnitude_mask,
)

STILL = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0)


@pytest.fixture
def samples() -> Samples:
    return corner_samples(400, 200)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(200, 32), nn.ReLU(),
        nn.Linear(32, 4),
    )  # fmt: skip


DENSITY = {"0": 0.5, "4": 0.1, "6": 0.5}
BITS = {"0": 4, "4": 3, "6": 4}
PLAN = Plan(SparsityPlan(DENSITY, end=0.5, every=5), BITS, "linear", 2, 1e-3)


def recipe(epochs: int) -> Recipe:
    return Recipe(epochs, 20, 5e-3, 1e-4, STILL, 7)


def quiet(message: str, fraction: float | None = None) -> None:
    """Progress that nobody looks at."""


def densities(net: nn.Module) -> dict[str, float]:
    return {name: float((net.get_submodule(name).weight != 0).float().mean()) for name in DENSITY}


def test_the_density_falls_fast_first_and_ends_where_it_should() -> None:
    plan = SparsityPlan({}, begin=0.1, end=0.6)
    at = [density_at(step, 1000, plan, 0.08) for step in range(1001)]
    assert at[100] == 1.0
    assert at[600] == at[1000] == pytest.approx(0.08)
    assert at == sorted(at, reverse=True)
    assert at[350] == pytest.approx(1 - 0.92 * (1 - 0.5**3))


def test_a_mask_keeps_the_greatest_weights_and_exactly_as_many_as_asked_for() -> None:
    weight = torch.randn(13, 7, 3, 3, generator=torch.Generator().manual_seed(0))
    mask = magnitude_mask(weight, 0.25)
    assert int(mask.sum()) == math.ceil(0.25 * weight.numel())
    assert float(weight[mask].abs().min()) >= float(weight[~mask].abs().max())
    assert int(magnitude_mask(torch.zeros(4, 5), 0.5).sum()) == 10


def test_blocks_of_inputs_share_their_fate() -> None:
    weight = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    mask = magnitude_mask(weight, 0.5, Pattern(block=4))
    assert int(mask[:, ::4].sum()) == 9
    for start in (0, 4, 8):
        part = mask[:, start : start + 4]
        assert torch.equal(part.all(1), part.any(1))


@pytest.mark.parametrize(("density", "kept"), [(0.5, 2), (0.25, 1), (0.3, 2)])
def test_two_of_four_is_kept_in_every_group(density: float, kept: int) -> None:
    weight = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
    mask = magnitude_mask(weight, density, Pattern(of=4))
    assert bool((mask.reshape(-1, 4).sum(1) == kept).all())
    for values, keep in zip(weight.abs().reshape(-1, 4), mask.reshape(-1, 4), strict=True):
        assert values[keep].min() >= values[~keep].max()


def test_weights_go_gradually_and_stay_away(samples: Samples, tmp_path: Path) -> None:
    with repeatable(1, 1):
        net = network()
        pruning = GradualPruning(net, PLAN.sparsity)
        fit(net, samples, recipe(8), label_loss, tmp_path / "c.pt", quiet, pruning)
    assert densities(net) == pytest.approx(DENSITY, abs=0.01)
    assert accuracy(net, samples.x_test, samples.y_test) >= 95


@pytest.mark.parametrize(
    ("density", "message"),
    [({"9": 0.5}, "there is no layer '9'; allowed: 0, 4, 6"), ({"4": 0.0}, "above 0, up to 1")],
)
def test_a_layer_or_a_density_that_can_not_be_is_refused(
    density: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        GradualPruning(network(), SparsityPlan(density))


@pytest.mark.parametrize("start", ["linear", "density", "random"])
def test_k_means_finds_clusters_and_never_gets_worse_than_its_start(start: Any) -> None:
    rng = np.random.default_rng(3)
    middles = np.array([-2.0, -0.5, 0.1, 1.5])
    values = np.concatenate([m + 0.01 * rng.normal(size=200) for m in middles])
    found = centroids(values, 4, start, np.random.default_rng(5))
    if start != "random":
        np.testing.assert_allclose(found, middles, atol=0.01)
    noise = rng.normal(size=3000)

    def error(book: Any) -> float:
        return float(np.square(noise[:, None] - book[None]).min(1).mean())

    assert error(centroids(noise, 16, start, rng)) <= error(np.linspace(-3, 3, 16))


def test_few_values_are_their_own_centroids() -> None:
    values = np.array([0.5, -1.0, 0.5, 0.5])
    assert centroids(values, 8, "linear", np.random.default_rng(0)).tolist() == [-1.0, 0.5]


def test_shared_weights_train_as_one_and_zeros_stay(samples: Samples, tmp_path: Path) -> None:
    with repeatable(2, 1):
        net = network()
        with torch.no_grad():
            net[4].weight.mul_(magnitude_mask(net[4].weight, 0.2))
        zeros = net[4].weight == 0
        share_weights(net, BITS)
        before = net[4].weight.detach().clone()
        fit(net, samples, recipe(4), label_loss, tmp_path / "c.pt", quiet)
        unshare(net)
    after = net[4].weight.detach()
    assert not parametrize.is_parametrized(net)
    assert not torch.equal(before, after)
    assert torch.equal(after == 0, zeros)
    assert len(after[~zeros].unique()) <= 7
    assert torch.equal(after, after.half().float())
    same = before[~zeros][:, None] == before[~zeros][None]
    assert torch.equal((after[~zeros][:, None] == after[~zeros][None]) & same, same)


@pytest.mark.parametrize("bits", [0, 13])
def test_codes_of_no_or_too_many_bits_are_refused(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"'4': codes of {bits} bits; allowed: 1 to 12"):
        share_weights(network(), {"4": bits})


def compressed(samples: Samples, folder: Path, stop: str | None = None) -> tuple[nn.Module, float]:
    def tell(message: str, fraction: float | None = None) -> None:
        if stop and message.startswith(stop):
            raise KeyboardInterrupt

    folder.mkdir(exist_ok=True)
    with repeatable(3, 1):
        net = network()
        fit(net, samples, recipe(8), label_loss, folder / "float.pt", quiet)
        before = accuracy(net, samples.x_test, samples.y_test)
        compress(net, samples, PLAN, recipe(8), label_loss, folder, tell)
    return net, before


def test_all_together_make_a_file_that_holds_the_network_as_it_was_measured(
    samples: Samples, tmp_path: Path
) -> None:
    net, before = compressed(samples, tmp_path / "a")
    data, records = coded_file(net)
    weights = decode_weights(data)
    again = network()
    again.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    after = accuracy(again, samples.x_test, samples.y_test)
    assert after == accuracy(net, samples.x_test, samples.y_test)
    assert after >= before - 2
    values = sum(record.values for record in records)
    assert len(data) * 20 < values * 4
    assert len(data) == 6 + sum(record.nbytes for record in records)


@pytest.mark.parametrize("stop", ["pruning  epoch 3/", "codes  epoch 1/"])
def test_a_compression_that_was_stopped_goes_on_to_the_same_file(
    stop: str, samples: Samples, tmp_path: Path
) -> None:
    whole, _ = compressed(samples, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        compressed(samples, tmp_path / "part", stop)
    rest, _ = compressed(samples, tmp_path / "part")
    assert coded_file(whole)[0] == coded_file(rest)[0]
