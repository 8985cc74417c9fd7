"""Training with compression in mind: what is added to the loss, and what weights have to obey.

L = L_data + lambda L_sparse. Both work on the weights of convolutions and linear layers, the terms
also on the matrices of LSTMs and GRUs; outputs lie along the first axis.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from tinsmith.pipeline.config import Constraint, Sparsity
from tinsmith.pipeline.training.networks import LAYERS, matrices


def l1(weight: Tensor) -> Tensor:
    """sum |w|: drives weights to 0 one by one (Tibshirani 1996)."""
    return weight.abs().sum()


def l2(weight: Tensor) -> Tensor:
    """sum w^2: keeps weights small, and none at 0 (Hoerl & Kennard 1970)."""
    return weight.square().sum()


def group_lasso(weight: Tensor) -> Tensor:
    """sum over the outputs of sqrt(n) |w|_2, n the weights of one: drives whole outputs to 0 (Yuan
    & Lin 2006; of channels Wen et al. 2016)."""
    rows = weight.flatten(1)
    lengths: Tensor = (rows.square().sum(1) + 1e-12).sqrt()  # a gradient at 0 too
    total: Tensor = lengths.sum() * rows.shape[1] ** 0.5
    return total


def hoyer(weight: Tensor) -> Tensor:
    """(sum |w|)^2 / sum w^2, between 1 and the number of weights: small where few are large, at any
    scale (Hoyer 2004; squared by Yang et al., DeepHoyer, ICLR 2020)."""
    return weight.abs().sum().square() / weight.square().sum().clamp_min(1e-12)


# What [[distil.sparsity]] kind names.
PENALTIES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "l1": l1,
    "l2": l2,
    "group-lasso": group_lasso,
    "hoyer": hoyer,
}


def max_norm(weight: Tensor, constraint: Constraint) -> Tensor:
    """w min(1, c / |w|_2) of each output (Srebro et al. 2005; Srivastava et al. 2014)."""
    assert constraint.limit is not None
    lengths = weight.flatten(1).norm(dim=1).clamp_min(1e-12)
    return weight * _along_outputs((constraint.limit / lengths).clamp_max(1.0), weight)


def clip(weight: Tensor, constraint: Constraint) -> Tensor:
    """min(max(w, -c), c)."""
    assert constraint.limit is not None
    return weight.clamp(-constraint.limit, constraint.limit)


def soft_clip(weight: Tensor, constraint: Constraint) -> Tensor:
    """w (1 - a) + a c sign(w): what is beyond c is drawn back, what is below is drawn out, so that
    the range is narrow for its content, as few bits need it.

    Where c is the mean magnitude of an output's weights, that mean does not change.
    """
    a, c = constraint.amount, constraint.limit
    scale = weight.flatten(1).abs().mean(1) if c is None else weight.new_full((len(weight),), c)
    return weight * (1 - a) + a * _along_outputs(scale, weight) * weight.sign()


# What [[distil.constraints]] kind names, applied after each step; weight-norm is no such change.
CONSTRAINTS: Mapping[str, Callable[[Tensor, Constraint], Tensor]] = {
    "max-norm": max_norm,
    "clip": clip,
    "soft-clip": soft_clip,
}


def penalty(network: nn.Module, terms: Sequence[Sparsity]) -> Tensor:
    """lambda L_sparse: the sum of the terms over the layers, a scalar with a gradient."""
    total = torch.zeros(())
    weights = [*matrices(network).values()]
    for term in terms:
        total = total + term.weight * sum(PENALTIES[term.kind](weight) for weight in weights)
    return total


@contextmanager
def constrained(
    network: nn.Module, constraints: Sequence[Constraint]
) -> Iterator[Callable[[], None]]:
    """While this lasts, what is called after each step makes the weights obey.

    With weight-norm the network's parameters are others for that time, v and g; afterwards the
    weights are what they are made of.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, LAYERS)]
    normed = layers if any(c.kind == "weight-norm" for c in constraints) else []
    changes = [c for c in constraints if c.kind in CONSTRAINTS]

    @torch.no_grad()
    def obey() -> None:
        for constraint in changes:
            for layer in layers:
                changed = CONSTRAINTS[constraint.kind](layer.weight, constraint)
                if parametrize.is_parametrized(layer, "weight"):
                    layer.weight = changed  # becomes v and g
                else:
                    layer.weight.copy_(changed)

    for layer in normed:
        parametrizations.weight_norm(layer)  # dim 0, the outputs
    try:
        yield obey
    finally:
        for layer in normed:
            parametrize.remove_parametrizations(layer, "weight")


def _along_outputs(values: Tensor, weight: Tensor) -> Tensor:
    """One value for each output, to be multiplied with the weight."""
    return values.reshape(-1, *(1,) * (weight.ndim - 1))
