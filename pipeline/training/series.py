"""Trainings one after another: of networks, each of which may learn from the one before it, and of
one network that changes from step to step."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from tinsmith.pipeline.flow import Progress
from tinsmith.pipeline.training.loop import AfterStep, Epoch, Recipe, Samples, fit, seed_of
from tinsmith.pipeline.training.losses import Loss
from tinsmith.pipeline.training.networks import load_weights


@dataclass(frozen=True)
class Member:
    """A network to train. make: from the trained network before it (None for the first), the
    untrained network and its loss. label: what progress calls it, empty where it is alone.
    watch: from the network, what `fit` calls after each step.
    """

    label: str
    make: Callable[[nn.Module | None], tuple[nn.Module, Loss]]
    watch: Callable[[nn.Module], AfterStep] | None = None


def fit_series(
    members: Sequence[Member], samples: Samples, recipe: Recipe, folder: Path, progress: Progress
) -> tuple[list[nn.Module], tuple[Epoch, ...]]:
    """Train all, each from a seed of its own; result: the networks, and the record of all epochs.

    Finished ones are kept in `folder` as member<k>.pt and are not trained again; `forget_series`
    deletes them, once what was made of them is safe.
    """
    networks: list[nn.Module] = []
    history: list[Epoch] = []

    def tell(message: str, fraction: float | None = None) -> None:
        done = (len(networks) + (fraction or 0)) / len(members)
        progress(f"{member.label}  {message}".lstrip(), done)

    for place, member in enumerate(members):
        seed = seed_of(recipe.seed, "member", place) if place else recipe.seed
        torch.manual_seed(seed)
        network, loss = member.make(networks[-1] if networks else None)
        finished = folder / f"member{place}.pt"
        epochs = read_finished(network, finished)
        if epochs is None:
            checkpoint = folder / f"member{place}-checkpoint.pt"
            own = replace(recipe, seed=seed)
            watch = None if member.watch is None else member.watch(network)
            epochs = fit(network, samples, own, loss, checkpoint, tell, watch)
            write_finished(network, epochs, finished)
            checkpoint.unlink(missing_ok=True)  # there is none after no epochs
        # One that was read lies in memory as one that was trained: sums depend on it.
        networks.append(network.eval().to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        history += epochs
    return networks, tuple(history)


@dataclass(frozen=True)
class Steps:
    """The trainings of a network that changes: `count` of them, the last one as long as the recipe
    says, those before it of `epochs`.

    change: called with the number of the step, from 1, and its recipe before its training, gives
    what `fit` calls after each of its steps. restored: called where a finished step was read.
    samples: what a step trains on, of all samples.
    """

    count: int
    epochs: int
    change: Callable[[int, Recipe], AfterStep | None]
    restored: Callable[[int], None] = lambda step: None
    samples: Callable[[int, Samples], Samples] = lambda step, samples: samples


def fit_in_steps(
    network: nn.Module,
    samples: Samples,
    steps: Steps,
    recipe: Recipe,
    loss: Loss,
    folder: Path,
    progress: Progress,
) -> tuple[Epoch, ...]:
    """Change and train `network`, in place, again and again, each time from a seed of its own;
    result: the record of all epochs.

    Finished steps are kept in `folder` as step<k>.pt, and not done again when they are there.
    """
    history: list[Epoch] = []
    epochs = steps.epochs * (steps.count - 1) + recipe.epochs

    def tell(message: str, fraction: float | None = None) -> None:
        place = len(history) + (fraction or 0) * current.epochs
        progress(f"step {step}/{steps.count}  {message}", place / epochs)

    for step in range(1, steps.count + 1):
        current = replace(
            recipe,
            epochs=recipe.epochs if step == steps.count else steps.epochs,
            seed=seed_of(recipe.seed, "step", step),
        )
        finished = folder / f"step{step}.pt"
        done = read_finished(network, finished)
        if done is None:
            watch = steps.change(step, current)
            checkpoint = folder / f"step{step}-checkpoint.pt"
            own = steps.samples(step, samples)
            done = fit(network, own, current, loss, checkpoint, tell, watch)
            write_finished(network, done, finished)
            checkpoint.unlink(missing_ok=True)  # there is none after no epochs
        else:
            steps.restored(step)
        history += done
    return tuple(history)


def forget_series(folder: Path) -> None:
    """Delete what `fit_series` kept."""
    for path in folder.glob("member*.pt"):
        path.unlink()


def history_so_far(folder: Path) -> tuple[Epoch, ...]:
    """The record of the epochs that `fit_series`, which may be at work there, has finished."""
    history: list[Epoch] = []
    for place in range(len(list(folder.glob("member*.pt")))):
        finished, checkpoint = (folder / f"member{place}{end}.pt" for end in ("", "-checkpoint"))
        path = finished if finished.exists() else checkpoint
        if path.exists():
            state = torch.load(path, weights_only=True)
            history += [Epoch(**epoch) for epoch in state["history"]]
    return tuple(history)


def write_finished(network: nn.Module, history: Sequence[Epoch], path: Path) -> None:
    """Keep a trained network with the record of its epochs; the file is whole or not there."""
    fresh = path.with_suffix(".tmp")
    state = {"network": network.state_dict(), "history": [asdict(epoch) for epoch in history]}
    torch.save(state, fresh)
    fresh.replace(path)


def read_finished(network: nn.Module, path: Path) -> tuple[Epoch, ...] | None:
    """Give the network the weights that `write_finished` kept; None where it kept none."""
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True)
    load_weights(network, state["network"])
    return tuple(Epoch(**epoch) for epoch in state["history"])
