"""Movement pruning: weights stay that move away from zero while the network trains.

Each block of weights has a score, and the weights of the greatest scores stay. Going back, the
gradient of a score is that of the weights it lets through times the weights, as if nothing were
masked: dL/dS = sum of dL/dW' W (Sanh, Wolf & Rush, Movement Pruning, NeurIPS 2020; blocks:
Lagunas et al., EMNLP 2021). It grows where the loss drives the weights away from zero. What is
masked keeps its value and can come back.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from tinsmith.pipeline.training.masks import MaskChoice, choose
from tinsmith.pipeline.training.networks import RECURRENT, matrices
from tinsmith.pipeline.training.sparsity import SparsityPlan, block_sums, density_at, whole


class Moved(nn.Module):
    """The parametrization of a weight that scores decide on."""

    keep: Tensor

    def __init__(self, weight: Tensor, choice: MaskChoice) -> None:
        super().__init__()
        self.choice, self.shape = choice, weight.shape
        blocks = block_sums(weight.detach(), choice.pattern)
        self.scores = nn.Parameter(torch.zeros_like(blocks))
        self.register_buffer("keep", torch.ones_like(blocks, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        pattern = self.choice.pattern
        # In front the mask, behind it the gradient of the scores: their difference is 0.
        through = self.keep + self.scores - self.scores.detach()
        masked: Tensor = weight * whole(through, weight.shape, pattern)
        return masked


class MovementPruning:
    """Called by `loop.fit` before and after the steps; `end` leaves plain weights."""

    def __init__(self, network: nn.Module, plan: SparsityPlan, choice: MaskChoice) -> None:
        self.network, self.plan, self.choice = network, plan, choice
        self.hooks: list[RemovableHandle] = []
        weights = matrices(network)
        self.places = {name: _place(network, name) for name in plan.density}
        for name, (layer, key) in self.places.items():
            parametrize.register_parametrization(layer, key, Moved(weights[name], choice))
        for layer in dict.fromkeys(layer for layer, _ in self.places.values()):
            if isinstance(layer, RECURRENT):
                self.hooks.append(layer.register_forward_pre_hook(_look_again))

    @torch.no_grad()
    def __call__(self, step: int, steps: int) -> None:
        if step % self.plan.every and step not in (0, steps):
            return
        moved = dict(self._moved())
        density = density_at(step, steps, self.plan, self.choice.density)
        shapes = {name: module.shape for name, module in moved.items()}
        kept = choose({n: m.scores for n, m in moved.items()}, shapes, density, self.choice)
        for name, module in moved.items():
            module.keep.copy_(kept[name])

    def end(self) -> None:
        """Make the weights plain ones again; what is masked is 0.0."""
        for hook in self.hooks:
            hook.remove()
        for layer, key in self.places.values():
            parametrize.remove_parametrizations(layer, key, leave_parametrized=True)
            if isinstance(layer, RECURRENT):
                _look_again(layer)

    def _moved(self) -> Iterator[tuple[str, Moved]]:
        for name, (layer, key) in self.places.items():
            moved = layer.parametrizations[key][0]  # type: ignore[index]
            assert isinstance(moved, Moved)
            yield name, moved


def _place(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The layer that has the weight which `matrices` names, and its attribute there."""
    parent, _, key = name.rpartition(".")
    holder = network.get_submodule(parent)
    return (
        (holder, key) if isinstance(holder, RECURRENT) else (network.get_submodule(name), "weight")
    )


def _look_again(layer: nn.Module, *_: object) -> None:
    """A recurrent layer computes with a list of its weights, which has to be of those as they are
    now."""
    assert isinstance(layer, RECURRENT)
    layer._flat_weights = [getattr(layer, key) for key in layer._flat_weights_names]
