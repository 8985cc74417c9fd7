"""Losses. A loss takes the batch, the network's logits and the labels, and gives a scalar."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# (images [N, C, H, W], logits [N, classes], labels [N]) -> scalar
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def label_loss(x: Tensor, logits: Tensor, y: Tensor) -> Tensor:
    """Cross entropy with the labels."""
    return F.cross_entropy(logits, y)


def distillation_loss(teacher: nn.Module, temperature: float, alpha: float) -> Loss:
    """alpha T^2 KL(teacher/T || student/T) + (1 - alpha) CE(student, y) (Hinton et al. 2015).

    The teacher sees the same augmented images as the student.
    """
    teacher = teacher.eval()

    def loss(x: Tensor, logits: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            target = F.log_softmax(teacher(x) / temperature, dim=1)
        soft = F.kl_div(
            F.log_softmax(logits / temperature, dim=1),
            target,
            reduction="batchmean",
            log_target=True,
        )
        return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(logits, y)

    return loss
