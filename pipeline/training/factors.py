"""A layer as a chain of smaller ones of the same kind: how it is built, put in its place, and built
again from saved weights.

The chain takes the place of the layer under its name, so that the weights of `conv` become those
of `conv.0`, `conv.1` and so on, and the path of the layer in the network still names its output.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

# The layers that can be a chain; subclasses may be used in ways of their own.
FACTORED = (nn.Conv1d, nn.Conv2d, nn.Linear)

Layer = nn.Conv1d | nn.Conv2d | nn.Linear
# A weight's shape: [out, in, *kernel].
Shape = tuple[int, ...]


def factored_layers(network: nn.Module) -> dict[str, Layer]:
    """The layers of a network that can be a chain, by name: ungrouped, padded with zeros."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if name
        and type(layer) in FACTORED
        and getattr(layer, "groups", 1) == 1
        and getattr(layer, "padding_mode", "zeros") == "zeros"
    }


def carriers(shapes: Sequence[Shape]) -> tuple[int, ...]:
    """Which member of a chain walks each axis behind the channels: has its stride and padding.

    It is the one whose kernel has more than one tap there, else the first.
    """
    return tuple(
        next((i for i, shape in enumerate(shapes) if shape[axis] > 1), 0)
        for axis in range(2, len(shapes[0]))
    )


def chain_of(layer: Layer, weights: Sequence[Tensor]) -> nn.Sequential:
    """The chain with these weights [out, in, *kernel], first to last, in the layer's place.

    Only the last member has a bias, the layer's: what is padded with zeros is zeros then in every
    member, as in the layer itself.
    """
    last = len(weights) - 1
    bias = [i == last and layer.bias is not None for i in range(len(weights))]
    members: list[nn.Module] = []
    walks = carriers([tuple(w.shape) for w in weights])
    for i, weight in enumerate(weights):
        member = _member(layer, i, weight, walks, bias[i])
        with torch.no_grad():
            member.weight.copy_(weight)
            if bias[i]:
                assert member.bias is not None
                assert layer.bias is not None
                member.bias.copy_(layer.bias)
        members.append(member)
    return nn.Sequential(*members).train(layer.training)


def put_in_place(network: nn.Module, layer: nn.Module, chain: nn.Module) -> None:
    """Replace `layer` by `chain` wherever the network has it."""
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child is layer:
                module._modules[name] = chain


def restore_chains(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make those layers of `network` chains, in place, that are chains in these weights."""
    for name, layer in factored_layers(network).items():
        if f"{name}.weight" in weights:
            continue
        members: list[Tensor] = []
        while (key := f"{name}.{len(members)}.weight") in weights:
            members.append(weights[key])
        if len(members) > 1:
            put_in_place(network, layer, chain_of(_with_outputs(layer, members[-1]), members))


def _with_outputs(layer: Layer, last: Tensor) -> Layer:
    """The layer, its bias as long as the last member's outputs, which pruning may have cut."""
    if layer.bias is not None and len(layer.bias) != len(last):
        layer.bias = nn.Parameter(last.new_zeros(len(last)))
    return layer


def _member(layer: Layer, place: int, weight: Tensor, walks: Sequence[int], bias: bool) -> Layer:
    outputs, inputs, *kernel = weight.shape
    if isinstance(layer, nn.Linear):
        return nn.Linear(inputs, outputs, bias)

    def along(axes: Sequence[int], otherwise: int) -> tuple[int, ...]:
        return tuple(
            value if walks[axis] == place else otherwise for axis, value in enumerate(axes)
        )

    padding = layer.padding if isinstance(layer.padding, str) else along(layer.padding, 0)
    make: Callable[..., Layer] = type(layer)
    return make(
        inputs,
        outputs,
        tuple(kernel),
        stride=along(layer.stride, 1),
        padding=padding,
        dilation=along(layer.dilation, 1),
        bias=bias,
    )
