"""A student cut out of its teacher: the same layers with the channels that matter most."""

import copy

import torch
from torch import Tensor, nn

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.training.networks import widths
from tinsmith.pipeline.training.pruning import remove_least_channels


def cut_from(teacher: nn.Module, student: nn.Module, sample: Tensor) -> None:
    """Give `student` its first weights out of `teacher`'s, which stays as it is.

    Both need the same layers under the same names, the student's narrower or as wide; channels go
    together through residual and depthwise layers, those with the least norms (l2) first. Raises
    ConfigError where the networks don't fit.
    """
    source = copy.deepcopy(teacher)
    wanted, given = widths(student), widths(source)
    _check_layers(wanted, given)
    remove_least_channels(source, sample, wanted, norm=2)
    weights = source.state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in student.state_dict().items()}
    unlike = [
        f"{name} is {shape}, not {list(weights[name].shape) if name in weights else 'there'}"
        for name, shape in shapes.items()
        if name not in weights or shape != list(weights[name].shape)
    ]
    if unlike:
        raise ConfigError(
            f'[distil] start = "teacher": the student can\'t be cut out of the teacher: '
            f"{'; '.join(unlike[:5])}; needed: the same layers with fewer channels, or "
            'start = "random"'
        )
    with torch.no_grad():
        student.load_state_dict({name: weights[name] for name in shapes})


def _check_layers(wanted: dict[str, int], given: dict[str, int]) -> None:
    reasons = [f"the teacher has no layer '{name}'" for name in wanted if name not in given]
    reasons += [f"the student has no layer '{name}'" for name in given if name not in wanted]
    reasons += [
        f"'{name}' is wider in the student ({wanted[name]}) than in the teacher ({given[name]})"
        for name in wanted
        if wanted[name] > given.get(name, wanted[name])
    ]
    if reasons:
        raise ConfigError(
            f'[distil] start = "teacher": {"; ".join(reasons[:5])}; needed: the same layers with '
            'as many channels or fewer, or start = "random"'
        )
