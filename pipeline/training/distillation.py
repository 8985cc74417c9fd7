"""Distillation: a student trained on the terms of `losses`, by what it and its teachers answer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tinsmith.pipeline.config import Distil, DistilTerm, Sparsity
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.training.losses import (
    Answers,
    Attention,
    DecoupledAnswers,
    HardAnswers,
    Hint,
    Labels,
    Relations,
    SoftAnswers,
    Term,
)
from tinsmith.pipeline.training.regularizers import penalty
from tinsmith.pipeline.training.user_losses import UserTerm

# What [[distil.terms]] kind names.
TERMS: Mapping[str, Callable[[DistilTerm], Term]] = {
    "labels": lambda t: Labels(t.weight),
    "soft": lambda t: SoftAnswers(t.weight, t.temperature),
    "hard": lambda t: HardAnswers(t.weight),
    "decoupled": lambda t: DecoupledAnswers(t.weight, t.temperature, t.alpha, t.beta),
    "hint": lambda t: Hint(t.weight, t.student_layer, t.teacher_layer),
    "attention": lambda t: Attention(t.weight, t.student_layer, t.teacher_layer),
    "relations": lambda t: Relations(t.weight, t.student_layer, t.teacher_layer),
    "python": lambda t: UserTerm(t.weight, t.loss, t.student_layer, t.teacher_layer),
}


class Distillation(nn.Module):
    """The loss: the sum of the terms over what the network and the teacher answer to a batch, and
    while the network trains, of what `sparsity` says of its weights.

    The teacher sees the same augmented images as the student. Its weights are no part of this
    module: only the maps that terms learn are.
    """

    def __init__(
        self, teacher: nn.Module, terms: Sequence[Term], sparsity: Sequence[Sparsity] = ()
    ) -> None:
        super().__init__()
        self._sparsity = tuple(sparsity)
        self.terms = nn.ModuleList(terms)
        self._teacher = [teacher.eval()]  # in a list, so that it is not a submodule
        self._student_layers = {t.student_layer for t in terms if t.student_layer}
        self._teacher_layers = {t.teacher_layer for t in terms if t.teacher_layer}

    def forward(self, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            teacher = self.ask_teacher(x)
        student = answers(network, x, self._student_layers)
        total = penalty(network, self._sparsity if network.training else ())
        for term in self.terms:
            total = total + term(student, teacher, y)
        return total

    def ask_teacher(self, x: Tensor) -> Answers:
        return answers(self._teacher[0], x, self._teacher_layers)

    def learn_shapes(self, network: nn.Module, sample: Tensor) -> None:
        """Make the maps between layers that terms learn; `sample` is an input [1, C, H, W]."""
        with torch.no_grad():
            student = answers(network.eval(), sample, self._student_layers)
            teacher = self.ask_teacher(sample)
        for term in self.terms:
            assert isinstance(term, Term)
            term.learn_shapes(student, teacher)


def distillation(
    options: Distil, teacher: nn.Module, network: nn.Module, sample: Tensor
) -> Distillation:
    """The loss that `options` ask for; without terms, that of Hinton et al.

    Raises ConfigError for layers that the networks don't have, or that can't be compared.
    """
    terms = options.terms or [
        DistilTerm(kind="soft", weight=options.alpha, temperature=options.temperature),
        DistilTerm(kind="labels", weight=1 - options.alpha),
    ]
    for place, term in enumerate(terms, 1):
        _check_layers(place, term, network, teacher, sample)
    loss = Distillation(teacher, [TERMS[term.kind](term) for term in terms], options.sparsity)
    loss.learn_shapes(network, sample)
    return loss


def answers(network: nn.Module, x: Tensor, layers: set[str]) -> Answers:
    """The network's logits, and the outputs of the layers with these names."""
    features: dict[str, Tensor] = {}
    with _watched(network, layers, features):
        logits = network(x)
    return Answers(logits, features)


@contextmanager
def _watched(network: nn.Module, layers: set[str], features: dict[str, Tensor]) -> Iterator[None]:
    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            features[name] = output

        return hook

    hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check_layers(
    place: int, term: DistilTerm, network: nn.Module, teacher: nn.Module, sample: Tensor
) -> None:
    where = f'[[distil.terms]] {place}, kind = "{term.kind}"'
    both = {
        "student_layer": (network, term.student_layer),
        "teacher_layer": (teacher, term.teacher_layer),
    }
    shapes: list[list[int]] = []
    for key, (module, name) in both.items():
        if not name:
            continue
        names = [known for known, _ in module.named_modules() if known]
        if name not in names:
            raise ConfigError(
                f'{where}: {key} = "{name}": there is no such layer; allowed: {", ".join(names)}'
            )
        with torch.no_grad():
            given = answers(module.eval(), sample, {name}).features.get(name)
        if not isinstance(given, Tensor):
            raise ConfigError(f'{where}: {key} = "{name}" gives no tensor; name another layer')
        shapes.append(list(given.shape))
    if term.kind in ("relations", "python") or len(shapes) < 2:
        return
    axes = {len(shape) for shape in shapes}
    allowed = {3, 4} if term.kind == "attention" else {2, 3, 4}
    if len(axes) != 1 or not axes <= allowed:
        raise ConfigError(
            f"{where}: the layers' outputs are {shapes[0]} and {shapes[1]}; both need the same "
            f"number of axes, one of {', '.join(map(str, sorted(allowed)))}"
        )
