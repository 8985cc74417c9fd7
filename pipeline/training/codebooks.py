"""Weight sharing: a layer's weights as few values, found by k-means and trained (Han et al. 2016).

A weight of 0.0 is a value of its own that stays what it is, so that a pruned layer stays pruned.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.training.networks import RECURRENT, layer_of, matrices

Start = Literal["linear", "density", "random"]
_ROUNDS = 300

Values = NDArray[np.float64]


def centroids(values: Values, count: int, start: Start, rng: np.random.Generator) -> Values:
    """`count` values at most, ascending, near which the `values` lie: k-means by Lloyd's rounds.

    start: "linear" spaces them evenly from the least to the greatest value, "density" at evenly
    spaced ranks, "random" draws them among the values. One to which no value is nearest goes.
    """
    different = np.unique(values)
    found: Values = different
    if len(different) <= count:
        return found
    if start == "linear":
        found = np.linspace(different[0], different[-1], count)
    elif start == "density":
        found = np.quantile(values, (np.arange(count) + 0.5) / count)
    else:
        found = rng.choice(different, count, replace=False)
    ordered = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    found = np.unique(found)
    for _ in range(_ROUNDS):
        edges = np.searchsorted(ordered, (found[1:] + found[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [len(ordered)]])
        sizes = np.diff(bounds)
        moved = np.diff(sums[bounds])[sizes > 0] / sizes[sizes > 0]
        if len(moved) == len(found) and np.array_equal(moved, found):
            break
        found = moved
    return found


class Shared(nn.Module):
    """A weight whose values stand in a codebook: a parametrization, whose parameter the codebook
    is. Gradients of weights that share a value add up at it.
    """

    index: Tensor
    hook: RemovableHandle | None = None  # of a recurrent layer

    def __init__(self, weight: Tensor, codebook: Values) -> None:
        super().__init__()
        flat = weight.detach().double().numpy().ravel()
        nearest = np.searchsorted((codebook[1:] + codebook[:-1]) / 2, flat)
        index = np.where(flat == 0, 0, nearest + 1).reshape(weight.shape)
        self.register_buffer("index", torch.from_numpy(index.astype(np.int64)))
        self._start = torch.from_numpy(codebook.astype(np.float32))

    def forward(self, codebook: Tensor) -> Tensor:
        whole: Tensor = torch.cat([codebook.new_zeros(1), codebook])[self.index]
        return whole

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self._start


def share_weights(
    network: nn.Module, bits: Mapping[str, int], start: Start = "linear", seed: int = 0
) -> None:
    """Give the named layers weights of at most 2^bits - 1 values beside 0.0, each in its codebook.

    Names are those of `matrices`. What trains from now on are the codebooks; `unshare` ends it.
    Raises ConfigError for a layer that is not there and for bits outside 1..12.
    """
    weights = matrices(network)
    for name, count in bits.items():
        if name not in weights:
            raise ConfigError(
                f"shared values: there is no layer '{name}'; allowed: {', '.join(weights)}"
            )
        if not 1 <= count <= 12:
            raise ConfigError(f"'{name}': codes of {count} bits; allowed: 1 to 12")
    for name in bits:
        holder, own = layer_of(network, name)
        layer = network.get_submodule(holder)
        weight = weights[name]
        rng = np.random.default_rng([seed, len(name), weight.numel()])
        flat = weight.detach().double().numpy().ravel()
        codebook = centroids(flat[flat != 0], (1 << bits[name]) - 1, start, rng)
        shared = Shared(weight, codebook)
        parametrize.register_parametrization(layer, own, shared, unsafe=True)
        if isinstance(layer, RECURRENT):
            shared.hook = layer.register_forward_pre_hook(_with_present_values)


def _with_present_values(layer: nn.Module, inputs: Any) -> None:
    """A recurrent layer computes with a list of its weights, made when they were set."""
    names: list[str] = layer._flat_weights_names  # type: ignore[assignment]
    layer._flat_weights = [getattr(layer, name) for name in names]  # type: ignore[assignment]


def unshare(network: nn.Module, half: bool = True) -> None:
    """Make shared weights plain ones again, with the values that they had.

    half: values are rounded to half precision, which halves codebooks in a file.
    """
    for layer in list(network.modules()):
        parts = dict(getattr(layer, "parametrizations", {}))
        for name, parametrization in parts.items():
            if not isinstance(parametrization[0], Shared):
                continue
            if half:
                codebook = parametrization.original
                codebook.data = codebook.data.half().float()
            if (hook := parametrization[0].hook) is not None:
                hook.remove()
            weight = getattr(layer, name).detach().clone()
            parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
            setattr(layer, name, nn.Parameter(weight))


def values_of(weight: Tensor) -> int:
    """How many different values a weight has, besides 0."""
    return int(torch.count_nonzero(torch.unique(weight.detach())))
