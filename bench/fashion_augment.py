"""Random changes to images of clothes that keep them sharp: no pixel is blended with another.

Turned or scaled images are smoother than those of the test, and a network trained on them alone
loses a point of accuracy to that.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFT = 1  # pixels, to each side
LARGEST = 0.25  # side of the black square, as a share of the image's


def sharp(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images [N, C, H, W], each mirrored or not, moved by whole pixels, a square of it black."""
    n, _, height, width = x.shape
    mirrored = torch.rand(n, generator=generator) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, n, 1), generator=generator)
    rows, columns = torch.arange(height) + down, torch.arange(width) + right
    padded = F.pad(x, (SHIFT,) * 4).permute(0, 2, 3, 1)
    image = torch.arange(n)[:, None, None]
    x = padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    half, middle_y, middle_x = torch.rand(3, n, 1, generator=generator)
    half = half * LARGEST / 2
    tall = ((torch.arange(height) + 0.5) / height - middle_y).abs() < half
    wide = ((torch.arange(width) + 0.5) / width - middle_x).abs() < half
    return x.masked_fill((tall[:, :, None] & wide[:, None, :])[:, None], 0.0)
