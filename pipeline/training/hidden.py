"""Removal of hidden units of LSTMs: the network afterwards is a smaller dense one.

With a unit go its rows in the four gates' weights and biases, its column of the recurrent weights,
and the inputs of the layers that read it. Which those are is found by sending a NaN through the
network in the unit's place: it gets wherever the unit's value does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.training.criteria import Evidence, activation_entropy, loss_without
from tinsmith.pipeline.training.cuts import Cut
from tinsmith.pipeline.training.networks import Cost, cost
from tinsmith.pipeline.training.pruning import ALLOCATIONS, Block

# The layers that may read hidden units -> the axis of their input that the units are on.
_READERS: Mapping[type[nn.Module], int] = {nn.Linear: -1, nn.LSTM: -1, nn.Conv1d: 1, nn.Conv2d: 1}
_GATES = 4


@dataclass(frozen=True, eq=False)
class Part:
    """What of a parameter or buffer belongs to the units: along `axis`, places [units, n]."""

    layer: nn.Module
    name: str
    axis: int
    places: Tensor
    reads: bool = False

    @property
    def values(self) -> Tensor:
        found = getattr(self.layer, self.name)
        assert isinstance(found, Tensor)
        return found

    def rows(self, values: Tensor) -> Tensor:
        """Values like the parameter's as [units, everything of the unit]."""
        picked = values.transpose(0, self.axis)[self.places.flatten()]
        return picked.reshape(len(self.places), -1)


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
    lstms = _prunable(network, sample)
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
            count = width % multiple_of or multiple_of
            if width - count < multiple_of:
                continue
            units = sorted(scores[name].argsort(stable=True)[:count].tolist())
            total, taken = float(scores[name].sum()), float(scores[name][units].sum())
            blocks[name] = Block(
                network.get_submodule(name),
                units,
                taken / total if total else 0.0,
                taken * width / (total * count) if total else 0.0,
                _saved(network, parts, current, count / width),
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
        lstms = _prunable(network, sample)
    return tuple(cuts)


def drop_units(
    network: nn.Module,
    sample: Tensor,
    cuts: Sequence[Cut],
    lstms: Mapping[str, tuple[Part, ...]] | None = None,
) -> None:
    """Take units out, in place."""
    for cut in cuts:
        parts = (lstms or _prunable(network, sample))[cut.layer]
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


def _prunable(network: nn.Module, sample: Tensor) -> dict[str, tuple[Part, ...]]:
    """The LSTMs that can lose units, with all that belongs to the units. Raises ConfigError."""
    found, reasons = {}, []
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.LSTM):
            continue
        reason = _unfit(layer)
        readers, why = ({}, reason) if reason else _readers(network, layer, sample)
        if why:
            reasons.append(f"'{name}' {why}")
        else:
            found[name] = (*_own_parts(layer), *_reading_parts(readers))
    if not found:
        raise ConfigError(
            '[prune] scope = "hidden": no hidden units can go: '
            f"{'; '.join(reasons) or 'the network has no LSTM'}"
        )
    return found


def _unfit(layer: nn.LSTM) -> str:
    if layer.num_layers != 1:
        return (
            f"has {layer.num_layers} layers in one; allowed: one, several as modules of their own"
        )
    if layer.bidirectional:
        return "runs in both directions; allowed: one"
    return "has a projection; allowed: none" if layer.proj_size else ""


def _own_parts(layer: nn.LSTM) -> list[Part]:
    units = torch.arange(layer.hidden_size)[:, None]
    gates = units + layer.hidden_size * torch.arange(_GATES)
    rows = ["weight_ih_l0", "weight_hh_l0", *(("bias_ih_l0", "bias_hh_l0") if layer.bias else ())]
    return [
        *(Part(layer, name, 0, gates) for name in rows),
        Part(layer, "weight_hh_l0", 1, units, reads=True),
    ]


def _reading_parts(readers: Mapping[nn.Module, Tensor]) -> list[Part]:
    parts = []
    for layer, places in readers.items():
        if isinstance(layer, nn.BatchNorm1d):
            tensors = ("weight", "bias", "running_mean", "running_var")
            parts += [
                Part(layer, name, 0, places) for name in tensors if getattr(layer, name) is not None
            ]
        else:
            name = "weight_ih_l0" if isinstance(layer, nn.LSTM) else "weight"
            parts.append(Part(layer, name, 1, places, reads=True))
    return parts


def _readers(
    network: nn.Module, lstm: nn.LSTM, sample: Tensor
) -> tuple[dict[nn.Module, Tensor], str]:
    """The layers that read the LSTM's units, with the places of each unit in their inputs [units,
    n]; or why the units can't go."""
    places: dict[nn.Module, list[Tensor]] = {}
    for unit in range(lstm.hidden_size):
        reached, why = _reached(network, lstm, unit, sample)
        if why:
            return {}, why
        for layer, where in reached.items():
            places.setdefault(layer, []).append(where)
    for layer, of_units in places.items():
        sizes = {len(where) for where in of_units}
        every = torch.cat(of_units)
        if (
            len(of_units) != lstm.hidden_size
            or len(sizes) != 1
            or len(torch.unique(every)) < len(every)
        ):
            return {}, f"has units that are mixed before a {type(layer).__name__} reads them"
    return {layer: torch.stack(of_units) for layer, of_units in places.items()}, ""


def _reached(
    network: nn.Module, lstm: nn.LSTM, unit: int, sample: Tensor
) -> tuple[dict[nn.Module, Tensor], str]:
    """Which inputs of which layers a unit's value gets to; or what else it gets to."""
    reached: dict[nn.Module, Tensor] = {}
    why: list[str] = []

    def poison(layer: nn.Module, given: Any, gives: Any) -> Any:
        y, (h, c) = gives
        y, h, c = y.clone(), h.clone(), c.clone()
        for tensor in (y, h, c):
            tensor[..., unit] = torch.nan
        return y, (h, c)

    def look(layer: nn.Module, given: Any, gives: Any) -> Any:
        x = given[0]
        if layer is lstm or not isinstance(x, Tensor) or not bool(x.isnan().any()):
            return None
        axis = next((a for kind, a in _READERS.items() if isinstance(layer, kind)), None)
        if isinstance(layer, nn.BatchNorm1d):
            reached[layer] = _places_of_nan(x, 1)
            return None
        if axis is None or getattr(layer, "groups", 1) > 1:
            why.append(f"has units that a {type(layer).__name__} reads, which can't lose inputs")
        else:
            reached[layer] = _places_of_nan(x, axis)
        return _zeros(gives)

    with ExitStack() as hooks, torch.no_grad():
        for layer in network.modules():
            if layer is lstm:
                hooks.callback(layer.register_forward_hook(poison).remove)
            elif list(layer.parameters(recurse=False)):
                hooks.callback(layer.register_forward_hook(look).remove)
        logits = network.eval()(sample)
    if bool(logits.isnan().any()):
        why.append("has units that are the network's outputs, or reach them past every layer")
    return reached, why[0] if why else ""


def _places_of_nan(x: Tensor, axis: int) -> Tensor:
    return x.isnan().transpose(0, axis).flatten(1).any(1).nonzero().flatten()


def _zeros(gives: Any) -> Any:
    """Outputs like these without NaNs: what the layer computes is no longer the units' value."""
    if isinstance(gives, Tensor):
        return torch.zeros_like(gives)
    return tuple(_zeros(part) for part in gives)
