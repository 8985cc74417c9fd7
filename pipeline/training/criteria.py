"""How much each channel of a network matters: by its weights, or measured on samples.

A criterion gives a number for each channel of a group: layers that gain or lose channels together
(torch-pruning's). What layers say is brought to the mean 1 and averaged, so that no layer outvotes
another by the scale of its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.training.loop import Samples, seed_of
from tinsmith.pipeline.training.losses import Loss
from tinsmith.pipeline.training.networks import LAYERS

_BINS = 32


class Criterion(Protocol):
    """A criterion, made for a network as it is; told of the channels that went since."""

    def scores(self, group: Any, width: int) -> Tensor:
        """How much each of the group's channels matters [width]; the least goes first."""
        ...

    def removed(self, group: Any) -> None:
        """The channels that `group` names are gone, together with what was known of them."""
        ...


@dataclass(frozen=True)
class Evidence:
    """What criteria are measured on: a network, some samples with labels, and the loss."""

    network: nn.Module
    x: Tensor
    y: Tensor
    loss: Loss
    seed: int


def evidence_of(
    network: nn.Module, samples: Samples, loss: Loss, count: int, seed: int
) -> Evidence:
    """Training images drawn from the seed: the test images must not say what goes."""
    generator = torch.Generator().manual_seed(seed_of(seed, "evidence"))
    chosen = torch.randperm(len(samples.y_train), generator=generator)[:count]
    return Evidence(network, samples.x_train[chosen], samples.y_train[chosen], loss, seed)


def make_criterion(name: str, evidence: Evidence) -> Criterion:
    """The criterion of this name, one of CRITERIA."""
    return CRITERIA[name](evidence)


class Norms:
    """The norm of a channel's weights: l1 or l2 (Li et al. 2017). Asked of the weights as they
    are when asked."""

    def __init__(self, norm: int) -> None:
        self.norm = norm

    def scores(self, group: Any, width: int) -> Tensor:
        return _mean_score(group, width, self._of, self.norm)

    def removed(self, group: Any) -> None:
        pass

    def _of(self, member: Any) -> Tensor | None:
        weight = getattr(member.dep.target.module, "weight", None)
        if weight is None:
            return None
        norms: Tensor = weight_rows(weight.detach(), member).norm(p=self.norm, dim=1)
        return norms


class Measured:
    """Numbers of layers' outputs and inputs, measured once and cut as channels go.

    outputs, inputs: layer -> a number for each of its outputs or inputs; none where it has no say.
    unfit: what it is of channels that no layer has a say on, which raise ConfigError.
    """

    def __init__(
        self,
        outputs: Mapping[nn.Module, Tensor],
        inputs: Mapping[nn.Module, Tensor],
        unfit: str = "no layer that is measured makes or reads them",
    ) -> None:
        self.sides = {True: dict(outputs), False: dict(inputs)}
        self.unfit = unfit

    def scores(self, group: Any, width: int) -> Tensor:
        if all(self._of(member) is None for member in group):
            raise ConfigError(
                f"[prune] criterion can't be taken by the channels of {group[0].dep.target.name}: "
                f'{self.unfit}; use another one, like "taylor"'
            )
        return _mean_score(group, width, self._of, 1)

    def removed(self, group: Any) -> None:
        for member in group:
            layer, side = member.dep.target.module, self.sides[is_output(member)]
            if layer in side:
                stay = torch.ones(len(side[layer]), dtype=torch.bool)
                stay[member.idxs] = False
                side[layer] = side[layer][stay]

    def _of(self, member: Any) -> Tensor | None:
        return self.sides[is_output(member)].get(member.dep.target.module)


class MeasuredLoss:
    """How much the loss rises when a channel is silenced, all of its group's weights at once."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.known: dict[nn.Module, Tensor] = {}

    def scores(self, group: Any, width: int) -> Tensor:
        root = group[0].dep.target.module
        if root not in self.known:
            rises = torch.tensor(
                [loss_without(group, [channel], self.evidence) for channel in range(width)]
            )
            # What matters least matters a little: shares need numbers above 0.
            self.known[root] = rises - rises.min() + 1e-6
        return self.known[root]

    def removed(self, group: Any) -> None:
        root = group[0].dep.target.module
        if root in self.known:
            stay = torch.ones(len(self.known[root]), dtype=torch.bool)
            stay[group[0].idxs] = False
            self.known[root] = self.known[root][stay]


def gradients(evidence: Evidence) -> Criterion:
    """The sum of the magnitudes of a channel's gradients."""
    return _by_weights(evidence, lambda weight, gradient: gradient.abs(), signed=False)


def taylor(evidence: Evidence) -> Criterion:
    """|sum of gradient * weight|: how much the loss changes without the channel, to first order
    (Molchanov et al., CVPR 2019)."""
    return _by_weights(evidence, lambda weight, gradient: gradient * weight, signed=True)


def random(evidence: Evidence) -> Criterion:
    """Numbers drawn from the seed: what any other criterion has to beat."""
    generator = torch.Generator().manual_seed(evidence.seed)
    layers = [layer for layer in evidence.network.modules() if isinstance(layer, LAYERS)]
    outputs: dict[nn.Module, Tensor] = {
        layer: torch.rand(len(layer.weight), generator=generator) for layer in layers
    }
    return Measured(outputs, {})


def entropy(evidence: Evidence) -> Criterion:
    """The entropy of a channel's mean activation over the samples: one that always says the same
    tells nothing (Luo & Wu 2017). Of what the next layer reads."""
    return Measured({}, _of_inputs(evidence, activation_entropy))


def activation_entropy(x: Tensor) -> Tensor:
    """Of activations [N, channels, ...]: the entropy of each channel's mean [channels], in nats."""
    means = x.flatten(2).mean(2) if x.ndim > 2 else x
    low, high = means.amin(0), means.amax(0)
    places = ((means - low) / (high - low).clamp_min(1e-12) * _BINS).long()
    shares = nn.functional.one_hot(places.clamp(max=_BINS - 1), _BINS).double().mean(0)
    return -(shares * shares.clamp_min(1e-12).log()).sum(1).float()


def apoz(evidence: Evidence) -> Criterion:
    """The share of a channel's activations that are not zero: 1 - APoZ (Hu et al. 2016), of what
    the next layer reads."""

    def of(x: Tensor) -> Tensor:
        return (x != 0).transpose(0, 1).flatten(1).float().mean(1)

    shares = _of_inputs(evidence, of)
    sometimes = {layer: share for layer, share in shares.items() if bool((share < 1).any())}
    return Measured({}, sometimes, '"apoz" counts zeros, and there are none (no ReLU before it)')


# What [prune] criterion names.
CRITERIA: Mapping[str, Callable[[Evidence], Criterion]] = {
    "l1": lambda _: Norms(1),
    "l2": lambda _: Norms(2),
    "gradient": gradients,
    "taylor": taylor,
    "entropy": entropy,
    "apoz": apoz,
    "loss": MeasuredLoss,
    "random": random,
}


def loss_without(group: Any, channels: Sequence[int], evidence: Evidence) -> float:
    """The loss on the evidence while these channels of the group are silent."""
    network = evidence.network.eval()
    with torch.no_grad(), _silenced(group, channels):
        return float(evidence.loss(network, evidence.x, evidence.y))


def is_output(member: Any) -> bool:
    """Whether a member of a group loses rows of its weight (its outputs) rather than columns."""
    layer = member.dep.target.module
    if getattr(layer, "groups", 1) > 1 or not isinstance(layer, LAYERS):
        return True
    return bool(member.dep.handler.__name__ == "prune_out_channels")


def weight_rows(weight: Tensor, member: Any) -> Tensor:
    """A weight as [channels of the member's side, everything else]."""
    if not is_output(member) and weight.dim() > 1:
        weight = weight.transpose(0, 1)
    return weight.flatten(1) if weight.dim() > 1 else weight[:, None]


def _mean_score(group: Any, width: int, of: Callable[[Any], Tensor | None], power: int) -> Tensor:
    """The mean over the members that have a say of their numbers, each set brought to the mean 1.

    Numbers of a channel that a member has several times (flattened, say) add up as those of one
    norm do: (sum of n^power)^(1 / power).
    """
    total, members = torch.zeros(width), 0
    for member in group:
        numbers = of(member)
        if numbers is None:
            continue
        powers = numbers[member.idxs] ** power
        channel = torch.zeros(width).index_add(0, torch.tensor(member.root_idxs), powers)
        channel = channel ** (1 / power)
        total += channel / channel.mean().clamp_min(1e-12)
        members += 1
    return total / max(members, 1)


def _by_weights(
    evidence: Evidence, of: Callable[[Tensor, Tensor], Tensor], signed: bool
) -> Criterion:
    """Numbers of weights and their gradients on the samples, summed over each output and input."""
    network = evidence.network.eval()
    network.zero_grad()
    evidence.loss(network, evidence.x, evidence.y).backward()  # type: ignore[no-untyped-call]
    outputs: dict[nn.Module, Tensor] = {}
    inputs: dict[nn.Module, Tensor] = {}
    for layer in network.modules():
        if not isinstance(layer, LAYERS) or layer.weight.grad is None:
            continue
        numbers = of(layer.weight.detach(), layer.weight.grad)
        outputs[layer] = _total(numbers.flatten(1), signed)
        if getattr(layer, "groups", 1) == 1:
            inputs[layer] = _total(numbers.transpose(0, 1).flatten(1), signed)
    network.zero_grad()
    return Measured(outputs, inputs)


def _total(rows: Tensor, signed: bool) -> Tensor:
    total: Tensor = rows.sum(1)
    return total.abs() if signed else total


def _of_inputs(evidence: Evidence, of: Callable[[Tensor], Tensor]) -> dict[nn.Module, Tensor]:
    """A number for each input channel of each layer, of what it reads on the samples."""
    found: dict[nn.Module, Tensor] = {}
    layers = [layer for layer in evidence.network.modules() if isinstance(layer, LAYERS)]

    def look(layer: nn.Module, inputs: Sequence[Tensor], _: Any) -> None:
        if getattr(layer, "groups", 1) == 1:
            found[layer] = of(inputs[0])

    hooks = [layer.register_forward_hook(look) for layer in layers]
    with torch.no_grad():
        evidence.network.eval()(evidence.x)
    for hook in hooks:
        hook.remove()
    return found


@contextmanager
def _silenced(group: Any, channels: Sequence[int]) -> Iterator[None]:
    """The weights and biases that make these channels of the group, set to 0 for a while."""
    kept: list[tuple[nn.Parameter, Tensor]] = []
    for member in group if channels else ():
        layer = member.dep.target.module
        places = [
            i for i, root in zip(member.idxs, member.root_idxs, strict=True) if root in channels
        ]
        for parameter in (getattr(layer, "weight", None), getattr(layer, "bias", None)):
            if is_output(member) and isinstance(parameter, nn.Parameter):
                kept.append((parameter, parameter.detach().clone()))
                parameter.data[places] = 0
    try:
        yield
    finally:
        for parameter, values in kept:
            parameter.data.copy_(values)
