"""The readings of sensitivity that need the trained network itself: weights, channels, rank."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from tinsmith.pipeline.errors import ToolMissing
from tinsmith.pipeline.insight.sensitivity import KINDS, Reading, Tell
from tinsmith.pipeline.training.criteria import Norms
from tinsmith.pipeline.training.factors import factored_layers
from tinsmith.pipeline.training.low_rank import Plan, apply_option, candidates, least_error
from tinsmith.pipeline.training.networks import LAYERS, accuracy
from tinsmith.pipeline.training.pruning import channel_cuts, drop_channels
from tinsmith.pipeline.training.sparsity import magnitude_mask


def weights_readings(network: nn.Module, x: Tensor, y: Tensor, tell: Tell) -> Iterator[Reading]:
    """Each layer without the weights of least magnitude."""
    layers = {name: m for name, m in network.named_modules() if isinstance(m, LAYERS)}
    for done, (name, layer) in enumerate(layers.items()):
        tell(f"weights of '{name}'", done / len(layers))
        whole = layer.weight.detach().clone()
        for level in KINDS["weights"].levels:
            with torch.no_grad():
                layer.weight.copy_(whole * magnitude_mask(whole, 1 - level))
            yield Reading(name, "weights", level, accuracy(network, x, y))
        with torch.no_grad():
            layer.weight.copy_(whole)


def channels_readings(network: nn.Module, x: Tensor, y: Tensor, tell: Tell) -> Iterator[Reading]:
    """Each group of layers that lose channels together without those of least norm (l2), named by
    the layer that makes them. Raises ToolMissing where torch-pruning is not installed.
    """
    levels = KINDS["channels"].levels
    for done, level in enumerate(levels):
        tell(f"{level:.0%} of the channels", done / len(levels))
        for cut in channel_cuts(network, x[:1], level, Norms(2)):
            smaller = copy.deepcopy(network)
            drop_channels(smaller, x[:1], (cut,))
            yield Reading(cut.layer, "channels", level, accuracy(smaller, x, y))


def rank_readings(network: nn.Module, x: Tensor, y: Tensor, tell: Tell) -> Iterator[Reading]:
    """Each layer as the product that loses least of its weights for so many MACs."""
    found = candidates(network, x[:1], Plan(multiple_of=1))
    for done, candidate in enumerate(found):
        name = candidate.name
        tell(f"rank of '{name}'", done / len(found))
        for level in KINDS["rank"].levels:
            option = least_error(candidate, (1 - level) * candidate.macs)
            if option is not None:
                smaller = copy.deepcopy(network)
                layers = factored_layers(smaller)
                apply_option(smaller, replace(candidate, layer=layers[name]), option)
                yield Reading(name, "rank", level, accuracy(smaller, x, y))


def network_readings(
    network: nn.Module, x: Tensor, y: Tensor, tell: Tell
) -> tuple[list[Reading], list[str]]:
    """All of the above, and why something is missing."""
    readings = [*weights_readings(network, x, y, tell)]
    left_out: list[str] = []
    try:
        readings += channels_readings(network, x, y, tell)
    except ToolMissing as e:
        left_out.append(f"channels: {e}")
    readings += rank_readings(network, x, y, tell)
    return readings, left_out
