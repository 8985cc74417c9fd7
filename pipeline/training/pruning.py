"""Removal of whole channels: the network afterwards is a smaller dense one, nothing is masked.

Which layers lose a channel together (through batch norm, depthwise convolutions, residual sums,
flattening) is what torch-pruning's dependency graph finds (Fang et al., DepGraph, CVPR 2023). Which
channels of a group go is the criterion's to say (`criteria`), and which group is next the
allocation's.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tinsmith.pipeline.errors import ConfigError, ToolMissing
from tinsmith.pipeline.training.criteria import Criterion, Evidence, Norms, is_output, loss_without
from tinsmith.pipeline.training.cuts import Cut
from tinsmith.pipeline.training.heads import last_layers
from tinsmith.pipeline.training.networks import LAYERS, Cost, cost

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True)
class Block:
    """Channels of a group, or units of an LSTM, that could go next: those that matter least.

    share: of the group's importance. mean: their importance where the group's mean is 1. saved:
    MACs, of `wanted` that have yet to be saved. left: the share of the group's channels that is
    there, of those it had at first. sensitivity: of the group, see `Allocation`.
    """

    root: nn.Module
    channels: list[int]
    share: float
    mean: float
    saved: float
    wanted: int
    left: float
    sensitivity: float

    @property
    def lost(self) -> float:
        """-log(share of the importance that stays), so that taking half of a narrow layer costs
        more than taking a sixth of a wide one, four times over."""
        return -math.log(max(1 - self.share, 1e-12))


# What [prune] allocation names -> the price of a block; the cheapest goes next.
ALLOCATIONS: Mapping[str, Callable[[Block], float]] = {
    # What is lost for each MAC saved of those that have yet to be saved.
    "budget": lambda block: block.lost / min(block.saved, block.wanted),
    "global": lambda block: block.mean,
    "uniform": lambda block: 1 - block.left,
    "sensitivity": lambda block: block.lost * block.sensitivity / min(block.saved, block.wanted),
}


def remove_channels(
    network: nn.Module,
    sample: Tensor,
    macs: int,
    multiple_of: int,
    criterion: Criterion,
    allocation: str = "budget",
    evidence: Evidence | None = None,
) -> tuple[Cut, ...]:
    """Remove channels from `network`, in place, until it needs at most `macs` MACs on `sample`.

    Takes the cheapest block of channels again and again. What is left of a group is a multiple of
    `multiple_of` channels, and at least that many. allocation: one of ALLOCATIONS; "sensitivity"
    measures on `evidence`. Raises ConfigError where this many MACs can't be reached.
    """
    tp = _torch_pruning()
    price = ALLOCATIONS[allocation]
    first = {layer: _width(layer) for _, layer in _producers(network)}
    sensitivities: dict[nn.Module, float] = {}
    names = {layer: name for name, layer in network.named_modules()}
    cuts: list[Cut] = []
    while (current := cost(network, sample)).total_macs > macs:
        graph = tp.DependencyGraph().build_dependency(network, example_inputs=sample)
        groups = list(_groups(graph, network, sample, multiple_of))
        if allocation == "sensitivity" and not sensitivities:
            assert evidence is not None, "sensitivities are measured on something"
            sensitivities = _sensitivities(groups, criterion, evidence)
        blocks = [
            block
            for group in groups
            if (
                block := _block(
                    group, network, current, multiple_of, criterion, first, sensitivities, macs
                )
            )
        ]
        if not blocks:
            raise ConfigError(
                f"[prune] macs: {macs} MACs can't be reached; "
                f"{_why_not(network, cuts, multiple_of)}, "
                f"the network still needs {current.total_macs}"
            )
        best = min(blocks, key=price)
        group = graph.get_pruning_group(best.root, _pruner(tp, best.root), idxs=best.channels)
        criterion.removed(group)
        cuts.append(Cut(names[best.root], tuple(best.channels)))
        group.prune()
    return tuple(cuts)


def _why_not(network: nn.Module, cuts: Sequence[Cut], multiple_of: int) -> str:
    if cuts:
        return f"with {multiple_of} channels in each layer that can lose some"
    lstm = any(isinstance(layer, nn.LSTM) for layer in network.modules())
    hint = ' (units of its LSTM can go with scope = "hidden")' if lstm else ""
    return f"no layer can lose {multiple_of} channels and keep as many{hint}"


def channel_cuts(
    network: nn.Module, sample: Tensor, share: float, criterion: Criterion
) -> tuple[Cut, ...]:
    """Of each group of layers that can lose channels, by itself, that share which matters least."""
    graph = _torch_pruning().DependencyGraph().build_dependency(network, example_inputs=sample)
    names = {layer: name for name, layer in network.named_modules()}
    cuts = []
    for group in _groups(graph, network, sample, 1):
        root = group[0].dep.target.module
        width = _width(root)
        count = min(max(1, round(width * share)), width - 1)
        least = criterion.scores(group, width).argsort(stable=True)[:count]
        cuts.append(Cut(names[root], tuple(sorted(least.tolist()))))
    return tuple(cuts)


def drop_channels(network: nn.Module, sample: Tensor, cuts: Sequence[Cut]) -> None:
    """Take channels out, in place, with all that goes with them."""
    tp = _torch_pruning()
    for cut in cuts:
        graph = tp.DependencyGraph().build_dependency(network, example_inputs=sample)
        root = network.get_submodule(cut.layer)
        graph.get_pruning_group(root, _pruner(tp, root), idxs=list(cut.places)).prune()


def remove_least_channels(
    network: nn.Module, sample: Tensor, wanted: dict[str, int], norm: int
) -> None:
    """Remove from `network`, in place, those channels that matter least, until its layers are as
    wide as `wanted` says by their names; a layer that is already narrower stays.
    """
    tp, criterion = _torch_pruning(), Norms(norm)
    graph = tp.DependencyGraph().build_dependency(network, example_inputs=sample)
    names = {layer: name for name, layer in network.named_modules()}
    for root in [layer for _, layer in _producers(network)]:
        width = _width(root)
        spare = width - wanted[names[root]]
        if spare <= 0 or (isinstance(root, _CONVOLUTIONS) and root.groups > 1):
            continue
        group = graph.get_pruning_group(root, _pruner(tp, root), idxs=list(range(width)))
        least = criterion.scores(group, width).argsort(stable=True)[:spare]
        graph.get_pruning_group(root, _pruner(tp, root), idxs=sorted(least.tolist())).prune()


def _groups(graph: Any, network: nn.Module, sample: Tensor, multiple_of: int) -> Iterator[Any]:
    """The groups of layers that lose channels together and can spare some."""
    heads = last_layers(network, [layer for _, layer in _producers(network)], sample)
    for group in graph.get_all_groups(ignored_layers=[*heads], root_module_types=[*LAYERS]):
        width = _width(group[0].dep.target.module)
        block = width % multiple_of or multiple_of
        ends = any(member.dep.target.module in heads and is_output(member) for member in group)
        if not ends and width - block >= multiple_of and not any(map(_is_grouped, group)):
            yield group


def _block(
    group: Any,
    network: nn.Module,
    current: Cost,
    multiple_of: int,
    criterion: Criterion,
    first: Mapping[nn.Module, int],
    sensitivities: Mapping[nn.Module, float],
    macs: int,
) -> Block | None:
    """The channels that a group can spare best, None where they cost nothing."""
    root = group[0].dep.target.module
    names = {layer: name for name, layer in network.named_modules()}
    width = _width(root)
    scores = criterion.scores(group, width)
    channels, share, mean = least_important(scores, multiple_of)
    saved = sum(
        current.macs[names[member.dep.target.module]]
        * sum(index in channels for index in member.root_idxs)
        / len(member.idxs)
        for member in _costly_members(group)
    )
    if saved <= 0:
        return None
    return Block(
        root,
        channels,
        share,
        mean,
        saved,
        current.total_macs - macs,
        width / first[root],
        sensitivities.get(root, 1.0),
    )


def least_important(scores: Tensor, multiple_of: int) -> tuple[list[int], float, float]:
    """As many as can go next, so that a multiple of `multiple_of` is left: their numbers, and their
    importance as `Block` has it, share and mean."""
    width = len(scores)
    count = width % multiple_of or multiple_of
    chosen = sorted(scores.argsort(stable=True)[:count].tolist())
    total, taken = float(scores.sum()), float(scores[chosen].sum())
    if not total:
        return chosen, 0.0, 0.0
    return chosen, taken / total, taken * width / (total * count)


def _sensitivities(
    groups: list[Any], criterion: Criterion, evidence: Evidence
) -> dict[nn.Module, float]:
    """How much the loss rises when the half of a group's channels that matters least is silenced,
    in units of the mean over the groups; a little for those whose loss does not rise."""
    rises = {}
    before = loss_without(None, [], evidence)
    for group in groups:
        root = group[0].dep.target.module
        least = criterion.scores(group, _width(root)).argsort(stable=True)[: _width(root) // 2]
        rises[root] = max(loss_without(group, least.tolist(), evidence) - before, 0.0)
    mean = sum(rises.values()) / max(len(rises), 1)
    return {root: max(rise / mean if mean else 1.0, 0.01) for root, rise in rises.items()}


def _pruner(tp: Any, root: nn.Module) -> Any:
    if isinstance(root, _CONVOLUTIONS):
        return tp.prune_conv_out_channels
    return tp.prune_linear_out_channels


def _costly_members(group: Any) -> Iterator[Any]:
    """The members that do MACs, a depthwise convolution once: it is both giver and taker."""
    seen: set[nn.Module] = set()
    for member in group:
        layer = member.dep.target.module
        if isinstance(layer, LAYERS) and layer not in seen:
            if getattr(layer, "groups", 1) > 1:
                seen.add(layer)
            yield member


def _is_grouped(member: Any) -> bool:
    """Whether the member is a convolution in groups of several channels, whose widths are tied."""
    layer = member.dep.target.module
    return isinstance(layer, _CONVOLUTIONS) and layer.groups not in (1, layer.out_channels)


def _producers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in network.named_modules():
        if isinstance(layer, LAYERS):
            yield name, layer


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
