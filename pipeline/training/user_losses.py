"""Losses of the user's own: a function of a Python file, or a class that makes one that learns."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from tinsmith.pipeline.config import CodeRef
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.tasks import ONE_TASK, TaskWeights
from tinsmith.pipeline.training.losses import Answers, Term, sum_over_tasks
from tinsmith.pipeline.user_code import user_function, users_own


class UserLoss(nn.Module):
    """What `ref` names, called with tensors or `Answers`; gives its scalar.

    A class is called without arguments and has to give a torch.nn.Module, whose parameters are
    trained along. Raises ConfigError, with the user's file and line, where it fails and where it
    gives something else than a scalar that has a gradient.
    """

    def __init__(self, ref: CodeRef, where: str) -> None:
        super().__init__()
        self.ref = ref
        self.where = f"{where} '{ref.path}:{ref.attribute}'"
        found = user_function(ref, self.where)
        if not inspect.isclass(found):
            self.function: Any = found
            return
        with users_own(ref.path, f"{self.where}: it can't be made"):
            self.function = found()
            if not isinstance(self.function, nn.Module):
                raise TypeError("its class is no torch.nn.Module; allowed: that, or a function")

    def forward(self, *answers: Tensor | Answers) -> Tensor:
        with users_own(self.ref.path, f"{self.where}: it failed"):
            value = self.function(*answers)
        if not isinstance(value, Tensor) or value.ndim:
            given = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"{self.where}: it gives {given}; needed: a scalar tensor")
        if torch.is_grad_enabled() and not value.requires_grad:
            raise ConfigError(
                f"{self.where}: its value has no gradient; compute it of the logits, by torch alone"
            )
        return value


class LossOfLabels(nn.Module):
    """A user's loss of (logits [N, classes], labels [N]) of each task, as the training loop calls a
    loss."""

    def __init__(self, ref: CodeRef, weights: TaskWeights = ONE_TASK) -> None:
        super().__init__()
        self.loss = UserLoss(ref, "[teacher] loss")
        self.weights = weights

    def forward(self, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return sum_over_tasks(self.loss, network(x), y, self.weights)


class UserTerm(Term):
    """A user's loss of (student, teacher, labels): the first two have `logits` [N, classes] and
    `features`, the outputs of the layers that the term names; a label is -1 where there is none. Of
    several tasks it is called for each, whose name is `student.task`.
    """

    def __init__(
        self, weight: float, ref: CodeRef | None, student_layer: str = "", teacher_layer: str = ""
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        assert ref is not None, "the configuration demands it for this kind"
        self.ref = ref
        self.loss = self._made()

    def _made(self) -> UserLoss:
        return UserLoss(self.ref, '[[distil.terms]] kind = "python", loss')

    def learn_shapes(self, student: Answers, teacher: Answers) -> None:
        """What it has learned is forgotten: a run that goes on from here begins alike."""
        self.loss = self._made()

    def forward(self, student: Answers, teacher: Answers, y: Tensor) -> Tensor:
        value: Tensor = self.weight * self.loss(student, teacher, y)
        return value
