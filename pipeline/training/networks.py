"""Networks: made from the user's file, measured, and made again from saved weights."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tinsmith.pipeline.config import CodeRef, Teacher
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.tasks import Task
from tinsmith.pipeline.training.factors import restore_chains
from tinsmith.pipeline.training.heads import (
    Outputs,
    as_outputs,
    heads_of,
    labels_of,
    unlike_tasks,
)
from tinsmith.pipeline.training.removed import restore_removed
from tinsmith.pipeline.user_code import user_function, users_own

Weights = dict[str, Tensor]
# The layers that have weights and do MACs.
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
# Those with several matrices each.
RECURRENT = (nn.LSTM, nn.GRU)
_NO_WIDTH = "it takes no width: give it an argument `width` that multiplies its numbers of channels"


@dataclass(frozen=True)
class Cost:
    """What a network costs: `macs` by the layer's name, for one sample, and all parameters."""

    macs: dict[str, int]
    parameters: int

    @property
    def total_macs(self) -> int:
        return sum(self.macs.values())


class Ensemble(nn.Module):
    """Several networks as one, whose logits are the mean of theirs, in each task."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Outputs:
        said = (heads_of(member(x)) for member in self.members)
        return as_outputs(torch.stack(same).mean(0) for same in zip(*said, strict=True))


def make_teacher(options: Teacher, sample: Tensor, tasks: Sequence[Task]) -> nn.Module:
    """The teacher's network, or all its members as one. Raises ConfigError, see make_network."""
    models = (options.model, *options.members)
    return as_one([make_network(model, sample, tasks) for model in models])


def as_one(networks: Sequence[nn.Module]) -> nn.Module:
    """Several networks as one, and one as it is."""
    return Ensemble(networks) if len(networks) > 1 else networks[0]


def make_network(model: CodeRef, sample: Tensor, tasks: Sequence[Task]) -> nn.Module:
    """Call what `model` names, with `classes=` where it takes it, and check what it gives.

    classes: how many, or where there are several tasks, how many by the name of each. `sample` is
    one input [1, ...]. Raises ConfigError, with the file and the reason, for a file that can't be
    imported, for something that doesn't give logits [1, classes], of several tasks a tuple of them,
    and for a width that it does not take.
    """
    where = f"model '{model.path}:{model.attribute}'"
    maker = user_function(model, where)
    takes = _parameters_of(maker)
    if model.width is not None and "width" not in takes:
        raise ConfigError(f"{where}: {_NO_WIDTH}")
    several = {task.name: task.classes for task in tasks}
    classes = several if len(tasks) > 1 else tasks[0].classes
    given = {"classes": classes, "width": model.width}
    what = f"{where}: can't be made and run on an input of shape {list(sample.shape)}"
    with users_own(model.path, what), torch.no_grad():
        network = maker(**{k: v for k, v in given.items() if k in takes and v is not None})
        if not isinstance(network, nn.Module):
            raise TypeError(f"it gives a {type(network).__name__}, not a torch.nn.Module")
        outputs = network.eval()(sample)
    if unlike := unlike_tasks(outputs, tasks):
        raise ConfigError(f"{where}: {unlike}")
    return network


def takes_width(model: CodeRef) -> bool:
    """Whether what `model` names is made with a width. Raises ConfigError as `make_network`."""
    where = f"model '{model.path}:{model.attribute}'"
    return "width" in _parameters_of(user_function(model, where))


def _parameters_of(maker: Any) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(maker).parameters)
    except (ValueError, TypeError):  # not of Python
        return frozenset()


def load_weights(network: nn.Module, weights: Weights) -> nn.Module:
    """Give the network weights that may come from a pruned or factorized copy: layers take the
    weights' widths, and are chains where those are.

    Works for Conv1d/2d (grouped, depthwise), BatchNorm, Linear and LSTMs of one layer: the layers
    that lose channels or units.
    """
    restore_chains(network, weights)
    restore_removed(network, weights)
    for name, layer in network.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(layer, nn.LSTM):
            _resize_lstm(layer, weights, prefix)
        weight = weights.get(prefix + "weight")
        own = getattr(layer, "weight", None)
        if weight is None or own is None or weight.shape == own.shape:
            continue
        _resize(layer, weight)
    network.load_state_dict(weights)
    return network


def matrices(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights [outputs, inputs, ...] that do MACs: those of a layer by its name, those of a
    recurrent one by its name and theirs, like `lstm.weight_ih_l0`."""
    found: dict[str, nn.Parameter] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, LAYERS):
            found[name] = layer.weight  # type: ignore[assignment]
        elif isinstance(layer, RECURRENT):
            prefix = f"{name}." if name else ""
            found |= {prefix + key: w for key, w in layer.named_parameters() if w.ndim == 2}
    return found


def layer_of(network: nn.Module, name: str) -> tuple[str, str]:
    """The layer that a weight of `matrices` belongs to, and what the layer calls it."""
    if name in dict(network.named_modules()):
        return name, "weight"
    layer, _, own = name.rpartition(".")
    return layer, own


def cost(network: nn.Module, sample: Tensor) -> Cost:
    """Count the multiply-accumulates of convolutions, linear layers, LSTMs, and the parameters."""
    macs: dict[str, int] = {}
    hooks = []
    for name, layer in network.named_modules():
        if isinstance(layer, (*LAYERS, nn.LSTM)):

            def count(layer: nn.Module, _: Any, output: Any, name: str = name) -> None:
                macs[name] = macs.get(name, 0) + _macs(layer, output)

            hooks.append(layer.register_forward_hook(count))
    with torch.no_grad():
        network.eval()(sample)
    for hook in hooks:
        hook.remove()
    return Cost(macs, sum(parameter.numel() for parameter in network.parameters()))


def _macs(layer: nn.Module, output: Any) -> int:
    """Of one run of a layer that gave `output`."""
    if isinstance(layer, nn.LSTM):  # each step multiplies all matrices once
        matrices = sum(w.numel() for w in layer.parameters() if w.ndim == 2)
        states = output[0]
        return int(states.shape[:-1].numel() * matrices)
    assert isinstance(layer.weight, Tensor)
    return int(output.numel() * layer.weight[0].numel())


def widths(network: nn.Module) -> dict[str, int]:
    """How many outputs each convolution, linear layer and LSTM has."""
    return {
        name: int(layer.hidden_size if isinstance(layer, nn.LSTM) else layer.weight.shape[0])
        for name, layer in network.named_modules()
        if isinstance(layer, (*LAYERS, nn.LSTM))
    }


def accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Percent of the images [N, C, H, W] whose largest logit is their label; of several tasks the
    mean."""
    found = accuracies(network, x, y)
    return round(sum(found) / len(found), 4)


def accuracies(network: nn.Module, x: Tensor, y: Tensor, batch: int = 250) -> tuple[float, ...]:
    """The same for each task."""
    network.eval()
    with torch.no_grad():
        parts = [
            [logits.argmax(1) for logits in heads_of(network(x[i : i + batch]))]
            for i in range(0, len(x), batch)
        ]
    said = [torch.cat(same) for same in zip(*parts, strict=True)]
    return tuple(
        round(float((classes == own).double().mean()) * 100, 4)
        for classes, own in zip(said, labels_of(y), strict=True)
    )


def _resize_lstm(layer: nn.LSTM, weights: Weights, prefix: str) -> None:
    for key, own in list(layer.named_parameters()):
        weight = weights.get(prefix + key)
        if weight is None or weight.shape == own.shape:
            continue
        setattr(layer, key, nn.Parameter(torch.empty_like(weight)))
        if key == "weight_ih_l0":
            layer.input_size = weight.shape[1]
        elif key == "weight_hh_l0":
            layer.hidden_size = weight.shape[1]


def _resize(layer: nn.Module, weight: Tensor) -> None:
    out_width = weight.shape[0]
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        if layer.groups > 1 and layer.groups == layer.in_channels:
            layer.groups = out_width * layer.groups // layer.out_channels
        layer.in_channels = weight.shape[1] * layer.groups
        layer.out_channels = out_width
    elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
        layer.num_features = out_width
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean = layer.running_mean.new_empty(out_width)
        layer.running_var = layer.running_var.new_empty(out_width)
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = out_width, weight.shape[1]
    else:
        raise AssertionError(f"a {type(layer).__name__} doesn't lose channels")
    layer.weight = nn.Parameter(torch.empty_like(weight))
    if getattr(layer, "bias", None) is not None:
        layer.bias = nn.Parameter(weight.new_empty(out_width))
