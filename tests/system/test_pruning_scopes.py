"""What can go besides channels: hidden units, whole layers, single weights and blocks of them; and
the schedules by which it goes. Each on small networks that have learned the corners."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("torch_pruning", reason="pruning needs torch-pruning")

from torch import Tensor, nn  # noqa: E402

from support.corners import corner_samples  # noqa: E402
from tinsmith.pipeline.config import Augment, Distil  # noqa: E402
from tinsmith.pipeline.errors import ConfigError  # noqa: E402
from tinsmith.pipeline.training.criteria import Evidence, make_criterion  # noqa: E402
from tinsmith.pipeline.training.cuts import Cut  # noqa: E402
from tinsmith.pipeline.training.deep_compression import int8_file_bytes  # noqa: E402
from tinsmith.pipeline.training.depth import remove_layers, residual_blocks  # noqa: E402
from tinsmith.pipeline.training.distillation import distillation  # noqa: E402
from tinsmith.pipeline.training.gradual import Plan, prune_gradually  # noqa: E402
from tinsmith.pipeline.training.hidden import drop_units, remove_units  # noqa: E402
from tinsmith.pipeline.training.loop import Recipe, fit, repeatable  # noqa: E402
from tinsmith.pipeline.training.losses import label_loss  # noqa: E402
from tinsmith.pipeline.training.masked import MaskPlan, prune_weights  # noqa: E402
from tinsmith.pipeline.training.masks import (  # noqa: E402
    MaskChoice,
    kernel_densities,
    masks,
)
from tinsmith.pipeline.training.movement import MovementPruning  # noqa: E402
from tinsmith.pipeline.training.networks import (  # noqa: E402
    accuracy,
    cost,
    load_weights,
    matrices,
    widths,
)
from tinsmith.pipeline.training.pruning import drop_channels, remove_channels  # noqa: E402
from tinsmith.pipeline.training.results import keep_early, read_early  # noqa: E402
from tinsmith.pipeline.training.sparsity import Pattern, SparsityPlan  # noqa: E402

SAMPLES = corner_samples(160, 80)
SAMPLE = SAMPLES.x_test[:1]
STILL = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0)


class Rows(nn.Module):
    """Two LSTMs over the rows of an image, batch norm between them; every state is read."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(12, 12, batch_first=True)
        self.norm = nn.BatchNorm1d(12)
        self.second = nn.LSTM(12, 8, batch_first=True)
        self.head = nn.Linear(8 * 12, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.first(x.flatten(1, 2))
        y = self.norm(y.transpose(1, 2)).transpose(1, 2)
        return self.head(self.second(torch.relu(y))[0].flatten(1))


class Block(nn.Module):
    def __init__(self, relu: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.norm(self.conv(x)))


class Deep(nn.Module):
    """Residual blocks between a stem and a head, and a plain layer that can't go."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU())
        self.blocks = nn.Sequential(*(Block(relu) for relu in (True, False, True)))
        self.plain = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8 * 36, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.plain(self.blocks(self.stem(x)))).flatten(1))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.hidden = nn.Linear(8 * 25, 24)
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(torch.relu(self.hidden(x.flatten(1))))


def recipe(epochs: int, seed: int = 7) -> Recipe:
    return Recipe(epochs, 20, 5e-3, 1e-4, STILL, seed)


def quiet(message: str, fraction: float | None = None) -> None:
    """Progress that nobody looks at."""


def learned(make: Callable[[], nn.Module], epochs: int, folder: Path) -> nn.Module:
    with repeatable(1, 1):
        network = make()
        watch = keep_early(folder, 1, epochs, network)
        fit(network, SAMPLES, recipe(epochs), label_loss, folder / "c.pt", quiet, watch)
    return network.eval()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    folder = tmp_path_factory.mktemp("small")
    return learned(Small, 8, folder), folder


def evidence(network: nn.Module) -> Evidence:
    return Evidence(network, SAMPLES.x_train[:80], SAMPLES.y_train[:80], label_loss, 3)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


UNITS = ("l1", "l2", "gradient", "taylor", "entropy", "loss", "random")
GATES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


# By the measured loss, units that do harm go before those that do nothing.
@pytest.mark.parametrize("criterion", [name for name in UNITS if name not in ("loss", "random")])
def test_hidden_units_go_first_that_do_nothing(criterion: str) -> None:
    torch.manual_seed(5)
    network = Rows().eval()
    dead = (1, 4, 7, 10)
    with torch.no_grad():
        for unit in dead:
            for part in GATES:  # gates that are fed nothing: the state stays 0
                getattr(network.first, part)[unit::12] = 0
            network.first.weight_hh_l0[:, unit] = 0
            network.second.weight_ih_l0[:, unit] = 0
            network.norm.weight[unit] = network.norm.bias[unit] = 0
    expected, without = network(SAMPLES.x_test), copy.deepcopy(network)
    drop_units(without, SAMPLE, [Cut("first", dead)])
    torch.testing.assert_close(without.eval()(SAMPLES.x_test), expected, atol=1e-5, rtol=1e-5)
    wanted = cost(without, SAMPLE).total_macs
    cuts = remove_units(network, SAMPLE, wanted, 4, criterion, "global", evidence(network))
    assert cuts == (Cut("first", dead),)
    assert same(network, without)


@pytest.mark.parametrize(
    ("criterion", "allocation"),
    [*((name, "budget") for name in UNITS), ("l2", "uniform"), ("l2", "sensitivity")],
)
def test_hidden_units_go_until_the_macs_are_reached(criterion: str, allocation: str) -> None:
    torch.manual_seed(6)
    network = Rows().eval()
    whole, before = copy.deepcopy(network), cost(network, SAMPLE).total_macs
    cuts = remove_units(network, SAMPLE, before // 2, 2, criterion, allocation, evidence(network))
    assert cost(network, SAMPLE).total_macs <= before // 2
    assert all(width % 2 == 0 for width in widths(network).values())
    assert all(parameter.grad is None for parameter in whole.parameters())
    drop_units(whole, SAMPLE, cuts)
    assert same(network, whole)
    again = load_weights(Rows(), network.state_dict()).eval()
    assert torch.equal(again(SAMPLES.x_test), network.eval()(SAMPLES.x_test))


def reads(layer: nn.Module, **lstm: object) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(12, 8, batch_first=True, **lstm)
            self.reader = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.reader(self.lstm(x.flatten(1, 2))[0][:, -1])

    return Net()


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (lambda: Small(), "the network has no LSTM"),
        (lambda: reads(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 4))), "a LayerNorm reads"),
        (lambda: reads(nn.Sequential(nn.Softmax(1), nn.Linear(8, 4))), "are mixed before"),
        (lambda: reads(nn.Linear(8, 4), num_layers=2), "has 2 layers in one"),
        (lambda: reads(nn.Linear(16, 4), bidirectional=True), "runs in both directions"),
        (lambda: reads(nn.Linear(4, 4), proj_size=4), "has a projection"),
        (lambda: reads(nn.Identity()), "are the network's outputs"),
    ],
)
def test_hidden_units_that_can_not_go_are_refused_with_the_reason(
    network: Callable[[], nn.Module], reason: str
) -> None:
    net = network()
    with pytest.raises(ConfigError, match=rf"no hidden units can go: .*{reason}"):
        remove_units(net, SAMPLE, 100, 4, "l2", "budget", evidence(net))


def test_hidden_macs_that_can_not_be_reached_are_refused() -> None:
    net = Rows()
    with pytest.raises(ConfigError, match=r"10 MACs can't be reached by hidden units; with 4 in"):
        remove_units(net, SAMPLE, 10, 4, "l2", "budget", evidence(net))


def test_a_block_can_go_where_the_identity_is_what_is_left() -> None:
    torch.manual_seed(2)
    network = Deep().eval()
    # The last one's ReLU would change what the middle one gives.
    assert residual_blocks(network, SAMPLES.x_test[:8]) == ("blocks.0", "blocks.1")
    with torch.no_grad():
        network.blocks[1].conv.weight.zero_()
        network.blocks[0].conv.weight.mul_(20)
    expected, before = network(SAMPLES.x_test), cost(network, SAMPLE)
    one = before.macs["blocks.0.conv"]
    # On a loss that is low, what changes nothing raises it least.
    shown = Evidence(network, SAMPLES.x_train, network(SAMPLES.x_train).argmax(1), label_loss, 0)
    cuts = remove_layers(network, SAMPLE, before.total_macs - one, "loss", "global", shown)
    assert cuts == (Cut("blocks.1"),)
    assert torch.equal(network(SAMPLES.x_test), expected)
    assert "blocks.2" in residual_blocks(network, SAMPLES.x_test[:8])
    again = load_weights(Deep(), network.state_dict()).eval()
    assert torch.equal(again(SAMPLES.x_test), expected)
    with pytest.raises(ConfigError, match=r"50 MACs can't be reached by whole layers; .*blocks\.0"):
        remove_layers(network, SAMPLE, 50, "random", "budget", shown)


@pytest.mark.parametrize("criterion", ["l1", "l2", "gradient", "taylor", "random"])
@pytest.mark.parametrize("allocation", ["uniform", "global", "budget"])
def test_masks_keep_the_density_and_what_is_zero(
    criterion: str, allocation: str, small: tuple[nn.Module, Path]
) -> None:
    network = copy.deepcopy(small[0])
    with torch.no_grad():
        network.hidden.weight[:6] = 0
    kept = masks(network, 0.3, MaskChoice(0.3, criterion, allocation), evidence(network))
    total = sum(keep.numel() for keep in kept.values())
    share = sum(int(keep.sum()) for keep in kept.values()) / total
    assert share == pytest.approx(0.3, abs=3 / total)
    assert not kept["hidden"][:6].any()


def test_densities_by_size_add_up_and_spare_small_layers(small: tuple[nn.Module, Path]) -> None:
    shapes = {name: w.shape for name, w in matrices(small[0]).items()}
    found = kernel_densities(shapes, 0.3)
    weights = {name: shape.numel() for name, shape in shapes.items()}
    whole = sum(found[name] * weights[name] for name in shapes)
    assert whole == pytest.approx(0.3 * sum(weights.values()))
    assert found["conv"] == 1.0
    assert found["hidden"] < 0.3 < found["head"] <= 1


def test_two_of_four_stay_in_every_group_and_blocks_are_channels_of_a_pixel() -> None:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(24, 4))
    shown = Evidence(network, torch.zeros(1, 8, 4, 4), torch.zeros(1).long(), label_loss, 0)
    pairs = masks(network, 0.5, MaskChoice(0.5, pattern=Pattern(1, 4)), shown)
    conv = pairs["0"].permute(0, 2, 3, 1).reshape(-1, 4)  # as the C holds it: OHWI
    assert (conv.sum(1) == 2).all()
    assert (pairs["2"].reshape(-1, 4).sum(1) == 2).all()
    blocks = masks(network, 0.25, MaskChoice(0.25, "l2", pattern=Pattern(4)), shown)
    conv = blocks["0"].permute(0, 2, 3, 1).reshape(-1, 4)
    assert set(conv.sum(1).tolist()) == {0, 4}
    assert int(conv.sum()) == conv.numel() // 4
    sums = network[0].weight.detach().permute(0, 2, 3, 1).reshape(-1, 4).square().sum(1)
    assert sums[conv[:, 0]].min() >= sums[~conv[:, 0]].max()


SCHEDULES = ("steps", "gradual", "rewind", "movement")


def mask_weights(
    network: nn.Module, schedule: str, folder: Path, early: Path, stop: str = ""
) -> nn.Module:
    def listen(message: str, fraction: float | None = None) -> None:
        if stop and message.startswith(stop):
            raise KeyboardInterrupt

    folder.mkdir(exist_ok=True)
    plan = MaskPlan(MaskChoice(0.2, "l1", "budget"), schedule, 2, 2, 80)
    with repeatable(2, 1):
        young = read_early(early) if schedule == "rewind" else None
        prune_weights(network, SAMPLES, plan, recipe(5), label_loss, folder, listen, young)
    return network


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_network_learns_with_a_fifth_of_its_weights(
    schedule: str, small: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    network = copy.deepcopy(small[0])
    whole = int8_file_bytes(network)
    mask_weights(network, schedule, tmp_path, small[1])
    weights = matrices(network).values()
    left = sum(int((w != 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert left == pytest.approx(0.2, abs=0.005)
    assert accuracy(network, SAMPLES.x_test, SAMPLES.y_test) >= 90
    assert int8_file_bytes(network) < 0.5 * whole
    assert set(network.state_dict()) == set(Small().state_dict())


@pytest.mark.parametrize(
    ("schedule", "stop"), [("rewind", "step 2/2  epoch 2/5"), ("movement", "epoch 3/5")]
)
def test_masks_of_a_training_that_was_stopped_end_as_those_of_one_that_was_not(
    schedule: str, stop: str, small: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    whole = mask_weights(copy.deepcopy(small[0]), schedule, tmp_path / "whole", small[1])
    with pytest.raises(KeyboardInterrupt):
        mask_weights(copy.deepcopy(small[0]), schedule, tmp_path / "part", small[1], stop)
    rest = mask_weights(copy.deepcopy(small[0]), schedule, tmp_path / "part", small[1])
    assert same(whole, rest)


def test_a_score_learns_by_the_gradient_times_the_weight_also_where_it_is_masked() -> None:
    torch.manual_seed(4)
    network = nn.Linear(6, 2, bias=False)
    net = nn.ModuleDict({"layer": network})
    weight = network.weight.detach().clone()
    choice = MaskChoice(0.5, pattern=Pattern(2))
    moving = MovementPruning(net, SparsityPlan({"layer": 0.5}, 0.0, 0.5, 1), choice)
    moved = network.parametrizations.weight[0]
    with torch.no_grad():
        moved.scores.copy_(torch.tensor([[3.0, 1, 2], [0, 5, -1]]))
    moving(10, 10)
    assert moved.keep.tolist() == [[True, False, True], [False, True, False]]
    x, y = torch.rand(5, 6), torch.rand(5, 2)
    loss = (network(x) - y).square().sum()
    loss.backward()
    shown = 2 * (network(x) - y).T @ x  # dL/dW' of the masked weight
    expected = (shown * weight).reshape(2, 3, 2).sum(2)
    torch.testing.assert_close(moved.scores.grad, expected)
    masked = network.parametrizations.weight.original.grad.reshape(2, 3, 2)[~moved.keep]
    assert not masked.any()
    moving.end()
    kept = torch.tensor([[1.0, 1, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0]])
    assert torch.equal(network.weight, weight * kept)


def physical(
    network: nn.Module, plan: Plan, epochs: int, folder: Path, early: Path | None = None
) -> tuple[object, tuple[object, ...]]:
    with repeatable(2, 1):
        teacher = copy.deepcopy(network)
        options = Distil.model_construct(terms=[], alpha=0.5, temperature=2.0)
        loss = distillation(options, teacher, network, SAMPLE)
        young = None if early is None else read_early(early)
        return prune_gradually(network, SAMPLES, plan, recipe(epochs), loss, folder, quiet, young)


def test_channels_that_stay_go_back_to_their_early_weights(
    small: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    network, early = copy.deepcopy(small[0]), read_early(small[1])
    plan = Plan(0.4, 2, 1, 2, "l2", "budget", 80, schedule="rewind")
    (tmp_path / "untrained").mkdir()
    physical(network, plan, 0, tmp_path / "untrained", small[1])
    rows = early["conv.weight"].flatten(1)
    assert len(network.conv.weight) < 8
    for row in network.conv.weight.detach().flatten(1):
        assert (rows == row).all(1).any()
    assert not any((small[0].conv.weight.flatten(1) == row).all(1).any() for row in rows)
    after = copy.deepcopy(small[0])
    _, history = physical(after, plan, 4, tmp_path, small[1])
    assert len(history) == 8  # the whole training after each step
    assert accuracy(after, SAMPLES.x_test, SAMPLES.y_test) >= 90


@pytest.mark.parametrize("scope", ["hidden", "layers"])
def test_a_network_learns_again_without_units_or_layers(scope: str, tmp_path: Path) -> None:
    network = learned(Rows if scope == "hidden" else Deep, 6, tmp_path)
    before, had = cost(network, SAMPLE).total_macs, widths(network)
    plan = Plan(0.6, 2, 1, 2, "loss", "budget", 80, scope, "gradual")
    removed, _ = physical(network, plan, 5, tmp_path)
    assert cost(network, SAMPLE).total_macs <= 0.6 * before
    assert accuracy(network, SAMPLES.x_test, SAMPLES.y_test) >= 90
    after = widths(network)
    assert [(r.layer, r.before, r.after) for r in removed] == [
        (name, had[name], after.get(name, 0)) for name in had if had[name] != after.get(name, 0)
    ]


def test_early_weights_of_another_network_are_refused(
    small: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    plan = Plan(0.4, 1, 1, 2, "l2", "budget", 80, schedule="rewind")
    with pytest.raises(ConfigError, match="early weights are not of the network"):
        physical(Deep(), plan, 1, tmp_path, small[1])
    with pytest.raises(ConfigError, match=r"it doesn't go with \[factorize\]"):
        read_early(tmp_path)


def test_channels_fall_by_the_cubic_law_or_by_equal_shares() -> None:
    plan = Plan(0.5, 4, 1, 2, "l2", "budget", 80)
    assert [plan.keep(step) for step in (1, 2, 4)] == pytest.approx([0.875, 0.75, 0.5])
    cubic = replace(plan, schedule="gradual")
    assert [cubic.keep(step) for step in (1, 2, 4)] == pytest.approx([0.7109375, 0.5625, 0.5])
    shares = replace(plan, schedule="rewind")
    assert [shares.keep(step) for step in (2, 4)] == pytest.approx([0.5**0.5, 0.5])


@pytest.mark.parametrize(
    ("schedule", "criterion"), [("steps", "taylor"), ("gradual", "l1"), ("movement", "l1")]
)
def test_matrices_of_an_lstm_are_masked_as_those_of_other_layers(
    schedule: str, criterion: str, tmp_path: Path
) -> None:
    network = learned(Rows, 8, tmp_path)
    choice = MaskChoice(0.25, criterion, "uniform", Pattern(4))
    plan = MaskPlan(choice, schedule, 1, 0, 40)
    with repeatable(2, 1):
        prune_weights(network, SAMPLES, plan, recipe(8), label_loss, tmp_path, quiet)
    kept = {name: float((w != 0).float().mean()) for name, w in matrices(network).items()}
    assert {"first.weight_ih_l0", "first.weight_hh_l0", "second.weight_hh_l0"} <= set(kept)
    assert all(0.15 <= share <= 0.26 for share in kept.values()), kept
    fresh = Rows()
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh.eval()(SAMPLES.x_test), network.eval()(SAMPLES.x_test))
    assert accuracy(network, SAMPLES.x_test, SAMPLES.y_test) >= 80


def test_what_was_cut_can_be_cut_out_of_another_network(small: tuple[nn.Module, Path]) -> None:
    network, other = copy.deepcopy(small[0]), copy.deepcopy(small[0])
    half = cost(network, SAMPLE).total_macs // 2
    cuts = remove_channels(network, SAMPLE, half, 2, make_criterion("l2", evidence(network)))
    drop_channels(other, SAMPLE, cuts)
    assert len(cuts) > 1
    assert same(network, other)


def test_a_criterion_that_channels_can_not_take_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(800, 4))
    shown = evidence(network)
    with pytest.raises(ConfigError, match=r"can't be taken by the channels of 0 .*no ReLU before"):
        remove_channels(network, SAMPLE, 1000, 2, make_criterion("apoz", shown))
