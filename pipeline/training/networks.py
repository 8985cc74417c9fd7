"""Networks: made from the user's file, measured, and made again from saved weights."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tinsmith.pipeline.config import ModelRef, Teacher
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.training.factors import restore_chains

Weights = dict[str, Tensor]
# The layers that have weights and do MACs.
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Cost:
    """What a network costs: `macs` by the layer's name, for one sample, and all parameters."""

    macs: dict[str, int]
    parameters: int

    @property
    def total_macs(self) -> int:
        return sum(self.macs.values())


class Ensemble(nn.Module):
    """Several networks as one, whose logits are the mean of theirs."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


def make_teacher(options: Teacher, sample: Tensor, classes: int) -> nn.Module:
    """The teacher's network, or all its members as one. Raises ConfigError, see make_network."""
    models = (options.model, *options.members)
    return as_one([make_network(model, sample, classes) for model in models])


def as_one(networks: Sequence[nn.Module]) -> nn.Module:
    """Several networks as one, and one as it is."""
    return Ensemble(networks) if len(networks) > 1 else networks[0]


def make_network(model: ModelRef, sample: Tensor, classes: int) -> nn.Module:
    """Call what `model` names, with `classes=` where it takes it, and check what it gives.

    `sample` is one input [1, C, H, W]. Raises ConfigError, with the file and the reason, for a
    file that can't be imported and for something that doesn't give logits [1, classes].
    """
    where = f"model '{model.path}:{model.attribute}'"
    module = _import_file(model.path, where)
    maker = getattr(module, model.attribute, None)
    if not callable(maker):
        names = [
            name
            for name, value in vars(module).items()
            if inspect.isclass(value) and issubclass(value, nn.Module) and not name.startswith("_")
        ]
        raise ConfigError(
            f"{where}: there is no such class; the file has {', '.join(names) or 'none'}"
        )
    try:
        takes_classes = "classes" in inspect.signature(maker).parameters
        network = maker(classes=classes) if takes_classes else maker()
        if not isinstance(network, nn.Module):
            raise TypeError(f"it gives a {type(network).__name__}, not a torch.nn.Module")
        with torch.no_grad():
            logits = network.eval()(sample)
    except Exception as e:
        # Whatever the user's own code raises is the user's to mend; the chain keeps its traceback.
        raise ConfigError(
            f"{where}: can't be made and run on an input of shape {list(sample.shape)}: {e}"
        ) from e
    if not isinstance(logits, Tensor) or list(logits.shape) != [1, classes]:
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(f"{where}: its output is {shape}; needed: [1, {classes}], the logits")
    return network


def load_weights(network: nn.Module, weights: Weights) -> nn.Module:
    """Give the network weights that may come from a pruned or factorized copy: layers take the
    weights' widths, and are chains where those are.

    Works for Conv1d/2d (grouped, depthwise), BatchNorm and Linear: the layers that lose channels.
    """
    restore_chains(network, weights)
    for name, layer in network.named_modules():
        prefix = f"{name}." if name else ""
        weight = weights.get(prefix + "weight")
        own = getattr(layer, "weight", None)
        if weight is None or own is None or weight.shape == own.shape:
            continue
        _resize(layer, weight)
    network.load_state_dict(weights)
    return network


def cost(network: nn.Module, sample: Tensor) -> Cost:
    """Count the multiply-accumulates of convolutions and linear layers, and the parameters."""
    macs: dict[str, int] = {}
    hooks = []
    for name, layer in network.named_modules():
        if isinstance(layer, LAYERS):

            def count(layer: nn.Module, _: Any, output: Tensor, name: str = name) -> None:
                taps = layer.weight[0].numel()  # type: ignore[index]
                macs[name] = macs.get(name, 0) + output.numel() * int(taps)

            hooks.append(layer.register_forward_hook(count))
    with torch.no_grad():
        network.eval()(sample)
    for hook in hooks:
        hook.remove()
    return Cost(macs, sum(parameter.numel() for parameter in network.parameters()))


def widths(network: nn.Module) -> dict[str, int]:
    """How many outputs each convolution and linear layer has."""
    return {
        name: int(layer.weight.shape[0])
        for name, layer in network.named_modules()
        if isinstance(layer, LAYERS)
    }


def accuracy(network: nn.Module, x: Tensor, y: Tensor, batch: int = 250) -> float:
    """Percent of the images [N, C, H, W] whose largest logit is their label."""
    network.eval()
    with torch.no_grad():
        parts = [network(x[i : i + batch]).argmax(1) for i in range(0, len(x), batch)]
    return round(float((torch.cat(parts) == y).double().mean()) * 100, 4)


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


def _import_file(path: Path, where: str) -> Any:
    """Import a file under a name of its own, with its folder on the path for what it imports."""
    if not path.is_file():
        raise ConfigError(f"{where}: there is no file '{path}'")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"tinsmith_user_{digest}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        with _folder_on_path(path.parent):
            spec.loader.exec_module(module)
    except Exception as e:
        raise ConfigError(f"{where}: the file can't be imported: {e}") from e
    return module


@contextmanager
def _folder_on_path(folder: Path) -> Iterator[None]:
    """Let imports find files in `folder`, and forget them afterwards: another model's folder may
    have files of the same names.
    """
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]
