"""Distillation: a student trained on the terms of `losses`, by what it and its teachers answer."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tinsmith.pipeline.config import Distil, DistilTerm, Sparsity
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.tasks import ONE_TASK, TaskWeights
from tinsmith.pipeline.training.heads import heads_of, labels_of
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
    while the network trains, of what `sparsity` says of its weights. What terms say of a task is
    multiplied by its weight; those that see layers alone are called once.

    The teacher sees the same augmented images as the student. Its weights are no part of this
    module: only the maps that terms learn are.
    """

    def __init__(
        self,
        teacher: nn.Module,
        terms: Sequence[Term],
        sparsity: Sequence[Sparsity] = (),
        weights: TaskWeights = ONE_TASK,
    ) -> None:
        super().__init__()
        self._weights = weights
        self._sparsity = tuple(sparsity)
        self.terms = nn.ModuleList(terms)
        self._teacher = [teacher.eval()]  # in a list, so that it is not a submodule
        self._student_layers = {t.student_layer for t in terms if t.student_layer}
        self._teacher_layers = {t.teacher_layer for t in terms if t.teacher_layer}

    def forward(self, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            teacher = self.ask_teacher(x)
        student = answers(network, x, self._student_layers, self._weights)
        total = penalty(network, self._sparsity if network.training else ())
        tasks = list(zip(self._weights.values(), student, teacher, labels_of(y), strict=True))
        for term in self.terms:
            if not term.sees_logits:
                total = total + term(*tasks[0][1:])
                continue
            for weight, *said in tasks:
                total = total + weight * term(*said)
        return total

    def ask_teacher(self, x: Tensor) -> tuple[Answers, ...]:
        return answers(self._teacher[0], x, self._teacher_layers, self._weights)

    def learn_shapes(self, network: nn.Module, sample: Tensor) -> None:
        """Make the maps between layers that terms learn; `sample` is an input [1, C, H, W]."""
        with torch.no_grad():
            student = answers(network.eval(), sample, self._student_layers, self._weights)
            teacher = self.ask_teacher(sample)
        for term in self.terms:
            assert isinstance(term, Term)
            term.learn_shapes(student[0], teacher[0])


def distillation(
    options: Distil,
    teacher: nn.Module,
    network: nn.Module,
    sample: Tensor,
    weights: TaskWeights = ONE_TASK,
) -> Distillation:
    """The loss that `options` ask for; without terms, that of Hinton et al. weights: of the tasks.

    Raises ConfigError for layers that the networks don't have, or that can't be compared.
    """
    terms = options.terms or [
        DistilTerm(kind="soft", weight=options.alpha, temperature=options.temperature),
        DistilTerm(kind="labels", weight=1 - options.alpha),
    ]
    for place, term in enumerate(terms, 1):
        _check_layers(place, term, network, teacher, sample)
    made = [TERMS[term.kind](term) for term in terms]
    loss = Distillation(teacher, made, options.sparsity, weights)
    loss.learn_shapes(network, sample)
    return loss


def recollection(network: nn.Module, weights: TaskWeights = ONE_TASK) -> Distillation:
    """What a changed copy of a network is trained on to stay what it was: its soft answers, and a
    little of the labels. weights: of the tasks."""
    return Distillation(network, [SoftAnswers(0.7, 2.0), Labels(0.3)], weights=weights)


def answers(
    network: nn.Module, x: Tensor, layers: set[str], tasks: Iterable[str]
) -> tuple[Answers, ...]:
    """The network's logits in each task, and the outputs of the layers with these names."""
    features: dict[str, Tensor] = {}
    with _watched(network, layers, features):
        heads = heads_of(network(x))
    return tuple(Answers(own, features, task) for own, task in zip(heads, tasks, strict=True))


@contextmanager
def _watched(network: nn.Module, layers: set[str], features: dict[str, Tensor]) -> Iterator[None]:
    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            features[name] = _feature(module, output)

        return hook

    hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _feature(module: nn.Module, output: Any) -> Any:
    """What a layer shows: its output; of an LSTM its hidden states, [N, units, time] as the
    channels of a 1D convolution."""
    if isinstance(module, nn.RNNBase):
        states = output[0]
        return states.permute(0, 2, 1) if module.batch_first else states.permute(1, 2, 0)
    return output


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
        features: dict[str, Tensor] = {}
        with torch.no_grad(), _watched(module, {name}, features):
            module.eval()(sample)
        given = features.get(name)
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
