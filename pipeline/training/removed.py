"""What stands where a whole layer was: nothing happens there, and saved weights say so."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_MARK = "removed"


class Removed(nn.Module):
    """Gives what it is given. It has an empty buffer, by which it is known in saved weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(_MARK, torch.empty(0))

    def forward(self, x: Tensor) -> Tensor:
        return x


def remove_module(network: nn.Module, name: str) -> None:
    """Put nothing in the place of the module at the path `name`."""
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, Removed())


def restore_removed(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Take those modules out of a whole network that are gone in the one the weights are of."""
    for key in weights:
        name, _, last = key.rpartition(".")
        if last == _MARK and not isinstance(network.get_submodule(name), Removed):
            remove_module(network, name)
