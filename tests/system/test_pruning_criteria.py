"""What says which channels go: every criterion finds those that do nothing, and every allocation
keeps its promise, on networks with residual sums, depthwise and linear layers."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")
pytest.importorskip("torch_pruning", reason="pruning needs torch-pruning")

from torch import Tensor, nn  # noqa: E402

from support.corners import corner_samples  # noqa: E402
from tinsmith.pipeline.config import Augment, Distil, DistilTerm  # noqa: E402
from tinsmith.pipeline.errors import ConfigError  # noqa: E402
from tinsmith.pipeline.training.criteria import (  # noqa: E402
    CRITERIA,
    Evidence,
    Norms,
    loss_without,
    make_criterion,
)
from tinsmith.pipeline.training.distillation import distillation  # noqa: E402
from tinsmith.pipeline.training.gradual import Plan, prune_gradually  # noqa: E402
from tinsmith.pipeline.training.loop import Recipe, Samples, fit, repeatable  # noqa: E402
from tinsmith.pipeline.training.losses import label_loss  # noqa: E402
from tinsmith.pipeline.training.networks import accuracy, cost, widths  # noqa: E402
from tinsmith.pipeline.training.pruning import ALLOCATIONS, remove_channels  # noqa: E402

SAMPLE = torch.zeros(1, 1, 12, 12)


class Net(nn.Module):
    """Two convolutions with a depthwise one added in between, a hidden linear layer, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.middle = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.second = nn.Conv2d(8, 12, 3, stride=2)
        self.hidden = nn.Linear(12 * 16, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.second(torch.relu(x + self.middle(x))))
        return self.head(torch.relu(self.hidden(x.flatten(1))))


SAMPLES = corner_samples(240, 120)


def recipe(epochs: int) -> Recipe:
    still = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0)
    return Recipe(epochs, 20, 5e-3, 1e-4, still, 7)


def quiet(message: str, fraction: float | None = None) -> None:
    """Progress that nobody looks at."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    with repeatable(1, 1):
        net = Net()
        fit(net, SAMPLES, recipe(6), label_loss, tmp_path_factory.mktemp("t") / "c.pt", quiet)
    return net.state_dict()


def network(trained: dict[str, Tensor]) -> Net:
    net = Net().eval()
    net.load_state_dict(trained)
    return net


def evidence(net: nn.Module) -> Evidence:
    return Evidence(net, SAMPLES.x_train[:80], SAMPLES.y_train[:80], label_loss, 3)


DEAD = (1, 4, 7, 10)


# By the measured loss, channels that do harm go before those that do nothing.
@pytest.mark.parametrize("name", [name for name in CRITERIA if name not in ("random", "loss")])
def test_a_criterion_takes_those_channels_first_that_do_nothing(
    name: str, trained: dict[str, Tensor]
) -> None:
    net = network(trained)
    with torch.no_grad():
        for channel in DEAD:
            net.second.weight[channel] = 0
            net.second.bias[channel] = 0
            net.hidden.weight[:, channel * 16 : channel * 16 + 16] = 0
    expected, before = net(SAMPLES.x_test), cost(net, SAMPLE)
    wanted = before.total_macs - 4 * (before.macs["second"] // 12 + before.macs["hidden"] // 12)
    criterion = make_criterion(name, evidence(net))

    class OnlySecond:
        """The criterion, to which all other groups matter much more."""

        def scores(self, group: object, width: int) -> Tensor:
            scores = criterion.scores(group, width)
            return scores if width == 12 else torch.ones(width)

        removed = staticmethod(criterion.removed)

    remove_channels(net, SAMPLE, wanted, 4, OnlySecond())
    assert widths(net)["second"] == 8
    torch.testing.assert_close(net.eval()(SAMPLES.x_test), expected)


@pytest.mark.parametrize(
    ("name", "allocation"),
    [*((name, "budget") for name in CRITERIA), *(("taylor", way) for way in ALLOCATIONS)],
)
def test_every_criterion_and_every_allocation_reaches_the_macs(
    name: str, allocation: str, trained: dict[str, Tensor]
) -> None:
    net = network(trained)
    shown, before = evidence(net), cost(net, SAMPLE).total_macs
    remove_channels(net, SAMPLE, before // 2, 2, make_criterion(name, shown), allocation, shown)
    assert cost(net, SAMPLE).total_macs <= before // 2
    assert net(SAMPLES.x_test).shape == (120, 4)
    assert all(width % 2 == 0 for width in widths(net).values())


def test_uniform_takes_the_same_share_of_all_layers(trained: dict[str, Tensor]) -> None:
    net = network(trained)
    remove_channels(net, SAMPLE, cost(net, SAMPLE).total_macs * 30 // 100, 1, Norms(2), "uniform")
    after = widths(net)
    left = [after["first"] / 8, after["second"] / 12, after["hidden"] / 16]
    assert max(left) - min(left) <= 0.13


def test_what_the_loss_rises_by_is_that_of_the_network_without_the_channel(
    trained: dict[str, Tensor],
) -> None:
    net = network(trained)
    criterion = make_criterion("loss", evidence(net))
    seen: list[Tensor] = []

    class Look:
        def scores(self, group: object, width: int) -> Tensor:
            if width == 16:
                seen.append(criterion.scores(group, width))
            return torch.ones(width)

        def removed(self, group: object) -> None:
            """Nothing is kept."""

    remove_channels(net, SAMPLE, cost(net, SAMPLE).total_macs - 1, 1, Look())
    without = []
    for unit in range(16):
        cut = network(trained)
        with torch.no_grad():
            cut.head.weight[:, unit] = 0
        shown = evidence(cut)
        without.append(loss_without(None, [], shown))
    expected = torch.tensor(without)
    torch.testing.assert_close(seen[0], expected - expected.min() + 1e-6, atol=1e-5, rtol=1e-3)


def test_silencing_leaves_no_trace(trained: dict[str, Tensor]) -> None:
    net = network(trained)
    shown = evidence(net)
    for name in ("loss", "gradient", "taylor", "entropy", "apoz"):
        make_criterion(name, shown)
    remove_channels(
        net,
        SAMPLE,
        cost(net, SAMPLE).total_macs,
        1,
        make_criterion("loss", shown),
        "sensitivity",
        shown,
    )
    assert all(torch.equal(trained[k], v) for k, v in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_measured_criteria_lose_less_than_chance(trained: dict[str, Tensor]) -> None:
    """Right after three quarters of the MACs went, before any training, by the test images."""

    def loss_after(name: str, seed: int) -> float:
        net = network(trained)
        shown = Evidence(net, SAMPLES.x_train[:80], SAMPLES.y_train[:80], label_loss, seed)
        criterion = make_criterion(name, shown)
        remove_channels(net, SAMPLE, cost(net, SAMPLE).total_macs // 4, 1, criterion)
        with torch.no_grad():
            return float(label_loss(net.eval(), SAMPLES.x_test, SAMPLES.y_test))

    chance = np.median([loss_after("random", seed) for seed in range(5)])
    assert loss_after("loss", 0) < 0.8 * chance
    assert loss_after("taylor", 0) < 0.8 * chance


def test_gradual_pruning_measures_on_training_images_only(
    trained: dict[str, Tensor], tmp_path: Path
) -> None:
    net = network(trained)
    blind = Samples(
        SAMPLES.x_train, SAMPLES.y_train, SAMPLES.x_test * 0, SAMPLES.y_test, SAMPLES.tasks
    )
    plan = Plan(0.5, 2, 1, 2, "loss", "sensitivity", 60)
    with repeatable(2, 1):
        teacher = network(trained)
        loss = distillation(
            Distil.model_construct(terms=[], alpha=0.5, temperature=2.0), teacher, net, SAMPLE
        )
        removed, history = prune_gradually(net, blind, plan, recipe(3), loss, tmp_path, quiet)
    assert sum(removal.before - removal.after for removal in removed) > 0
    assert len(history) == 4
    assert accuracy(net, SAMPLES.x_test, SAMPLES.y_test) >= 90


def test_a_fold_that_decides_was_left_out_of_the_training_before(
    trained: dict[str, Tensor], tmp_path: Path
) -> None:
    decided: list[set[bytes]] = []
    learned: list[set[bytes]] = [set()]

    def named(x: Tensor) -> set[bytes]:
        return {image.contiguous().numpy().tobytes() for image in x.detach()}

    def watched(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        images = named(x)
        if network.training:
            learned[-1] |= images
        elif len(images) == 60 and (not decided or images != decided[-1]):
            decided.append(images)
            learned.append(set())
        return label_loss(network, x, y)

    plan = Plan(0.3, 4, 1, 2, "taylor", "budget", 1000, folds=4)
    watched.learn_shapes = lambda *_: None  # type: ignore[attr-defined]
    with repeatable(2, 1):
        prune_gradually(network(trained), SAMPLES, plan, recipe(1), watched, tmp_path, quiet)
    every = named(SAMPLES.x_train)
    assert len(every) == 240
    assert len(decided) == 4
    assert set.union(*decided) == every
    trainings = learned[1:]
    for training, following in zip(trainings, decided[1:], strict=False):
        assert training == every - following
    assert trainings[-1] == every


def test_measured_pruning_on_a_hint_that_was_stopped_ends_as_one_that_was_not(
    trained: dict[str, Tensor], tmp_path: Path
) -> None:
    hint = DistilTerm(kind="hint", student_layer="first", teacher_layer="first")
    options = Distil.model_construct(terms=[DistilTerm(kind="labels"), hint])

    def prune(folder: Path, stop: str) -> dict[str, Tensor]:
        def listen(message: str, fraction: float | None = None) -> None:
            if stop and message.startswith(stop):
                raise KeyboardInterrupt

        folder.mkdir(exist_ok=True)
        net, plan = network(trained), Plan(0.4, 2, 1, 2, "taylor", "budget", 60)
        with repeatable(2, 1):
            loss = distillation(options, network(trained), net, SAMPLE)
            prune_gradually(net, SAMPLES, plan, recipe(2), loss, folder, listen)
        return net.state_dict()

    whole = prune(tmp_path / "whole", "")
    with pytest.raises(KeyboardInterrupt):
        prune(tmp_path / "stopped", "step 2/2  epoch 1/2")
    rest = prune(tmp_path / "stopped", "")
    assert len(whole["first.weight"]) < 8
    assert all(torch.equal(whole[name], rest[name]) for name in whole)


def test_macs_that_can_not_be_reached_are_refused(trained: dict[str, Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"\[prune\] macs: 10 MACs can't be reached; with 4 "):
        remove_channels(network(trained), SAMPLE, 10, 4, Norms(1))


class Signal(nn.Module):
    """Rows as the channels of 1D convolutions, one of them depthwise in a residual sum; an LSTM
    that reads the last one's outputs, where `lstm` is set.
    """

    def __init__(self, lstm: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv1d(12, 8, 3, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.middle = nn.Conv1d(8, 8, 3, padding=1, groups=8)
        self.second = nn.Conv1d(8, 12, 3, stride=2)
        self.lstm = nn.LSTM(12, 6, batch_first=True) if lstm else None
        self.head = nn.Linear(6 if lstm else 12 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x.flatten(1, 2))))
        x = torch.relu(self.second(torch.relu(x + self.middle(x))))
        if self.lstm is None:
            return self.head(x.flatten(1))
        return self.head(self.lstm(x.transpose(1, 2))[0][:, -1])


def test_channels_of_1d_convolutions_go_by_every_criterion_and_allocation() -> None:
    for name, way in [*((name, "budget") for name in CRITERIA), *(("l2", w) for w in ALLOCATIONS)]:
        with repeatable(1, 1):
            net = Signal().eval()
        shown, before = evidence(net), cost(net, SAMPLE)
        assert before.macs == {
            "first": 10 * 8 * 12 * 3, "middle": 10 * 8 * 3, "second": 4 * 12 * 8 * 3,
            "head": 12 * 4 * 4,
        }  # fmt: skip
        remove_channels(
            net, SAMPLE, before.total_macs // 2, 2, make_criterion(name, shown), way, shown
        )
        assert cost(net, SAMPLE).total_macs <= before.total_macs // 2
        assert widths(net)["first"] == widths(net)["middle"]


def test_dead_channels_of_a_1d_convolution_go_out_of_the_lstm_that_reads_them() -> None:
    with repeatable(1, 1):
        net = Signal(lstm=True).eval()
    with torch.no_grad():
        net.first.weight *= 3
        for tensor in (net.second.weight, net.second.bias, net.lstm.weight_ih_l0.T):
            tensor[[1, 4, 7, 10]] = 0
    expected = net(SAMPLES.x_test)
    wanted = cost(net, SAMPLE).total_macs - 4 * 4 * 8 * 3

    class OnlySecond(Norms):
        def scores(self, group: object, width: int) -> Tensor:
            return super().scores(group, width) if width == 12 else torch.ones(width)

    remove_channels(net, SAMPLE, wanted, 4, OnlySecond(1))
    assert (widths(net)["second"], net.lstm.input_size) == (8, 8)
    torch.testing.assert_close(net(SAMPLES.x_test), expected)


def test_a_network_of_an_lstm_alone_is_told_what_can_be_pruned_of_it() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(12, 6, batch_first=True), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x.flatten(1, 2))[0][:, -1])

    with pytest.raises(ConfigError, match=r'no layer can lose 2 channels .* scope = "hidden"'):
        remove_channels(Rows(), SAMPLE, 10, 2, Norms(1))
