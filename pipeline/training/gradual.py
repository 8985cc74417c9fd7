"""Pruning in steps: a share of the channels goes, the rest is trained, and so on."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from tinsmith.pipeline.flow import Progress
from tinsmith.pipeline.training.criteria import Evidence, make_criterion
from tinsmith.pipeline.training.distillation import Distillation
from tinsmith.pipeline.training.loop import Epoch, Recipe, Samples, fit, seed_of
from tinsmith.pipeline.training.networks import cost, widths
from tinsmith.pipeline.training.pruning import remove_channels
from tinsmith.pipeline.training.series import read_finished, write_finished


@dataclass(frozen=True)
class Removal:
    """How many outputs a layer had and has."""

    layer: str
    before: int
    after: int


@dataclass(frozen=True)
class Plan:
    """How to prune: `macs` is the share to keep; criterion and allocation: see `remove_channels`.

    measured_on: how many training images the criterion is measured on, where it is.
    """

    macs: float
    steps: int
    step_epochs: int
    multiple_of: int
    criterion: str
    allocation: str
    measured_on: int


def prune_gradually(
    network: nn.Module,
    samples: Samples,
    plan: Plan,
    recipe: Recipe,
    loss: Distillation,
    folder: Path,
    progress: Progress,
) -> tuple[tuple[Removal, ...], tuple[Epoch, ...]]:
    """Prune `network` in place; result: what was removed, and the record of all epochs.

    `recipe` is for the training after the last step. Finished steps are kept in `folder` as
    step<k>.pt, and are not done again when they are there. Raises ConfigError where `plan.macs` is
    out of reach.
    """
    sample = samples.x_test[:1].clone()
    first_widths, first_macs = widths(network), cost(network, sample).total_macs
    history: list[Epoch] = []
    steps = plan.steps if plan.macs < 1 else 0
    epochs = plan.step_epochs * (steps - 1) + recipe.epochs

    def tell(message: str, fraction: float | None = None) -> None:
        place = len(history) + (fraction or 0) * current.epochs
        progress(f"step {step}/{steps}  {message}", place / epochs)

    for step in range(1, steps + 1):
        last = step == steps
        current = replace(
            recipe,
            epochs=recipe.epochs if last else plan.step_epochs,
            seed=seed_of(recipe.seed, "step", step),
        )
        finished = folder / f"step{step}.pt"
        epochs_done = read_finished(network, finished)
        if epochs_done is not None:
            # It lies in memory as one that was trained: sums depend on it.
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            history += epochs_done
            continue
        keep = 1 - (1 - plan.macs) * step / steps
        # The maps of a run that was stopped are gone: each step makes them anew, from its own seed.
        torch.manual_seed(current.seed)
        loss.learn_shapes(network, sample)
        evidence = _evidence(network, samples, loss, plan.measured_on, current.seed)
        remove_channels(
            network,
            sample,
            int(first_macs * keep),
            plan.multiple_of,
            make_criterion(plan.criterion, evidence),
            plan.allocation,
            evidence,
        )
        loss.learn_shapes(network, sample)
        checkpoint = folder / f"step{step}-checkpoint.pt"
        epochs_done = fit(network, samples, current, loss, checkpoint, tell)
        write_finished(network, epochs_done, finished)
        checkpoint.unlink()
        history += epochs_done
    removed = tuple(
        Removal(layer, before, after)
        for (layer, before), after in zip(
            first_widths.items(), widths(network).values(), strict=True
        )
        if before != after
    )
    return removed, tuple(history)


def _evidence(
    network: nn.Module, samples: Samples, loss: Distillation, count: int, seed: int
) -> Evidence:
    """Training images drawn from the seed: the test images must not say what goes."""
    generator = torch.Generator().manual_seed(seed_of(seed, "evidence"))
    chosen = torch.randperm(len(samples.y_train), generator=generator)[:count]
    return Evidence(network, samples.x_train[chosen], samples.y_train[chosen], loss, seed)
