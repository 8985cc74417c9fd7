"""Pruning in steps: a share of the channels goes, the rest is trained, and so on."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.flow import Progress
from tinsmith.pipeline.tasks import weights_of
from tinsmith.pipeline.training.criteria import Evidence, evidence_of, make_criterion
from tinsmith.pipeline.training.cuts import Cut
from tinsmith.pipeline.training.depth import drop_layers, remove_layers
from tinsmith.pipeline.training.distillation import Distillation
from tinsmith.pipeline.training.folds import Folds
from tinsmith.pipeline.training.hidden import drop_units, remove_units
from tinsmith.pipeline.training.loop import Epoch, Recipe, Samples
from tinsmith.pipeline.training.losses import label_loss
from tinsmith.pipeline.training.networks import Weights, cost, widths
from tinsmith.pipeline.training.pruning import drop_channels, remove_channels
from tinsmith.pipeline.training.series import (
    Steps,
    fit_in_steps,
    read_finished,
    write_finished,
)

# Images that a try is measured on.
_FEW = 16


@dataclass(frozen=True)
class Removal:
    """How many outputs a layer had and has."""

    layer: str
    before: int
    after: int


@dataclass(frozen=True)
class Plan:
    """How to prune: `macs` is the share to keep; criterion and allocation: see `remove_channels`.

    measured_on: how many training images the criterion is measured on, where it is, and folds: in
    how many they are, see `folds`. scope:
    "channels", "hidden" (units of LSTMs) or "layers" (residual blocks). schedule: "steps": the same
    number of MACs goes in each; "gradual": less and less, by the cubic law (Zhu & Gupta 2017);
    "rewind": the same share of what is left goes, then what stays goes back to weights from early
    in the network's training and is trained anew (Frankle et al., Linear Mode Connectivity and the
    Lottery Ticket Hypothesis, ICML 2020).
    """

    macs: float
    steps: int
    step_epochs: int
    multiple_of: int
    criterion: str
    allocation: str
    measured_on: int
    scope: str = "channels"
    schedule: str = "steps"
    folds: int = 1

    def keep(self, step: int) -> float:
        """The share of the MACs that is left after a step."""
        share = step / self.steps
        if self.schedule == "rewind":
            return float(self.macs**share)
        if self.schedule == "gradual":
            return 1 - (1 - self.macs) * (1 - (1 - share) ** 3)
        return 1 - (1 - self.macs) * step / self.steps


def can_lose(network: nn.Module, samples: Samples, plan: Plan) -> None:
    """Prune an untrained `network` at once. Raises ConfigError where it has not what shall go, or
    `plan.macs` is out of reach, neither of which training changes."""
    sample = samples.x_test[:1].clone()
    kept = int(cost(network, sample).total_macs * plan.keep(plan.steps))
    blind = replace(
        plan,
        criterion="random" if plan.scope == "layers" else "l2",
        allocation="budget" if plan.allocation == "sensitivity" else plan.allocation,
    )
    loss = partial(label_loss, weights=weights_of(samples.tasks))
    if plan.macs < 1:
        _remove(network, sample, kept, blind, evidence_of(network, samples, loss, _FEW, 0))


def prune_gradually(
    network: nn.Module,
    samples: Samples,
    plan: Plan,
    recipe: Recipe,
    loss: Distillation,
    folder: Path,
    progress: Progress,
    early: Weights | None = None,
) -> tuple[tuple[Removal, ...], tuple[Epoch, ...]]:
    """Prune `network` in place; result: what was removed, and the record of all epochs.

    `recipe` is for the training after the last step; with "rewind" after each, from `early` on, the
    weights of the whole network early in its training. Finished steps are kept in `folder` as
    step<k>.pt, and are not done again when they are there. Raises ConfigError where `plan.macs` is
    out of reach.
    """
    sample = samples.x_test[:1].clone()
    first_widths, first_macs = widths(network), cost(network, sample).total_macs
    steps = plan.steps if plan.macs < 1 else 0
    folds = Folds(plan.folds, steps, recipe.seed)
    rewinds = plan.schedule == "rewind"
    assert early is not None or not rewinds, "there is something to rewind to"
    young = _with_weights(network, early) if rewinds and early is not None else None

    def change(step: int, current: Recipe) -> None:
        # The maps of a run that was stopped are gone: each step makes them anew, from its own seed.
        torch.manual_seed(current.seed)
        loss.learn_shapes(network, sample)
        own = folds.decided_on(step, samples)
        shown = evidence_of(network, own, loss, plan.measured_on, current.seed)
        cuts = _remove(network, sample, int(first_macs * plan.keep(step)), plan, shown)
        if young is not None:
            _CUTTERS[plan.scope](young, sample, cuts)
            write_finished(young, (), folder / f"step{step}-young.pt")
            network.load_state_dict(young.state_dict())
        loss.learn_shapes(network, sample)

    def restored(step: int) -> None:
        # It lies in memory as one that was trained: sums depend on it.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if young is not None:
            read_finished(young, folder / f"step{step}-young.pt")

    epochs = recipe.epochs if rewinds else plan.step_epochs
    parts = Steps(steps, epochs, change, restored, folds.trained_on)
    history = fit_in_steps(network, samples, parts, recipe, loss, folder, progress)
    after = widths(network)
    removed = tuple(
        Removal(layer, before, after.get(layer, 0))
        for layer, before in first_widths.items()
        if before != after.get(layer, 0)
    )
    return removed, history


_CUTTERS: Mapping[str, Callable[[nn.Module, Tensor, Sequence[Cut]], None]] = {
    "channels": drop_channels,
    "hidden": drop_units,
    "layers": drop_layers,
}


def _remove(
    network: nn.Module, sample: Tensor, macs: int, plan: Plan, shown: Evidence
) -> tuple[Cut, ...]:
    if plan.scope == "layers":
        return remove_layers(network, sample, macs, plan.criterion, plan.allocation, shown)
    how = (network, sample, macs, plan.multiple_of)
    if plan.scope == "hidden":
        return remove_units(*how, plan.criterion, plan.allocation, shown)
    criterion = make_criterion(plan.criterion, shown)
    return remove_channels(*how, criterion, plan.allocation, shown)


def _with_weights(network: nn.Module, early: Weights) -> nn.Module:
    """A copy of the network with these weights. Raises ConfigError where they are of another."""
    young = copy.deepcopy(network)
    try:
        young.load_state_dict(early)
    except RuntimeError as e:
        raise ConfigError(
            '[prune] schedule = "rewind": the early weights are not of the network that is pruned; '
            "it works on the student as `distil` trained it"
        ) from e
    return young
