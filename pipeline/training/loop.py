"""The training loop: AdamW under a one-cycle schedule, stopped and gone on with at any epoch.

Each epoch draws from a generator seeded by (seed, epoch) and each step's learning rate is a
function of its number, so that weights, optimizer and epoch are all the state there is: a run that
goes on from a checkpoint gives the same weights as one that was never stopped.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tinsmith.pipeline.config import Augment, Constraint
from tinsmith.pipeline.errors import TinsmithError
from tinsmith.pipeline.flow import Progress
from tinsmith.pipeline.tasks import Task
from tinsmith.pipeline.training.augment import Augmentation, augmentation
from tinsmith.pipeline.training.losses import Loss
from tinsmith.pipeline.training.networks import accuracy
from tinsmith.pipeline.training.regularizers import constrained

# How often, in epochs, the accuracy on the test images is measured for the record; three times at
# least in short trainings.
MEASURE_EVERY = 5
# Share of the steps in which the learning rate rises.
_RISE = 0.2


AfterStep = Callable[[int, int], None]


class TrainingDiverged(TinsmithError):
    """The loss is no longer a number. The last good state stays in the checkpoint."""


@dataclass(frozen=True)
class Samples:
    """Samples float32 [N, ...] as networks take them (images: [N, C, H, W]) and labels int64 [N],
    or [N, tasks] of several tasks, for training and for test.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    tasks: tuple[Task, ...]

    @property
    def classes(self) -> int:
        """Of the only task."""
        [task] = self.tasks
        return task.classes


@dataclass(frozen=True)
class Recipe:
    """How to train: `learning_rate` is the schedule's peak, constraints are for the weights."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    augment: Augment
    seed: int
    constraints: Sequence[Constraint] = ()


@dataclass(frozen=True)
class Epoch:
    """The record of an epoch; `accuracy` in percent where it was measured."""

    epoch: int
    loss: float
    learning_rate: float
    accuracy: float | None


def fit(
    network: nn.Module,
    samples: Samples,
    recipe: Recipe,
    loss: Loss,
    checkpoint: Path,
    progress: Progress,
    after_step: AfterStep | None = None,
) -> tuple[Epoch, ...]:
    """Train `network` in place, from `checkpoint` on where that exists, which each epoch renews.

    after_step: called with how many steps are done, and how many all are: before the first, when
    the checkpoint has been read, and after each.
    Raises TrainingDiverged at the first loss that is not finite.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with constrained(network, recipe.constraints) as obey:
        history = _train(network, samples, recipe, loss, checkpoint, progress, after_step, obey)
    network.eval()
    return tuple(history)


def _train(
    network: nn.Module,
    samples: Samples,
    recipe: Recipe,
    loss: Loss,
    checkpoint: Path,
    progress: Progress,
    after_step: AfterStep | None,
    obey: Callable[[], None],
) -> list[Epoch]:
    """Run the epochs that are left. obey: makes the weights obey the recipe's constraints."""

    def stepped(step: int, steps: int) -> None:
        obey()
        if after_step is not None:
            after_step(step, steps)

    trained = nn.ModuleDict({"network": network})
    if isinstance(loss, nn.Module):  # what a loss learns is trained, and kept, with the network
        trained["loss"] = loss
    optimizer = torch.optim.AdamW(
        trained.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    history = _resume(trained, optimizer, checkpoint)
    change = augmentation(recipe.augment, samples.x_train)
    started, first = time.monotonic(), len(history)
    if after_step is not None:
        batches = _batches(samples, recipe)
        after_step(first * batches, recipe.epochs * batches)
    for index in range(first, recipe.epochs):
        mean_loss = _run_epoch(
            network, samples, recipe, loss, change, optimizer, index, checkpoint, stepped
        )
        every = min(MEASURE_EVERY, max(1, recipe.epochs // 3))
        measured = (index + 1) % every == 0 or index + 1 == recipe.epochs
        percent = accuracy(network, samples.x_test, samples.y_test) if measured else None
        rate = optimizer.param_groups[0]["lr"]
        history.append(Epoch(index + 1, round(mean_loss, 6), round(rate, 8), percent))
        _save(trained, optimizer, history, checkpoint)
        left = (time.monotonic() - started) / (index + 1 - first) * (recipe.epochs - index - 1)
        progress(_line(history[-1], recipe.epochs, left), (index + 1) / recipe.epochs)
    return history


def learning_rate(step: int, steps: int, peak: float) -> float:
    """One cycle: from peak / 25 up along a cosine to `peak`, then down along one to peak / 10^4."""
    rise = max(1, round(steps * _RISE))
    if step < rise:
        low, high, place = peak, peak / 25, 1 - (step + 1) / rise
    else:
        low, high, place = peak, peak / 1e4, (step + 1 - rise) / max(1, steps - rise)
    return high + (low - high) * (1 + math.cos(math.pi * place)) / 2


@contextmanager
def repeatable(seed: int, threads: int) -> Iterator[None]:
    """Weights drawn from `seed`, deterministic algorithms, so many threads; settings are as before
    afterwards. The number of threads decides in which order sums are added up.
    """
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict)


def seed_of(seed: int, *place: int | str) -> int:
    """A seed of its own for each place of use, the same on every machine."""
    text = "/".join(map(str, (seed, *place)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _batches(samples: Samples, recipe: Recipe) -> int:
    """The steps of an epoch; what is left of the samples sits out."""
    return max(1, len(samples.y_train) // recipe.batch)


def _run_epoch(
    network: nn.Module,
    samples: Samples,
    recipe: Recipe,
    loss: Loss,
    change: Augmentation,
    optimizer: torch.optim.Optimizer,
    index: int,
    checkpoint: Path,
    after_step: AfterStep,
) -> float:
    """One pass over the training samples; result: the mean loss."""
    generator = torch.Generator().manual_seed(seed_of(recipe.seed, "epoch", index))
    torch.manual_seed(seed_of(recipe.seed, "dropout", index))
    network.train()
    total, batches = len(samples.y_train), _batches(samples, recipe)
    order = torch.randperm(total, generator=generator)[: batches * recipe.batch]
    sum_of_losses = 0.0
    for place, chosen in enumerate(torch.split(order, recipe.batch)):
        step, steps = index * batches + place, recipe.epochs * batches
        rate = learning_rate(step, steps, recipe.learning_rate)
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = change(samples.x_train[chosen], generator)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        value = loss(network, x, samples.y_train[chosen])
        if not math.isfinite(number := value.item()):
            raise _diverged(index, place, number, recipe, checkpoint)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        after_step(step + 1, steps)
        sum_of_losses += number
    return sum_of_losses / batches


def _diverged(
    index: int, place: int, value: float, recipe: Recipe, checkpoint: Path
) -> TrainingDiverged:
    kept = (
        f"the state after epoch {index} is kept in '{checkpoint}'"
        if checkpoint.exists()
        else "there was no good state yet"
    )
    return TrainingDiverged(
        f"training broke in epoch {index + 1}, step {place + 1}: the loss is {value}; {kept}. "
        f"Look for bad samples, or lower learning_rate (it is {recipe.learning_rate})"
    )


def _resume(
    trained: nn.ModuleDict, optimizer: torch.optim.Optimizer, checkpoint: Path
) -> list[Epoch]:
    """Load the state that a stopped run left; result: the epochs that it had finished."""
    if not checkpoint.exists():
        return []
    state = torch.load(checkpoint, weights_only=True)
    for name, module in trained.items():
        module.load_state_dict(state[name])
    optimizer.load_state_dict(state["optimizer"])
    return [Epoch(**epoch) for epoch in state["history"]]


def _save(
    trained: nn.ModuleDict,
    optimizer: torch.optim.Optimizer,
    history: list[Epoch],
    checkpoint: Path,
) -> None:
    """Replace the checkpoint as a whole: a kill in the middle leaves the one before."""
    fresh = checkpoint.with_suffix(".tmp")
    state = {
        **{name: module.state_dict() for name, module in trained.items()},
        "optimizer": optimizer.state_dict(),
        "history": [asdict(epoch) for epoch in history],
    }
    torch.save(state, fresh)
    fresh.replace(checkpoint)


def _line(epoch: Epoch, epochs: int, seconds_left: float) -> str:
    measured = f"  test {epoch.accuracy:.2f} %" if epoch.accuracy is not None else ""
    left = f"  {seconds_left:.0f} s left" if epoch.epoch < epochs else ""
    return f"epoch {epoch.epoch}/{epochs}  loss {epoch.loss:.4f}{measured}{left}"
