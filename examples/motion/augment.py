"""Windows as another wearer's watch might have seen them."""

import torch
from torch import Tensor


def vary(x: Tensor, generator: torch.Generator) -> Tensor:
    """Windows [N, ...], each stronger or weaker by up to a fifth, with a little noise."""
    shape = [len(x), *[1] * (x.ndim - 1)]
    strength = 1 + 0.2 * (2 * torch.rand(shape, generator=generator) - 1)
    noise = 0.02 * torch.randn(x.shape, generator=generator)
    return (x * strength + noise).clamp(-1, 1)
