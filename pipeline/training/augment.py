"""Random changes to training images: one affine map an image, all images at once."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tinsmith.pipeline.config import Augment


def augment(x: Tensor, options: Augment, generator: torch.Generator) -> Tensor:
    """Images [N, C, H, W], each turned, moved, scaled, slanted and mirrored at random.

    What comes in from outside is 0 (black).
    """
    n, _, height, width = x.shape

    def uniform(limit: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    angle = uniform(math.radians(options.rotate_degrees))
    zoom = 1 + uniform(options.scale)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # grid_sample measures in half widths: one pixel is 2 / width.
    top = torch.stack(
        [cos, -sin + uniform(options.shear), uniform(options.shift_pixels * 2 / width)], dim=1
    )
    bottom = torch.stack([sin, cos, uniform(options.shift_pixels * 2 / height)], dim=1)
    mirrored = torch.rand(n, generator=generator) < 0.5
    if options.flip:
        top = torch.where(mirrored[:, None], -top, top)
    grid = F.affine_grid(torch.stack([top, bottom], dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
