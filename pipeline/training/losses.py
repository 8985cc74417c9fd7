"""What a network is trained on: weighted terms that compare its answers with labels or a teacher's.

A term is a module called with (student, teacher, y): the answers of both to the same images, and
the labels, -1 where an image has none. Each gives a scalar, its weight already in it. Terms that
compare layers learn a map between their widths, which is trained along with the network. Where a
network has several tasks, terms that compare logits are called for each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinsmith.pipeline.tasks import ONE_TASK, TaskWeights
from tinsmith.pipeline.training.heads import Outputs, heads_of, labels_of

# (network, images [N, C, H, W], labels [N], or [N, tasks] of several) -> scalar; one that is a
# module may have parameters.
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]

NO_LABEL = -1


@dataclass(frozen=True)
class Answers:
    """What a network says of a batch in one task: logits [N, classes], and the outputs of named
    layers."""

    logits: Tensor
    features: Mapping[str, Tensor]
    task: str = ""


def label_loss(network: nn.Module, x: Tensor, y: Tensor, weights: TaskWeights = ONE_TASK) -> Tensor:
    """Cross entropy of the network's answers with the labels."""
    return sum_over_tasks(cross_entropy, network(x), y, weights)


def sum_over_tasks(
    loss: Callable[[Tensor, Tensor], Tensor], outputs: Outputs, y: Tensor, weights: TaskWeights
) -> Tensor:
    """A loss of (logits [N, classes], labels [N]) of each task, times the task's weight."""
    tasks = zip(heads_of(outputs), labels_of(y), weights.values(), strict=True)
    return torch.stack([weight * loss(logits, own) for logits, own, weight in tasks]).sum()


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """The mean over the images that have a label; 0 where none has."""
    if int(y.min()) != NO_LABEL:
        return F.cross_entropy(logits, y)
    labelled = y != NO_LABEL
    return F.cross_entropy(logits, y, ignore_index=NO_LABEL, reduction="sum") / max(
        int(labelled.sum()), 1
    )


class Term(nn.Module):
    """A term, with its weight. The layers whose outputs it needs are named by their paths."""

    def __init__(self, weight: float, student_layer: str = "", teacher_layer: str = "") -> None:
        super().__init__()
        self.weight = weight
        self.student_layer = student_layer
        self.teacher_layer = teacher_layer

    # Whether it compares what is said of a task, and not layers alone.
    sees_logits: bool = True

    def learn_shapes(self, student: Answers, teacher: Answers) -> None:
        """Told once of both networks' answers to an image, before the first batch."""


class Labels(Term):
    """Cross entropy with the labels."""

    def forward(self, student: Answers, teacher: Answers, y: Tensor) -> Tensor:
        return self.weight * cross_entropy(student.logits, y)


class HardAnswers(Term):
    """Cross entropy with the class that the teacher thinks likeliest."""

    def forward(self, student: Answers, teacher: Answers, y: Tensor) -> Tensor:
        return self.weight * F.cross_entropy(student.logits, teacher.logits.argmax(1))


class SoftAnswers(Term):
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) (Hinton et al. 2015)."""

    def __init__(self, weight: float, temperature: float) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def forward(self, student: Answers, teacher: Answers, y: Tensor) -> Tensor:
        soft = _divergence(student.logits / self.temperature, teacher.logits / self.temperature)
        return self.weight * self.temperature**2 * soft


class DecoupledAnswers(Term):
    """T^2 (alpha TCKD + beta NCKD) (Zhao et al., Decoupled Knowledge Distillation, CVPR 2022).

    TCKD compares how sure both are of the target class against all others; NCKD the other classes
    among themselves. Hinton's loss is TCKD plus NCKD times the teacher's doubt, so that a teacher
    that is sure says little of the others. The target is the label, or the teacher's class where
    there is none.
    """

    def __init__(self, weight: float, temperature: float, alpha: float, beta: float) -> None:
        super().__init__(weight)
        self.temperature, self.alpha, self.beta = temperature, alpha, beta

    def forward(self, student: Answers, teacher: Answers, y: Tensor) -> Tensor:
        y = torch.where(y == NO_LABEL, teacher.logits.argmax(1), y)
        s, t = student.logits / self.temperature, teacher.logits / self.temperature
        target = F.one_hot(y, s.shape[1]).bool()
        others_s, others_t = (z[~target].reshape(len(y), -1) for z in (s, t))
        binary_s, binary_t = (
            torch.stack([z[target], others.logsumexp(1)], dim=1)
            for z, others in ((s, others_s), (t, others_t))
        )
        of_target = _divergence(binary_s, binary_t)
        of_others = _divergence(others_s, others_t)
        return self.weight * self.temperature**2 * (self.alpha * of_target + self.beta * of_others)


class Hint(Term):
    """Half the mean square of (a layer of the teacher - a learned 1x1 map of one of the student's)
    (Romero et al., FitNets, ICLR 2015).

    Images of unequal sizes are averaged down to the smaller one.
    """

    sees_logits = False

    def learn_shapes(self, student: Answers, teacher: Answers) -> None:
        own, shown = student.features[self.student_layer], teacher.features[self.teacher_layer]
        kinds: dict[int, type[nn.Module]] = {2: nn.Linear, 3: nn.Conv1d, 4: nn.Conv2d}
        size = () if own.ndim == 2 else (1,)
        self.map = kinds[own.ndim](own.shape[1], shown.shape[1], *size)

    def forward(self, student: Answers, teacher: Answers, y: Tensor) -> Tensor:
        own, shown = _same_size(
            student.features[self.student_layer], teacher.features[self.teacher_layer]
        )
        return self.weight * 0.5 * F.mse_loss(self.map(own), shown)


class Attention(Term):
    """Half the square of the distance between both layers' attention maps, the mean over images
    (Zagoruyko & Komodakis, ICLR 2017).

    A map is the sum of squares over the channels, divided by its length over the positions.
    """

    sees_logits = False

    def forward(self, student: Answers, teacher: Answers, y: Tensor) -> Tensor:
        own, shown = _same_size(
            student.features[self.student_layer], teacher.features[self.teacher_layer]
        )
        distance = (_attention(own) - _attention(shown)).square().sum(1)
        return self.weight * 0.5 * distance.mean()


class Relations(Term):
    """Huber loss of the distances between the images of a batch, and, twice, of the angles between
    three of them, as both networks see them (Park et al., Relational Knowledge Distillation, CVPR
    2019).

    Distances are in units of their mean. What is compared are the layers named, else the logits.
    """

    def __init__(self, weight: float, student_layer: str = "", teacher_layer: str = "") -> None:
        super().__init__(weight, student_layer, teacher_layer)
        self.sees_logits = not (student_layer and teacher_layer)

    def forward(self, student: Answers, teacher: Answers, y: Tensor) -> Tensor:
        if len(y) < 2:  # one image has no relations
            return self.weight * 0 * student.logits.sum()
        own = student.features.get(self.student_layer, student.logits).flatten(1)
        shown = teacher.features.get(self.teacher_layer, teacher.logits).flatten(1)
        distance = F.smooth_l1_loss(_distances(own), _distances(shown))
        angle = F.smooth_l1_loss(_angles(own), _angles(shown))
        return self.weight * (distance + 2 * angle)


def _divergence(own: Tensor, shown: Tensor) -> Tensor:
    """KL(softmax(shown) || softmax(own)), the mean over the batch."""
    return F.kl_div(
        F.log_softmax(own, dim=1),
        F.log_softmax(shown, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def _same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both features averaged to the smaller size along each axis behind the channels."""
    if a.shape[2:] == b.shape[2:]:
        return a, b
    size = [min(p, q) for p, q in zip(a.shape[2:], b.shape[2:], strict=True)]
    pools: dict[int, nn.Module] = {
        1: nn.AdaptiveAvgPool1d(size[0]),
        2: nn.AdaptiveAvgPool2d((size[0], size[-1])),
    }
    pool = pools[len(size)]
    return pool(a), pool(b)


def _attention(feature: Tensor) -> Tensor:
    return F.normalize(feature.square().sum(1).flatten(1), dim=1)


def _distances(points: Tensor) -> Tensor:
    """Of each pair of rows [N, D], in units of their mean over the pairs: [N (N - 1) / 2]."""
    distances = F.pdist(points)
    return distances / distances.mean().clamp_min(1e-12)


def _angles(points: Tensor) -> Tensor:
    """The cosine at each point between the ways to two others: [N, N, N]."""
    ways = points[None] - points[:, None]
    units = F.normalize(ways, dim=2)
    return units @ units.transpose(1, 2)
