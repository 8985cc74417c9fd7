"""Removal of hidden units of LSTMs: the network afterwards is a smaller dense one.

With a unit goes all that belongs to it, see `hidden_parts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.training.criteria import Evidence, activation_entropy, loss_without
from tinsmith.pipeline.training.cuts import Cut
from tinsmith.pipeline.training.hidden_parts import Part, units_of
from tinsmith.pipeline.training.networks import Cost, cost
from tinsmith.pipeline.training.pruning import ALLOCATIONS, Block, least_important


def remove_units(
    network: nn.Module,
    sample: Tensor,
    macs: int,
    multiple_of: int,
    criterion: str,
    allocation: str,
    shown: Evidence,
) -> tuple[Cut, ...]:
    """Remove hidden units, in place, until `network` needs at most `macs` MACs on `sample`.

    As `pruning.remove_channels` does it with channels. Raises ConfigError where no LSTM's units can
    go, or too few.
    """
    lstms = units_of(network, sample)
    scores = {name: unit_scores(lstms[name], name, criterion, shown) for name in lstms}
    first = {name: len(numbers) for name, numbers in scores.items()}
    sensitivity = dict.fromkeys(lstms, 1.0)
    if allocation == "sensitivity":
        sensitivity = _sensitivities(lstms, scores, shown)
    price, cuts = ALLOCATIONS[allocation], []
    while (current := cost(network, sample)).total_macs > macs:
        blocks = {}
        for name, parts in lstms.items():
            width = len(scores[name])
            if width - (width % multiple_of or multiple_of) < multiple_of:
                continue
            units, share, mean = least_important(scores[name], multiple_of)
            blocks[name] = Block(
                network.get_submodule(name),
                units,
                share,
                mean,
                _saved(network, parts, current, len(units) / width),
                current.total_macs - macs,
                width / first[name],
                sensitivity[name],
            )
        if not blocks:
            raise ConfigError(
                f"[prune] macs: {macs} MACs can't be reached by hidden units; with {multiple_of} "
                f"in each LSTM that can lose some, the network still needs {current.total_macs}"
            )
        name = min(blocks, key=lambda name: price(blocks[name]))
        units = blocks[name].channels
        cuts.append(Cut(name, tuple(units)))
        drop_units(network, sample, (cuts[-1],), lstms)
        stay = torch.ones(len(scores[name]), dtype=torch.bool)
        stay[units] = False
        scores[name] = scores[name][stay]
        lstms = units_of(network, sample)
    return tuple(cuts)


def drop_units(
    network: nn.Module,
    sample: Tensor,
    cuts: Sequence[Cut],
    lstms: Mapping[str, tuple[Part, ...]] | None = None,
) -> None:
    """Take units out, in place."""
    for cut in cuts:
        parts = (lstms or units_of(network, sample))[cut.layer]
        for part in parts:
            values = part.values
            gone = part.places[list(cut.places)].flatten()
            stay = torch.ones(values.shape[part.axis], dtype=torch.bool)
            stay[gone] = False
            left = values.detach().transpose(0, part.axis)[stay].transpose(0, part.axis)
            _replace(part, left.contiguous())


def _replace(part: Part, left: Tensor) -> None:
    """Give the layer the smaller tensor, and the sizes that go with it."""
    layer = part.layer
    if isinstance(part.values, nn.Parameter):
        setattr(layer, part.name, nn.Parameter(left))
    else:
        setattr(layer, part.name, left)
    if isinstance(layer, nn.LSTM):
        if part.name == "weight_ih_l0":
            layer.input_size = left.shape[1]
        elif part.name == "weight_hh_l0":
            layer.hidden_size = left.shape[1]
    elif isinstance(layer, nn.Linear):
        layer.in_features = layer.weight.shape[1]
    elif isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        layer.in_channels = layer.weight.shape[1]
    elif isinstance(layer, nn.BatchNorm1d):
        layer.num_features = len(left)


def unit_scores(parts: Sequence[Part], name: str, criterion: str, shown: Evidence) -> Tensor:
    """How much each hidden unit matters [units], by one of the criteria that units can take.

    What its parts say is brought to the mean 1 and averaged, as for channels.
    """
    network = shown.network
    if criterion == "random":
        generator = torch.Generator().manual_seed(shown.seed)
        return torch.rand(len(parts[0].places), generator=generator)
    if criterion == "entropy":
        return activation_entropy(_said(network.get_submodule(name), shown))
    if criterion == "loss":
        rises = torch.tensor(
            [_loss_without(parts, [unit], shown) for unit in range(len(parts[0].places))]
        )
        return rises - rises.min() + 1e-6
    weights = [part for part in parts if isinstance(part.values, nn.Parameter)]
    if criterion in ("l1", "l2"):
        power = int(criterion[1])
        numbers = [part.rows(part.values.detach()).norm(p=power, dim=1) for part in weights]
    else:
        network.eval().zero_grad()
        shown.loss(network, shown.x, shown.y).backward()  # type: ignore[no-untyped-call]
        numbers = []
        for part in weights:
            assert part.values.grad is not None
            if criterion == "gradient":
                numbers.append(part.rows(part.values.grad.abs()).sum(1))
            else:
                numbers.append(part.rows(part.values.grad * part.values.detach()).sum(1).abs())
        network.zero_grad()
    return torch.stack([n / n.mean().clamp_min(1e-12) for n in numbers]).mean(0)


def _said(lstm: nn.Module, shown: Evidence) -> Tensor:
    """The LSTM's output on the evidence [N, units, time]."""
    seen: list[Tensor] = []
    hook = lstm.register_forward_hook(lambda layer, given, gives: seen.append(gives[0]))
    with torch.no_grad():
        shown.network.eval()(shown.x)
    hook.remove()
    said = seen[0] if lstm.batch_first else seen[0].transpose(0, 1)
    return said.transpose(1, 2)


def _loss_without(parts: Sequence[Part], units: Sequence[int], shown: Evidence) -> float:
    """The loss while nothing reads these units."""
    kept = [(part, part.values.detach().clone()) for part in parts if part.reads]
    with torch.no_grad():
        for part, _ in kept:
            part.values.transpose(0, part.axis)[part.places[list(units)].flatten()] = 0
    try:
        return loss_without(None, [], shown)
    finally:
        for part, values in kept:
            part.values.data.copy_(values)


def _sensitivities(
    lstms: Mapping[str, tuple[Part, ...]], scores: Mapping[str, Tensor], shown: Evidence
) -> dict[str, float]:
    """How much the loss rises without the half of an LSTM's units that matters least, in units of
    the mean over the LSTMs."""
    before, rises = loss_without(None, [], shown), {}
    for name, parts in lstms.items():
        least = scores[name].argsort(stable=True)[: len(scores[name]) // 2].tolist()
        rises[name] = max(_loss_without(parts, least, shown) - before, 0.0)
    mean = sum(rises.values()) / max(len(rises), 1)
    return {name: max(rise / mean if mean else 1.0, 0.01) for name, rise in rises.items()}


def _saved(network: nn.Module, parts: Sequence[Part], current: Cost, share: float) -> float:
    """The MACs that go with this share of an LSTM's units."""
    names = {layer: name for name, layer in network.named_modules()}
    saved = 0.0
    for part in parts:
        macs = current.macs.get(names[part.layer], 0)
        if part.name == "weight":
            saved += macs * share * part.places.numel() / part.values.shape[part.axis]
        elif part.name.startswith("weight_"):
            whole = sum(w.numel() for w in part.layer.parameters() if w.ndim == 2)
            taken = part.places.numel() / part.values.shape[part.axis] * share
            saved += macs * taken * part.values.numel() / whole
    return saved
