"""Which single weights stay, over a whole network: by scores, under one density."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from tinsmith.pipeline.training.criteria import Evidence
from tinsmith.pipeline.training.networks import matrices
from tinsmith.pipeline.training.sparsity import Pattern, block_sums, top_blocks, whole

Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True)
class MaskChoice:
    """density: the share of weights that stays in the end. allocation: how layers share it.

    "uniform": all layers have it. "global": the greatest scores of all layers stay. "budget": a
    layer's density goes with (out + in + sizes) / (out * in * sizes), so that large layers give
    most (Erdos-Renyi-kernel; Evci et al., Rigging the Lottery, ICML 2020).
    """

    density: float
    criterion: str = "l1"
    allocation: str = "uniform"
    pattern: Pattern = field(default_factory=Pattern)


def masks(
    network: nn.Module, density: float, choice: MaskChoice, shown: Evidence
) -> dict[str, Tensor]:
    """True where a weight stays, by layer; a weight that is 0.0 goes first."""
    weights = matrices(network)
    scores = weight_scores(weights, choice.criterion, shown)
    blocks = {name: block_sums(score, choice.pattern) for name, score in scores.items()}
    shapes = {name: weight.shape for name, weight in weights.items()}
    kept = choose(blocks, shapes, density, choice)
    return {name: whole(keep, shapes[name], choice.pattern) for name, keep in kept.items()}


def choose(
    blocks: Mapping[str, Tensor], shapes: Shapes, density: float, choice: MaskChoice
) -> dict[str, Tensor]:
    """True for the blocks that stay, of scores [out, blocks] by layer."""
    pattern = choice.pattern
    if choice.allocation == "global":
        together = torch.cat([scores.flatten() for scores in blocks.values()])
        kept = top_blocks(together[None], density, Pattern(pattern.block)).flatten()
        parts = torch.split(kept, [scores.numel() for scores in blocks.values()])
        return {
            name: part.reshape(scores.shape)
            for (name, scores), part in zip(blocks.items(), parts, strict=True)
        }
    shares = densities(shapes, replace(choice, density=density))
    return {name: top_blocks(scores, shares[name], pattern) for name, scores in blocks.items()}


def densities(shapes: Shapes, choice: MaskChoice) -> dict[str, float]:
    """Each layer's density, where layers don't compete."""
    if choice.allocation == "budget":
        return kernel_densities(shapes, choice.density)
    return dict.fromkeys(shapes, choice.density)


def kernel_densities(shapes: Shapes, density: float) -> dict[str, float]:
    """Each layer's density, so that all together have `density`; see MaskChoice, "budget"."""
    sizes = {name: shape.numel() for name, shape in shapes.items()}
    raw = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    full: set[str] = set()
    while True:
        left = density * sum(sizes.values()) - sum(sizes[name] for name in full)
        scale = left / sum(raw[n] * sizes[n] for n in sizes if n not in full)
        over = {n for n in sizes if n not in full and raw[n] * scale > 1}
        if not over:
            return {n: 1.0 if n in full else raw[n] * scale for n in sizes}
        full |= over


def weight_scores(
    weights: Mapping[str, nn.Parameter], criterion: str, shown: Evidence
) -> dict[str, Tensor]:
    """How much each weight matters, one of the criteria that weights can take.

    l1, l2: its magnitude, its square (Han et al. 2015). gradient: |g|. taylor: |g w| (Molchanov et
    al. 2017). random: drawn. A weight of 0.0 is worth 0.
    """
    if criterion == "random":
        generator = torch.Generator().manual_seed(shown.seed)
        drawn = {n: 0.01 + torch.rand(w.shape, generator=generator) for n, w in weights.items()}
        return {name: drawn[name] * (weights[name].detach() != 0) for name in weights}
    if criterion in ("l1", "l2"):
        return {name: w.detach().abs() ** int(criterion[1]) for name, w in weights.items()}
    network = shown.network.eval()
    network.zero_grad()
    shown.loss(network, shown.x, shown.y).backward()  # type: ignore[no-untyped-call]
    scores = {}
    for name, weight in weights.items():
        assert weight.grad is not None
        by = weight.detach() if criterion == "taylor" else (weight.detach() != 0)
        scores[name] = (weight.grad * by).abs()
    network.zero_grad()
    return scores
