"""Removal of whole layers: residual blocks, without which the network computes with fewer layers.

A block can go where the identity is what is left of it when its weights are zeros: then a shortcut
already carries what it is given past it, and `removed.Removed` in its place loses what the block
added and nothing else.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.training.criteria import Evidence, loss_without
from tinsmith.pipeline.training.cuts import Cut
from tinsmith.pipeline.training.networks import LAYERS, cost
from tinsmith.pipeline.training.removed import Removed, remove_module

# How many samples a block has to pass on unchanged.
_SHOWN = 8


def residual_blocks(network: nn.Module, x: Tensor) -> tuple[str, ...]:
    """The paths of the modules that can go, the innermost ones; x: samples [N, ...] to try with."""
    found = [
        name
        for name, module in network.named_modules()
        if name and _has_layers(module) and _is_residual(network, module, x)
    ]
    return tuple(name for name in found if not any(inner.startswith(f"{name}.") for inner in found))


def remove_layers(
    network: nn.Module, sample: Tensor, macs: int, criterion: str, allocation: str, shown: Evidence
) -> tuple[Cut, ...]:
    """Remove residual blocks, in place, until `network` needs at most `macs` MACs on `sample`.

    criterion: "loss", by which that block goes next without which the loss on the evidence rises
    least, for each MAC saved (allocation "budget") or as a whole ("global"); or "random". Raises
    ConfigError where there are no such blocks, or too few.
    """
    cuts: list[Cut] = []
    generator = torch.Generator().manual_seed(shown.seed)
    while (current := cost(network, sample)).total_macs > macs:
        names = residual_blocks(network, shown.x[:_SHOWN])
        if not names:
            gone = ", ".join(cut.layer for cut in cuts) or "none"
            raise ConfigError(
                f"[prune] macs: {macs} MACs can't be reached by whole layers; residual blocks "
                f"whose shortcut is the identity are what can go; these went: {gone}; the network "
                f"still needs {current.total_macs}"
            )
        saved = {
            name: sum(n for layer, n in current.macs.items() if layer.startswith(f"{name}."))
            for name in names
        }
        if criterion == "random":
            price = dict(zip(names, torch.rand(len(names), generator=generator), strict=True))
        else:
            rises = {name: _loss_without_block(network, name, shown) for name in names}
            least = min(rises.values())
            wanted = current.total_macs - macs
            price = {
                name: torch.tensor(rises[name] - least + 1e-6)
                / (min(saved[name], wanted) if allocation == "budget" else 1)
                for name in names
            }
        cuts.append(Cut(min(names, key=lambda name: float(price[name]))))
        remove_module(network, cuts[-1].layer)
    return tuple(cuts)


def _has_layers(module: nn.Module) -> bool:
    return any(isinstance(layer, LAYERS) for layer in module.modules())


def _is_residual(network: nn.Module, module: nn.Module, x: Tensor) -> bool:
    """Whether the module gives what it is given, on these samples, once its weights are zeros."""
    before = _passed(network, module, x)
    if before is None or before[0].shape != before[1].shape:
        return False
    blank = copy.deepcopy(module).eval()
    with torch.no_grad():
        for tensor in (*blank.parameters(), *blank.buffers()):
            tensor.zero_()
        return bool(torch.equal(blank(before[0]), before[0]))


def _passed(network: nn.Module, module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """What the module is given and gives, where that is one tensor each, and once."""
    seen: list[tuple[Any, Any]] = []
    hook = module.register_forward_hook(lambda _, given, gives: seen.append((given, gives)))
    with torch.no_grad():
        network.eval()(x)
    hook.remove()
    if len(seen) != 1 or len(seen[0][0]) != 1:
        return None
    given, gives = seen[0][0][0], seen[0][1]
    if not isinstance(given, Tensor) or not isinstance(gives, Tensor):
        return None
    return given, gives


def _loss_without_block(network: nn.Module, name: str, shown: Evidence) -> float:
    with _without(network, name):
        return loss_without(None, [], shown)


@contextmanager
def _without(network: nn.Module, name: str) -> Iterator[None]:
    parent, _, last = name.rpartition(".")
    holder, module = network.get_submodule(parent), network.get_submodule(name)
    setattr(holder, last, Removed())
    try:
        yield
    finally:
        setattr(holder, last, module)


def drop_layers(network: nn.Module, sample: Tensor, cuts: Sequence[Cut]) -> None:
    """Take blocks out, in place."""
    for cut in cuts:
        remove_module(network, cut.layer)
