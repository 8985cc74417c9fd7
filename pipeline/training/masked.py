"""Pruning of single weights or blocks of them: masks by one of four schedules, and training.

What is masked is 0.0. Dense firmware is neither smaller nor faster for it, unless whole channels
or taps become zeros; what zeros are worth is counted in the coded file (`coding`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tinsmith.pipeline.flow import Progress
from tinsmith.pipeline.training.criteria import evidence_of
from tinsmith.pipeline.training.folds import Folds
from tinsmith.pipeline.training.loop import AfterStep, Epoch, Recipe, Samples, fit
from tinsmith.pipeline.training.losses import Loss
from tinsmith.pipeline.training.masks import (
    MaskChoice,
    densities,
    masks,
)
from tinsmith.pipeline.training.movement import MovementPruning
from tinsmith.pipeline.training.networks import Weights, matrices
from tinsmith.pipeline.training.series import (
    Steps,
    fit_in_steps,
    read_finished,
    write_finished,
)
from tinsmith.pipeline.training.sparsity import GradualPruning, SparsityPlan

# The share of a training in which "gradual" and "movement" close the masks, and how often.
_END, _EVERY = 0.6, 10


@dataclass(frozen=True)
class MaskPlan:
    """choice: which weights stay. schedule: "steps", "rewind", "gradual" or "movement".

    steps, step_epochs: of the first two. measured_on: how many training samples criteria see, and
    folds: in how many they are, see `folds`.
    """

    choice: MaskChoice
    schedule: str
    steps: int
    step_epochs: int
    measured_on: int
    folds: int = 1


def prune_weights(
    network: nn.Module,
    samples: Samples,
    plan: MaskPlan,
    recipe: Recipe,
    loss: Loss,
    folder: Path,
    progress: Progress,
    early: Weights | None = None,
) -> tuple[Epoch, ...]:
    """Mask weights of `network` in place, and train what is left; result: the record of epochs.

    "steps": the same share goes in each step, with training after each. "rewind": the same share of
    what is left goes, and the rest goes back to `early`, the network's weights early in its
    training, before it is trained for all of `recipe` again (Frankle et al., Linear Mode
    Connectivity and the Lottery Ticket Hypothesis, ICML 2020). "gradual": within one training, by
    the cubic law (Zhu & Gupta 2017). "movement": likewise, by scores that are learned.
    Finished steps are kept in `folder` as step<k>.pt, and not done again when they are there.
    """
    if plan.schedule in ("gradual", "movement"):
        return _in_one(network, samples, plan, recipe, loss, folder, progress)
    assert plan.schedule == "steps" or early is not None, "there is something to rewind to"
    return _in_steps(network, samples, plan, recipe, loss, folder, progress, early)


def keep_zeros(weights: Mapping[str, nn.Parameter]) -> AfterStep:
    """What keeps those weights 0.0 that are so at the first step of a training, or of its rest."""
    kept: dict[str, Tensor] = {}

    @torch.no_grad()
    def after(step: int, steps: int) -> None:
        if not kept:
            kept.update({name: weight != 0 for name, weight in weights.items()})
        for name, weight in weights.items():
            weight.mul_(kept[name])

    return after


def _in_steps(
    network: nn.Module,
    samples: Samples,
    plan: MaskPlan,
    recipe: Recipe,
    loss: Loss,
    folder: Path,
    progress: Progress,
    early: Weights | None,
) -> tuple[Epoch, ...]:
    rewinds = plan.schedule == "rewind"
    folds = Folds(plan.folds, plan.steps, recipe.seed)

    def change(step: int, current: Recipe) -> AfterStep:
        own = folds.decided_on(step, samples)
        shown = evidence_of(network, own, loss, plan.measured_on, current.seed)
        kept = masks(network, _density_after(step, plan), plan.choice, shown)
        if rewinds and early is not None:
            network.load_state_dict(early)
        weights = matrices(network)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.mul_(kept[name])
        return keep_zeros(weights)

    epochs = recipe.epochs if rewinds else plan.step_epochs
    steps = Steps(plan.steps, epochs, change, samples=folds.trained_on)
    return fit_in_steps(network, samples, steps, recipe, loss, folder, progress)


def _density_after(step: int, plan: MaskPlan) -> float:
    share, density = step / plan.steps, plan.choice.density
    return float(density**share) if plan.schedule == "rewind" else 1 - (1 - density) * share


def _in_one(
    network: nn.Module,
    samples: Samples,
    plan: MaskPlan,
    recipe: Recipe,
    loss: Loss,
    folder: Path,
    progress: Progress,
) -> tuple[Epoch, ...]:
    """The masks close while the network is trained once."""
    finished, checkpoint = folder / "step1.pt", folder / "step1-checkpoint.pt"
    history = read_finished(network, finished)
    if history is not None:
        return history
    choice = plan.choice
    shapes = {name: weight.shape for name, weight in matrices(network).items()}
    law = SparsityPlan(densities(shapes, choice), 0.0, _END, _EVERY, choice.pattern)
    if plan.schedule == "gradual":
        closing = GradualPruning(network, law)
        history = fit(network, samples, recipe, loss, checkpoint, progress, closing)
    else:
        moving = MovementPruning(network, law, choice)
        history = fit(network, samples, recipe, loss, checkpoint, progress, moving)
        moving.end()
    write_finished(network, history, finished)
    checkpoint.unlink(missing_ok=True)
    return history
