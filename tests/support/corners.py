"""A task that small networks learn in seconds: in which corner of an image a bright square is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tinsmith.pipeline.tasks import Task
from tinsmith.pipeline.training.loop import Samples


def corners(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images float32 [count, 1, 12, 12] in 0..1, noise with a square, and the corners' numbers."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 4
    x = rng.random((count, 1, 12, 12)).astype(np.float32) * 0.5
    for image, label in zip(x, y, strict=True):
        top, left = 1 + 6 * (label // 2) + rng.integers(0, 3), 1 + 6 * (label % 2)
        image[0, top : top + 3, left : left + 3] += 0.5
    return torch.from_numpy(x), torch.from_numpy(y)


def corner_samples(train: int, test: int) -> Samples:
    return Samples(*corners(train, 1), *corners(test, 2), tasks=(Task("", 4),))
