"""Low rank: what factors lose and cost is what is foretold, ranks are chosen as asked, and firmware
gets smaller and faster."""

from __future__ import annotations

import copy
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tinsmith[train]'")

from torch import Tensor, nn  # noqa: E402

from support.corners import corner_samples  # noqa: E402
from tinsmith.pipeline.config import Augment, load_config  # noqa: E402
from tinsmith.pipeline.deployment import make_program  # noqa: E402
from tinsmith.pipeline.errors import ConfigError  # noqa: E402
from tinsmith.pipeline.flow import Event, run_flow  # noqa: E402
from tinsmith.pipeline.model_files import read_model, to_input  # noqa: E402
from tinsmith.pipeline.quantization import quantize  # noqa: E402
from tinsmith.pipeline.stages import stages_of  # noqa: E402
from tinsmith.pipeline.training.decompositions import DECOMPOSITIONS  # noqa: E402
from tinsmith.pipeline.training.distillation import Distillation  # noqa: E402
from tinsmith.pipeline.training.export import export_onnx  # noqa: E402
from tinsmith.pipeline.training.loop import Recipe, fit, repeatable  # noqa: E402
from tinsmith.pipeline.training.losses import SoftAnswers, label_loss  # noqa: E402
from tinsmith.pipeline.training.low_rank import (  # noqa: E402
    CHOICES,
    Candidate,
    Option,
    Plan,
    apply_option,
    candidates,
    factorize,
)
from tinsmith.pipeline.training.networks import accuracy, cost, load_weights  # noqa: E402
from tinsmith.pipeline.tuning import measure  # noqa: E402
from tinsmith.targets.target import target_named  # noqa: E402
from tinsmith.targets.toolchains import find_toolchain  # noqa: E402


def odd_network() -> nn.Module:
    """Kernels, strides and paddings of every kind."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, (3, 5), stride=(2, 1), padding=(1, 2)),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, padding="same", dilation=2, bias=False),
        nn.BatchNorm2d(16),
        nn.Conv2d(16, 16, 1, stride=2, padding=1),
        nn.Conv2d(16, 16, (1, 3), stride=(2, 1)),
        nn.Conv2d(16, 16, 3, groups=16),
        nn.Flatten(2),
        nn.Conv1d(16, 20, 5),
        nn.Flatten(),
        nn.Linear(20, 24),
        nn.Linear(24, 5),
    ).eval()


SAMPLE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
EVERY_RANK = Plan(multiple_of=1)


def product(kind: str, weights: list[Tensor]) -> Tensor:
    """The weight that a chain's weights stand for, by its definition."""
    if kind == "svd":
        return torch.einsum("ri...,or...->oi...", weights[0], weights[1])
    if kind == "spatial":
        return torch.einsum("riy,orx->oiyx", weights[0][..., 0], weights[1][:, :, 0])
    core = next(w for w in weights if w[0, 0].numel() > 1)
    before, after = weights[0], weights[-1]
    if before is not core:
        core = torch.einsum("hl...,li->hi...", core, before.flatten(1))
    if after.shape[2:] != core.shape[2:]:
        core = torch.einsum("hi...,oh->oi...", core, after.flatten(1))
    return core


@pytest.mark.parametrize("name", ["0", "2", "4", "5", "8", "10", "11"])
def test_every_rank_loses_and_costs_what_is_foretold(name: str) -> None:
    net = odd_network()
    found = {c.name: c for c in candidates(net, SAMPLE, EVERY_RANK)}[name]
    weight = found.layer.weight.detach()
    assert found.macs == cost(net, SAMPLE).macs[name]
    assert found.options
    for option in found.options[:: max(1, len(found.options) // 15)]:
        chained, whole = copy.deepcopy(net), copy.deepcopy(net)
        layer = chained.get_submodule(name)
        apply_option(chained, Candidate(name, layer, found.macs, ()), option)
        macs = cost(chained, SAMPLE).macs
        assert sum(n for member, n in macs.items() if member.startswith(f"{name}.")) == option.macs
        meant = product(option.kind, DECOMPOSITIONS[option.kind].weights(weight, option.ranks))
        error = float((meant - weight).square().sum() / weight.square().sum())
        assert error == pytest.approx(option.error, abs=1e-5)
        # The chain with strides and paddings dealt out computes what the layer does.
        whole.get_submodule(name).weight.data.copy_(meant)
        torch.testing.assert_close(chained(SAMPLE), whole(SAMPLE), atol=1e-4, rtol=1e-4)


def test_every_way_to_factorize_is_tried_here() -> None:
    kinds = {o.kind for c in candidates(odd_network(), SAMPLE, EVERY_RANK) for o in c.options}
    assert kinds == set(DECOMPOSITIONS)


def test_depthwise_layers_and_kinds_that_are_not_wanted_stay() -> None:
    for wanted, other in (("spatial", "tucker"), ("tucker", "spatial")):
        found = candidates(odd_network(), SAMPLE, Plan(convolution=wanted, multiple_of=1))
        assert "6" not in {c.name for c in found}
        assert other not in {o.kind for c in found for o in c.options}


@pytest.mark.parametrize("ranks", CHOICES)
def test_ranks_are_chosen_as_asked(ranks: str) -> None:
    net = odd_network()
    before, expected = cost(net, SAMPLE), net(SAMPLE)
    plan = Plan(ranks, macs=0.6, energy=0.8, multiple_of=2)
    factored = factorize(net, SAMPLE, plan)
    assert factored
    assert net(SAMPLE).shape == expected.shape
    assert all(f.macs_after < f.macs_before for f in factored)
    assert all(rank % 2 == 0 for f in factored for rank in f.ranks if f.kind != "tucker")
    if ranks == "energy":
        assert all(f.energy >= 0.8 for f in factored)
    else:
        assert cost(net, SAMPLE).total_macs <= 0.6 * before.total_macs


def test_automatic_ranks_lose_no_more_than_any_other_choice_of_these_macs() -> None:
    net, plan = odd_network(), Plan(macs=0.5, multiple_of=6)
    found = [c for c in candidates(net, SAMPLE, plan) if c.options]
    total = cost(net, SAMPLE).total_macs
    chosen = CHOICES["automatic"](found, total, plan)

    def lost_and_left(options: dict[str, Option]) -> tuple[float, int]:
        saved = sum(c.macs - options[c.name].macs for c in found if c.name in options)
        return sum(o.error for o in options.values()), total - saved

    lost, left = lost_and_left(chosen)
    assert left <= 0.5 * total
    # Of each layer those that no other option beats, and the layer as it is.
    useful = [
        [None, *(o for o in c.options if not any(_beats(p, o) for p in c.options))] for c in found
    ]
    names = [c.name for c in found]
    best = min(
        error
        for combination in itertools.product(*useful)
        for error, macs in [
            lost_and_left({n: o for n, o in zip(names, combination, strict=True) if o is not None})
        ]
        if macs <= left
    )
    assert lost <= best + 1e-9


def _beats(p: Option, o: Option) -> bool:
    return p.macs <= o.macs and p.error < o.error


def test_a_share_that_is_out_of_reach_is_told_with_the_nearest() -> None:
    for ranks in ("automatic", "budget"):
        with pytest.raises(ConfigError, match=r"\d,\d\d\d MACs can't be reached; .* still needs"):
            factorize(odd_network(), SAMPLE, Plan(ranks, macs=0.0095))


def test_a_layer_that_the_network_has_twice_is_replaced_in_both_places() -> None:
    shared = nn.Linear(16, 16)
    net = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(16, 3)).eval()
    sample = torch.randn(1, 16)
    factored = factorize(net, sample, Plan(macs=0.7, multiple_of=4))
    assert net[0] is net[2]
    assert isinstance(net[0], nn.Sequential)
    assert factored[0].macs_before == 2 * 256
    assert cost(net, sample).total_macs <= 0.7 * (2 * 256 + 48)


def test_a_factorized_network_is_read_back_from_its_weights() -> None:
    net = odd_network()
    factorize(net, SAMPLE, Plan(macs=0.4, multiple_of=2))
    again = load_weights(odd_network(), net.state_dict())
    assert torch.equal(again(SAMPLE), net(SAMPLE))
    assert cost(again, SAMPLE) == cost(net, SAMPLE)


class Net(nn.Module):
    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.hidden = nn.Linear(32 * 36, 24)
        self.head = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(torch.relu(self.hidden(x.flatten(1))))


SAMPLES = corner_samples(240, 120)


def recipe(epochs: int) -> Recipe:
    still = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0)
    return Recipe(epochs, 20, 5e-3, 1e-4, still, 7)


def quiet(message: str, fraction: float | None = None) -> None:
    """Progress that nobody looks at."""


def test_training_after_it_brings_the_network_nearer_to_what_it_was(tmp_path: Path) -> None:
    with repeatable(1, 1):
        teacher = Net()
        fit(teacher, SAMPLES, recipe(5), label_loss, tmp_path / "t.pt", quiet)
        student = copy.deepcopy(teacher)
        factorize(student, SAMPLES.x_test[:1], Plan(macs=0.15, multiple_of=2))
        loss = Distillation(teacher, [SoftAnswers(1.0, 2.0)])

        def distance() -> float:
            with torch.no_grad():
                return float(loss(student.eval(), SAMPLES.x_test, SAMPLES.y_test))

        before, right_before = distance(), accuracy(student, SAMPLES.x_test, SAMPLES.y_test)
        fit(student, SAMPLES, recipe(5), loss, tmp_path / "s.pt", quiet)
    assert distance() < before / 2
    assert accuracy(student, SAMPLES.x_test, SAMPLES.y_test) >= right_before


def firmware(net: nn.Module, folder: Path) -> tuple[float, float]:
    """Instructions and flash of the quantized network's C on Cortex-M4."""
    export_onnx(net.eval(), SAMPLES.x_test[:1], folder / "net.onnx")
    graph = read_model(folder / "net.onnx").graph
    x = SAMPLES.x_train[:40].permute(0, 2, 3, 1).contiguous().numpy()
    integers = quantize(graph, {graph.inputs[0]: x})
    entry = integers.tensors[integers.inputs[0]]
    target = target_named("cortex-m4")
    samples = {entry.name: to_input(x[:1], entry, "a sample")}
    made = measure(
        make_program(integers, "net", target), target, samples, find_toolchain(None, target)
    )
    return made.instructions, made.flash_bytes


def test_firmware_of_low_rank_needs_fewer_instructions_and_less_flash(tmp_path: Path) -> None:
    torch.manual_seed(2)
    net = Net()
    before = firmware(net, tmp_path)
    factorize(net, SAMPLES.x_test[:1], Plan("budget", macs=0.5))
    after = firmware(net, tmp_path)
    assert after[0] < 0.75 * before[0]
    assert after[1] < 0.75 * before[1]


MODELS = """
from torch import nn

def net(width, classes):
    return nn.Sequential(nn.Conv2d(1, width, 3, stride=2), nn.ReLU(), nn.Conv2d(width, 16, 3),
                         nn.ReLU(), nn.Flatten(), nn.Linear(16 * 9, classes))

def Big(classes): return net(16, classes)
def Small(classes): return net(8, classes)
"""

CONFIG = """
[data]
source = "npz"
path = "data.npz"
[teacher]
model = "models.py:Big"
epochs = 1
batch = 20
[distil]
model = "models.py:Small"
epochs = 2
batch = 20
[factorize]
ranks = "automatic"
macs = 0.6
multiple_of = 2
epochs = 3
batch = 20
[prune]
macs = 0.9
steps = 1
epochs = 1
multiple_of = 1
batch = 20
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    x, y = (SAMPLES.x_train[:, 0] * 255).to(torch.uint8).numpy(), SAMPLES.y_train.numpy()
    np.savez(
        tmp_path / "data.npz", x_train=x[:180], y_train=y[:180], x_test=x[180:], y_test=y[180:]
    )
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "tinsmith.toml").write_text(CONFIG)
    return tmp_path


def run(project: Path, out: str, stop: str | None = None) -> dict[str, Path]:
    def listen(event: Event) -> None:
        if stop and event.stage == "factorize" and event.message.startswith(stop):
            raise KeyboardInterrupt

    stages = stages_of(load_config(project))
    return run_flow(stages, project / out, to="prune", progress=listen)


def test_the_stage_stands_between_distil_and_prune_and_goes_on_where_it_was(project: Path) -> None:
    pytest.importorskip("torch_pruning", reason="pruning needs torch-pruning")
    whole = run(project, "whole")
    student, factored, pruned = (
        json.loads((whole[stage] / "metrics.json").read_text())
        for stage in ("distil", "factorize", "prune")
    )
    assert factored["macs"] <= 0.6 * student["macs"]
    assert factored["before"]["macs"] == student["macs"]
    assert pruned["before"]["macs"] == factored["macs"]
    assert pruned["macs"] <= 0.9 * factored["macs"]
    # The same, stopped in between: what earlier stages made is taken over.
    shutil.copytree(project / "whole", project / "stopped", symlinks=True)
    for kept in (project / "stopped" / ".cache").glob("factorize-*"):
        shutil.rmtree(kept)
    with pytest.raises(KeyboardInterrupt):
        run(project, "stopped", "epoch 2/3")
    rest = run(project, "stopped")
    for name in ("weights.pt", "model.onnx", "metrics.json"):
        assert (whole["factorize"] / name).read_bytes() == (rest["factorize"] / name).read_bytes()


def test_without_the_table_the_stage_takes_no_part(project: Path) -> None:
    text = CONFIG.replace('ranks = "automatic"', 'ranks = "off"')
    (project / "tinsmith.toml").write_text(text)
    names = [stage.name for stage in stages_of(load_config(project))]
    assert "factorize" not in names
    assert names[2:4] == ["distil", "prune"]
