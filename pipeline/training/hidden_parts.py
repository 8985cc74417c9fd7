"""What in a network belongs to the hidden units of an LSTM.

A unit has rows in the four gates' weights and biases, a column of the recurrent weights, and the
inputs of the layers that read it. Which those are is found by sending a NaN through the network in
the unit's place: it gets wherever the unit's value does.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.training.heads import heads_of

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


def units_of(network: nn.Module, sample: Tensor) -> dict[str, tuple[Part, ...]]:
    """The LSTMs that can lose units, with all that belongs to the units; sample: an input [1, ...].

    Raises ConfigError where there are none, with the reason for each LSTM.
    """
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
        heads = heads_of(network.eval()(sample))
    if any(bool(logits.isnan().any()) for logits in heads):
        why.append("has units that are the network's outputs, or reach them past every layer")
    return reached, why[0] if why else ""


def _places_of_nan(x: Tensor, axis: int) -> Tensor:
    return x.isnan().transpose(0, axis).flatten(1).any(1).nonzero().flatten()


def _zeros(gives: Any) -> Any:
    """Outputs like these without NaNs: what the layer computes is no longer the units' value."""
    if isinstance(gives, Tensor):
        return torch.zeros_like(gives)
    return tuple(_zeros(part) for part in gives)
