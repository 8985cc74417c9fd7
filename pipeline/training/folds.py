"""Folds of the training samples: what a step of pruning decides on, and is not trained on before.

With k folds step s is decided on fold s modulo k, and the training before it (but for that of the
network as it came) leaves this fold out: what decides is validation data, and in k steps each
sample has been that once.
"""

from dataclasses import replace

import torch
from torch import Tensor

from tinsmith.pipeline.training.loop import Samples, seed_of


def decided_on(samples: Samples, folds: int, step: int, seed: int) -> Samples:
    """The samples of the fold that a step is decided on; all where there is one fold."""
    return samples if folds == 1 else _taken(samples, _places(samples, folds, step, seed))


def trained_on(samples: Samples, folds: int, step: int, steps: int, seed: int) -> Samples:
    """The samples that a step trains on: without the next step's fold; all of them in the last."""
    if folds == 1 or step == steps:
        return samples
    stay = torch.ones(len(samples.y_train), dtype=torch.bool)
    stay[_places(samples, folds, step + 1, seed)] = False
    return _taken(samples, stay.nonzero().flatten())


def _places(samples: Samples, folds: int, step: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed_of(seed, "folds"))
    order = torch.randperm(len(samples.y_train), generator=generator)
    return order[step % folds :: folds]


def _taken(samples: Samples, places: Tensor) -> Samples:
    return replace(samples, x_train=samples.x_train[places], y_train=samples.y_train[places])
