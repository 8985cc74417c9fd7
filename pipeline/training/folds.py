"""Folds of the training samples: what a step of pruning decides on, and is not trained on before.

With k folds step s is decided on fold s modulo k, and the training before it (but for that of the
network as it came) leaves this fold out: what decides is validation data, and in k steps each
sample has been that once.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tinsmith.pipeline.training.loop import Samples, seed_of


@dataclass(frozen=True)
class Folds:
    """How many there are, of how many steps the pruning is, and what the samples are dealt by."""

    count: int
    steps: int
    seed: int

    def decided_on(self, step: int, samples: Samples) -> Samples:
        """The samples of the fold that a step is decided on; all where there is one fold."""
        return samples if self.count == 1 else _taken(samples, self._places(samples, step))

    def trained_on(self, step: int, samples: Samples) -> Samples:
        """The samples that a step trains on: without the next step's fold; all in the last."""
        if self.count == 1 or step == self.steps:
            return samples
        stay = torch.ones(len(samples.y_train), dtype=torch.bool)
        stay[self._places(samples, step + 1)] = False
        return _taken(samples, stay.nonzero().flatten())

    def _places(self, samples: Samples, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(self.seed, "folds"))
        order = torch.randperm(len(samples.y_train), generator=generator)
        return order[step % self.count :: self.count]


def _taken(samples: Samples, places: Tensor) -> Samples:
    return replace(samples, x_train=samples.x_train[places], y_train=samples.y_train[places])
