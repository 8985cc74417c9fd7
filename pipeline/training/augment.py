"""Random changes to training samples: of images an affine map and a black square each, of others
what a function of the user's does.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tinsmith.pipeline.config import Augment, CodeRef
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.user_code import user_function, users_own

# What changes a batch [N, ...] into one of the same shape, by random numbers of the generator.
Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def augmentation(options: Augment, samples: Tensor) -> Augmentation:
    """What [augment] asks for, for training samples [N, ...].

    Raises ConfigError where it asks to turn and move what isn't an image [C, H, W], and for a
    function that can't be used.
    """
    if options.function is not None:
        return _of_user(options.function)
    asked = [key for key, value in options if value]
    if not asked:
        return lambda x, generator: x
    if samples.ndim != 4:
        size = " x ".join(map(str, samples.shape[1:]))
        raise ConfigError(
            f"[augment] {', '.join(asked)}: the samples are {size}, but only images, channels x "
            'height x width, can be changed so; leave it out, or write function = "augment.py:NAME"'
        )
    return lambda x, generator: augment(x, options, generator)


def _of_user(ref: CodeRef) -> Augmentation:
    where = f"[augment] function '{ref.path}:{ref.attribute}'"
    function = user_function(ref, where)

    def change(x: Tensor, generator: torch.Generator) -> Tensor:
        with users_own(ref.path, f"{where}: it failed"):
            changed: Tensor = function(x, generator)
        shape = list(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
        if shape != list(x.shape) or changed.dtype != x.dtype:
            raise ConfigError(
                f"{where}: it gives {shape}; needed: a float32 tensor of the same shape, "
                f"{list(x.shape)}"
            )
        return changed

    return change


def augment(x: Tensor, options: Augment, generator: torch.Generator) -> Tensor:
    """Images [N, C, H, W], each turned, moved, scaled, slanted, mirrored, erased in part.

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
    x = F.grid_sample(x, grid, align_corners=False)
    return _erase(x, options.erase, generator) if options.erase else x


def _erase(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Black squares on images [N, C, H, W]: sides from 0 to `share` of the image's, anywhere."""
    n, _, height, width = x.shape
    half, middle_y, middle_x = torch.rand(3, n, 1, generator=generator)
    half = half * share / 2

    def inside(size: int, middle: Tensor) -> Tensor:
        distance: Tensor = (torch.arange(size) + 0.5) / size - middle
        near: Tensor = distance.abs() < half
        return near

    square = inside(height, middle_y)[:, :, None] & inside(width, middle_x)[:, None, :]
    return x.masked_fill(square[:, None], 0.0)
