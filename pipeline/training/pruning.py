"""Removal of whole channels: the network afterwards is a smaller dense one, nothing is masked.

Which layers lose a channel together (through batch norm, depthwise convolutions, residual sums,
flattening) is what torch-pruning's dependency graph finds (Fang et al., DepGraph, CVPR 2023). Which
channels go is decided here: those whose weights are small beside their layer's, for what they cost.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tinsmith.pipeline.errors import ConfigError, ToolMissing
from tinsmith.pipeline.training.networks import Cost, cost


@dataclass(frozen=True)
class _Candidate:
    """Channels that could go next, and their price: what is lost for each MAC saved of those that
    have yet to be saved.

    What is lost is -log(share of the group's importance that stays), so that taking half of a
    narrow layer costs more than taking a sixth of a wide one, four times over.
    """

    root: nn.Module
    channels: list[int]
    price: float


def remove_channels(
    network: nn.Module, sample: Tensor, macs: int, multiple_of: int, norm: int
) -> None:
    """Remove channels from `network`, in place, until it needs at most `macs` MACs on `sample`.

    Takes the cheapest block of channels again and again. What is left of a group is a multiple of
    `multiple_of` channels, and at least that many. `norm` is 1 or 2. Raises ConfigError where this
    many MACs can't be reached.
    """
    tp = _torch_pruning()
    while (current := cost(network, sample)).total_macs > macs:
        graph = tp.DependencyGraph().build_dependency(network, example_inputs=sample)
        wanted = current.total_macs - macs
        candidates = list(_candidates(graph, network, current, sample, multiple_of, norm, wanted))
        if not candidates:
            raise ConfigError(
                f"[prune] macs: {macs} MACs can't be reached; with {multiple_of} channels in each "
                f"layer that can lose some, the network still needs {current.total_macs}"
            )
        best = min(candidates, key=lambda candidate: candidate.price)
        prune = tp.prune_linear_out_channels
        if isinstance(best.root, nn.Conv2d):
            prune = tp.prune_conv_out_channels
        graph.get_pruning_group(best.root, prune, idxs=best.channels).prune()


def remove_least_channels(
    network: nn.Module, sample: Tensor, wanted: dict[str, int], norm: int
) -> None:
    """Remove from `network`, in place, those channels that matter least, until its layers are as
    wide as `wanted` says by their names; a layer that is already narrower stays.
    """
    tp = _torch_pruning()
    graph = tp.DependencyGraph().build_dependency(network, example_inputs=sample)
    names = {layer: name for name, layer in network.named_modules()}
    for root in [layer for _, layer in _producers(network)]:
        width = _width(root)
        spare = width - wanted[names[root]]
        prune = (
            tp.prune_conv_out_channels
            if isinstance(root, nn.Conv2d)
            else tp.prune_linear_out_channels
        )
        if spare <= 0 or (isinstance(root, nn.Conv2d) and root.groups > 1):
            continue
        group = graph.get_pruning_group(root, prune, idxs=list(range(width)))
        least = _importance(group, width, norm).argsort(stable=True)[:spare]
        graph.get_pruning_group(root, prune, idxs=sorted(least.tolist())).prune()


def _candidates(
    graph: Any,
    network: nn.Module,
    current: Cost,
    sample: Tensor,
    multiple_of: int,
    norm: int,
    wanted: int,
) -> Iterator[_Candidate]:
    """For each group of layers that lose channels together, the block that it can spare most."""
    head = _last_producer(network, sample)
    names = {layer: name for name, layer in network.named_modules()}
    for group in graph.get_all_groups(
        ignored_layers=[head], root_module_types=[nn.Conv2d, nn.Linear]
    ):
        root = group[0].dep.target.module
        width = _width(root)
        if any(member.dep.target.module is head and _is_out(member) for member in group):
            continue
        block = width % multiple_of or multiple_of
        if width - block < multiple_of or any(_is_grouped(member) for member in group):
            continue
        importance = _importance(group, width, norm)
        channels = sorted(importance.argsort(stable=True)[:block].tolist())
        saved = sum(
            current.macs[names[member.dep.target.module]]
            * sum(index in channels for index in member.root_idxs)
            / len(member.idxs)
            for member in _costly_members(group)
        )
        if saved > 0:
            share = float(importance[channels].sum() / importance.sum())
            lost = -math.log(max(1 - share, 1e-12))
            yield _Candidate(root, channels, lost / min(saved, wanted))


def _importance(group: Any, width: int, norm: int) -> Tensor:
    """How much each channel matters [width]: the mean, over the convolutions and linear layers that
    give these channels or take them, of the norm of its weights beside the layer's mean norm.

    A batch norm that follows is one more member: |gamma|, which scales the channel's output.
    """
    total, members = torch.zeros(width), 0
    for member in group:
        layer = member.dep.target.module
        weight = getattr(layer, "weight", None)
        if weight is None:
            continue
        weight = weight.detach()
        if not _is_out(member) and weight.dim() > 1:
            weight = weight.transpose(0, 1)
        rows = weight.flatten(1) if weight.dim() > 1 else weight[:, None]
        norms = rows[member.idxs].norm(p=norm, dim=1) ** norm
        channel = torch.zeros(width).index_add(0, torch.tensor(member.root_idxs), norms)
        channel = channel ** (1 / norm)
        total += channel / channel.mean().clamp_min(1e-12)
        members += 1
    return total / members


def _costly_members(group: Any) -> Iterator[Any]:
    """The members that do MACs, a depthwise convolution once: it is both giver and taker."""
    seen: set[nn.Module] = set()
    for member in group:
        layer = member.dep.target.module
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer not in seen:
            if getattr(layer, "groups", 1) > 1:
                seen.add(layer)
            yield member


def _is_grouped(member: Any) -> bool:
    """Whether the member is a convolution in groups of several channels, whose widths are tied."""
    layer = member.dep.target.module
    return isinstance(layer, nn.Conv2d) and layer.groups not in (1, layer.out_channels)


def _is_out(member: Any) -> bool:
    """Whether a member of a group loses rows of its weight (its outputs) rather than columns."""
    layer = member.dep.target.module
    if getattr(layer, "groups", 1) > 1 or not isinstance(layer, (nn.Conv2d, nn.Linear)):
        return True
    return bool(member.dep.handler.__name__ == "prune_out_channels")


def _producers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in network.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            yield name, layer


def _last_producer(network: nn.Module, sample: Tensor) -> nn.Module:
    """The layer that runs last: its outputs are the classes, which have to stay."""
    order: list[nn.Module] = []
    hooks = [
        layer.register_forward_hook(lambda layer, _, __: order.append(layer))
        for _, layer in _producers(network)
    ]
    with torch.no_grad():
        network.eval()(sample)
    for hook in hooks:
        hook.remove()
    return order[-1]


def _width(layer: nn.Module) -> int:
    return int(layer.weight.shape[0])  # type: ignore[index]


def _torch_pruning() -> Any:
    try:
        import torch_pruning
    except ImportError as e:
        raise ToolMissing(
            "pruning needs the package torch-pruning: pip install 'tinsmith[train]'"
        ) from e
    return torch_pruning
