"""The outputs of a network, one for each task, and which layers make them."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tinsmith.pipeline.tasks import Task

# Logits [N, classes], or those of each task.
Outputs = Tensor | Sequence[Tensor]


def heads_of(outputs: Outputs) -> tuple[Tensor, ...]:
    """The logits of each task."""
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def as_outputs(heads: Iterable[Tensor]) -> Outputs:
    """What a network of these heads gives: a tuple where there are several."""
    first, *others = heads
    return (first, *others) if others else first


def labels_of(y: Tensor) -> tuple[Tensor, ...]:
    """The labels [N] of each task, of labels [N] or [N, tasks]."""
    return tuple(y.unbind(1)) if y.ndim > 1 else (y,)


def unlike_tasks(outputs: Any, tasks: Sequence[Task]) -> str:
    """Why these are no outputs of a network for these tasks, of one sample; else nothing."""
    wanted = [[1, task.classes] for task in tasks]
    if len(tasks) == 1:
        shape = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        needed = f"{wanted[0]}, a logit for each class of the data"
        return "" if shape == wanted[0] else f"its output is {shape}; needed: {needed}"
    several = isinstance(outputs, (tuple, list))
    given = [
        list(head.shape) if isinstance(head, Tensor) else type(head).__name__
        for head in (outputs if several else [outputs])
    ]
    if several and given == wanted:
        return ""
    shapes = ", ".join(f"{task.name} {shape}" for task, shape in zip(tasks, wanted, strict=True))
    form = "" if several else f" ({type(outputs).__name__})"
    return (
        f"its outputs are {', '.join(map(str, given))}{form}; needed: a tuple of logits, one for "
        f"each task of the data in this order: {shapes}"
    )


def last_layers(network: nn.Module, layers: Iterable[nn.Module], sample: Tensor) -> set[nn.Module]:
    """For each output of the network that one of `layers` which runs last on its way: its outputs
    are the classes.
    """
    order: list[tuple[nn.Module, Tensor]] = []

    def cut(layer: nn.Module, _: Any, output: Tensor) -> Tensor:
        # No gradient passes: an output has one of those layers alone that no other stands behind.
        leaf = output.detach().requires_grad_()
        order.append((layer, leaf))
        return leaf.clone()

    hooks = [layer.register_forward_hook(cut) for layer in layers]
    with torch.enable_grad():
        heads = heads_of(network.eval()(sample))
    for hook in hooks:
        hook.remove()
    found: set[nn.Module] = set()
    leaves = [leaf for _, leaf in order]
    for head in heads:
        ways = torch.autograd.grad(head.sum(), leaves, retain_graph=True, allow_unused=True)
        reached = [layer for (layer, _), way in zip(order, ways, strict=True) if way is not None]
        found.update(reached[-1:])
    return found
