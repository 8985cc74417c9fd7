"""Pruning of single weights while a network trains: masks, and the schedule by which they close.

A weight that is masked is 0.0 and stays it; the masks of a training that goes on are where the
weights are 0.0. What this saves shows in the coded file (see `coding`), not in dense firmware.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.training.networks import matrices


@dataclass(frozen=True)
class Pattern:
    """Which weights go together. block: that many inputs in a row share their fate; those of a
    convolution are in the order of the generated C, which holds the channels of a pixel together.

    of: where not 0, of every `of` such blocks in a row the same number stays (N:M sparsity), so
    that a density is rounded up to a multiple of 1 / of.
    """

    block: int = 1
    of: int = 0


@dataclass(frozen=True)
class SparsityPlan:
    """density: the share of weights that stays at the end, by the layer's name.

    begin, end: shares of the training's steps between which the weights go; every: steps between
    two changes of the masks.
    """

    density: Mapping[str, float]
    begin: float = 0.0
    end: float = 0.6
    every: int = 50
    pattern: Pattern = Pattern()


def density_at(step: int, steps: int, plan: SparsityPlan, final: float) -> float:
    """1 - s (1 - (1 - t)^3) with s = 1 - final and t the part done of the plan's time (Zhu & Gupta
    2017): fast while there is much to spare, slow at the end."""
    begin, end = int(plan.begin * steps), int(plan.end * steps)
    t = min(max((step - begin) / max(end - begin, 1), 0.0), 1.0)
    return 1 - (1 - final) * (1 - (1 - t) ** 3)


def magnitude_mask(weight: Tensor, density: float, pattern: Pattern = Pattern()) -> Tensor:
    """True where a weight [out, ...] stays: the blocks with the greatest sums of magnitudes.

    Of equals the first stay, so that their number is exactly the density's, rounded up.
    """
    blocks = block_sums(weight.detach().abs(), pattern)
    return whole(top_blocks(blocks, density, pattern), weight.shape, pattern)


def block_sums(scores: Tensor, pattern: Pattern) -> Tensor:
    """What a weight's scores [out, in, ...] add up to in its blocks [out, blocks]."""
    rows = scores.movedim(1, -1).flatten(1)
    padded = nn.functional.pad(rows, (0, -rows.shape[1] % pattern.block))
    return padded.reshape(len(rows), -1, pattern.block).sum(2)


def top_blocks(blocks: Tensor, density: float, pattern: Pattern) -> Tensor:
    """True for the blocks [out, blocks] with the greatest scores, the first of equals."""
    if not pattern.of:
        keep = _top(blocks.reshape(1, -1), _count(density, blocks.numel()))
        return keep.reshape(blocks.shape)
    count = blocks.shape[1]
    padded = nn.functional.pad(blocks, (0, -count % pattern.of), value=-torch.inf)
    keep = _top(padded.reshape(-1, pattern.of), _count(density, pattern.of))
    return keep.reshape(len(blocks), -1)[:, :count]


def whole(keep: Tensor, shape: torch.Size, pattern: Pattern) -> Tensor:
    """What holds for blocks, for each weight of this shape [out, in, ...]."""
    width = shape[1:].numel()
    rows = keep.repeat_interleave(pattern.block, 1)[:, :width]
    return rows.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1)


def _count(density: float, of: int) -> int:
    """density * of, rounded up; what is a whole number but for float's last bits is that number."""
    return -(-round(density * of * 1e6) // 1_000_000)


def _top(rows: Tensor, count: int) -> Tensor:
    """True at the `count` greatest of each row, the first of equals."""
    order = rows.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(rows, dtype=torch.bool).scatter(1, order, True)


class GradualPruning:
    """Called by `loop.fit` before and after the steps: closes the masks by the plan, keeps them."""

    def __init__(self, network: nn.Module, plan: SparsityPlan) -> None:
        self.plan = plan
        self.weights = sparse_layers(network, plan.density)
        self.masks: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, step: int, steps: int) -> None:
        plan = self.plan
        if not self.masks:  # the weights are those of the checkpoint by now, where there is one
            self.masks = {name: weight != 0 for name, weight in self.weights.items()}
        last = step >= int(plan.end * steps)
        first = step == int(plan.end * steps)
        if (step % plan.every == 0 and not last) or first:
            for name, weight in self.weights.items():
                density = density_at(step, steps, plan, plan.density[name])
                self.masks[name] = magnitude_mask(weight, density, plan.pattern)
        for name, weight in self.weights.items():
            weight.mul_(self.masks[name])


def sparse_layers(network: nn.Module, density: Mapping[str, float]) -> dict[str, nn.Parameter]:
    """The named weights of `matrices`. Raises ConfigError for names or densities that can't be."""
    known = matrices(network)
    for name, share in density.items():
        if name not in known:
            raise ConfigError(
                f"pruning of weights: there is no layer '{name}'; allowed: {', '.join(known)}"
            )
        if not 0 < share <= 1:
            raise ConfigError(
                f"pruning of weights: the density of '{name}' is {share}; allowed: above 0, up to 1"
            )
    return {name: known[name] for name in density}
