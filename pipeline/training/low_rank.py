"""Low rank: layers as products of smaller ones that do fewer multiply-accumulates.

`factorize` replaces layers where that saves MACs. How much of a layer a rank keeps is the share of
the weights' energy, the sum of their squares; an error is the share that is lost. The matrices are
small enough to try every rank, so that ranks are chosen among all there are.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.training.decompositions import DECOMPOSITIONS, Ranks
from tinsmith.pipeline.training.factors import (
    Layer,
    Shape,
    carriers,
    chain_of,
    factored_layers,
    put_in_place,
)
from tinsmith.pipeline.training.networks import cost


@dataclass(frozen=True)
class Plan:
    """How to factorize.

    ranks: a key of CHOICES. macs: the share of the MACs to keep at most, for "automatic" of the
    network's, for "budget" of each layer's. energy: the share to keep of each layer, for "energy".
    convolution: "spatial", "tucker", or "best" for the better one of both in each layer.
    multiple_of: ranks are multiples of this, which kernels like.
    """

    ranks: str = "automatic"
    macs: float = 0.5
    energy: float = 0.9
    convolution: str = "best"
    multiple_of: int = 4


@dataclass(frozen=True)
class Option:
    """One way to factorize a layer. shapes: of the members' weights. error: the energy lost."""

    kind: str
    ranks: Ranks
    shapes: tuple[Shape, ...]
    macs: int
    error: float


@dataclass(frozen=True)
class Candidate:
    """A layer, its MACs as it is, and every option that saves some."""

    name: str
    layer: Layer
    macs: int
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Factored:
    """What became of a layer."""

    layer: str
    kind: str
    ranks: Ranks
    macs_before: int
    macs_after: int
    energy: float


def factorize(network: nn.Module, sample: Tensor, plan: Plan) -> tuple[Factored, ...]:
    """Factorize layers of `network`, in place, by the plan; result: what became of those that are.

    sample: an input [1, ...]. The network is not trained here. Raises ConfigError where no ranks
    do what the plan asks for.
    """
    found = candidates(network, sample, plan)
    chosen = CHOICES[plan.ranks](found, cost(network, sample).total_macs, plan)
    made = []
    for candidate in found:
        option = chosen.get(candidate.name)
        if option is None:
            continue
        apply_option(network, candidate, option)
        made.append(
            Factored(
                candidate.name,
                option.kind,
                option.ranks,
                candidate.macs,
                option.macs,
                round(1 - option.error, 6),
            )
        )
    return tuple(made)


def apply_option(network: nn.Module, candidate: Candidate, option: Option) -> None:
    """Put the option's chain in the place of the candidate's layer."""
    weights = DECOMPOSITIONS[option.kind].weights(candidate.layer.weight.detach(), option.ranks)
    assert tuple(tuple(w.shape) for w in weights) == option.shapes
    put_in_place(network, candidate.layer, chain_of(candidate.layer, weights))


def candidates(network: nn.Module, sample: Tensor, plan: Plan) -> tuple[Candidate, ...]:
    """The layers that can be factorized, each with every option that saves MACs."""
    kinds = [kind for kind in DECOMPOSITIONS if plan.convolution in ("best", kind) or kind == "svd"]
    layers = factored_layers(network)
    found = []
    for name, calls in _sizes_of_calls(network, sample, layers).items():
        layer = layers[name]
        whole = _macs((tuple(layer.weight.shape),), calls)
        options = [
            option
            for kind in kinds
            for option in _options(kind, layer, calls, plan.multiple_of)
            if option.macs < whole
        ]
        found.append(Candidate(name, layer, whole, tuple(options)))
    return tuple(found)


def least_error(candidate: Candidate, macs: float) -> Option | None:
    """The option of at most so many MACs that loses least, None where there is none."""
    fitting = [option for option in candidate.options if option.macs <= macs]
    return min(fitting, key=lambda o: (o.error, o.macs), default=None)


def _by_energy(found: Sequence[Candidate], total: int, plan: Plan) -> dict[str, Option]:
    """Of each layer the option of fewest MACs that keeps the energy."""
    chosen = {}
    for candidate in found:
        good = [o for o in candidate.options if 1 - o.error >= plan.energy]
        if good:
            chosen[candidate.name] = min(good, key=lambda o: (o.macs, o.error))
    return chosen


def _by_budget(found: Sequence[Candidate], total: int, plan: Plan) -> dict[str, Option]:
    """Of each layer the option that loses least within its own share; the cheapest where none fits.

    Raises ConfigError where the network is above its share then.
    """
    chosen = {}
    for candidate in found:
        option = least_error(candidate, plan.macs * candidate.macs)
        option = option or min(candidate.options, key=lambda o: o.macs, default=None)
        if option is not None:
            chosen[candidate.name] = option
    _check_reached(found, chosen, total, plan)
    return chosen


def _automatic(found: Sequence[Candidate], total: int, plan: Plan) -> dict[str, Option]:
    """The options that together lose least within the network's share.

    From the cheapest option of every layer, that step is taken again and again that takes back the
    most error for each MAC, while it fits. A layer's steps are along the lower hull of its options,
    the last one to the layer as it is: steps get worse and worse, so that the greedy choice is the
    best but for the last step.
    """
    hulls = {candidate.name: _hull(candidate) for candidate in found if candidate.options}
    chosen = {name: hull[0] for name, hull in hulls.items()}
    _check_reached(found, chosen, total, plan)
    spare = plan.macs * total - _total(found, chosen, total)
    place = dict.fromkeys(hulls, 0)
    while True:
        steps = []
        for name, hull in hulls.items():
            if place[name] + 1 < len(hull):
                now, then = hull[place[name]], hull[place[name] + 1]
                if then.macs - now.macs <= spare:
                    steps.append(((now.error - then.error) / (then.macs - now.macs), name))
        if not steps:
            return {name: option for name, option in chosen.items() if option.kind != _WHOLE}
        _, name = max(steps)
        place[name] += 1
        spare -= hulls[name][place[name]].macs - chosen[name].macs
        chosen[name] = hulls[name][place[name]]


# What [factorize] ranks names.
CHOICES: Mapping[str, Callable[[Sequence[Candidate], int, Plan], dict[str, Option]]] = {
    "automatic": _automatic,
    "budget": _by_budget,
    "energy": _by_energy,
}

_WHOLE = "whole"


def _hull(candidate: Candidate) -> list[Option]:
    """The options on the lower hull of error over MACs, and the layer as it is, by MACs."""
    whole = Option(_WHOLE, (), (), candidate.macs, 0.0)
    hull: list[Option] = []
    for option in sorted((*candidate.options, whole), key=lambda o: (o.macs, o.error)):
        if hull and option.error >= hull[-1].error:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def _slope(a: Option, b: Option) -> float:
    """The error that a step takes back for each MAC."""
    return (a.error - b.error) / max(b.macs - a.macs, 1)


def _total(found: Sequence[Candidate], chosen: Mapping[str, Option], total: int) -> int:
    saved = sum(c.macs - chosen[c.name].macs for c in found if c.name in chosen)
    return total - saved


def _check_reached(
    found: Sequence[Candidate], chosen: Mapping[str, Option], total: int, plan: Plan
) -> None:
    cheapest = {c.name: min(c.options, key=lambda o: o.macs) for c in found if c.options}
    least = _total(found, cheapest, total)
    if _total(found, chosen, total) > plan.macs * total:
        raise ConfigError(
            f"[factorize] macs = {plan.macs}: {math.floor(plan.macs * total):,} MACs can't be "
            f"reached; with ranks of {plan.multiple_of} in each layer that can have a low rank the "
            f"network still needs {least:,} ({least / total:.3f} of {total:,})"
        )


def _options(
    kind: str, layer: Layer, calls: Sequence[tuple[Shape, Shape]], step: int
) -> Iterator[Option]:
    decomposition = DECOMPOSITIONS[kind]
    if decomposition.applies(layer):
        for ranks, shapes, error in decomposition.errors(layer.weight.detach(), step):
            yield Option(kind, ranks, shapes, _macs(shapes, calls), error)


def _sizes_of_calls(
    network: nn.Module, sample: Tensor, layers: Mapping[str, Layer]
) -> dict[str, list[tuple[Shape, Shape]]]:
    """For every time that a layer runs, the sizes of its input and its output but for channels.

    Of a linear layer, the rows, as both.
    """
    found: dict[str, list[tuple[Shape, Shape]]] = {}

    def look(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            if isinstance(layer, nn.Linear):
                rows = (output.numel() // output.shape[-1],)
                found.setdefault(name, []).append((rows, rows))
            else:
                before, after = tuple(inputs[0].shape[2:]), tuple(output.shape[2:])
                found.setdefault(name, []).append((before, after))

        return hook

    hooks = [layer.register_forward_hook(look(name)) for name, layer in layers.items()]
    with torch.no_grad():
        network.eval()(sample)
    for handle in hooks:
        handle.remove()
    return found


def _macs(shapes: Sequence[Shape], calls: Sequence[tuple[Shape, Shape]]) -> int:
    """Of a chain with weights of these shapes: each member works on the output's size along the
    axes that it or one before it walks, and on the input's along the others."""
    walks = carriers(shapes)
    total = 0
    for before, after in calls:
        for place, shape in enumerate(shapes):
            sizes = [
                a if w <= place else b for b, a, w in zip(before, after, walks or (0,), strict=True)
            ]
            total += math.prod(shape) * math.prod(sizes)
    return total
