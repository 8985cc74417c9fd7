"""What a weight [out, in, *kernel] is a product of: the ranks there are, and the members they give.

An error is the share of the energy, the sum of the squares of the weights, that ranks lose.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tinsmith.pipeline.training.factors import Layer, Shape

Ranks = tuple[int, ...]


@dataclass(frozen=True)
class Decomposition:
    """applies: whether a layer can be decomposed so. errors: for a weight, ranks in steps of a
    number, with the members' shapes and the error. weights: the members' weights for ranks.
    """

    applies: Callable[[Layer], bool]
    errors: Callable[[Tensor, int], Iterator[tuple[Ranks, tuple[Shape, ...], float]]]
    weights: Callable[[Tensor, Ranks], list[Tensor]]


def svd_errors(weight: Tensor, step: int) -> Iterator[tuple[Ranks, tuple[Shape, ...], float]]:
    """W = U S V: of rank r, the error is the rest of the squares of S (Eckart & Young 1936)."""
    outputs, inputs, *kernel = weight.shape
    lost = _energy_behind(torch.linalg.svdvals(weight.double().flatten(1)))
    for rank in range(step, len(lost), step):
        yield (rank,), ((rank, inputs, *kernel), (outputs, rank, *kernel)), lost[rank]


def svd_weights(weight: Tensor, ranks: Ranks) -> list[Tensor]:
    """[out, in] as [r, in] and [out, r], each with the square root of S. Of 1x1 too."""
    ones = weight.shape[2:]
    first, last = _halves(weight.flatten(1), ranks[0])
    return [first.reshape(*first.shape, *ones), last.reshape(*last.shape, *ones)]


def spatial_errors(weight: Tensor, step: int) -> Iterator[tuple[Ranks, tuple[Shape, ...], float]]:
    """k x 1 then 1 x k: the SVD of the weight as the matrix [out and x, in and y] (Jaderberg et al.
    2014; Tai et al. 2016)."""
    outputs, inputs, height, width = weight.shape
    lost = _energy_behind(torch.linalg.svdvals(_as_rows_and_columns(weight.double())))
    for rank in range(step, len(lost), step):
        yield (rank,), ((rank, inputs, height, 1), (outputs, rank, 1, width)), lost[rank]


def spatial_weights(weight: Tensor, ranks: Ranks) -> list[Tensor]:
    """[r, in, k, 1] and [out, r, 1, k], each with the square root of the singular values."""
    outputs, inputs, height, width = weight.shape
    first, last = _halves(_as_rows_and_columns(weight), ranks[0])
    down = first.reshape(-1, inputs, height, 1)
    across = last.reshape(outputs, width, -1).permute(0, 2, 1)[:, :, None]
    return [down, across]


def tucker_errors(weight: Tensor, step: int) -> Iterator[tuple[Ranks, tuple[Shape, ...], float]]:
    """1x1, k x k, 1x1: Tucker-2 over inputs and outputs by HOSVD (De Lathauwer et al. 2000; Kim et
    al. 2016). The core of lower ranks is a corner of the whole core, so that its energy is known.
    """
    core, _, _ = _tucker(weight.double())
    outputs, inputs, *kernel = weight.shape
    squares = core.square().flatten(2).sum(2)
    kept = squares.cumsum(0).cumsum(1) / squares.sum().clamp_min(1e-300)
    for low in _ranks_up_to(inputs, step):
        for high in _ranks_up_to(outputs, step):
            shapes = _tucker_shapes(outputs, inputs, tuple(kernel), low, high)
            if len(shapes) > 1:
                yield (low, high), shapes, max(0.0, 1 - float(kept[high - 1, low - 1]))


def tucker_weights(weight: Tensor, ranks: Ranks) -> list[Tensor]:
    """For ranks (low, high): [low, in, 1, 1], the core [high, low, *kernel], [out, high, 1, 1]."""
    low, high = ranks
    core, of_outputs, of_inputs = _tucker(weight.double())
    ones = (1,) * (weight.ndim - 2)
    core = core[:high, :low]
    parts = []
    if low < weight.shape[1]:
        parts.append(of_inputs[:, :low].T.reshape(low, -1, *ones))
    else:  # a side of full rank has no 1x1 of its own
        core = torch.einsum("oi...,ji->oj...", core, of_inputs)
    if high < weight.shape[0]:
        parts += [core, of_outputs[:, :high].reshape(-1, high, *ones)]
    else:
        parts.append(torch.einsum("oi...,po->pi...", core, of_outputs))
    return [part.to(weight.dtype) for part in parts]


# The ways to factorize a layer, by name.
DECOMPOSITIONS: Mapping[str, Decomposition] = {
    "svd": Decomposition(lambda layer: layer.weight[0, 0].numel() == 1, svd_errors, svd_weights),
    "spatial": Decomposition(
        lambda layer: layer.weight.ndim == 4 and min(layer.weight.shape[2:]) > 1,
        spatial_errors,
        spatial_weights,
    ),
    "tucker": Decomposition(
        lambda layer: layer.weight[0, 0].numel() > 1, tucker_errors, tucker_weights
    ),
}


def _energy_behind(values: Tensor) -> list[float]:
    """For r = 0, 1, ...: the share of the squares of all but the first r values."""
    squares = values.square()
    behind = squares.flip(0).cumsum(0).flip(0) / squares.sum().clamp_min(1e-300)
    return [float(share) for share in behind]


def _halves(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """[n, k] as [r, k] and [n, r], each with the square root of the singular values."""
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    root = s[:rank].sqrt()
    first, last = root[:, None] * v[:rank], u[:, :rank] * root
    return first.to(matrix.dtype), last.to(matrix.dtype)


def _as_rows_and_columns(weight: Tensor) -> Tensor:
    """[out, in, y, x] as the matrix [out and x, in and y]."""
    return weight.permute(0, 3, 1, 2).flatten(2).flatten(0, 1)


def _tucker(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The whole core [out, in, *kernel] and the bases of outputs and inputs: their columns are the
    left singular vectors of the weight unfolded along each of both axes."""
    of_outputs = torch.linalg.svd(weight.flatten(1), full_matrices=True)[0]
    of_inputs = torch.linalg.svd(weight.transpose(0, 1).flatten(1), full_matrices=True)[0]
    core = torch.einsum("oi...,op,iq->pq...", weight, of_outputs, of_inputs)
    return core, of_outputs, of_inputs


def _ranks_up_to(full: int, step: int) -> list[int]:
    return [*range(step, full, step), full]


def _tucker_shapes(
    outputs: int, inputs: int, kernel: Shape, low: int, high: int
) -> tuple[Shape, ...]:
    ones = (1,) * len(kernel)
    shapes: list[Shape] = [] if low == inputs else [(low, inputs, *ones)]
    shapes.append((high, low, *kernel))
    if high < outputs:
        shapes.append((outputs, high, *ones))
    return tuple(shapes)
